//! Reports of invented archives.

use std::cell::Cell;

use image::{RgbImage, codecs::jpeg::JpegEncoder};
use tempfile::tempdir;

use super::*;
use crate::archive::record::{Digest, Done};

fn record(source: &str, outcome: Outcome) -> Record {
    Record {
        source: source.into(),
        root: "/films".into(),
        digest: Digest {
            bytes: 3_000_000,
            modified: 0,
            blocks: "ab".into(),
        },
        settings: "cd".into(),
        outcome,
        published: true,
        finished: 951_827_696,
        worker: "desk:42".into(),
    }
}

fn film(source: &str) -> Record {
    let done = Done {
        output: source.into(),
        bytes: 1_420_000_000,
        sha256: "0123abcd".into(),
        frames: 138_125,
        size: (720, 576),
        seconds: 5525.,
        worked: 2762.5,
        segments: 12,
        streams: vec!["audio aac eng: copied".into()],
        ..Done::default()
    };
    record(source, Outcome::Done(done))
}

fn failure(source: &str, why: &str) -> Record {
    let why = why.into();
    record(source, Outcome::Failed { why, attempts: 3 })
}

fn skip(source: &str, why: &str) -> Record {
    record(source, Outcome::Skipped { why: why.into() })
}

fn facts(waiting: &[&str]) -> Facts {
    Facts {
        archive: "films".into(),
        model: "painter, 31 M parameters, sha256 77aa, CPU".into(),
        settings: vec![("video".into(), "h264 crf 17".into())],
        waiting: waiting.iter().map(|w| w.to_string()).collect(),
        written: 951_827_696,
        version: "0.1.0".into(),
    }
}

fn no_sheet(_: &Record) -> Option<Vec<u8>> {
    None
}

/// The page of a report.
fn page_of(facts: &Facts, records: &[Record], sheet: &Sheets) -> String {
    let folder = tempdir().unwrap();
    let page = publish(folder.path(), facts, records, sheet).unwrap();
    fs::read_to_string(page).unwrap()
}

/// The part of a page from where `from` stands to where `to` does.
fn between<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = page.split_once(from).unwrap_or_else(|| panic!("{from}"));
    rest.split_once(to).unwrap_or_else(|| panic!("{to}")).0
}

#[test]
fn totals_add_up_films_and_count_the_rest() {
    let records = [
        film("a"),
        film("b"),
        failure("c", "broken"),
        skip("d", "in colour"),
    ];
    let totals = Totals::of(&records, 5);
    let numbers = (totals.done, totals.failed, totals.skipped, totals.waiting);
    assert_eq!(numbers, (2, 1, 1, 5));
    assert_eq!((totals.seconds, totals.worked), (11_050., 5525.));
    assert_eq!(totals.speed, Some(2.));
    assert_eq!(
        (totals.bytes, totals.source_bytes),
        (2_840_000_000, 6_000_000)
    );
    assert_eq!(totals.frames, 276_250);
    assert_eq!(Totals::of(&[], 0).speed, None);
}

#[test]
fn each_stands_in_its_place_and_failures_first() {
    let records = [
        skip("extras/s.mkv", "it is in colour already"),
        film("fiction/d.mkv"),
        failure("news/f.mkv", "no picture could be read; copy it again"),
    ];
    let page = page_of(&facts(&["news/w.mkv"]), &records, &no_sheet);
    let failed = between(&page, "<section id=\"failed\">", "<section id=\"waiting\">");
    assert!(failed.contains("news/f.mkv") && failed.contains("copy it again"));
    assert!(failed.contains("Tried 3 times, last on 2000-02-29 12:34 UTC by desk:42"));
    let waiting = between(&page, "<section id=\"waiting\">", "<section id=\"done\">");
    assert!(waiting.contains("news/w.mkv"));
    let done = between(&page, "<section id=\"done\">", "<section id=\"skipped\">");
    for words in [
        "fiction <small>1 film, 1:32:05",
        "href=\"./fiction/d.mkv\"",
        "720 \u{d7} 576",
        "138,125 frames",
        "1.42 GB",
        "0:46:03 at 50.0 fps in 12 segments",
        "audio aac eng: copied",
    ] {
        assert!(done.contains(words), "{words} in {done}");
    }
    assert!(!done.contains("own colours"), "{done}");
    let skipped = between(&page, "<section id=\"skipped\">", "<footer>");
    assert!(skipped.contains("it is in colour already") && skipped.contains("extras/s.mkv"));
    let about = between(&page, "<footer>", "</footer>");
    assert!(about.contains("sha256 77aa") && about.contains("h264 crf 17"));
    let summary = between(&page, "<h1>", "<section");
    for words in [
        "1.53 h",
        "46 min",
        "<b>2.00</b> times as fast",
        "1 film to go",
    ] {
        assert!(summary.contains(words), "{words} in {summary}");
    }
}

#[test]
fn a_state_that_nothing_is_in_has_no_part() {
    let page = page_of(&facts(&[]), &[film("d.mkv")], &no_sheet);
    assert!(page.contains("<section id=\"done\">"));
    for state in ["failed", "waiting", "skipped"] {
        assert!(!page.contains(&format!("<section id=\"{state}\">")));
        assert!(!page.contains(&format!("href=\"#{state}\"")));
    }
    assert!(page.contains("Nothing is left to do"));
}

