//! Frames in = frames out, and at the same times: invariant 6 of the design, point 4 of the issue.

use std::path::Path;

use crate::common::*;

/// Sources by what is special about their times.
const SOURCES: &[(&str, &str, &str)] = &[
    (
        "constant",
        "mp4",
        "-f lavfi -i testsrc2=s=160x120:r=25:d=1.2 -c:v libx264 -bf 3 -pix_fmt yuv420p",
    ),
    (
        "film rate",
        "mkv",
        "-f lavfi -i testsrc2=s=160x120:r=24000/1001:d=1.2 -c:v libx264 -bf 2 -pix_fmt yuv420p",
    ),
    (
        "variable",
        "mp4",
        "-f lavfi -i testsrc2=s=160x120:r=25:d=1.2 -vf settb=1/90000,setpts=(N+0.6*random(1))/(25*TB) -fps_mode vfr \
         -enc_time_base 1/90000 -video_track_timescale 90000 -c:v libx264 -bf 3 -pix_fmt yuv420p",
    ),
    (
        "variable, in milliseconds",
        "mkv",
        "-f lavfi -i testsrc2=s=160x120:r=25:d=1.2 -vf settb=1/1000,setpts=(N+0.6*random(1))/(25*TB) -fps_mode vfr \
         -enc_time_base 1/1000 -c:v libx264 -bf 3 -pix_fmt yuv420p",
    ),
    (
        "holes",
        "mp4",
        "-f lavfi -i testsrc2=s=160x120:r=25:d=4 -vf select=not(between(n\\,10\\,60)) -fps_mode vfr -c:v libx264 \
         -pix_fmt yuv420p",
    ),
    (
        "late start",
        "ts",
        "-f lavfi -i testsrc2=s=160x120:r=25:d=1.2 -c:v mpeg2video -bf 2 -output_ts_offset 7 -g 6",
    ),
    (
        "two frames",
        "mp4",
        "-f lavfi -i testsrc2=s=160x120:r=25:d=0.08 -c:v libx264 -pix_fmt yuv420p",
    ),
    (
        "one frame",
        "mkv",
        "-f lavfi -i testsrc2=s=160x120:r=25:d=0.04 -c:v libx264 -pix_fmt yuv420p",
    ),
];

/// Containers that keep any time, and the seconds of one of their ticks at worst.
const CONTAINERS: &[(&str, f64)] = &[
    ("mp4", 1.0 / 10_000.0),
    ("mkv", 0.001),
    ("mov", 1.0 / 10_000.0),
    ("webm", 0.001),
    ("ts", 1.0 / 90_000.0),
];

/// Frames are as many as before, each within half a tick of its time, but for one shift shared by all.
#[track_caller]
fn same_times(source: &Path, output: &Path, tick: f64, what: &str) {
    let (before, after) = (times(source), times(output));
    assert_eq!(before.len(), after.len(), "{what}: frames");
    let shift = after[0] - before[0];
    for (index, (a, b)) in before.iter().zip(&after).enumerate() {
        // ffprobe prints microseconds; the source's own times were rounded to its ticks already.
        let off = (b - a - shift).abs();
        assert!(
            off <= tick / 2.0 + tick + 2e-6,
            "{what}: frame {index} moved by {off} s"
        );
    }
}

#[test]
fn frames_and_timestamps_are_kept_in_every_container() {
    let lab = Lab::new();
    for (what, extension, make) in SOURCES {
        let source = lab.film(&format!("source.{extension}"), make);
        for (container, tick) in CONTAINERS {
            let output = lab.path(&format!("out.{container}"));
            let quick = if *container == "webm" {
                "--encoder-option cpu-used=8"
            } else {
                "--preset veryfast"
            };
            gray(&source, &output, &format!("--force {quick}")).ok();
            same_times(&source, &output, *tick, &format!("{what} to {container}"));
        }
    }
}

/// Where the container allows it the shift is zero, and the last frame's duration is there.
#[test]
fn nothing_is_shifted_without_need() {
    let lab = Lab::new();
    let make = "-f lavfi -i testsrc2=s=160x120:r=25:d=2 -f lavfi -i sine=r=48000:d=2 -c:v libx264 -pix_fmt yuv420p -c:a aac";
    for (from, to) in [("mp4", "mp4"), ("mp4", "mov"), ("mkv", "mkv")] {
        let source = lab.film(&format!("source.{from}"), make);
        let output = lab.path(&format!("out.{to}"));
        gray(&source, &output, "--force").ok();
        assert!(
            (times(&source)[0] - times(&output)[0]).abs() < 0.0011,
            "{from} to {to}"
        );
        let seconds = |path: &Path| {
            probe(path)["format"]["duration"]
                .as_str()
                .and_then(|d| d.parse::<f64>().ok())
        };
        let (before, after) = (
            seconds(&source).unwrap_or(0.0),
            seconds(&output).unwrap_or(0.0),
        );
        assert!(
            (before - after).abs() < 0.03,
            "{from} to {to}: {before} s became {after} s"
        );
    }
}

