use super::*;
use crate::{
    frame::{AbMap, Decoded, Late},
    media::Picture,
};

const SIZE: (usize, usize) = (96, 64);
const INTERVAL: usize = 5;

/// Every filter at every pace.
fn all() -> impl Iterator<Item = (&'static Row, Pace)> {
    let paces = |row| [Pace::Film, Pace::Live].map(|pace| (row, pace));
    FILTERS.iter().flat_map(paces)
}

/// A film of three scenes in which a camera moves; time 0 is not its first frame.
fn sketch(time: usize) -> Sketch {
    let scene = (time / 37) as f32;
    let drift = 1.7 * time as f32;
    let sample = |i: usize| {
        let (x, y) = ((i % SIZE.0) as f32 + drift, (i / SIZE.0) as f32);
        let wave = |u: f32, v: f32| (u * x + v * y + 9. * scene).sin();
        50. + 12. * wave(0.2 + 0.1 * scene, 0.1)
            + 12. * wave(0.07, 0.3 - 0.1 * scene)
            + 9. * wave(0.4, -0.2)
    };
    Sketch::new(&(0..SIZE.0 * SIZE.1).map(sample).collect::<Vec<_>>(), SIZE)
}

/// What the network says of the frame at a time: never twice the same.
fn colour(time: usize) -> AbMap {
    let value = |i: usize| ((i * 7 + time * 13) % 41) as f32 - 20.;
    AbMap {
        width: 6,
        height: 4,
        a: (0..24).map(value).collect(),
        b: (24..48).map(value).collect(),
    }
}

/// The frames from `first` on up to `end`, as they come to the filter of this row.
fn film((row, pace): (&Row, Pace), first: usize, end: usize) -> Vec<Inferred> {
    let plans: Vec<Plan> = match row.planner(INTERVAL, pace) {
        None => (first..end)
            .map(|time| Plan::alone(time == first))
            .collect(),
        Some(mut planner) => {
            let plans = (first..end).filter_map(|time| planner.push(sketch(time), time as f64));
            let mut plans: Vec<Plan> = plans.collect();
            plans.extend(std::iter::from_fn(|| planner.finish()));
            plans
        }
    };
    assert_eq!(plans.len(), end - first);
    let frame = |(i, plan): (usize, Plan)| Inferred {
        frame: Decoded {
            index: i as u64,
            pts: (first + i) as i64 * 3,
            duration: 3,
            arrived: std::time::Instant::now(),
            picture: Picture::empty(),
        },
        cut: plan.cut,
        own: false,
        key: plan.key,
        late: None,
        ab: plan.key.then(|| colour(first + i)),
        motion: plan.motion,
    };
    plans.into_iter().enumerate().map(frame).collect()
}

/// What becomes of frames.
fn steadied((row, pace): (&Row, Pace), frames: Vec<Inferred>) -> Vec<Steady> {
    let mut filter = (row.make)(INTERVAL, pace);
    let mut out = Vec::new();
    for (i, frame) in frames.into_iter().enumerate() {
        out.extend(filter.push(frame).unwrap());
        let held = i + 1 - out.len();
        assert!(
            held <= filter.reach().1,
            "{}: holds {held} frames",
            row.name
        );
    }
    out.extend(filter.flush().unwrap());
    out
}

#[test]
fn every_filter_returns_the_frames_that_it_was_given_in_order() {
    for (row, pace) in all() {
        for n in [0, 1, 2, 3, 4, 5, 6, 50] {
            let out = steadied((row, pace), film((row, pace), 0, n));
            let seen: Vec<_> = out.iter().map(|s| (s.frame.index, s.frame.pts)).collect();
            let came: Vec<_> = (0..n as u64).map(|i| (i, i as i64 * 3)).collect();
            assert_eq!(seen, came, "{}", row.name);
            let finite = |s: &Steady| {
                let ab = s.ab.as_ref().unwrap();
                ab.a.iter().chain(&ab.b).all(|v| v.is_finite())
            };
            assert!(out.iter().all(finite), "{}", row.name);
        }
    }
}

#[test]
fn every_filter_started_in_the_middle_with_its_pre_roll_gives_the_same_maps() {
    for (row, pace) in all() {
        let maps = |from: usize| -> Vec<AbMap> {
            let out = steadied((row, pace), film((row, pace), from, 150));
            out.into_iter().map(|s| s.ab.unwrap()).collect()
        };
        let (back, ahead) = (row.make)(INTERVAL, pace).reach();
        let whole = maps(0);
        for first in [back, back + 3, 110] {
            let part = maps(first - back);
            assert!(part[back..] == whole[first..], "{} from {first}", row.name);
        }
        // Nor does anything depend on what comes later than it says.
        let out = steadied((row, pace), film((row, pace), 0, 90));
        let same = out
            .iter()
            .zip(&whole)
            .take(90 - ahead)
            .all(|(part, whole)| part.ab.as_ref() == Some(whole));
        assert!(same, "{} looks farther ahead than {ahead} frames", row.name);
    }
}

