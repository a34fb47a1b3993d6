//! `autochrome verify` from end to end: an archive of one film with a record written by hand is good, and whatever is
//! broken in it is named.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use autochrome::archive::record::{Digest, Done, Outcome, Record};
use common::*;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const LINES: &str = "1\n00:00:00,200 --> 00:00:00,900\nGood day!\n\n2\n00:00:01,100 --> 00:00:01,800\nÄnd gööd night.\n\n";

/// Two seconds of pictures, a sound, a subtitle. The sound begins 21 ms early, with what its decoder throws away.
const FILM: &str = "-f lavfi -i testsrc2=s=160x120:r=25:d=2 -f lavfi -i sine=440:r=48000:d=2 -i lines.srt -map 0:v \
    -map 1:a -map 2 -c:v libx264 -bf 2 -pix_fmt yuv420p -c:a aac -c:s srt -metadata:s:a language=eng";

/// Sums of a film's bytes.
fn claim(done: &mut Done, result: &Path) {
    let bytes = fs::read(result).expect("the result");
    let sum = Sha256::digest(&bytes);
    done.bytes = bytes.len() as u64;
    done.sha256 = sum.iter().map(|byte| format!("{byte:02x}")).collect();
}

/// An archive of one film.
struct Archive {
    lab: Lab,
    result: PathBuf,
    record: Record,
    done: Done,
}

impl Archive {
    /// Draws a film, colours it with a test model, and writes what `batch` would write of it.
    fn of(source: &str, make: &str, output: &str, args: &str) -> Self {
        let lab = Lab::new();
        for folder in ["films/reel", "out/reel"] {
            fs::create_dir_all(lab.path(folder)).expect("a folder");
        }
        fs::write(lab.path("lines.srt"), LINES).expect("subtitles");
        let film = lab.film(&format!("films/reel/{source}"), make);
        let result = lab.path(&format!("out/reel/{output}"));
        let run = colorize(&film, &result, &format!("--json --model constant {args}")).ok();
        let mut done = done(&run.json(), &film);
        done.output = format!("reel/{output}");
        done.lossless = args.contains("ffv1");
        claim(&mut done, &result);
        let record = Record {
            source: format!("reel/{source}"),
            root: lab.path("films").to_string_lossy().into_owned(),
            digest: Digest::of(&film).expect("the source's digest"),
            settings: String::new(),
            outcome: Outcome::Done(done.clone()),
            published: true,
            finished: 1_700_000_000,
            worker: "here 1".into(),
        };
        Self {
            lab,
            result,
            record,
            done,
        }
    }

    fn new() -> Self {
        Self::of("film.mkv", FILM, "film.mkv", "--keep-color never")
    }

    fn source(&self) -> PathBuf {
        self.lab.path("films").join(&self.record.source)
    }

    fn put(&self, record: &Record) -> PathBuf {
        let path = Record::path(&self.lab.path("out"), &record.source);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        fs::write(&path, serde_json::to_vec_pretty(record).expect("JSON")).expect("the record");
        path
    }

    #[track_caller]
    fn verify(&self, args: &str) -> Run {
        let outcome = Outcome::Done(self.done.clone());
        self.put(&Record {
            outcome,
            ..self.record.clone()
        });
        let out = self.lab.path("out");
        run(autochrome(["verify"])
            .arg(out)
            .args(args.split_whitespace()))
    }

    /// Makes the result anew by `ffmpeg`, which takes it as its first input, and lets the record claim the new bytes.
    fn remake(&mut self, args: &str) {
        let name = format!("new-{}", self.result.file_name().unwrap().to_string_lossy());
        let made = self.lab.film(
            &name,
            &format!("-i {} {args}", self.result.to_string_lossy()),
        );
        fs::rename(made, &self.result).expect("the new result");
        claim(&mut self.done, &self.result);
    }
}