/// The distance between sound and picture stays what it was, priming included.
#[test]
fn sound_stays_in_step() {
    let lab = Lab::new();
    let inputs =
        "-f lavfi -i testsrc2=s=160x120:r=25:d=2 -itsoffset 0.35 -f lavfi -i sine=r=48000:d=1.5";
    let codecs = "-c:v libx264 -pix_fmt yuv420p -c:a aac";
    for (from, to, most) in [
        ("mp4", "mp4", 0.001),
        ("mkv", "mkv", 0.0011),
        ("mp4", "mkv", 0.002),
        ("mkv", "mp4", 0.002),
    ] {
        let source = lab.film(&format!("source.{from}"), &format!("{inputs} {codecs}"));
        let output = lab.path(&format!("out.{to}"));
        gray(&source, &output, "--force").ok();
        let (before, after) = (offset(&source), offset(&output));
        assert!(
            (before - after).abs() <= most,
            "{from} to {to}: sound was {before} s after, now {after} s"
        );
    }
}

/// Seconds from the first picture to the first audible sound.
fn offset(path: &Path) -> f64 {
    let output = std::process::Command::new("ffmpeg")
        .args(["-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:a", "-af", "ashowinfo", "-f", "null", "-"])
        .output()
        .expect("ffmpeg");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let first = text
        .lines()
        .find(|l| l.contains("pts_time:"))
        .expect("a sound");
    let time = first
        .split("pts_time:")
        .nth(1)
        .and_then(|t| t.split_whitespace().next())
        .expect("a time");
    time.parse::<f64>().expect("seconds") - times(path)[0]
}

/// Point 10: a size change or a jump of the clock in the middle of a film is survived, with every frame.
#[test]
fn joined_transport_streams_are_survived() {
    let lab = Lab::new();
    let part = |name: &str, size: &str, offset: u32| {
        let sound = "-f lavfi -i sine=r=48000:d=1 -c:a mp2";
        let video = format!(
            "-f lavfi -i testsrc2=s={size}:r=25:d=1 {sound} -c:v mpeg2video -output_ts_offset {offset}"
        );
        std::fs::read(lab.film(name, &video)).expect("the part")
    };
    for (what, second, offset) in [
        ("a jump ahead", "320x240", 5000),
        ("a jump back", "320x240", 0),
        ("a new size", "640x360", 3),
    ] {
        let mut bytes = part("a.ts", "320x240", 2);
        bytes.extend(part("b.ts", second, offset));
        let joined = lab.path("joined.ts");
        std::fs::write(&joined, bytes).expect("the joined film");
        let output = lab.path("out.mkv");
        let run = gray(&joined, &output, "--force").ok();
        let frames = times(&output);
        // FFmpeg itself cannot decode the frame at the joint where the size changes.
        let readable = times(&joined).len();
        assert!((49..=50).contains(&readable), "{what}");
        assert_eq!(frames.len(), readable, "{what}: {}", run.stderr);
        assert!(
            frames.windows(2).all(|w| w[1] > w[0]),
            "{what}: times go back"
        );
        let length = frames[readable - 1] - frames[0];
        assert!(length < 4.0, "{what}: the film lasts {length} s");
    }
}

/// Point 9: a piece of a film.
#[test]
fn start_and_duration_cut_a_piece() {
    let lab = Lab::new();
    let sound = "-f lavfi -i sine=r=48000:d=6 -c:a aac";
    let source = lab.film(
        "source.mp4",
        &format!("-f lavfi -i testsrc2=s=160x120:r=25:d=6 {sound} -c:v libx264 -g 100 -bf 3 -pix_fmt yuv420p"),
    );
    let name = source.to_string_lossy().into_owned();
    let whole = luma(&["-i", &name], None);
    for (args, from, to) in [
        ("--start 2 --duration 1.2", 50, 80),
        ("--start 5", 125, 150),
        ("--duration 1", 0, 25),
        ("--start 0:02 --duration 0:01", 50, 75),
    ] {
        let output = lab.path("piece.mkv");
        gray(&source, &output, &format!("--force --codec ffv1 {args}")).ok();
        let piece = luma(&["-i", &output.to_string_lossy()], None);
        assert_eq!(piece, whole[from..to], "{args}");
        let length = (to - from) as f64 / 25.0;
        let sound = decoded_seconds(&output);
        assert!(
            (sound - length).abs() < 0.1,
            "{args}: {sound} s of sound for {length} s of pictures"
        );
    }
    gray(&source, &lab.path("late.mkv"), "--start 60").fails(3, &["--start", "6.000 s"]);
}

fn decoded_seconds(path: &Path) -> f64 {
    let output = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args([
            "-map", "0:a", "-f", "s16le", "-ac", "1", "-ar", "48000", "-",
        ])
        .output()
        .expect("ffmpeg");
    output.stdout.len() as f64 / 2.0 / 48_000.0
}
