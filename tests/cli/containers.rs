//! Points 1 and 2: names and formats of inputs and outputs, pipes, pictures, encoders.

use std::{fs, path::Path, process::Stdio};

use crate::common::*;

fn frames(path: &Path) -> usize {
    times(path).len()
}

/// mp4 -> mp4, mov -> mov, webm -> webm, everything else -> mkv, beside the input.
#[test]
fn outputs_are_named_after_their_inputs() {
    let lab = Lab::new();
    for (name, make, expected) in [
        ("a.mp4", "-pix_fmt yuv420p", "a.color.mp4"),
        ("b.mov", "-pix_fmt yuv420p", "b.color.mov"),
        ("c.avi", "-c:v mpeg4", "c.color.mkv"),
        ("d.webm", "-c:v libvpx -cpu-used 8", "d.color.webm"),
        ("e.mpg", "-c:v mpeg2video", "e.color.mkv"),
    ] {
        let source = lab.clip(name, 0.4, make);
        run(autochrome(["colorize", "--model", "gray"]).arg(&source)).ok();
        assert_eq!(frames(&lab.path(expected)), 10, "{expected}");
    }
}

/// Several inputs are done one after the other; one that fails does not stop the rest.
#[test]
fn several_inputs_are_done_in_turn() {
    let lab = Lab::new();
    let first = lab.clip("first.mp4", 0.4, "-pix_fmt yuv420p");
    let second = lab.clip("second.mkv", 0.4, "-pix_fmt yuv420p");
    let missing = lab.path("missing.mp4");
    fs::create_dir(lab.path("colored")).expect("a folder");
    let mut command = autochrome(["colorize", "--model", "gray", "-o"]);
    command
        .arg(lab.path("colored"))
        .args([&first, &missing, &second]);
    run(&mut command).fails(3, &["missing.mp4", "no such file"]);
    assert_eq!(frames(&lab.path("colored/first.color.mp4")), 10);
    assert_eq!(frames(&lab.path("colored/second.color.mkv")), 10);
}

#[test]
fn every_container_holds_the_film() {
    let lab = Lab::new();
    let source = lab.clip("source.mp4", 0.4, "-pix_fmt yuv420p");
    for (name, format) in [
        ("out.mp4", "mp4"),
        ("out.mkv", "matroska"),
        ("out.mov", "mov"),
        ("out.webm", "webm"),
        ("out.ts", "mpegts"),
        ("out.avi", "avi"),
        ("out.y4m", "yuv4mpegpipe"),
        ("out.nut", "nut"),
    ] {
        let output = lab.path(name);
        gray(&source, &output, "").ok();
        assert_eq!(frames(&output), 10, "{name}");
        let found = probe(&output)["format"]["format_name"].to_string();
        assert!(found.contains(format), "{name} is {found}");
    }
    // --format counts more than the name.
    let output = lab.path("film.data");
    gray(&source, &output, "--format mkv").ok();
    assert!(
        probe(&output)["format"]["format_name"]
            .to_string()
            .contains("matroska")
    );
    gray(&source, &lab.path("film.strange"), "").fails(4, &["strange", "--format"]);
}

#[test]
fn encoders_go_by_short_or_full_names() {
    let lab = Lab::new();
    let source = lab.clip("source.mkv", 0.2, "-c:v ffv1 -pix_fmt yuv420p");
    for (codec, name, expected) in [
        ("h264", "out.mp4", "h264"),
        ("hevc", "out.mp4", "hevc"),
        ("av1", "out.mkv", "av1"),
        ("vp9", "out.webm", "vp9"),
        ("prores", "out.mov", "prores"),
        ("ffv1", "out.mkv", "ffv1"),
        ("mpeg4", "out.avi", "mpeg4"),
        ("aac", "out.mkv", "error"),
        ("nonsense", "out.mkv", "error"),
    ] {
        let output = lab.path(name);
        let done = gray(&source, &output, &format!("--force --codec {codec}"));
        if expected == "error" {
            done.fails(2, &[codec, "ffmpeg -encoders"]);
            continue;
        }
        done.ok();
        assert_eq!(
            streams(&probe(&output), "video")[0]["codec_name"],
            expected,
            "{codec}"
        );
    }
}

/// What comes out plays everywhere: the index in front, `hvc1`, the colours written.
#[test]
fn mp4_plays_everywhere() {
    let lab = Lab::new();
    let source = lab.clip("source.mkv", 0.4, "-c:v ffv1 -pix_fmt yuv420p");
    for name in ["out.mp4", "out.mov"] {
        let output = lab.path(name);
        gray(&source, &output, "--codec hevc --preset ultrafast").ok();
        let bytes = fs::read(&output).expect("the film");
        let find = |tag: &[u8]| bytes.windows(4).position(|w| w == tag);
        assert!(
            find(b"moov") < find(b"mdat"),
            "{name}: the index is at the end"
        );
        assert!(find(b"hvc1").is_some() && find(b"colr").is_some(), "{name}");
    }
}

