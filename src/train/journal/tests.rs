use std::f64::consts::TAU;

use serde_json::json;

use super::*;
use crate::frame::Thumb;

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

/// A run's numbers at a step: an adversary comes at step 50.
fn step(journal: &mut Journal, step: u64) {
    let x = step as f32;
    let mut losses = vec![("l1", 0.1 + 1. / x)];
    if step >= 50 {
        losses.extend([("gan", 2. + x.sin()), ("d", 0.7 - 0.01 * x.cos())]);
    }
    journal.step(step, &losses, 2e-4, 12.5);
    if step.is_multiple_of(30) {
        let figures = [("ciede2000", 10. - 0.01 * step as f64), ("psnr_ab", 20.)];
        journal.figures(step, &figures);
    }
}

/// The table without what a clock says.
fn table(folder: &Path) -> String {
    let text = read(folder, "metrics.csv");
    let head: Vec<_> = text.lines().next().unwrap().split(',').collect();
    let timeless = |line: &str| {
        let cells = line
            .split(',')
            .zip(&head)
            .filter(|(_, name)| **name != SECONDS);
        cells.map(|(cell, _)| cell).collect::<Vec<_>>().join(",")
    };
    text.lines().map(timeless).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_table_has_a_row_a_step_and_a_column_a_number() {
    let run = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(run.path(), &json!({}), None).unwrap();
    for i in 1..=10 {
        journal.step(i, &vec![("l1", 1.), ("d", 0.5)], 1e-4, 8.);
    }
    for i in 11..=20 {
        journal.step(i, &vec![("l1", 3.), ("d", 0.25)], 1e-4, 8.);
    }
    journal.figures(20, &[("psnr_ab", 21.5)]);
    journal.figures(30, &[("psnr_ab", 22.)]);
    let expected = "step,rate,pictures_per_second,loss/d,loss/l1,validation/psnr_ab\n\
                    20,0.0001,8,0.375,2,21.5\n\
                    30,,,,,22";
    assert_eq!(table(run.path()), expected);
}

#[test]
fn the_running_mean_follows_the_losses() {
    let mut means = Means::default();
    assert_eq!(means.add(&vec![("l1", 1.)]), vec![("l1", 1.)]);
    let next = means.add(&vec![("d", 5.), ("l1", 2.)]);
    assert_eq!(next, vec![("d", 5.), ("l1", 1.02)]);
    // One that comes again begins again.
    means.add(&vec![("d", 5.)]);
    assert_eq!(means.add(&vec![("l1", 9.)]), vec![("l1", 9.)]);
}

/// Whatever the run had noted beyond the checkpoint when it was killed: the table is that of an unbroken run.
#[test]
fn a_run_that_goes_on_leaves_the_table_of_one_that_never_stopped() {
    let whole = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(whole.path(), &json!({}), None).unwrap();
    (1..=130).for_each(|i| step(&mut journal, i));
    for (saved, killed) in [(33, 33), (20, 55), (47, 92), (60, 60), (60, 119), (0, 70)] {
        let run = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(run.path(), &json!({}), None).unwrap();
        let mut means = journal.means();
        for i in 1..=killed {
            step(&mut journal, i);
            if i == saved {
                let json = serde_json::to_string(&journal.means()).unwrap();
                means = serde_json::from_str(&json).unwrap();
            }
        }
        drop(journal);
        // The kill came in the middle of a row.
        let mut text = read(run.path(), "metrics.csv");
        text += "120,0.1,0.00";
        fs::write(run.path().join("metrics.csv"), text).unwrap();
        let mut journal = Journal::open(run.path(), &json!({}), Some(saved)).unwrap();
        journal.restore(means);
        (saved + 1..=130).for_each(|i| step(&mut journal, i));
        assert_eq!(
            table(run.path()),
            table(whole.path()),
            "saved at {saved}, killed at {killed}"
        );
    }
}

#[test]
fn time_goes_on_where_an_earlier_part_stopped() {
    let run = tempfile::tempdir().unwrap();
    fs::write(
        run.path().join("metrics.csv"),
        "step,seconds\n20,1000\n40,2000\n",
    )
    .unwrap();
    let mut journal = Journal::open(run.path(), &json!({}), Some(30)).unwrap();
    journal.figures(40, &[("psnr_ab", 1.)]);
    let text = read(run.path(), "metrics.csv");
    assert!(
        text.starts_with("step,seconds,validation/psnr_ab\n20,1000,\n40,1000"),
        "{text}"
    );
}

#[test]
fn the_settings_of_every_part_are_kept() {
    let run = tempfile::tempdir().unwrap();
    for (header, at) in [("a", None), ("b", Some(10)), ("c", Some(20))] {
        Journal::open(run.path(), &json!({ "seed": header }), at).unwrap();
    }
    let config: Value = serde_json::from_str(&read(run.path(), "config.json")).unwrap();
    let expected = json!({
        "run": { "seed": "a" },
        "history": [
            { "from_step": 0, "run": { "seed": "a" } },
            { "from_step": 10, "run": { "seed": "b" } },
            { "from_step": 20, "run": { "seed": "c" } },
        ],
    });
    assert_eq!(config, expected);
}

#[test]
fn a_file_that_is_not_the_journals_is_not_overwritten() {
    for (name, text) in [
        ("config.json", "[1]"),
        ("metrics.csv", "name,price\nbread,3\n"),
    ] {
        let run = tempfile::tempdir().unwrap();
        fs::write(run.path().join(name), text).unwrap();
        let e = Journal::open(run.path(), &json!({}), None)
            .err()
            .unwrap()
            .to_string();
        assert!(e.contains(name) && e.contains("move it away"), "{e}");
        assert_eq!(read(run.path(), name), text);
    }
}

#[test]
fn a_journal_that_cannot_be_written_warns_once_and_catches_up() {
    let run = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(run.path(), &json!({}), None).unwrap();
    step(&mut journal, 20);
    let (there, gone) = (run.path().join("metrics.csv"), run.path().join("gone"));
    fs::rename(&there, &gone).unwrap();
    fs::create_dir(&there).unwrap();
    step(&mut journal, 40);
    step(&mut journal, 60);
    let warning = journal.take_warning().unwrap();
    assert!(
        warning.contains("metrics.csv") && warning.contains("goes on"),
        "{warning}"
    );
    step(&mut journal, 80);
    assert_eq!(journal.take_warning(), None);
    fs::remove_dir(&there).unwrap();
    step(&mut journal, 100);
    let text = table(run.path());
    let steps: Vec<_> = text.lines().map(|l| l.split(',').next().unwrap()).collect();
    assert_eq!(steps, ["step", "20", "40", "60", "80", "100"]);
}

/// A picture whose chroma is one colour.
fn exam(shade: f32) -> (Exam, AbMap) {
    let (width, height) = (12, 10);
    let thumb = Thumb {
        width,
        height,
        l: vec![shade; width * height],
    };
    let exam = Exam {
        thumb,
        truth: AbMap::constant(-30., 40.),
    };
    (exam, AbMap::constant(40., 10.))
}

#[test]
fn progress_shows_a_few_pictures_over_all_sheets() {
    let run = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(run.path(), &json!({}), None).unwrap();
    let (exams, maps): (Vec<_>, Vec<_>) = (0..8).map(|i| exam(30. + 5. * i as f32)).unzip();
    let grey = vec![AbMap::constant(0., 0.); 8];
    journal.sheet(0, &exams, &grey).unwrap();
    journal.sheet(100, &exams, &maps).unwrap();
    let picture = || {
        image::open(run.path().join("progress.png"))
            .unwrap()
            .into_rgb8()
    };
    let progress = picture();
    // Grey, two sheets, truth; six pictures; a line of words above.
    assert_eq!(progress.dimensions(), (4 * 12, 6 * 10 + 22));
    let sheet = sheet(&exams, &maps);
    for row in 0..6 {
        let at = |column: u32| progress.get_pixel(column * 12 + 3, 22 + row * 10 + 3);
        let of = |which| sheet.get_pixel((row % 3 * 3 + which) * 12 + 3, row / 3 * 10 + 3);
        assert_eq!(
            [at(0), at(1), at(2), at(3)],
            [of(0), of(0), of(1), of(2)],
            "{row}"
        );
    }
    // Many sheets: the first and the last are among those that are shown.
    for step in (200..3000).step_by(100) {
        journal.sheet(step, &exams, &grey).unwrap();
    }
    journal.sheet(3000, &exams, &maps).unwrap();
    let progress = picture();
    assert_eq!(progress.width(), 12 * 12);
    assert_eq!(
        progress.get_pixel(10 * 12 + 3, 25),
        sheet.get_pixel(12 + 3, 3)
    );
    // What was lost is not shown.
    let mut journal = Journal::open(run.path(), &json!({}), Some(100)).unwrap();
    journal.sheet(200, &exams, &maps).unwrap();
    assert_eq!(picture().width(), 5 * 12);
}

#[test]
fn the_summary_tells_extremes_and_where_they_were() {
    let run = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(run.path(), &json!({}), None).unwrap();
    for (step, figure) in [(10, 5.5), (20, 3.25), (30, 4.)] {
        journal.figures(step, &[("ciede2000", figure)]);
    }
    let summary = json!({ "steps": 30, "skipped": ["a.jpg"], "best": { "step": 20 } });
    journal.finish(&summary).unwrap();
    let json: Value = serde_json::from_str(&read(run.path(), "summary.json")).unwrap();
    assert_eq!(json, summary);
    let words = read(run.path(), "summary.md");
    let expected = [
        "- best: \n  - step: 20\n",
        "- skipped: \n  - a.jpg\n",
        "- steps: 30\n",
        "| validation/ciede2000 | 5.5 | 3.25 | 20 | 5.5 | 10 | 4 |",
    ];
    assert!(expected.iter().all(|e| words.contains(e)), "{words}");
}

/// A run of 6000 steps with a pix2pix's losses, drawn; `tests/golden/events.py` and eyes look at the folder that
/// AUTOCHROME_TEST_RUN names.
#[test]
fn curves_show_what_was_noted() {
    let temporary = tempfile::tempdir().unwrap();
    let named = std::env::var_os("AUTOCHROME_TEST_RUN").map(PathBuf::from);
    let run = named.as_deref().unwrap_or(temporary.path());
    let mut journal = Journal::open(run, &json!({ "seed": 1 }), None).unwrap();
    journal.curves().unwrap();
    for i in 1..=6000u64 {
        let (x, noise) = (
            i as f64 / 6000.,
            (i as f64 * 12.9898).sin() * 43758.5453 % 1.,
        );
        let mut losses = vec![
            ("l1", 0.03 + 0.1 * (-4. * x).exp() + 0.01 * noise),
            ("perceptual", 0.4 + 0.3 * (-2. * x).exp() + 0.05 * noise),
        ];
        if i > 2000 {
            losses.push(("gan", 0.9 + 0.4 * (TAU * 2. * x).sin() + 0.3 * noise));
            losses.push(("d", 0.65 + 0.2 * noise));
        }
        let losses = losses.into_iter().map(|(n, v)| (n, v as f32)).collect();
        let rate = 2e-4 * (2. * (1. - x)).min(1.);
        journal.step(i, &losses, rate, 31. + 2. * noise);
        if i.is_multiple_of(500) {
            let dip = 12. - 6. * x.sqrt() + 0.2 * noise;
            journal.figures(i, &[("ciede2000", dip), ("psnr_ab", 26. - dip / 3.)]);
        }
    }
    journal.curves().unwrap();
    let picture = image::open(run.join("curves.png")).unwrap().into_rgb8();
    // Losses, rate, pace and two figures: five panels, two in a row.
    assert_eq!(picture.dimensions(), (2 * 720, 3 * 380));
    let count = |colour: [u8; 3], panel: u32| {
        let (left, top) = (panel % 2 * 720, panel / 2 * 380);
        let inside =
            |x: u32, y: u32| (left..left + 720).contains(&x) && (top..top + 380).contains(&y);
        let pixels = picture.enumerate_pixels();
        pixels
            .filter(|(x, y, p)| inside(*x, *y) && p.0 == colour)
            .count()
    };
    let colours = [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167]];
    for colour in colours {
        assert!(count(colour, 0) > 300, "no curve in {colour:?}");
    }
    for panel in 1..5 {
        assert!(
            count(colours[0], panel) > 300 && count(colours[1], panel) == 0,
            "{panel}"
        );
    }
}