#[test]
fn skipped_ones_stand_by_reason_the_most_frequent_first() {
    let many: Vec<Record> = (0..20)
        .map(|i| skip(&format!("n{i}"), "too short"))
        .collect();
    let records: Vec<Record> = many.into_iter().chain([skip("m", "a picture")]).collect();
    let page = page_of(&facts(&[]), &records, &no_sheet);
    assert!(page.contains("<details class=\"group\"><summary>too short <small>20</small>"));
    assert!(page.contains("<details class=\"group\" open><summary>a picture <small>1</small>"));
    assert!(page.find("too short") < page.find("a picture"));
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let evil = "<script>alert('1')</script>\"&";
    let mut done = film(evil);
    done.worker = evil.into();
    if let Outcome::Done(film) = &mut done.outcome {
        film.model = evil.into();
        film.sha256 = evil.into();
        film.streams = vec![evil.into()];
        film.warnings = vec![evil.into()];
    }
    let mut facts = facts(&[evil]);
    facts.archive = evil.into();
    facts.model = evil.into();
    facts.version = evil.into();
    facts.settings = vec![(evil.into(), evil.into())];
    let records = [done, failure(evil, evil), skip(evil, evil)];
    let page = page_of(&facts, &records, &|_| Some(jpeg()));
    assert_eq!(page.matches("<script>").count(), 1, "its own only");
    assert!(!page.contains("alert('1')") && !page.contains("\"&\""));
    assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;"));
}

fn jpeg() -> Vec<u8> {
    let mut jpeg = Vec::new();
    let picture = RgbImage::new(16, 8);
    let encoder = JpegEncoder::new(&mut jpeg);
    picture.write_with_encoder(encoder).unwrap();
    jpeg
}

#[test]
fn only_films_are_asked_for_sheets_and_only_pictures_are_shown() {
    let asked = Cell::new(0);
    let sheet = |record: &Record| {
        asked.set(asked.get() + 1);
        match record.source.as_str() {
            "a" => Some(jpeg()),
            _ => Some(b"not a picture".to_vec()),
        }
    };
    let records = [film("a"), film("b"), failure("c", "why"), skip("d", "why")];
    let page = page_of(&facts(&[]), &records, &sheet);
    assert_eq!(asked.get(), 2);
    assert_eq!(page.matches("<img").count(), 1);
    assert!(page.contains(
        "loading=\"lazy\" width=\"16\" height=\"8\" alt=\"Pictures of a, before and after\""
    ));
}

#[test]
fn frames_kept_and_warnings_are_told() {
    let mut record = film("a");
    if let Outcome::Done(film) = &mut record.outcome {
        film.kept = 1204;
        film.lossless = true;
        film.warnings = vec!["12 pictures were damaged".into()];
    }
    let page = page_of(&facts(&[]), &[record], &no_sheet);
    assert!(page.contains("own colours kept in 1,204 frames"));
    assert!(page.contains("1.42 GB, lossless"));
    assert!(page.contains("<li>12 pictures were damaged</li>"));
    assert!(page.contains(" 1 warning."));
}

#[test]
fn programs_get_facts_totals_and_records_by_source() {
    let folder = tempdir().unwrap();
    let records = [film("b"), skip("a", "why")];
    publish(folder.path(), &facts(&["c"]), &records, &no_sheet).unwrap();
    let json = fs::read(folder.path().join(JSON)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["facts"]["waiting"][0], "c");
    assert_eq!(json["totals"]["done"], 1);
    assert_eq!(json["totals"]["speed"], 2.);
    let back: Vec<Record> = serde_json::from_value(json["records"].clone()).unwrap();
    assert_eq!(back, [records[1].clone(), records[0].clone()]);
}

/// Names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_report_replaces_an_older_one_and_leaves_nothing_else() {
    let folder = tempdir().unwrap();
    publish(folder.path(), &facts(&["w"]), &[], &no_sheet).unwrap();
    let page = publish(folder.path(), &facts(&[]), &[film("a")], &no_sheet).unwrap();
    assert_eq!(names(folder.path()), [PAGE, JSON]);
    assert!(fs::read_to_string(page).unwrap().ends_with("</html>\n"));
}

#[test]
fn half_a_report_never_has_its_name() {
    let folder = tempdir().unwrap();
    let path = folder.path().join(PAGE);
    fs::write(&path, "old").unwrap();
    let full = |file: &mut dyn Write| {
        file.write_all(&[b'x'; 100_000])?;
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        Err(io::ErrorKind::StorageFull.into())
    };
    let error = whole(&path, full).unwrap_err();
    assert!(matches!(error, Error::Output { .. }));
    assert!(error.to_string().contains("free some space"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names(folder.path()), [PAGE]);
}

#[test]
fn a_folder_that_takes_nothing_is_told_with_what_to_try() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for output in [file, folder.path().join("missing")] {
        let error = publish(&output, &facts(&[]), &[], &no_sheet).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        let words = error.to_string();
        assert!(
            words.contains(JSON) && words.contains("ask for it again"),
            "{words}"
        );
    }
    // What cannot be replaced: the page's name is a folder's.
    fs::create_dir(folder.path().join(PAGE)).unwrap();
    assert!(publish(folder.path(), &facts(&[]), &[], &no_sheet).is_err());
    assert_eq!(names(folder.path()), ["file", PAGE, JSON]);
}

#[test]
fn ten_thousand_films_are_no_trouble() {
    let records: Vec<Record> = (0..10_000)
        .map(|i| film(&format!("reel {}/{i}.mkv", i % 100)))
        .collect();
    let page = page_of(&facts(&[]), &records, &no_sheet);
    assert_eq!(page.matches("<article").count(), 10_000);
    assert_eq!(page.matches("class=\"folder\"").count(), 100);
}
