use super::*;

const KNOWN: Known = Known {
    chance: Some(0.7),
    rate: 2e-4,
    gan: 1.,
};

/// What a healthy step says, with the noise of batches.
#[derive(Clone, Copy)]
struct Step {
    d: f32,
    gan: f32,
    chroma: f32,
    spread: f32,
}

fn healthy(i: u64) -> Step {
    let noise = |seed: f32| 1. + 0.5 * (i as f32 * seed).sin();
    Step {
        d: 0.55 * noise(1.3),
        gan: 1.1 * noise(2.1),
        chroma: 0.7 * noise(0.7),
        spread: 0.6 * noise(3.7),
    }
}

fn feed(signs: &mut Signs, i: u64, s: Step) -> Vec<Sign> {
    let losses = vec![("d", s.d), ("gan", s.gan), ("l1", 0.05)];
    signs.step(i, &losses, s.chroma, s.spread)
}

/// The signs of so many steps, and when they were told.
fn watch(steps: u64, series: impl Fn(u64) -> Step) -> Vec<(u64, Sign)> {
    let mut signs = Signs::new(KNOWN);
    let told = |i| {
        feed(&mut signs, i, series(i))
            .into_iter()
            .map(move |s| (i, s))
    };
    (1..=steps).flat_map(told).collect()
}

/// That a series tells one sign, once, not before `from` nor long after, with these words.
fn assert_one(told: &[(u64, Sign)], from: u64, stop: bool, words: &[&str]) {
    let [(at, sign)] = told else {
        panic!("{told:?}")
    };
    assert!((from..from + 1100).contains(at), "told at {at}");
    let (is_stop, text) = match sign {
        Sign::Warn(text) => (false, text),
        Sign::Stop(text) => (true, text),
    };
    assert_eq!(is_stop, stop, "{text}");
    assert!(words.iter().all(|w| text.contains(w)), "{text}");
}

#[test]
fn a_healthy_run_shows_no_sign() {
    assert_eq!(watch(20_000, healthy), []);
}

/// Grey results, an undecided discriminator and one colour for all belong to the first steps of every run.
#[test]
fn the_beginning_of_a_run_is_no_sign() {
    let series = |i| match i {
        0..600 => Step {
            d: 0.69,
            chroma: 0.01,
            spread: 0.01,
            ..healthy(i)
        },
        _ => healthy(i),
    };
    assert_eq!(watch(5000, series), []);
}

#[test]
fn a_discriminator_that_has_won_is_told() {
    let series = |i| match i {
        0..3000 => healthy(i),
        _ => Step {
            d: 0.001,
            gan: 9.,
            ..healthy(i)
        },
    };
    let words = [
        "discriminator has hardly been wrong",
        "--set objectives.gan=0.5, now 1",
    ];
    assert_one(&watch(9000, series), 3200, false, &words);
}

#[test]
fn a_discriminator_that_has_lost_is_told() {
    let series = |i| match i {
        0..3000 => healthy(i),
        _ => Step {
            d: 0.7 + 0.01 * (i as f32).sin(),
            ..healthy(i)
        },
    };
    let words = ["discriminator has not told results", "critic"];
    assert_one(&watch(9000, series), 3900, false, &words);
}

#[test]
fn swings_are_told() {
    let series = |i| {
        let swing = 1. + 0.8 * (i as f32 / 25.).sin();
        Step {
            d: 0.5 * swing,
            gan: 1.5 / swing,
            ..healthy(i)
        }
    };
    let words = ["chase each other", "--set rate=1e-4, now 2e-4"];
    assert_one(&watch(9000, series), 1000, false, &words);
    // The same way up and down once is a run that changes, not one that swings.
    let once = |i| Step {
        d: if i < 2000 { 0.2 } else { 0.6 },
        ..healthy(i)
    };
    assert_eq!(watch(6000, once), []);
}

#[test]
fn mode_collapse_is_told() {
    let series = |i| match i {
        0..2000 => healthy(i),
        _ => Step {
            spread: 0.03,
            ..healthy(i)
        },
    };
    assert_one(&watch(9000, series), 2200, false, &["mode collapse"]);
}