/// What the program's own summary says of a result.
fn done(summary: &Value, film: &Path) -> Done {
    let written = &summary["written"][0];
    let video = &streams(&probe(film), "video")[0];
    let texts = |list: &Value| serde_json::from_value::<Vec<String>>(list.clone()).expect("texts");
    let number = |value: &Value| value.as_u64().expect("a number") as usize;
    Done {
        frames: written["frames"].as_u64().expect("frames"),
        size: (number(&video["width"]), number(&video["height"])),
        segments: 1,
        streams: texts(&written["streams"]),
        warnings: [texts(&summary["warnings"]), texts(&written["notes"])].concat(),
        ..Done::default()
    }
}

const X264: &str =
    "-map 0 -c copy -c:v libx264 -crf 10 -bf 2 -fps_mode passthrough -enc_time_base 1/1000";

#[test]
fn a_result_that_is_what_it_claims_is_good() {
    let archive = Archive::new();
    let run = archive.verify("").ok();
    assert!(run.stderr.contains("1 good, 0 wrong"), "{}", run.stderr);
    let run = archive.verify("--json").ok();
    let text = String::from_utf8(run.stdout).expect("text");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [item, last] = &lines[..] else {
        panic!("{text}")
    };
    assert_eq!(
        (&item["state"], &item["source"]),
        (&"good".into(), &"reel/film.mkv".into())
    );
    let found = &item["comparison"];
    assert_eq!(found["luma"]["frames"], 50);
    assert!(
        found["luma"]["psnr"].as_f64().is_some_and(|p| p > 35.),
        "{found}"
    );
    let tracks = found["tracks"].as_array().expect("tracks");
    assert!(
        tracks.len() == 2 && tracks.iter().all(|t| t["agreement"] == "same"),
        "{found}"
    );
    assert_eq!(
        (&last["summary"]["good"], &last["summary"]["wrong"]),
        (&1.into(), &0.into())
    );
}

/// Whatever goes into whatever: packets that are repackaged, subtitles that are converted, luma that is read otherwise.
#[test]
fn every_way_of_keeping_a_film_is_good() {
    let tones =
        "-f lavfi -i testsrc2=s=160x120:r=25:d=1 -f lavfi -i sine=440:r=48000:d=1 -map 0 -map 1";
    let colour = "--keep-color always";
    for (source, make, output, args) in [
        ("a.mkv", FILM.to_string(), "a.mp4", ""),
        (
            "b.ts",
            format!("{tones} -c:v mpeg2video -bf 2 -c:a aac"),
            "b.mp4",
            "",
        ),
        (
            "c.mp4",
            format!("{tones} -c:v libx264 -c:a aac"),
            "c.ts",
            "",
        ),
        (
            "d.mov",
            format!("{tones} -c:v mjpeg -c:a pcm_s16le"),
            "d.mkv",
            "",
        ),
        (
            "e.avi",
            format!("{tones} -c:v mpeg4 -c:a mp2"),
            "e.mkv",
            "--codec ffv1",
        ),
        (
            "f.mkv",
            format!("{tones} -c:v libx264 -pix_fmt yuv420p10le -c:a flac"),
            "f.mkv",
            "--codec ffv1",
        ),
        (
            "g.mkv",
            format!("{tones} -c:v ffv1 -pix_fmt gray -c:a libopus"),
            "g.mkv",
            "--codec ffv1",
        ),
        (
            "h.mkv",
            format!("{tones} -c:v ffv1 -pix_fmt bgr0 -c:a flac"),
            "h.mkv",
            "--codec ffv1",
        ),
        (
            "i.mkv",
            format!("{tones} -c:v ffv1 -pix_fmt yuv422p -c:a ac3"),
            "i.mkv",
            "--codec ffv1",
        ),
        (
            "j.mp4",
            format!("{tones} -c:v libx264 -c:a aac"),
            "j.avi",
            "--codec mpeg4",
        ),
    ] {
        for keep in ["--keep-color never", colour] {
            let archive = Archive::of(source, &make, output, &format!("{keep} {args}"));
            let run = archive.verify("-v");
            assert_eq!(run.code, 0, "{source} to {output} {keep}: {}", run.stderr);
            assert!(
                run.stderr.contains("1 good"),
                "{source} to {output}: {}",
                run.stderr
            );
        }
    }
}

