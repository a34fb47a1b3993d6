//! What the end-to-end tests share: a laboratory to draw media in, the built program, and FFmpeg's own tools to look
//! at what came out.
#![allow(dead_code)] // each test binary uses a part

pub mod archive;
pub mod live;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use autochrome::net::{DeviceChoice, Options, Precision};
use serde_json::Value;

/// The film that the project draws itself.
pub const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/village.mp4");

/// A program that needs longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// A network on the CPU in these numbers.
pub fn on_cpu(precision: Precision) -> Options {
    Options {
        device: DeviceChoice::Cpu,
        precision,
        ..Options::default()
    }
}

/// A folder of its own for every test, gone with it.
pub struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Draws `name` with the `ffmpeg` program; `args` are split at spaces.
    pub fn film(&self, name: &str, args: &str) -> PathBuf {
        let path = self.path(name);
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-nostdin"])
            .args(args.split_whitespace())
            .arg(&path)
            .current_dir(self.dir())
            .status();
        assert!(
            status.expect("the ffmpeg program").success(),
            "cannot draw {name}: {args}"
        );
        path
    }

    /// `seconds` of moving grey pictures at 25 frames a second, with `video` encoder options.
    pub fn clip(&self, name: &str, seconds: f64, video: &str) -> PathBuf {
        self.film(
            name,
            &format!("-f lavfi -i testsrc2=s=320x240:r=25:d={seconds} -vf hue=s=0 {video}"),
        )
    }

    /// Everything in the folder whose name speaks of unfinished work.
    pub fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir()).expect("the folder").flatten();
        names
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .filter(|n| n.contains(".part"))
            .collect()
    }
}

/// A command line of the program under test, quiet unless a test wants its words.
pub fn autochrome<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autochrome"));
    command.args(args).stdin(Stdio::null());
    command
}

/// `autochrome colorize INPUT -o OUTPUT --model gray ARGS`, whatever colours the film has; `args` are split at spaces.
pub fn gray(input: &Path, output: &Path, args: &str) -> Run {
    colorize(
        input,
        output,
        &format!("--model gray --keep-color never {args}"),
    )
}

pub fn colorize(input: &Path, output: &Path, args: &str) -> Run {
    let mut command = autochrome([
        OsStr::new("colorize"),
        input.as_ref(),
        OsStr::new("-o"),
        output.as_ref(),
    ]);
    run(command.args(args.split_whitespace()))
}

/// A finished program.
pub struct Run {
    /// Exit code; a signal counts 128 and its number, as in a shell.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Run {
    /// Fails the test, with what the program said, unless it succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }

    /// Fails the test unless the program ended with `code` and said each of `words`.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{}", self.stderr);
        let said = self.stderr.to_lowercase();
        for word in words {
            assert!(
                said.contains(&word.to_lowercase()),
                "no {word:?} in: {}",
                self.stderr
            );
        }
        self
    }

    /// Standard output as one JSON object.
    #[track_caller]
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.stdout);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

/// Runs a command to its end; a hang fails the test.
#[track_caller]
pub fn run(command: &mut Command) -> Run {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    finish(child)
}

/// Waits for a child whose output is piped; a hang fails the test.
#[track_caller]
pub fn finish(child: Child) -> Run {
    let id = child.id();
    let waiting = thread::spawn(move || child.wait_with_output());
    let since = Instant::now();
    while !waiting.is_finished() {
        if since.elapsed() > PATIENCE {
            signal(id, "KILL");
            panic!("the program hangs");
        }
        thread::sleep(Duration::from_millis(2));
    }
    let output = waiting
        .join()
        .expect("the waiting thread")
        .expect("the program's output");
    Run {
        code: code(&output),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        stdout: output.stdout,
    }
}

fn code(output: &Output) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let status = output.status;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Sends a signal by the shell's own `kill`: a small system has no other.
#[track_caller]
pub fn signal(id: u32, name: &str) {
    let kill = format!("kill -{name} {id}");
    let status = Command::new("sh").args(["-c", &kill]).status();
    assert!(status.is_ok_and(|s| s.success()), "{kill} failed");
}