#[test]
fn no_colour_crosses_a_cut() {
    for (row, pace) in all() {
        let frames = film((row, pace), 0, 74);
        let cuts: Vec<usize> = (0..74).filter(|i| frames[*i].cut).collect();
        if (row.interval)(INTERVAL).is_some() {
            assert_eq!(cuts, [0, 37], "{}", row.name);
        }
        let plain = |mut frame: Inferred, scene: f32| {
            frame.ab = frame.ab.map(|_| AbMap::constant(scene, -scene));
            frame
        };
        let frames = frames.into_iter().enumerate();
        let frames = frames.map(|(i, frame)| plain(frame, if i < 37 { 10. } else { 50. }));
        for (i, steady) in steadied((row, pace), frames.collect()).iter().enumerate() {
            let own = if i < 37 { 10. } else { 50. };
            let ab = steady.ab.as_ref().unwrap();
            let all = ab.a.iter().zip(&ab.b);
            let right = all
                .clone()
                .all(|(a, b)| (a - own).abs() < 1e-3 && (b + own).abs() < 1e-3);
            assert!(
                right,
                "{}: frame {i} is {:?}",
                row.name,
                all.collect::<Vec<_>>()[0]
            );
        }
    }
}

#[test]
fn what_stands_still_keeps_its_colour_exactly() {
    for pace in [Pace::Film, Pace::Live] {
        stands_still(pace);
    }
}

fn stands_still(pace: Pace) {
    let row = by_name("motion").unwrap();
    let mut planner = row.planner(INTERVAL, pace).unwrap();
    let mut plans: Vec<Plan> = (0..40)
        .filter_map(|t| planner.push(sketch(5), f64::from(t)))
        .collect();
    plans.extend(std::iter::from_fn(|| planner.finish()));
    assert_eq!(plans.iter().filter(|plan| plan.key).count(), 40 / INTERVAL);
    let frames = plans.into_iter().enumerate().map(|(i, plan)| Inferred {
        frame: Decoded {
            index: i as u64,
            pts: i as i64,
            duration: 1,
            arrived: std::time::Instant::now(),
            picture: Picture::empty(),
        },
        cut: plan.cut,
        own: false,
        key: plan.key,
        late: None,
        ab: plan.key.then(|| colour(3)),
        motion: plan.motion,
    });
    let out = steadied((row, pace), frames.collect());
    let apart = |(a, b): (&f32, &f32)| (a - b).abs();
    for steady in &out {
        let (now, first) = (steady.ab.as_ref().unwrap(), out[0].ab.as_ref().unwrap());
        let pairs = now.a.iter().zip(&first.a);
        let most = pairs.map(apart).fold(0., f32::max);
        assert!(
            most < 1e-4,
            "frame {} differs by {most}",
            steady.frame.index
        );
    }
}

/// The network may need two frames' time: from then on everything is as if it had known at once.
#[test]
fn a_colour_that_comes_late_is_carried_to_where_the_picture_is() {
    const LATE: usize = 2;
    let live = (by_name("motion").unwrap(), Pace::Live);
    let at_once = steadied(live, film(live, 0, 120));
    let mut frames = film(live, 0, 120);
    let mut known = vec![true; frames.len()];
    for i in 0..frames.len() - LATE {
        let first_of_scene = frames[i].cut || (i + 1..=i + LATE).any(|j| frames[j].cut);
        if let Some(ab) = frames[i].ab.take_if(|_| !first_of_scene) {
            let of = frames[i].frame.index;
            frames[i + LATE].late = Some(Late { of, ab });
            known[i..i + LATE].fill(false);
        }
    }
    let late = steadied(live, frames);
    assert!(known.iter().filter(|known| !**known).count() > 10);
    for (i, (a, b)) in at_once.iter().zip(&late).enumerate() {
        let (a, b) = (a.ab.as_ref().unwrap(), b.ab.as_ref().unwrap());
        let apart = a.a.iter().zip(&b.a).map(|(a, b)| (a - b).abs());
        let apart = apart.fold(0., f32::max);
        assert_eq!(apart < 1e-3, known[i], "frame {i}: {apart}");
    }
}