/// --crf, --preset and --encoder-option reach the encoder; what it does not know is an error.
#[test]
fn encoder_settings_arrive() {
    let lab = Lab::new();
    let source = lab.clip("source.mkv", 1.0, "-c:v ffv1 -pix_fmt yuv420p");
    let size = |args: &str| {
        let output = lab.path("out.mkv");
        gray(&source, &output, &format!("--force {args}")).ok();
        fs::metadata(&output).expect("the film").len()
    };
    assert!(size("--crf 40") < size("--crf 10"));
    let text = |args: &str| {
        size(args);
        String::from_utf8_lossy(&fs::read(lab.path("out.mkv")).expect("the film")).into_owned()
    };
    assert!(text("--preset ultrafast").contains("cabac=0"));
    assert!(text("--encoder-option x264-params=keyint=7").contains("keyint=7"));
    let output = lab.path("never.mkv");
    gray(&source, &output, "--encoder-option nonsense=1").fails(4, &["nonsense"]);
    gray(&source, &output, "--preset nonsense").fails(4, &["nonsense"]);
    gray(&source, &output, "--pixel-format nonsense").fails(4, &["nonsense"]);
    gray(&source, &output, "--codec vp9 --pixel-format yuv410p").fails(4, &["yuv410p"]);
    assert!(!output.exists() && lab.leftovers().is_empty());
}

#[test]
fn pipes_on_both_ends() {
    let lab = Lab::new();
    let source = lab.clip("source.mkv", 0.4, "-pix_fmt yuv420p");
    let output = lab.path("out.mkv");
    let file = fs::File::open(&source).expect("the source");
    let mut command = autochrome(["colorize", "-", "--model", "gray", "-o"]);
    run(command.arg(&output).stdin(file)).ok();
    assert_eq!(frames(&output), 10);

    let mut command = autochrome(["colorize", "--model", "gray", "--format", "nut", "-o", "-"]);
    let piped = run(command.arg(&source).stdout(Stdio::piped())).ok();
    let copy = lab.path("piped.nut");
    fs::write(&copy, piped.stdout).expect("the copy");
    assert_eq!(frames(&copy), 10);

    let film = lab.path("raw.y4m");
    lab.film("raw.y4m", "-i source.mkv -strict -1");
    let mut command = autochrome([
        "colorize",
        "-",
        "--input-format",
        "yuv4mpegpipe",
        "--model",
        "gray",
        "--format",
        "y4m",
        "-o",
        "-",
    ]);
    let piped = run(command.stdin(fs::File::open(film).expect("the film"))).ok();
    assert!(piped.stdout.starts_with(b"YUV4MPEG2"));
    // The name of the demuxer is wrong, or standard input is empty.
    let mut command = autochrome([
        "colorize",
        "-",
        "--input-format",
        "nonsense",
        "--model",
        "gray",
        "-o",
        "x.mkv",
    ]);
    run(command.current_dir(lab.dir())).fails(2, &["nonsense"]);
    run(autochrome(["colorize", "-", "--model", "gray", "-o", "x.mkv"]).current_dir(lab.dir()))
        .fails(3, &["-"]);
}

/// A reader that goes away is an error of the output, not a crash.
#[test]
fn a_closed_pipe_is_told() {
    let lab = Lab::new();
    let source = lab.clip("source.mkv", 4.0, "-pix_fmt yuv420p");
    let mut command = autochrome([
        "colorize", "--model", "gray", "--format", "nut", "--codec", "ffv1", "-o", "-",
    ]);
    let mut child = command
        .arg(&source)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    drop(child.stdout.take());
    let done = finish(child);
    assert!(
        [4, 141].contains(&done.code),
        "{}: {}",
        done.code,
        done.stderr
    );
}

#[test]
fn stills_and_numbered_pictures() {
    let lab = Lab::new();
    lab.film(
        "still.png",
        "-f lavfi -i testsrc2=s=160x120:d=0.04 -frames:v 1 -pix_fmt gray",
    );
    lab.film(
        "still.jpg",
        "-f lavfi -i testsrc2=s=160x120:d=0.04 -frames:v 1 -pix_fmt yuvj420p",
    );
    for (from, to) in [
        ("still.png", "still.out.png"),
        ("still.jpg", "still.out.jpg"),
        ("still.jpg", "other.png"),
    ] {
        let output = lab.path(to);
        colorize(&lab.path(from), &output, "--model constant").ok();
        let picture = image::open(&output).expect("a picture").to_rgb8();
        assert_eq!(picture.dimensions(), (160, 120), "{to}");
        assert!(
            picture.pixels().any(|p| p[0].abs_diff(p[2]) > 10),
            "{to} has no colour"
        );
    }
    lab.film(
        "in%03d.png",
        "-f lavfi -i testsrc2=s=160x120:r=25:d=0.2 -pix_fmt gray",
    );
    gray(&lab.path("in%03d.png"), &lab.path("out%03d.png"), "").ok();
    for number in 1..=5 {
        assert!(
            lab.path(&format!("out{number:03}.png")).exists(),
            "picture {number}"
        );
    }
    gray(&lab.path("in%03d.png"), &lab.path("film.mkv"), "").ok();
    assert_eq!(frames(&lab.path("film.mkv")), 5);
    assert!(lab.leftovers().is_empty());
}
