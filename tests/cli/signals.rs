//! Point 11: Ctrl-C and SIGTERM once: finish the file, playable, audio cut at the last frame. Twice: stop at once.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::common::*;

/// Long enough that no machine is done before the signal comes.
fn long_film(lab: &Lab, size: &str) -> PathBuf {
    let pictures = format!("-f lavfi -i testsrc2=s={size}:r=25:d=60 -f lavfi -i sine=r=48000:d=60");
    lab.film(
        "long.mp4",
        &format!("{pictures} -c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac"),
    )
}

/// Starts a run and waits until it has written something.
fn started(source: &Path, output: &Path, preset: &str) -> Child {
    let mut command = autochrome(["colorize", "--model", "constant", "--preset", preset, "-o"]);
    let child = command
        .arg(output)
        .arg(source)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.expect("the program");
    let part = PathBuf::from(format!("{}.part", output.display()));
    let since = Instant::now();
    while fs::metadata(&part).map_or(0, |m| m.len()) < 50_000 {
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "nothing was written for a minute"
        );
        thread::sleep(Duration::from_millis(10));
    }
    child
}

#[test]
fn one_signal_finishes_the_file() {
    let lab = Lab::new();
    let source = long_film(&lab, "1280x720");
    for (name, with) in [("INT", "out.mp4"), ("TERM", "out.mkv")] {
        let output = lab.path(with);
        let child = started(&source, &output, "veryfast");
        signal(child.id(), name);
        finish(child).ok();
        assert!(lab.leftovers().is_empty());
        let frames = times(&output);
        assert!(
            (1..1500).contains(&frames.len()),
            "{with}: {} frames",
            frames.len()
        );
        let probed = probe(&output);
        let end_of_pictures = frames[frames.len() - 1] + 0.04;
        let sound = last_sound(&output);
        assert!(
            (sound - end_of_pictures).abs() < 0.08,
            "{with}: sound to {sound} s, pictures to {end_of_pictures} s"
        );
        assert!(streams(&probed, "audio").len() == 1, "{with}");
    }
}

/// End of the last audio packet in seconds.
fn last_sound(path: &Path) -> f64 {
    let output = std::process::Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "a:0",
            "-of",
            "csv=p=0",
            "-show_entries",
            "packet=pts_time,duration_time",
        ])
        .arg(path)
        .output()
        .expect("ffprobe");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let end = |line: &str| {
        line.split(',')
            .filter_map(|v| v.parse::<f64>().ok())
            .sum::<f64>()
    };
    text.lines().map(end).fold(0.0, f64::max)
}

#[test]
fn two_signals_stop_at_once() {
    let lab = Lab::new();
    let source = long_film(&lab, "640x360");
    // The second comes while frames are still in flight, or while the encoder is drained of what it looked ahead.
    for (with, after) in [("out.mp4", 50), ("out.mkv", 300)] {
        let output = lab.path(with);
        // Slow enough that the encoder is still busy then.
        let child = started(&source, &output, "veryslow");
        signal(child.id(), "INT");
        thread::sleep(Duration::from_millis(after));
        let since = Instant::now();
        signal(child.id(), "INT");
        finish(child).fails(130, &["stopped"]);
        assert!(
            since.elapsed() < Duration::from_secs(5),
            "{with}: stopping took {:?}",
            since.elapsed()
        );
        assert!(
            !output.exists() && lab.leftovers().is_empty(),
            "{with}: something was left"
        );
    }
}
