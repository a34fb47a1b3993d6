use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// A scene that was never filmed: waves of all lengths that drift, as a camera does, and things that go their own way.
struct Scene {
    waves: Vec<[f32; 4]>,
    mean: f32,
    drift: f32,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let wave = |i: usize| {
            let (way, phase) = (rng.random_range(0. ..6.3f32), rng.random_range(0. ..6.3));
            let pace = 0.07 * (1. + i as f32 * 0.5);
            [
                pace * way.cos(),
                pace * way.sin(),
                phase,
                14. / (1. + i as f32 * 0.4),
            ]
        };
        Self {
            waves: (0..8).map(wave).collect(),
            mean: rng.random_range(35. ..65.),
            drift: rng.random_range(0.1..0.5),
        }
    }

    fn at(&self, time: f32) -> Vec<f32> {
        let (width, height) = SIZE;
        let sample = |i: usize| {
            let (x, y) = ((i % width) as f32 + self.drift * time, (i / width) as f32);
            let wave = |[u, v, phase, size]: &[f32; 4]| size * (u * x + v * y + phase).sin();
            (self.mean + self.waves.iter().map(wave).sum::<f32>()).clamp(0., 100.)
        };
        (0..width * height).map(sample).collect()
    }
}

/// Frames of one scene, and where it is in the film.
fn shot(seed: u64, frames: usize) -> Vec<Vec<f32>> {
    let scene = Scene::new(seed);
    (0..frames).map(|t| scene.at(t as f32)).collect()
}

/// From one shot to the other over `length` frames between them; both go on meanwhile.
fn dissolved(first: u64, second: u64, length: usize) -> Vec<Vec<f32>> {
    let frames = 40 + length + 40;
    let (a, b) = (shot(first, frames), shot(second, frames));
    let mixed = |(t, (a, b)): (usize, (&Vec<f32>, &Vec<f32>))| {
        let share = ((t as f32 - 39.) / (length + 1) as f32).clamp(0., 1.);
        a.iter().zip(b).map(|(a, b)| a + (b - a) * share).collect()
    };
    a.iter().zip(&b).enumerate().map(mixed).collect()
}

/// The frames that begin a scene.
fn found(film: &[Vec<f32>], ahead: usize) -> Vec<usize> {
    let mut cuts = Cuts::new(ahead);
    let mut verdicts: Vec<bool> = film.iter().filter_map(|f| cuts.push(f.clone())).collect();
    verdicts.extend(std::iter::from_fn(|| cuts.finish()));
    assert_eq!(verdicts.len(), film.len());
    let begins = |(i, begins): (usize, bool)| begins.then_some(i);
    verdicts
        .into_iter()
        .enumerate()
        .filter_map(begins)
        .collect()
}

/// Grain, and exposure that is never twice the same.
fn worn(film: &[Vec<f32>], seed: u64) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    film.iter()
        .map(|frame| {
            let exposure = rng.random_range(0.95..1.05f32);
            let grain = |l: &f32| (l * exposure + rng.random_range(-1.5..1.5)).clamp(0., 100.);
            frame.iter().map(grain).collect()
        })
        .collect()
}

#[test]
fn every_cut_is_found_and_nothing_else() {
    let shots: Vec<_> = (0..24).map(|i| shot(i, 6 + 5 * i as usize % 23)).collect();
    let begins: Vec<usize> = shots
        .iter()
        .scan(0, |at, shot| Some(std::mem::replace(at, *at + shot.len())))
        .collect();
    let film = shots.concat();
    for ahead in [0, AHEAD] {
        assert_eq!(found(&film, ahead), begins);
        assert_eq!(found(&worn(&film, 1), ahead), begins, "worn");
    }
}

#[test]
fn flashes_and_sudden_exposure_are_no_cuts() {
    for length in 1..=FLASH {
        for flash in [
            |_: &f32| 100.,
            |_: &f32| 1.,
            |l: &f32| (1.6 * l + 30.).min(100.),
        ] {
            let mut film = shot(3, 40);
            for frame in &mut film[20..20 + length] {
                *frame = frame.iter().map(flash).collect();
            }
            assert_eq!(found(&film, AHEAD), [0], "{length} frames");
        }
    }
    let mut film = shot(4, 40);
    for frame in &mut film[20..] {
        frame.iter_mut().for_each(|l| *l = 0.5 * *l + 2.);
    }
    assert_eq!(found(&film, AHEAD), [0], "half the light");
}

#[test]
fn dissolves_are_found_and_leave_the_scenes_around_them_alone() {
    for length in [8, 16, 24, 48] {
        let mut missed = 0;
        for seed in 0..10 {
            let film = dissolved(seed, seed + 100, length);
            let begins = found(&film, AHEAD);
            let within = begins
                .iter()
                .filter(|i| (40..40 + length + 3).contains(*i))
                .count();
            missed += usize::from(within == 0);
            let astray = |i: &usize| (1..37).contains(i) || *i > 40 + length + BACK;
            assert!(!begins.iter().any(astray), "{length}: {begins:?}");
        }
        assert!(
            missed <= 1,
            "of 10 dissolves over {length} frames {missed} are missed"
        );
    }
}

#[test]
fn a_fade_out_is_the_same_scene_and_the_fade_in_another() {
    let mut film = shot(5, 60);
    let faded = |t: usize| match t {
        20..40 => 1. - (t - 19) as f32 / 20.,
        40.. => 0.,
        _ => 1.,
    };
    for (t, frame) in film.iter_mut().enumerate() {
        frame.iter_mut().for_each(|l| *l *= faded(t));
    }
    assert_eq!(found(&film, AHEAD), [0]);
    for (t, mut frame) in shot(6, 60).into_iter().enumerate() {
        let share = ((t + 1) as f32 / 20.).min(1.);
        frame.iter_mut().for_each(|l| *l *= share);
        film.push(frame);
    }
    let begins = found(&film, AHEAD);
    assert!(
        begins.len() > 1 && begins[1..].iter().all(|i| (60..90).contains(i)),
        "{begins:?}"
    );
}

#[test]
fn verdicts_depend_on_a_few_frames_only() {
    let film = [dissolved(1, 2, 16), shot(3, 50), dissolved(4, 5, 24)].concat();
    let whole = found(&film, AHEAD);
    for from in [10, 45, 90, 130] {
        let part: Vec<usize> = found(&film[from..], AHEAD)
            .iter()
            .map(|i| i + from)
            .collect();
        let after = |all: &[usize]| -> Vec<usize> {
            all.iter().copied().filter(|i| *i > from + BACK).collect()
        };
        assert_eq!(after(&part), after(&whole), "from {from}");
    }
}