/// Runs one of FFmpeg's own programs and answers its standard output.
#[track_caller]
fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect(program);
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `ffprobe` says of a file: streams, chapters, format.
#[track_caller]
pub fn probe(path: &Path) -> Value {
    let name = path.to_string_lossy();
    let args = [
        "-v",
        "error",
        "-show_streams",
        "-show_chapters",
        "-show_format",
        "-of",
        "json",
        &name,
    ];
    serde_json::from_str(&tool("ffprobe", &args)).expect("ffprobe's JSON")
}

/// Streams of one kind ("video", "audio", "subtitle", "attachment", "data"); cover art is no video here.
pub fn streams(probed: &Value, kind: &str) -> Vec<Value> {
    let all = probed["streams"].as_array().expect("streams").iter();
    let is_cover = |s: &Value| s["disposition"]["attached_pic"] == 1;
    all.filter(|s| s["codec_type"] == kind && !is_cover(s))
        .cloned()
        .collect()
}

/// Presentation times of the main video's frames, in seconds.
#[track_caller]
pub fn times(path: &Path) -> Vec<f64> {
    let name = path.to_string_lossy();
    let entries = "frame=best_effort_timestamp_time";
    let text = tool(
        "ffprobe",
        &[
            "-v",
            "error",
            "-select_streams",
            "V:0",
            "-show_entries",
            entries,
            "-of",
            "csv=p=0",
            &name,
        ],
    );
    text.lines()
        .filter_map(|l| l.trim_matches(',').parse().ok())
        .collect()
}

/// MD5 of every luma plane. `planar` is the planar format that the frames are unpacked to first, without loss.
#[track_caller]
pub fn luma(input: &[&str], planar: Option<&str>) -> Vec<String> {
    let unpack = planar.map_or(String::new(), |p| format!("format={p},"));
    frame_md5(
        input,
        &[
            "-map",
            "0:V",
            "-fps_mode",
            "passthrough",
            "-vf",
            &format!("{unpack}extractplanes=y"),
        ],
    )
}

/// MD5 of every frame that `ffmpeg -i INPUT ARGS` makes.
#[track_caller]
pub fn frame_md5(input: &[&str], args: &[&str]) -> Vec<String> {
    let all = [
        &["-v", "error", "-nostdin"],
        input,
        args,
        &["-f", "framemd5", "-"],
    ]
    .concat();
    let text = tool("ffmpeg", &all);
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines
        .filter_map(|l| l.rsplit(',').next())
        .map(|md5| md5.trim().to_string())
        .collect()
}

/// Bytes of one plane ("u", "v") of all frames.
#[track_caller]
pub fn plane(path: &Path, which: &str) -> Vec<u8> {
    let filter = format!("extractplanes={which}");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:V", "-vf", &filter, "-f", "rawvideo", "-"])
        .output()
        .expect("ffmpeg");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// MD5 over the packets of the streams that `map` selects, as they lie in the file.
#[track_caller]
pub fn packets(path: &Path, map: &str) -> Vec<String> {
    let name = path.to_string_lossy();
    let args = [
        "-v",
        "error",
        "-nostdin",
        "-i",
        &name,
        "-map",
        map,
        "-c",
        "copy",
        "-f",
        "streamhash",
        "-hash",
        "md5",
        "-",
    ];
    tool("ffmpeg", &args)
        .lines()
        .filter_map(|l| l.split('=').nth(1))
        .map(str::to_string)
        .collect()
}

/// MD5 over the decoded samples of the streams that `map` selects.
#[track_caller]
pub fn decoded(path: &Path, map: &str) -> Vec<String> {
    let name = path.to_string_lossy();
    let args = [
        "-v",
        "error",
        "-nostdin",
        "-i",
        &name,
        "-map",
        map,
        "-f",
        "streamhash",
        "-hash",
        "md5",
        "-",
    ];
    tool("ffmpeg", &args)
        .lines()
        .filter_map(|l| l.split('=').nth(1))
        .map(str::to_string)
        .collect()
}

/// The developers' media, where this checkout has them beside it; says so when a test has to do without.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared")
        .join(folder);
    if !path.is_dir() {
        eprintln!("skipped: there is no ../shared/{folder}");
        return None;
    }
    Some(path)
}