/// Frames at times of their own, in clocks that divide each other badly.
#[test]
fn times_within_half_a_tick_are_good() {
    let make = "-f lavfi -i testsrc2=s=160x120:r=25:d=1.2 -vf settb=1/90000,setpts=(N+0.6*random(1))/(25*TB) -fps_mode \
        vfr -enc_time_base 1/90000 -video_track_timescale 90000 -c:v libx264 -bf 3 -pix_fmt yuv420p";
    for output in ["film.mkv", "film.mp4", "film.ts"] {
        Archive::of("film.mp4", make, output, "").verify("").ok();
    }
    let archive = Archive::of("film.mp4", make, "film.avi", "--codec mjpeg");
    let run = archive.verify("").ok();
    assert!(
        run.stderr.contains("times are not kept"),
        "the record said so: {}",
        run.stderr
    );
}

#[test]
fn a_flipped_byte_is_found() {
    let archive = Archive::new();
    let mut bytes = fs::read(&archive.result).expect("the result");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive.result, bytes).expect("the broken result");
    archive
        .verify("")
        .fails(4, &["reel/film.mkv: its SHA-256", "1 are not"]);
}

#[test]
fn a_truncated_and_a_missing_result_are_found() {
    let archive = Archive::new();
    let bytes = fs::read(&archive.result).expect("the result");
    fs::write(&archive.result, &bytes[..bytes.len() / 2]).expect("the broken result");
    let record = format!("its record says {}", bytes.len());
    archive.verify("").fails(
        4,
        &[
            "reel/film.mkv: it has",
            &record,
            "frames, and its source 50",
        ],
    );
    fs::write(&archive.result, "").expect("nothing");
    archive.verify("").fails(4, &["it has 0 bytes"]);
    fs::remove_file(&archive.result).expect("a result");
    archive.verify("").fails(
        4,
        &["reel/film.mkv: the result cannot be read", "no such file"],
    );
}

#[test]
fn a_frame_too_few_is_found() {
    let mut archive = Archive::new();
    archive.remake(&format!("{X264} -vf select=not(eq(n\\,20))"));
    archive.verify("").fails(
        4,
        &[
            "it has 49 frames, and its record says 50",
            "and its source 50",
        ],
    );
}

#[test]
fn a_frame_that_comes_late_is_found() {
    let mut archive = Archive::new();
    archive.remake(&format!("{X264} -vf setpts=PTS+eq(N\\,20)*0.007/TB"));
    let run = archive.verify("").fails(
        4,
        &["times are not kept: frame 20 (0.821 s) comes 7.0 ms later"],
    );
    assert!(!run.stderr.contains("luma"), "{}", run.stderr);
}

#[test]
fn other_luma_is_found() {
    let mut archive = Archive::new();
    archive.remake(&format!("{X264} -vf lutyuv=y=val+20"));
    archive.verify("").fails(
        4,
        &["the luma is far from the source's: PSNR 2", "28 are wanted"],
    );
    archive.verify("--min-psnr 20").ok();
    let mut archive = Archive::new();
    archive.remake(&format!(
        "{X264} -vf drawbox=t=fill:c=black:enable=eq(n\\,20)"
    ));
    archive.verify("").fails(
        4,
        &["the luma of frame 20 (0.821 s) is far", "20 are wanted"],
    );
}

/// One bit of one sample of one frame, in 8 and in 10 bits.
#[test]
fn one_bit_is_found_after_a_lossless_encoder() {
    for pixel in ["yuv420p", "yuv420p10le"] {
        let make = format!("-f lavfi -i testsrc2=s=160x120:r=25:d=1 -c:v ffv1 -pix_fmt {pixel}");
        let mut archive = Archive::of(
            "film.mkv",
            &make,
            "film.mkv",
            "--keep-color never --codec ffv1",
        );
        archive.verify("").ok();
        archive.remake(
            "-map 0 -c:v ffv1 -vf geq=lum=lum(X\\,Y)+eq(N\\,7)*eq(X\\,30)*eq(Y\\,40):cb=cb(X\\,Y):cr=cr(X\\,Y)",
        );
        archive.verify("").fails(
            4,
            &[
                "the luma of 1 frames is not the source's",
                "first of frame 7 (0.280 s)",
                "lossless",
            ],
        );
        // Colours are nobody's business here.
        let mut archive = Archive::of(
            "film.mkv",
            &make,
            "film.mkv",
            "--keep-color never --codec ffv1",
        );
        archive.remake("-map 0 -c:v ffv1 -vf lutyuv=u=val+9");
        archive.verify("").ok();
    }
}