#[test]
fn dying_chroma_is_told_and_grey_results_stop_the_run() {
    let series = |i| match i {
        0..2000 => healthy(i),
        _ => Step {
            chroma: 0.08,
            spread: 0.01,
            ..healthy(i)
        },
    };
    assert_one(
        &watch(9000, series),
        2200,
        false,
        &["colours are dying", "15 %"],
    );
    let series = |i| match i {
        0..2000 => healthy(i),
        _ => Step {
            chroma: 0.005,
            spread: 0.,
            ..healthy(i)
        },
    };
    let told = watch(9000, series);
    assert_one(&told[..1], 2200, false, &["colours are dying"]);
    assert_one(&told[1..], 2980, true, &["have been grey"]);
}

#[test]
fn exploding_chroma_is_told_and_then_stops_the_run() {
    let series = |i: u64| {
        let growth = (i as f32 / 5000.).powi(2);
        Step {
            chroma: 0.7 + growth,
            ..healthy(i)
        }
    };
    let told = watch(15_000, series);
    assert_one(&told[..1], 6700, false, &["2.5 times", "--set rate=1e-4"]);
    assert_one(&told[1..], 10_300, true, &["5 times", "diverged"]);
}

#[test]
fn a_number_that_is_none_stops_the_run_at_once() {
    for value in [f32::NAN, f32::INFINITY] {
        let mut signs = Signs::new(KNOWN);
        let told = signs.step(7, &vec![("d", 0.5), ("l1", value)], 1., 1.);
        let told: Vec<_> = told.into_iter().map(|s| (7, s)).collect();
        assert_one(
            &told,
            7,
            true,
            &["l1 loss is not finite at step 7", "--set rate=1e-4"],
        );
        // A batch of grey truths, over which nothing can be divided, is no such thing.
        assert_eq!(signs.step(8, &vec![("l1", 0.1)], value, value), []);
    }
}

#[test]
fn a_sign_is_told_again_only_after_it_was_gone() {
    // Won for a while, around the border for a while, then healthy, then won again.
    let series = |i| match i {
        0..2000 | 6000..8000 => healthy(i),
        4000..6000 => Step {
            d: if i / 100 % 2 == 0 { 0.03 } else { 0.04 },
            ..healthy(i)
        },
        _ => Step {
            d: 0.001,
            ..healthy(i)
        },
    };
    let told: Vec<_> = watch(10_000, series)
        .into_iter()
        .map(|(at, _)| at)
        .collect();
    assert_eq!(told, [2200, 8200]);
}

#[test]
fn without_an_adversary_its_signs_are_not_shown() {
    // Wasserstein's loss may be near 0 for ever.
    let mut signs = Signs::new(Known {
        chance: None,
        ..KNOWN
    });
    for i in 1..5000 {
        let s = Step {
            d: 0.001,
            gan: 1.,
            ..healthy(i)
        };
        assert_eq!(feed(&mut signs, i, s), []);
    }
    // Numbers of an earlier phase are forgotten: its discriminator was about to have won.
    let mut signs = Signs::new(KNOWN);
    let mut told = 0;
    for i in 1..3000 {
        let adversary = (i - 1) % 400 < 180;
        let losses = match adversary {
            true => vec![("d", 0.001), ("gan", 9.), ("l1", 0.1)],
            false => vec![("l1", 0.1)],
        };
        told += signs.step(i, &losses, 0.7, 0.7).len();
    }
    assert_eq!(told, 0);
}

/// Saved at any step and restored, the signs are those of a watch that was never broken off.
#[test]
fn a_restored_watch_tells_what_an_unbroken_one_tells() {
    let series = |i| match i {
        0..1500 => healthy(i),
        _ => Step {
            d: 0.001,
            chroma: 0.05,
            ..healthy(i)
        },
    };
    let whole = watch(2500, series);
    assert!(whole.len() >= 2, "{whole:?}");
    for stop in [1, 19, 20, 1507, 1700, 1990] {
        let mut first = Signs::new(KNOWN);
        let mut told = Vec::new();
        for i in 1..=stop {
            told.extend(feed(&mut first, i, series(i)).into_iter().map(|s| (i, s)));
        }
        let saved = serde_json::to_string(&first.state()).unwrap();
        let mut second = Signs::new(KNOWN);
        second.restore(serde_json::from_str(&saved).unwrap());
        for i in stop + 1..=2500 {
            told.extend(feed(&mut second, i, series(i)).into_iter().map(|s| (i, s)));
        }
        assert_eq!(told, whole, "stopped at {stop}");
    }
}
