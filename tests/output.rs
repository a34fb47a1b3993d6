//! The output side against the `ffmpeg` and `ffprobe` programs: what is encoded, copied, tagged, refused and published.
//! Media are drawn into temporary folders; frames of the source go straight through, uncoloured.

use autochrome::Error;
use autochrome::frame::{Item, Merged};
use autochrome::media::{FileSink, InputOptions, OutputOptions, Sink, Source, Written};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `ffmpeg` quietly in `folder`.
fn ffmpeg(folder: &Path, line: &str) {
    let args = shell_words(line);
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-nostdin"])
        .args(&args)
        .current_dir(folder)
        .output()
        .expect("the ffmpeg program is needed by these tests");
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "ffmpeg {line}: {told}");
}

/// Words of a line; single quotes hold words together.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What `ffprobe` says of a file, as JSON.
fn ffprobe(file: &Path, args: &str) -> Value {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json"])
        .args(shell_words(args))
        .arg(file)
        .output()
        .expect("the ffprobe program is needed by these tests");
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "ffprobe {}: {told}", file.display());
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Checksums of every packet of a stream (`0:a:0`), as copied; without times.
fn packets_md5(file: &Path, stream: &str) -> Vec<String> {
    md5_lines(file, &["-map", stream, "-c", "copy"])
}

fn md5_lines(file: &Path, args: &[&str]) -> Vec<String> {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(file)
        .args(args)
        .args(["-f", "framemd5", "-"])
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit(',').next().unwrap().trim().to_string())
        .collect()
}

fn streams(file: &Path) -> Vec<Value> {
    ffprobe(file, "-show_streams")["streams"]
        .as_array()
        .unwrap()
        .clone()
}

/// Times of a stream's packets, in seconds, in order of showing.
fn times(file: &Path, stream: &str) -> Vec<f64> {
    let json = ffprobe(
        file,
        &format!("-select_streams {stream} -show_entries packet=pts_time"),
    );
    let mut times: Vec<f64> = json["packets"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|p| p["pts_time"].as_str()?.parse().ok())
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

struct Sent {
    written: Written,
    messages: Vec<String>,
}

/// Pushes a source's own frames and packets straight into an output.
fn send(input: &Path, output: &Path, options: &OutputOptions) -> Result<Sent, Error> {
    send_some(input, output, options, u64::MAX)
}

/// The same, stopped after `limit` frames.
fn send_some(
    input: &Path,
    output: &Path,
    options: &OutputOptions,
    limit: u64,
) -> Result<Sent, Error> {
    autochrome::media::init(0);
    let mut source = Source::open(input.as_os_str(), &InputOptions::default())?;
    let sink = FileSink::create(output.as_os_str(), options, &source)?;
    let messages = sink.messages().to_vec();
    let mut sink: Box<dyn Sink> = Box::new(sink);
    while let Some(item) = source.next()? {
        match item {
            Item::Packet(packet) => sink.packet(&packet)?,
            Item::Frame(frame) if frame.index >= limit => {
                sink.cut();
                break;
            }
            Item::Frame(frame) => sink.frame(&Merged {
                index: frame.index,
                pts: frame.pts,
                duration: frame.duration,
                picture: frame.picture,
            })?,
        }
    }
    let written = sink.finish()?;
    Ok(Sent { written, messages })
}

fn options() -> OutputOptions {
    OutputOptions {
        threads: 2,
        provenance: "colours by autochrome test".into(),
        ..OutputOptions::default()
    }
}

fn with_codec(codec: &str) -> OutputOptions {
    OutputOptions {
        codec: Some(codec.into()),
        ..options()
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A small film: 25 frames of 4:2:0, and a second of AAC.
fn film(folder: &Path) -> PathBuf {
    ffmpeg(
        folder,
        "-f lavfi -i testsrc2=s=192x112:r=25:d=1 -f lavfi -i sine=f=440:r=48000:d=1 -pix_fmt yuv420p -c:v libx264 \
         -preset ultrafast -bf 2 -c:a aac -metadata:s:a:0 language=eng film.mp4",
    );
    folder.join("film.mp4")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn every_container_takes_every_codec_that_it_holds() {
    let dir = folder();
    let input = film(dir.path());
    let cases = [
        ("mp4", "h264 hevc av1 vp9"),
        ("mov", "h264 hevc prores"),
        ("mkv", "h264 hevc av1 vp9 prores ffv1 mpeg4"),
        ("webm", "vp9 av1"),
        ("ts", "h264 hevc mpeg2video"),
        ("avi", "h264 ffv1 mpeg4"),
        ("nut", "h264 ffv1 rawvideo"),
    ];
    for (container, codecs) in cases {
        for codec in codecs.split(' ') {
            let output = dir.path().join(format!("{codec}.{container}"));
            let options = OutputOptions {
                drop_unsupported: container == "webm",
                ..with_codec(codec)
            };
            let sent = send(&input, &output, &options)
                .unwrap_or_else(|e| panic!("{codec} in {container}: {e}"));
            assert_eq!(sent.written.frames, 25, "{codec} in {container}");
            let expected = if codec == "mpeg2video" {
                "mpeg2video"
            } else {
                codec
            };
            let json = ffprobe(&output, "-count_frames -select_streams v:0 -show_streams");
            let video = &json["streams"][0];
            assert_eq!(video["codec_name"], expected, "{codec} in {container}");
            assert_eq!(video["nb_read_frames"], "25", "{codec} in {container}");
            check_tags(video, codec, container);
            check_times(&input, &output, codec, container);
        }
    }
}

/// 112 lines without tags: limited range and BT.601, and written so where the codec or the container can say it.
fn check_tags(video: &Value, codec: &str, container: &str) {
    let tells = !["mpeg4", "rawvideo", "ffv1"].contains(&codec)
        || ["mp4", "mov", "mkv"].contains(&container);
    if tells && codec != "mpeg4" {
        let what = format!("{codec} in {container}: {video}");
        assert!(
            ["tv", ""].contains(&video["color_range"].as_str().unwrap_or("")),
            "{what}"
        );
        if codec != "vp9" {
            assert_eq!(video["color_space"], "smpte170m", "{what}");
        }
    }
    if codec == "hevc" && ["mp4", "mov"].contains(&container) {
        assert_eq!(video["codec_tag_string"], "hvc1");
    }
}

fn check_times(input: &Path, output: &Path, codec: &str, container: &str) {
    if container == "avi" {
        return;
    }
    let (before, after) = (times(input, "v:0"), times(output, "v:0"));
    let shift = after[0] - before[0];
    assert_eq!(before.len(), after.len(), "{codec} in {container}");
    for (b, a) in before.iter().zip(&after) {
        assert!(
            (a - b - shift).abs() < 0.00051,
            "{codec} in {container}: {b} became {a}, shift {shift}"
        );
    }
}