#[test]
fn another_sound_is_found() {
    let mut archive = Archive::new();
    let sound = "-f lavfi -i sine=880:r=48000:d=2 -map 0:v -map 1:a -map 0:s -c copy -c:a aac";
    archive.remake(sound);
    archive.verify("").fails(4, &["'audio aac eng: copied'"]);
    let mut archive = Archive::new();
    archive.remake("-map 0:v -map 0:s -map 0:s -c copy");
    archive.verify("").fails(
        4,
        &[
            "'audio aac eng: copied': it has no such stream",
            "knows nothing of this stream",
        ],
    );
}

#[test]
fn a_lost_subtitle_is_found() {
    let mut archive = Archive::of("film.mkv", FILM, "film.mp4", "");
    assert!(
        archive
            .done
            .streams
            .iter()
            .any(|line| line.contains("converted to mov_text"))
    );
    fs::write(
        archive.lab.path("one.srt"),
        &LINES[..LINES.find("2\n").expect("the second")],
    )
    .expect("subtitles");
    archive.remake("-i one.srt -map 0:v -map 0:a -map 1 -c copy -c:s mov_text");
    archive.verify("").fails(
        4,
        &["converted to mov_text': it has 1 packets of it, and its source 2"],
    );
}

#[test]
fn a_source_that_has_changed_is_told_and_is_no_failure() {
    let archive = Archive::new();
    let mut bytes = fs::read(archive.source()).expect("the source");
    bytes.push(0);
    fs::write(archive.source(), bytes).expect("the new source");
    let run = archive.verify("").ok();
    for words in [
        "the source has changed",
        "0 good, 0 wrong, 1 with a source that has changed",
    ] {
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
    fs::remove_file(archive.source()).expect("a source");
    let run = archive.verify("").ok();
    assert!(run.stderr.contains("the source is gone"), "{}", run.stderr);
    // Its record can still be broken.
    let mut broken = archive;
    broken.remake(&format!("{X264} -vf select=not(eq(n\\,20))"));
    broken.verify("").fails(
        4,
        &[
            "it has 49 frames, and its record says 50",
            "the source is gone",
        ],
    );
}

#[test]
fn what_was_not_coloured_is_counted_and_strays_are_told() {
    let archive = Archive::new();
    let other = |source: &str, outcome| Record {
        source: source.into(),
        outcome,
        ..archive.record.clone()
    };
    let why = || String::from("it holds only sound");
    archive.put(&other("song.mkv", Outcome::Skipped { why: why() }));
    fs::write(archive.lab.path("out/reel/notes.txt"), "mine").expect("a stray");
    fs::write(archive.lab.path("out/reel/b.mkv.part"), "half").expect("unfinished work");
    let run = archive.verify("").ok();
    for words in [
        "1 good",
        "1 skipped",
        "note: reel/notes.txt",
        "1 files that no record claims",
    ] {
        assert!(run.stderr.contains(words), "no {words:?} in {}", run.stderr);
    }
    let failed = Outcome::Failed {
        why: why(),
        attempts: 3,
    };
    archive.put(&other("bad.mkv", failed));
    archive.verify("").fails(
        3,
        &[
            "bad.mkv: it could not be coloured",
            "it holds only sound",
            "1 failed",
        ],
    );
    let damaged = archive.put(&other("worse.mkv", Outcome::Skipped { why: why() }));
    fs::write(&damaged, "{").expect("a damaged record");
    archive
        .verify("")
        .fails(3, &[&damaged.to_string_lossy(), "remove it"]);
    run_on(&archive.lab.path("films")).fails(3, &["no archive"]);
}

fn run_on(folder: &Path) -> Run {
    run(autochrome(["verify"]).arg(folder))
}
