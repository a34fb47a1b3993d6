//! `cargo bench`: autochrome beside `ffmpeg` on the same clip, in turn, so that a noisy machine tells the truth.
//!
//! Draws its clips from samples/, prints the machine, the medians and the ratios, and asserts nothing: the figures
//! are for people. Peak memory is the kernel's own high-water mark of each process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const ROUNDS: usize = 5;
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/village.mp4");
const AUTOCHROME: &str = env!("CARGO_BIN_EXE_autochrome");
const CRF: &str = "18";
/// No chroma, the full chroma path without a network, and the bundled networks.
const MODELS: [&str; 4] = ["gray", "constant", "autochrome", "fast"];

/// One finished process.
#[derive(Clone)]
struct Run {
    seconds: f64,
    peak_mib: f64,
    stdout: String,
}

fn main() {
    let dir = std::env::temp_dir().join(format!("autochrome-bench-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a temporary folder");
    println!("{}", machine());
    let clip = draw(&dir, "480p", 480, 1);
    engines(&dir, &clip);
    qualities(&dir, &clip);
    for (name, height) in [("720p", 720), ("1080p", 1080)] {
        let clip = draw(&dir, name, height, 1);
        compare(&dir, name, &clip);
        if height == 1080 {
            memory(&dir, &clip, &draw(&dir, "1080p-long", height, 10));
        }
    }
    fs::remove_dir_all(&dir).expect("the temporary folder can be removed");
}

/// The film in samples/, enlarged and looped to `loops` times its length.
fn draw(dir: &Path, name: &str, height: u32, loops: u32) -> PathBuf {
    let path = dir.join(format!("{name}.mp4"));
    let scale = format!(
        "scale=-2:{height}:flags=lanczos,pad={}:{height}:-1:-1",
        height * 16 / 9 / 2 * 2
    );
    let loops = (loops - 1).to_string();
    let status = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-y",
            "-stream_loop",
            &loops,
            "-i",
            SAMPLE,
            "-map",
            "0:v",
            "-map",
            "0:a",
            "-vf",
            &scale,
        ])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-crf",
            CRF,
            "-c:a",
            "copy",
            "-map_chapters",
            "-1",
        ])
        .arg(&path)
        .status()
        .expect("ffmpeg runs");
    assert!(status.success(), "cannot draw {name}");
    path
}

fn compare(dir: &Path, name: &str, clip: &Path) {
    let frames = frames(clip);
    let mut base = Vec::new();
    let mut models = MODELS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        base.push(ffmpeg(dir, clip));
        for (name, runs) in MODELS.iter().zip(&mut models) {
            runs.push(autochrome(dir, clip, name));
        }
    }
    println!(
        "\n{name}, {frames} frames, H.264 to H.264 veryfast crf {CRF}, median of {ROUNDS} in turn"
    );
    println!(
        "  ffmpeg             {:>6.1} fps  peak {:.0} MiB",
        fps(frames, &base),
        peak(&base)
    );
    for (model, runs) in MODELS.iter().zip(&models) {
        let ratio = median(base.iter().zip(runs).map(|(b, r)| b.seconds / r.seconds));
        let overlap = median(runs.iter().filter_map(|r| overlap(&r.stdout)));
        println!(
            "  --model {model:<10} {:>6.1} fps  peak {:.0} MiB  fps against ffmpeg {ratio:.3}  slowest stage / wall {overlap:.3}",
            fps(frames, runs),
            peak(runs)
        );
    }
}

/// What a larger or smaller picture for the network costs at 480p.
fn qualities(dir: &Path, clip: &Path) {
    const QUALITIES: [&str; 8] = ["96", "128", "160", "192", "224", "288", "fast", "best"];
    let frames = frames(clip);
    let mut normal = Vec::new();
    let mut others = QUALITIES.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        normal.push(autochrome(dir, clip, "autochrome"));
        for (quality, runs) in QUALITIES.iter().zip(&mut others) {
            let mut command = autochrome_command(dir, clip, "autochrome");
            command.args(["--quality", quality]);
            runs.push(run(command));
        }
    }
    println!("\n480p, by --quality, median of {ROUNDS} in turn");
    println!("  normal {:>6.1} fps", fps(frames, &normal));
    for (quality, runs) in QUALITIES.iter().zip(&others) {
        let ratio = median(normal.iter().zip(runs).map(|(n, r)| n.seconds / r.seconds));
        println!(
            "  {quality:<6} {:>6.1} fps, {ratio:.3} of normal's",
            fps(frames, runs)
        );
    }
}

/// The bundled network at 480p on oneDNN and on candle's own convolutions, and where the time goes.
fn engines(dir: &Path, clip: &Path) {
    let frames = frames(clip);
    let (mut fast, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        fast.push(autochrome(dir, clip, "autochrome"));
        plain.push(on_candle(autochrome_command(dir, clip, "autochrome")));
    }
    let ratio = median(fast.iter().zip(&plain).map(|(f, p)| p.seconds / f.seconds));
    println!(
        "\n480p, {frames} frames, the bundled network on every one, median of {ROUNDS} in turn"
    );
    println!(
        "  {:.1} fps on the engine that `info --device` names, {:.1} on candle's own convolutions: ratio {ratio:.2}",
        fps(frames, &fast),
        fps(frames, &plain)
    );
    for stage in ["decode", "plan", "infer", "steady", "merge", "encode"] {
        let busy = |runs: &[Run]| {
            let of = |r: &Run| stage_busy(&r.stdout, stage);
            1e3 * median(runs.iter().filter_map(of)) / frames
        };
        println!(
            "  {stage:<7} busy {:>6.2} ms a frame, {:>6.2} on candle's",
            busy(&fast),
            busy(&plain)
        );
    }
}

fn on_candle(mut command: Command) -> Run {
    command.env("AUTOCHROME_ONEDNN", "off");
    run(command)
}

/// Seconds for which a stage was busy.
fn stage_busy(json: &str, name: &str) -> Option<f64> {
    let summary = serde_json::from_str::<serde_json::Value>(json).ok()?;
    let stages = summary.get("stages")?.as_array()?;
    let stage = stages.iter().find(|s| s["stage"] == name)?;
    stage["busy"].as_f64()
}

/// A film ten times as long takes the same memory.
fn memory(dir: &Path, short: &Path, long: &Path) {
    println!(
        "\n1080p peak memory, {} and {} frames",
        frames(short),
        frames(long)
    );
    let (a, b) = (ffmpeg(dir, short), ffmpeg(dir, long));
    println!(
        "  ffmpeg            {:>4.0} MiB, {:.0} MiB",
        a.peak_mib, b.peak_mib
    );
    let (a, b) = (
        autochrome(dir, short, "constant"),
        autochrome(dir, long, "constant"),
    );
    println!(
        "  --model constant  {:>4.0} MiB, {:.0} MiB: ratio {:.3}",
        a.peak_mib,
        b.peak_mib,
        b.peak_mib / a.peak_mib
    );
}

fn ffmpeg(dir: &Path, clip: &Path) -> Run {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "error", "-nostdin", "-y", "-i"])
        .arg(clip)
        .args(["-map", "0", "-c", "copy"]);
    command
        .args(["-c:v", "libx264", "-preset", "veryfast", "-crf", CRF])
        .arg(dir.join("ffmpeg.mp4"));
    run(command)
}

fn autochrome(dir: &Path, clip: &Path, model: &str) -> Run {
    run(autochrome_command(dir, clip, model))
}

fn autochrome_command(dir: &Path, clip: &Path, model: &str) -> Command {
    let mut command = Command::new(AUTOCHROME);
    command.args([
        "colorize", "--force", "--json", "--model", model, "--codec", "h264", "--preset",
        "veryfast",
    ]);
    command
        .args(["--crf", CRF, "-q", "-o"])
        .arg(dir.join("autochrome.mp4"))
        .arg(clip);
    command
}

fn run(mut command: Command) -> Run {
    let since = Instant::now();
    let child = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let peak_mib = watch(&child);
    let output = child.wait_with_output().expect("the program ends");
    assert!(output.status.success(), "{command:?} failed");
    Run {
        seconds: since.elapsed().as_secs_f64(),
        peak_mib,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
    }
}

/// The process's high-water mark of resident memory in MiB, read until it has none any more.
fn watch(child: &Child) -> f64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0;
    while let Some(kib) = fs::read_to_string(&status)
        .ok()
        .and_then(|s| field(&s, "VmHWM:"))
    {
        peak = kib / 1024.0;
        thread::sleep(Duration::from_millis(5));
    }
    peak
}

fn field(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .find_map(|l| l.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

fn overlap(json: &str) -> Option<f64> {
    serde_json::from_str::<serde_json::Value>(json)
        .ok()?
        .get("overlap")?
        .as_f64()
}

fn frames(clip: &Path) -> f64 {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "v:0",
            "-count_packets",
            "-show_entries",
            "stream=nb_read_packets",
        ])
        .args(["-of", "csv=p=0"])
        .arg(clip)
        .output()
        .expect("ffprobe runs");
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .expect("a number of frames")
}

fn fps(frames: f64, runs: &[Run]) -> f64 {
    frames / median(runs.iter().map(|r| r.seconds))
}

fn peak(runs: &[Run]) -> f64 {
    median(runs.iter().map(|r| r.peak_mib))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map_or("unknown CPU", |l| l.trim_start_matches([' ', '\t', ':']));
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    format!("machine: {name}, {cores} cores")
}
