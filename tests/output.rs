//! The output side against the `ffmpeg` and `ffprobe` programs: what is encoded, copied, tagged, refused and published.
//! Media are drawn into temporary folders; every frame gets neutral chroma.

use autochrome::Error;
use autochrome::frame::{AbMap, Item, Merged};
use autochrome::media::{
    FileSink, InputOptions, Layout, Merger, OutputOptions, Sink, Source, Written,
};
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
        .map(|line| line.split(',').nth(5).unwrap().trim().to_string())
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

/// Pushes a source's frames, in grey, and its packets into an output.
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
    let source = Source::open(input.as_os_str(), &InputOptions::default())?;
    send_from(source, output, options, limit)
}

fn send_from(
    mut source: Source,
    output: &Path,
    options: &OutputOptions,
    limit: u64,
) -> Result<Sent, Error> {
    let sink = FileSink::create(output.as_os_str(), options, &source)?;
    let messages = sink.messages().to_vec();
    let mut merger = Merger::new(&source.info().video, &layout_of(&sink))?;
    let grey = AbMap::constant(0.0, 0.0);
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
                arrived: frame.arrived,
                picture: merger.merge(&frame.picture, &grey)?,
            })?,
        }
    }
    let written = sink.finish()?;
    Ok(Sent { written, messages })
}

fn layout_of(sink: &FileSink) -> Layout {
    sink.layout()
        .expect("a file is encoded from pictures of one layout")
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

/// Two sound tracks, two subtitle tracks, chapters, tags, dispositions, a font, a cover.
fn rich(folder: &Path) -> PathBuf {
    let srt = "1\n00:00:00,200 --> 00:00:00,700\nHello\n\n2\n00:00:01,000 --> 00:00:01,500\n<i>World</i>\n";
    std::fs::write(folder.join("s.srt"), srt).unwrap();
    std::fs::write(folder.join("font.ttf"), vec![7u8; 5000]).unwrap();
    let chapters = ";FFMETADATA1\ntitle=The Film\nartist=Somebody\ncomment=old comment\nstudio=Unknown Tag\n\
                    [CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=One\n\
                    [CHAPTER]\nTIMEBASE=1/1000\nSTART=1000\nEND=2000\ntitle=Two\n";
    std::fs::write(folder.join("meta.txt"), chapters).unwrap();
    ffmpeg(
        folder,
        "-f lavfi -i color=red:s=64x64 -frames:v 1 cover.png",
    );
    ffmpeg(
        folder,
        "-f lavfi -i testsrc2=s=192x112:r=25:d=2 -f lavfi -i sine=f=440:r=48000:d=2 -f lavfi -i \
         sine=f=220:r=44100:d=2 -i s.srt -i meta.txt -map 0 -map 1 -map 2 -map 3 -map 3 -map_metadata 4 -map_chapters \
         4 -pix_fmt yuv420p -c:v libx264 -preset ultrafast -c:a:0 aac -c:a:1 libopus -c:s:0 subrip -c:s:1 ass \
         -metadata:s:v:0 title=Picture -metadata:s:a:0 language=eng -metadata:s:a:1 language=fra -metadata:s:s:0 \
         language=deu -disposition:a:0 0 -disposition:a:1 default+comment -disposition:s:0 forced -attach font.ttf \
         -metadata:s:t:0 mimetype=font/ttf -attach cover.png -metadata:s:t:1 mimetype=image/png -metadata:s:t:1 \
         filename=cover.png rich.mkv",
    );
    folder.join("rich.mkv")
}

/// The subtitles of `rich`: Matroska shifts every stream by AAC's priming, 21 ms.
const SHIFTED_SRT: &str =
    "1\n00:00:00,221 --> 00:00:00,721\nHello\n\n2\n00:00:01,021 --> 00:00:01,521\n<i>World</i>\n\n";

fn tag<'a>(json: &'a Value, key: &str) -> &'a str {
    let tags = json["tags"].as_object();
    let found = tags.and_then(|tags| tags.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)));
    found.and_then(|(_, v)| v.as_str()).unwrap_or("")
}

#[test]
fn matroska_keeps_everything() {
    let dir = folder();
    let input = rich(dir.path());
    let output = dir.path().join("out.mkv");
    let sent = send(&input, &output, &options()).unwrap();
    assert_eq!(sent.messages, Vec::<String>::new());
    let (before, after) = (streams(&input), streams(&output));
    assert_eq!(before.len(), after.len(), "{:?}", sent.written.streams);
    for (b, a) in before.iter().zip(&after) {
        assert_eq!(b["codec_name"], a["codec_name"]);
        assert_eq!(b["disposition"], a["disposition"], "{b} {a}");
        for key in ["language", "title", "filename", "mimetype"] {
            assert_eq!(tag(b, key), tag(a, key));
        }
    }
    for stream in ["0:a:0", "0:a:1", "0:s:0", "0:s:1"] {
        assert_eq!(
            packets_md5(&input, stream),
            packets_md5(&output, stream),
            "{stream}"
        );
        let select = &stream[2..];
        assert_eq!(times(&input, select), times(&output, select), "{stream}");
    }
    assert_eq!(times(&input, "v:0"), times(&output, "v:0"));
    let chapters = |file: &Path| ffprobe(file, "-show_chapters")["chapters"].clone();
    assert_eq!(chapters(&input), chapters(&output));
    let format = ffprobe(&output, "-show_format");
    assert_eq!(tag(&format["format"], "title"), "The Film");
    assert_eq!(tag(&format["format"], "studio"), "Unknown Tag");
    assert_eq!(
        tag(&format["format"], "comment"),
        "old comment\ncolours by autochrome test"
    );
    ffmpeg(
        dir.path(),
        "-dump_attachment:t:0 back.ttf -i out.mkv -map 0:a:0 -f null -",
    );
    assert_eq!(
        std::fs::read(dir.path().join("back.ttf")).unwrap(),
        vec![7u8; 5000]
    );
    assert_eq!(
        names(dir.path())
            .iter()
            .filter(|n| n.ends_with(".part"))
            .count(),
        0
    );
}

#[test]
fn mp4_converts_subtitles_and_refuses_fonts() {
    let dir = folder();
    let input = rich(dir.path());
    let output = dir.path().join("out.mp4");
    let e = send(&input, &output, &options()).err().unwrap();
    assert_eq!(e.exit_code(), 4);
    let told = e.to_string();
    assert!(
        told.contains("font.ttf") && told.contains("mkv") && told.contains("--drop-unsupported"),
        "{told}"
    );
    assert!(!output.exists());
    let dropping = OutputOptions {
        drop_unsupported: true,
        ..options()
    };
    let sent = send(&input, &output, &dropping).unwrap();
    assert_eq!(sent.messages.len(), 1, "{:?}", sent.messages);
    let kinds: Vec<_> = streams(&output)
        .iter()
        .map(|s| s["codec_name"].as_str().unwrap_or("").to_string())
        .collect();
    assert_eq!(
        kinds[..5],
        ["h264", "aac", "opus", "mov_text", "mov_text"],
        "{kinds:?}"
    );
    assert!(kinds.contains(&"png".to_string()), "{kinds:?}");
    for stream in ["0:a:0", "0:a:1"] {
        assert_eq!(
            packets_md5(&input, stream),
            packets_md5(&output, stream),
            "{stream}"
        );
    }
    ffmpeg(dir.path(), "-i out.mp4 -map 0:s:0 back.srt");
    let back = std::fs::read_to_string(dir.path().join("back.srt")).unwrap();
    assert_eq!(back, SHIFTED_SRT);
    let after = streams(&output);
    assert_eq!(tag(&after[1], "language"), "eng");
    assert_eq!(tag(&after[2], "language"), "fra");
    assert_eq!(after[2]["disposition"]["default"], 1);
    assert_eq!(after[1]["disposition"]["default"], 0);
    assert_eq!(
        ffprobe(&output, "-show_chapters")["chapters"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let format = ffprobe(&output, "-show_format");
    assert_eq!(tag(&format["format"], "title"), "The Film");
    assert!(tag(&format["format"], "comment").contains("colours by autochrome test"));
}

#[test]
fn mp4_comes_back_from_mp4_and_goes_to_matroska_and_webm() {
    let dir = folder();
    let input = rich(dir.path());
    let mp4 = dir.path().join("a.mp4");
    send(
        &input,
        &mp4,
        &OutputOptions {
            drop_unsupported: true,
            ..options()
        },
    )
    .unwrap();
    let again = dir.path().join("b.mp4");
    let sent = send(&mp4, &again, &options()).unwrap();
    assert_eq!(
        sent.messages,
        Vec::<String>::new(),
        "chapters and covers are no news"
    );
    assert_eq!(packets_md5(&mp4, "0:s:0"), packets_md5(&again, "0:s:0"));
    assert_eq!(streams(&mp4).len(), streams(&again).len());
    let mkv = dir.path().join("c.mkv");
    send(&mp4, &mkv, &options()).unwrap();
    let kinds: Vec<_> = streams(&mkv)
        .iter()
        .map(|s| s["codec_name"].as_str().unwrap_or("").to_string())
        .collect();
    assert_eq!(kinds, ["h264", "aac", "opus", "subrip", "subrip", "png"]);
    ffmpeg(dir.path(), "-i c.mkv -map 0:s:0 back.srt");
    let back = std::fs::read_to_string(dir.path().join("back.srt")).unwrap();
    assert_eq!(back, SHIFTED_SRT);
    let webm = dir.path().join("d.webm");
    let e = send(&mkv, &webm, &options()).err().unwrap().to_string();
    assert!(e.contains("aac") && e.contains("mkv"), "{e}");
    send(
        &mkv,
        &webm,
        &OutputOptions {
            drop_unsupported: true,
            ..options()
        },
    )
    .unwrap();
    let kinds: Vec<_> = streams(&webm)
        .iter()
        .map(|s| s["codec_name"].as_str().unwrap_or("").to_string())
        .collect();
    assert_eq!(kinds, ["vp9", "opus", "webvtt", "webvtt"]);
}

#[test]
fn opus_in_mov_is_refused_by_name() {
    let dir = folder();
    let input = rich(dir.path());
    let output = dir.path().join("out.mov");
    ffmpeg(
        dir.path(),
        "-i rich.mkv -map 0:v:0 -map 0:a -c copy two.mkv",
    );
    let e = send(&dir.path().join("two.mkv"), &output, &options())
        .err()
        .unwrap()
        .to_string();
    assert!(
        e.contains("stream 2 (audio opus fra)") && e.contains("mkv"),
        "{e}"
    );
    assert!(
        !names(dir.path())
            .iter()
            .any(|name| name.contains("out.mov")),
        "{:?}",
        names(dir.path())
    );
    let dropping = OutputOptions {
        drop_unsupported: true,
        ..options()
    };
    send(&dir.path().join("two.mkv"), &output, &dropping).unwrap();
    let kinds: Vec<_> = streams(&output)
        .iter()
        .map(|s| s["codec_type"].as_str().unwrap_or("").to_string())
        .collect();
    assert_eq!(
        kinds,
        ["video", "audio", "data"],
        "picture, AAC and the chapters' track"
    );
    let _ = input;
}

#[test]
fn the_output_is_published_only_when_whole() {
    let dir = folder();
    let input = film(dir.path());
    let output = dir.path().join("out.mkv");
    let source = Source::open(input.as_os_str(), &InputOptions::default()).unwrap();
    let sink = FileSink::create(output.as_os_str(), &options(), &source).unwrap();
    assert!(dir.path().join("out.mkv.part").exists());
    drop(sink);
    assert_eq!(names(dir.path()), ["film.mp4"]);
    send(&input, &output, &options()).unwrap();
    let e = send(&input, &output, &options()).err().unwrap();
    assert_eq!(e.exit_code(), 4);
    assert!(e.to_string().contains("--force"), "{e}");
    let force = OutputOptions {
        force: true,
        ..options()
    };
    send(&input, &output, &force).unwrap();
    assert_eq!(names(dir.path()), ["film.mp4", "out.mkv"]);
    let missing = dir.path().join("no/out.mkv");
    assert!(
        send(&input, &missing, &options())
            .err()
            .unwrap()
            .to_string()
            .contains("no folder")
    );
    let unknown = dir.path().join("out.xyz");
    assert!(
        send(&input, &unknown, &options())
            .err()
            .unwrap()
            .to_string()
            .contains(".xyz")
    );
}

#[test]
fn a_folder_without_permission_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder();
    let input = film(dir.path());
    let locked = dir.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(locked.join("try"), b"").is_ok() {
        eprintln!("skipped: this user may write everywhere");
        return;
    }
    let e = send(&input, &locked.join("out.mkv"), &options())
        .err()
        .unwrap();
    assert_eq!(e.exit_code(), 4);
    assert!(e.to_string().contains("permission"), "{e}");
}

#[test]
fn the_input_is_never_overwritten() {
    let dir = folder();
    let input = film(dir.path());
    std::fs::hard_link(&input, dir.path().join("hard.mp4")).unwrap();
    std::os::unix::fs::symlink(&input, dir.path().join("soft.mp4")).unwrap();
    let force = OutputOptions {
        force: true,
        ..options()
    };
    let before = std::fs::read(&input).unwrap();
    for name in ["film.mp4", "hard.mp4", "soft.mp4", "./film.mp4"] {
        let e = send(&input, &dir.path().join(name), &force).err().unwrap();
        assert!(e.to_string().contains("the input itself"), "{name}: {e}");
    }
    assert_eq!(std::fs::read(&input).unwrap(), before);
}

#[test]
fn a_full_disk_has_its_own_sentence() {
    let dir = folder();
    let input = film(dir.path());
    if std::fs::metadata("/dev/full").is_err() {
        eprintln!("skipped: there is no /dev/full here");
        return;
    }
    let output = dir.path().join("full.nut");
    std::os::unix::fs::symlink("/dev/full", &output).unwrap();
    let e = send(&input, &output, &options()).err().unwrap();
    assert_eq!(e.exit_code(), 4);
    assert!(e.to_string().contains("disk is full"), "{e}");
}

#[test]
fn a_full_disk_leaves_nothing() {
    let dir = folder();
    let input = film(dir.path());
    let mount = dir.path().join("small");
    std::fs::create_dir(&mount).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k", "none"])
        .arg(&mount)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: a file system of 16 KiB cannot be mounted here");
        return;
    }
    let results: Vec<_> = ["out.mkv", "out.mp4"]
        .iter()
        .map(|name| {
            send(&input, &mount.join(name), &with_codec("mpeg4"))
                .err()
                .map(|e| e.to_string())
        })
        .collect();
    let left = names(&mount);
    Command::new("umount").arg(&mount).status().unwrap();
    for result in results {
        let told = result.expect("16 KiB is not enough for this film");
        assert!(told.contains("disk is full"), "{told}");
    }
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn depth_and_subsampling_follow_the_source() {
    let dir = folder();
    let cases = [
        // pixel format of the source, codec asked for, codec and pixel format expected
        ("yuv420p", "", "h264", "yuv420p"),
        ("yuv422p", "", "h264", "yuv422p"),
        ("yuv444p", "", "h264", "yuv444p"),
        ("yuv420p10le", "", "hevc", "yuv420p10le"),
        ("yuv422p10le", "", "hevc", "yuv422p10le"),
        ("yuv444p12le", "", "hevc", "yuv444p12le"),
        ("yuv420p14le", "", "ffv1", "yuv420p14le"),
        ("yuv422p16le", "", "ffv1", "yuv422p16le"),
        ("yuv411p", "ffv1", "ffv1", "yuv411p"),
        ("yuv410p", "ffv1", "ffv1", "yuv410p"),
        ("yuv440p", "ffv1", "ffv1", "yuv440p"),
        ("yuv444p12le", "vp9", "vp9", "yuv444p12le"),
        ("yuv422p10le", "prores", "prores", "yuv422p10le"),
    ];
    for (source, codec, expected, pixel) in cases {
        let input = dir.path().join(format!("{source}.nut"));
        ffmpeg(
            dir.path(),
            &format!(
                "-f lavfi -i testsrc2=s=96x64:r=10:d=0.5 -pix_fmt {source} -c:v ffv1 {source}.nut"
            ),
        );
        let output = dir.path().join(format!("{source}.{expected}.mkv"));
        let codec = (!codec.is_empty()).then(|| codec.to_string());
        let what = format!("{source} in {expected}");
        send(&input, &output, &OutputOptions { codec, ..options() })
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        let video = &streams(&output)[0];
        assert_eq!(
            (&video["codec_name"], &video["pix_fmt"]),
            (&expected.into(), &pixel.into()),
            "{what}"
        );
        if expected == "ffv1" {
            let luma = ["-map", "0:v", "-vf", "extractplanes=y"];
            assert_eq!(
                md5_lines(&input, &luma),
                md5_lines(&output, &luma),
                "{what}"
            );
        }
    }
    let twelve = dir.path().join("yuv444p12le.nut");
    let e = send(&twelve, &dir.path().join("x.mkv"), &with_codec("h264"))
        .err()
        .unwrap()
        .to_string();
    assert!(
        e.contains("libx264 takes 8 and 10 bits, the film has 12: try --codec hevc"),
        "{e}"
    );
    let sixteen = dir.path().join("yuv422p16le.nut");
    let e = send(&sixteen, &dir.path().join("x.mp4"), &options())
        .err()
        .unwrap()
        .to_string();
    assert!(
        e.contains("16 bits") && e.contains(".mkv") && e.contains("ffv1"),
        "{e}"
    );
}

#[test]
fn odd_sizes_are_never_cropped() {
    let dir = folder();
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc=s=641x361:r=10:d=0.5 -pix_fmt yuv420p -c:v ffv1 odd.nut",
    );
    let input = dir.path().join("odd.nut");
    for (codec, pixel) in [
        ("ffv1", "yuv420p"),
        ("vp9", "yuv420p"),
        ("mpeg4", "yuv420p"),
    ] {
        let output = dir.path().join(format!("{codec}.mkv"));
        send(&input, &output, &with_codec(codec)).unwrap();
        let video = &streams(&output)[0];
        assert_eq!(
            (&video["width"], &video["height"], &video["pix_fmt"]),
            (&641.into(), &361.into(), &pixel.into())
        );
    }
    autochrome::media::init(0);
    for codec in ["h264", "hevc"] {
        let output = dir.path().join(format!("{codec}.mp4"));
        let source = Source::open(input.as_os_str(), &InputOptions::default()).unwrap();
        let sink = FileSink::create(output.as_os_str(), &with_codec(codec), &source).unwrap();
        let told = sink.messages().join("\n");
        assert!(
            told.contains("641x361") && told.contains("yuv444p"),
            "{told}"
        );
        assert_eq!(
            (
                layout_of(&sink).sampling.log2_w,
                layout_of(&sink).sampling.log2_h
            ),
            (0, 0)
        );
    }
    let e = send(&input, &dir.path().join("x.mp4"), &with_codec("libsvtav1"))
        .err()
        .unwrap()
        .to_string();
    assert!(e.contains("641x361") && e.contains("vp9"), "{e}");
}

#[test]
fn options_are_checked_and_named() {
    let dir = folder();
    let input = film(dir.path());
    let refused = |options: OutputOptions| {
        send(&input, &dir.path().join("x.mkv"), &options)
            .err()
            .expect("must be refused")
            .to_string()
    };
    let told = refused(with_codec("h265"));
    assert!(
        told.contains("'h265'") && told.contains("hevc, av1, vp9"),
        "{told}"
    );
    let told = refused(OutputOptions {
        encoder_options: vec![("colour".into(), "1".into())],
        ..options()
    });
    assert!(told.contains("libx264 has no option 'colour'"), "{told}");
    let told = refused(OutputOptions {
        crf: Some(99.0),
        ..options()
    });
    assert!(
        told.contains("--crf 99") && told.contains("0 (best) to 51"),
        "{told}"
    );
    let told = refused(OutputOptions {
        preset: Some("quick".into()),
        ..options()
    });
    assert!(
        told.contains("'quick'") && told.contains("veryfast"),
        "{told}"
    );
    let told = refused(OutputOptions {
        crf: Some(3.0),
        ..with_codec("prores")
    });
    assert!(told.contains("4444xq"), "{told}");
    let told = refused(OutputOptions {
        pixel_format: Some("yuv411p".into()),
        ..options()
    });
    assert!(told.contains("libx264 does not take yuv411p"), "{told}");
    let told = refused(OutputOptions {
        format: Some("mpeg9".into()),
        ..options()
    });
    assert!(told.contains("'mpeg9'") && told.contains("mp4"), "{told}");
    assert_eq!(names(dir.path()), ["film.mp4"]);
    let asked = OutputOptions {
        crf: Some(30.0),
        preset: Some("ultrafast".into()),
        encoder_options: vec![("bf".into(), "0".into())],
        pixel_format: Some("yuv444p".into()),
        ..options()
    };
    let written = send(&input, &dir.path().join("x.mkv"), &asked)
        .unwrap()
        .written;
    assert_eq!(
        written.streams[0],
        "video h264 yuv444p crf 30 preset ultrafast: colorized"
    );
    let video = &streams(&dir.path().join("x.mkv"))[0];
    assert_eq!(
        (&video["pix_fmt"], &video["has_b_frames"]),
        (&"yuv444p".into(), &0.into())
    );
}

#[test]
fn uneven_times_and_the_last_frame_are_kept() {
    let dir = folder();
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=96x64:r=30:d=4 -vf select='not(mod(n\\,7))+not(mod(n\\,5))' -fps_mode vfr -c:v libx264 \
         -pix_fmt yuv420p -bf 3 -video_track_timescale 30000 vfr.mp4",
    );
    let input = dir.path().join("vfr.mp4");
    for name in ["a.mp4", "a.mkv", "a.mov", "a.nut", "a.ts"] {
        let output = dir.path().join(name);
        send(&input, &output, &options()).unwrap();
        let (before, after) = (times(&input, "v:0"), times(&output, "v:0"));
        assert_eq!(before.len(), after.len(), "{name}");
        // What has no negative times moves all streams by the encoder's delay.
        let shift = if ["a.ts", "a.nut"].contains(&name) {
            after[0] - before[0]
        } else {
            0.0
        };
        let tick = if name == "a.mkv" { 0.000_51 } else { 0.000_02 };
        for (b, a) in before.iter().zip(&after) {
            assert!((a - b - shift).abs() < tick, "{name}: {b} became {a}");
        }
        let frames = &ffprobe(&output, "-count_frames -select_streams v:0 -show_streams")["streams"]
            [0]["nb_read_frames"];
        assert_eq!(frames, &Value::from(before.len().to_string()), "{name}");
        let length = |file: &Path| -> f64 {
            ffprobe(file, "-show_format")["format"]["duration"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        };
        assert!(
            (length(&input) - length(&output)).abs() < 0.002 || shift != 0.0,
            "{name}"
        );
    }
}

#[test]
fn sound_stays_beside_the_picture() {
    let dir = folder();
    let input = film(dir.path());
    let offset = |file: &Path| times(file, "v:0")[0] - times(file, "a:0")[0];
    for name in ["a.mp4", "a.mkv", "a.mov", "a.ts", "a.nut"] {
        let output = dir.path().join(name);
        send(&input, &output, &options()).unwrap();
        let moved = offset(&output) - offset(&input);
        assert!(moved.abs() < 0.0011, "{name}: moved by {moved}");
    }
    assert_eq!(
        packets_md5(&input, "0:a:0"),
        packets_md5(&dir.path().join("a.mkv"), "0:a:0")
    );
    assert_eq!(
        packets_md5(&input, "0:a:0"),
        packets_md5(&dir.path().join("a.mp4"), "0:a:0")
    );
    assert_eq!(
        times(&input, "v:0"),
        times(&dir.path().join("a.mp4"), "v:0")
    );
    assert_eq!(
        times(&input, "a:0"),
        times(&dir.path().join("a.mp4"), "a:0")
    );
    // ADTS in MPEG-TS is repackaged: the samples are the same.
    ffmpeg(dir.path(), "-i a.ts -map 0:a -c:a pcm_s16le ts.wav");
    ffmpeg(dir.path(), "-i a.mp4 -map 0:a -c:a pcm_s16le mp4.wav");
    send(
        &dir.path().join("a.ts"),
        &dir.path().join("b.mp4"),
        &options(),
    )
    .unwrap();
    ffmpeg(dir.path(), "-i b.mp4 -map 0:a -f null -");
}

#[test]
fn an_early_end_cuts_the_sound() {
    let dir = folder();
    let input = film(dir.path());
    let output = dir.path().join("cut.mp4");
    let sent = send_some(&input, &output, &options(), 10).unwrap();
    assert_eq!(sent.written.frames, 10);
    let sound = times(&output, "a:0");
    assert!(*sound.last().unwrap() < 0.4, "{sound:?}");
    assert_eq!(times(&output, "v:0").len(), 10);
}

#[test]
fn interlaced_rotated_and_anamorphic_stay_so() {
    let dir = folder();
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=192x128:r=50:d=1 -vf tinterlace=interleave_top,fieldorder=tff,setsar=16/11 -c:v \
         libx264 -flags +ildct+ilme -x264opts tff=1 -pix_fmt yuv420p i.mkv",
    );
    let input = dir.path().join("i.mkv");
    for (name, codec) in [
        ("a.mkv", "h264"),
        ("b.mov", "prores"),
        ("c.mkv", "ffv1"),
        ("d.ts", "mpeg2video"),
    ] {
        let output = dir.path().join(name);
        let sent = send(&input, &output, &with_codec(codec)).unwrap();
        assert_eq!(sent.messages, Vec::<String>::new(), "{codec}");
        let json = ffprobe(
            &output,
            "-select_streams v:0 -show_streams -show_frames -read_intervals %+#3",
        );
        // Rows of both fields in turn, the top one first; MPEG-TS has no word for it, so ffprobe asks the decoder.
        let order = if name == "d.ts" { "tt" } else { "tb" };
        assert_eq!(json["streams"][0]["field_order"], order, "{codec}");
        // MPEG-2 knows four shapes of the whole picture only.
        let aspect = &json["streams"][0]["sample_aspect_ratio"];
        assert!(
            aspect == "16:11" || codec == "mpeg2video",
            "{codec}: {aspect}"
        );
        assert_eq!(json["frames"][0]["interlaced_frame"], 1, "{codec}");
        assert_eq!(json["frames"][0]["top_field_first"], 1, "{codec}");
    }
    let sent = send(&input, &dir.path().join("d.mkv"), &with_codec("hevc")).unwrap();
    assert!(
        sent.messages[0].contains("h264, prores or ffv1"),
        "{:?}",
        sent.messages
    );
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=96x64:r=25:d=0.4 -pix_fmt yuv420p -c:v libx264 plain.mp4",
    );
    ffmpeg(
        dir.path(),
        "-i plain.mp4 -c copy -metadata:s:v:0 rotate=90 turned.mp4",
    );
    for name in ["turned2.mp4", "turned2.mov"] {
        let output = dir.path().join(name);
        send(&dir.path().join("turned.mp4"), &output, &options()).unwrap();
        let video = &streams(&output)[0];
        assert_eq!(
            video["side_data_list"],
            streams(&dir.path().join("turned.mp4"))[0]["side_data_list"],
            "{name}: {video}"
        );
        assert_eq!(
            (&video["width"], &video["height"]),
            (&96.into(), &64.into())
        );
    }
}

#[test]
fn pictures_one_by_one_and_alone() {
    let dir = folder();
    let input = film(dir.path());
    let frames = dir.path().join("frames");
    std::fs::create_dir(&frames).unwrap();
    let sent = send(&input, &frames.join("out%04d.png"), &options()).unwrap();
    assert_eq!(
        sent.messages.len(),
        1,
        "the sound is left out, and that is said: {:?}",
        sent.messages
    );
    assert_eq!(names(&frames).len(), 25);
    assert_eq!(names(&frames)[24], "out0025.png");
    let e = send(&input, &frames.join("out%04d.png"), &options())
        .err()
        .unwrap();
    assert!(e.to_string().contains("out0"), "{e}");
    let source = Source::open(input.as_os_str(), &InputOptions::default()).unwrap();
    let force = OutputOptions {
        force: true,
        ..options()
    };
    drop(FileSink::create(frames.join("out%04d.png").as_os_str(), &force, &source).unwrap());
    assert_eq!(
        names(&frames).len(),
        25,
        "what was not written yet is not removed"
    );
    for name in ["f%03d.jpg", "f%d.tiff", "f%d.bmp", "f%d.webp"] {
        let output = frames.join(name);
        send(&input, &output, &options()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let first = frames.join(name.replace("%03d", "001").replace("%d", "1"));
        assert_eq!(streams(&first)[0]["width"], 192, "{name}");
    }
    let e = send(&input, &dir.path().join("film.png"), &options())
        .err()
        .unwrap();
    assert!(e.to_string().contains("out%04d.png"), "{e}");
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc=s=65x33 -frames:v 1 -pix_fmt gray still.png",
    );
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc=s=65x33 -frames:v 1 -pix_fmt gray16be deep.png",
    );
    for (name, pixel) in [("still", "rgb24"), ("deep", "rgb48be")] {
        let output = dir.path().join(format!("{name}.color.png"));
        let sent = send(&dir.path().join(format!("{name}.png")), &output, &options()).unwrap();
        assert_eq!(sent.written.frames, 1);
        let picture = &streams(&output)[0];
        assert_eq!(picture["pix_fmt"], pixel);
        assert_eq!(
            (&picture["width"], &picture["height"]),
            (&65.into(), &33.into())
        );
        // Sixteen bits pass swscale on their way to RGB, which rounds.
        if name == "still" {
            let luma = ["-vf", "format=gray"];
            let before = md5_lines(&dir.path().join("still.png"), &luma);
            assert_eq!(before, md5_lines(&output, &luma), "grey stays grey");
        }
    }
    assert!(
        names(dir.path()).iter().all(|n| !n.contains(".part")),
        "{:?}",
        names(dir.path())
    );
}

#[test]
fn an_unfinished_sequence_is_removed() {
    let dir = folder();
    let input = film(dir.path());
    let frames = dir.path().join("frames");
    std::fs::create_dir(&frames).unwrap();
    let mut source = Source::open(input.as_os_str(), &InputOptions::default()).unwrap();
    let mut sink =
        FileSink::create(frames.join("%d.png").as_os_str(), &options(), &source).unwrap();
    let mut merger = Merger::new(&source.info().video, &layout_of(&sink)).unwrap();
    let mut sent = 0;
    while sent < 5 {
        let Some(Item::Frame(frame)) = source.next().unwrap() else {
            continue;
        };
        let picture = merger
            .merge(&frame.picture, &AbMap::constant(0.0, 0.0))
            .unwrap();
        sink.frame(&Merged {
            index: frame.index,
            pts: frame.pts,
            duration: frame.duration,
            arrived: frame.arrived,
            picture,
        })
        .unwrap();
        sent += 1;
    }
    assert!(!names(&frames).is_empty());
    drop(sink);
    assert_eq!(names(&frames), Vec::<String>::new());
}

#[test]
fn y4m_flv_and_other_muxers() {
    let dir = folder();
    let input = film(dir.path());
    for name in [
        "a.y4m", "a.flv", "a.mxf", "a.gif", "a.3gp", "a.ogv", "a.m2ts", "a.mpg",
    ] {
        let output = dir.path().join(name);
        let dropping = OutputOptions {
            drop_unsupported: true,
            ..options()
        };
        match send(&input, &output, &dropping) {
            Ok(sent) => {
                let json = ffprobe(&output, "-count_frames -select_streams v:0 -show_streams");
                assert_eq!(
                    json["streams"][0]["nb_read_frames"], "25",
                    "{name} {:?}",
                    sent.written.streams
                );
            }
            // 256 colours are fewer than any film has.
            Err(e) if name == "a.gif" => assert!(e.to_string().contains("bits"), "{e}"),
            Err(e) => panic!("{name}: {e}"),
        }
    }
    let y4m = std::fs::read(dir.path().join("a.y4m")).unwrap();
    let header = String::from_utf8_lossy(&y4m[..100]).into_owned();
    assert!(header.starts_with("YUV4MPEG2 W192 H112 F25:1"), "{header}");
    assert_eq!(
        md5_lines(&input, &["-map", "0:v", "-vf", "extractplanes=y"]),
        md5_lines(
            &dir.path().join("a.y4m"),
            &["-map", "0:v", "-vf", "extractplanes=y"]
        )
    );
    let as_nut = OutputOptions {
        format: Some("nut".into()),
        ..options()
    };
    let output = dir.path().join("no extension");
    send(&input, &output, &as_nut).unwrap();
    assert_eq!(
        ffprobe(&output, "-show_format")["format"]["format_name"],
        "nut"
    );
}

#[test]
fn pipes_get_containers_that_need_no_seeking() {
    let dir = folder();
    let input = film(dir.path());
    for (name, format) in [
        ("pipe.mkv", None),
        ("pipe.mp4", None),
        ("pipe", Some("mov")),
        ("pipe.ts", None),
    ] {
        let fifo = dir.path().join(name);
        assert!(
            Command::new("mkfifo")
                .arg(&fifo)
                .status()
                .unwrap()
                .success()
        );
        let copy = dir.path().join("copy");
        let reader = Command::new("cp").arg(&fifo).arg(&copy).spawn().unwrap();
        let asked = OutputOptions {
            format: format.map(String::from),
            ..options()
        };
        let sent = send(&input, &fifo, &asked);
        reader.wait_with_output().unwrap();
        sent.unwrap_or_else(|e| panic!("{name}: {e}"));
        let json = ffprobe(&copy, "-count_frames -select_streams v:0 -show_streams");
        assert_eq!(json["streams"][0]["nb_read_frames"], "25", "{name}");
        std::fs::remove_file(&fifo).unwrap();
    }
}

#[test]
fn names_with_colons_and_without_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let dir = folder();
    let input = film(dir.path());
    for name in [
        &b"a:b.mkv"[..],
        b"http:x.mp4",
        b"100%done.mp4",
        b"\xff\xfe film.mkv",
        b"-x.mkv",
    ] {
        let output = dir.path().join(std::ffi::OsStr::from_bytes(name));
        send(&input, &output, &options()).unwrap_or_else(|e| panic!("{e}"));
        assert!(output.is_file());
    }
}

#[test]
fn hdr_light_captions_and_time_code_are_kept() {
    let dir = folder();
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc=s=128x64:r=25:d=0.4 -pix_fmt yuv420p10le -c:v libx265 -color_primaries bt2020 -color_trc \
         smpte2084 -colorspace bt2020nc -x265-params \
         log-level=none:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400 \
         hdr.mp4",
    );
    for name in ["hdr2.mp4", "hdr2.mkv"] {
        let output = dir.path().join(name);
        send(&dir.path().join("hdr.mp4"), &output, &options()).unwrap();
        let video = &streams(&output)[0];
        assert_eq!(video["color_transfer"], "smpte2084");
        assert_eq!(video["color_primaries"], "bt2020");
        let told = video["side_data_list"].to_string();
        assert!(
            told.contains("Mastering display metadata") && told.contains("1000"),
            "{name}: {told}"
        );
    }
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc=s=128x64:r=25:d=0.4 -pix_fmt yuv420p -c:v libx264 -timecode 01:02:03:04 code.mov",
    );
    for name in ["code2.mov", "code2.mp4", "code2.mkv"] {
        let output = dir.path().join(name);
        let sent = send(&dir.path().join("code.mov"), &output, &options()).unwrap();
        assert_eq!(sent.messages, Vec::<String>::new());
        assert!(
            streams(&output)
                .iter()
                .any(|s| tag(s, "timecode") == "01:02:03:04"),
            "{name}"
        );
    }
}

#[test]
fn quicktime_metadata_survive() {
    let dir = folder();
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc=s=128x64:r=25:d=0.4 -pix_fmt yuv420p -c:v libx264 -movflags use_metadata_tags -metadata \
         title=T -metadata com.example.camera=Box -metadata location=+48.8/ -metadata comment=C tags.mov",
    );
    for name in ["tags2.mov", "tags2.mp4", "tags2.mkv"] {
        let output = dir.path().join(name);
        send(&dir.path().join("tags.mov"), &output, &options()).unwrap();
        let format = ffprobe(&output, "-show_format");
        assert_eq!(tag(&format["format"], "title"), "T", "{name}");
        assert_eq!(
            tag(&format["format"], "com.example.camera"),
            "Box",
            "{name}"
        );
        assert_eq!(
            tag(&format["format"], "comment"),
            "C\ncolours by autochrome test",
            "{name}"
        );
    }
    for name in ["tags2.mov", "tags2.mp4"] {
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        let at = |atom: &[u8]| bytes.windows(4).position(|w| w == atom).unwrap();
        assert!(at(b"moov") < at(b"mdat"), "{name}: the index comes first");
        assert!(at(b"colr") > 0);
    }
}

#[test]
fn a_part_of_a_film_has_its_chapters_moved() {
    let dir = folder();
    let input = rich(dir.path());
    let output = dir.path().join("part.mkv");
    autochrome::media::init(0);
    let piece = InputOptions {
        start: Some(0.5),
        duration: Some(1.0),
        ..InputOptions::default()
    };
    let source = Source::open(input.as_os_str(), &piece).unwrap();
    send_from(source, &output, &options(), u64::MAX).unwrap();
    let chapters = ffprobe(&output, "-show_chapters")["chapters"].clone();
    let times: Vec<f64> = chapters
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|c| {
            [
                c["start_time"].as_str().unwrap().parse::<f64>().unwrap(),
                c["end_time"].as_str().unwrap().parse().unwrap(),
            ]
        })
        .collect();
    for (found, expected) in times.iter().zip([0.0, 0.48, 0.48, 1.0]) {
        assert!((found - expected).abs() < 0.03, "{times:?}");
    }
}

/// Runs every real clip of the workshop through its default output, where they are.
#[test]
fn shared_clips_survive() {
    let Some(shared) = shared() else { return };
    let dir = folder();
    let files = ["clips", "odd"]
        .iter()
        .flat_map(|f| std::fs::read_dir(shared.join(f)).unwrap());
    for file in files.flatten().map(|f| f.path()) {
        let name = file.file_name().unwrap();
        let output = dir.path().join(autochrome::media::default_output(name));
        // As a person gets them who says nothing but the name.
        let plain = OutputOptions {
            drop_unsupported: true,
            ..options()
        };
        let result = send_some(&file, &output, &plain, 12);
        match result {
            Ok(sent) => {
                assert!(output.is_file(), "{name:?}");
                eprintln!(
                    "{name:?}: {} frames, {:?} {:?}",
                    sent.written.frames, sent.messages, sent.written.streams
                );
                let read = ffprobe(&output, "-count_frames -select_streams v:0 -show_streams");
                let read = read["streams"][0]["nb_read_frames"]
                    .as_str()
                    .unwrap()
                    .to_string();
                assert_eq!(read, sent.written.frames.to_string(), "{name:?}");
            }
            Err(e) => {
                eprintln!("{name:?}: {e}");
                assert_ne!(e.exit_code(), 70, "{name:?}: {e}");
                assert!(!output.exists());
            }
        }
        assert!(
            names(dir.path()).iter().all(|n| !n.ends_with(".part")),
            "{name:?}"
        );
    }
}

/// The workshop's own media, beside the checkout or where AUTOCHROME_SHARED says.
fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("AUTOCHROME_SHARED").map_or(beside, PathBuf::from);
    if shared.join("odd").is_dir() {
        return Some(shared);
    }
    eprintln!("skipped: there are no shared media");
    None
}

#[test]
fn what_only_a_constant_rate_can_hold_is_told() {
    let dir = folder();
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=96x64:r=30:d=2 -vf settb=1/30000,setpts='PTS+0.012*mod(N\\,3)/TB' -fps_mode passthrough -c:v libx264 \
         -pix_fmt yuv420p -video_track_timescale 30000 vfr.mp4",
    );
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=96x64:r=30:d=2 -vf select='not(mod(n\\,7))+not(mod(n\\,5))' -fps_mode vfr -c:v libx264 \
         -pix_fmt yuv420p gaps.mp4",
    );
    let sent = send(
        &dir.path().join("gaps.mp4"),
        &dir.path().join("gaps.y4m"),
        &options(),
    )
    .unwrap();
    assert!(
        sent.written.notes[0].contains("constant frame rate"),
        "{:?}",
        sent.written.notes
    );
    let input = dir.path().join("vfr.mp4");
    for name in ["vfr.avi", "vfr.y4m"] {
        let sent = send(&input, &dir.path().join(name), &options()).unwrap();
        assert!(
            sent.written.notes[0].contains("constant frame rate"),
            "{name}: {:?}",
            sent.written.notes
        );
    }
    let even = film(dir.path());
    let sent = send(&even, &dir.path().join("even.avi"), &options()).unwrap();
    assert_eq!(sent.written.notes, Vec::<String>::new());
}

#[test]
fn the_level_follows_the_frame_rate_and_not_the_clock() {
    let dir = folder();
    let input = film(dir.path());
    for (codec, most) in [("h264", 13), ("hevc", 60)] {
        let output = dir.path().join(format!("{codec}.mp4"));
        send(&input, &output, &with_codec(codec)).unwrap();
        let level = streams(&output)[0]["level"].as_i64().unwrap();
        assert!(level <= most, "{codec}: level {level}");
    }
}

#[test]
fn subtitles_that_are_pictures_are_refused_by_name() {
    let dir = folder();
    std::fs::write(
        dir.path().join("s.srt"),
        "1\n00:00:00,200 --> 00:00:00,700\nHello\n",
    )
    .unwrap();
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=192x112:r=25:d=1 -pix_fmt yuv420p -c:v libx264 film.mkv",
    );
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=192x112:r=25:d=1 -f lavfi -i anullsrc -i s.srt -t 1 -map 0 -map 1 -map 2 -pix_fmt yuv420p \
         -c:v libx264 -c:a ac3 -c:s ass text.mkv",
    );
    for (name, holds) in [("a.ts", false), ("a.avi", false), ("a.nut", true)] {
        let output = dir.path().join(name);
        match send(&dir.path().join("text.mkv"), &output, &options()) {
            Ok(_) => assert!(holds, "{name}"),
            Err(e) => {
                let told = e.to_string();
                assert!(
                    !holds && told.contains("stream 2 (subtitle ass)") && told.contains("mkv"),
                    "{name}: {told}"
                );
            }
        }
    }
}

#[test]
fn a_url_goes_straight_to_the_network() {
    let dir = folder();
    let input = film(dir.path());
    let sent = send(
        &input,
        Path::new("udp://127.0.0.1:47811?pkt_size=1316"),
        &options(),
    );
    assert_eq!(sent.unwrap().written.frames, 25);
    let e = send(
        &input,
        Path::new("nowhere://127.0.0.1/film.mkv"),
        &options(),
    )
    .err()
    .unwrap();
    assert_eq!(e.exit_code(), 4);
    eprintln!("{e}");
}

/// Ten frames whose pictures carry closed captions, as broadcasts do; drawn with FFmpeg's library, since its program
/// cannot add them.
fn captioned(folder: &Path) -> PathBuf {
    use ffmpeg_next::{Packet, Rational, codec::Context, encoder, format::Pixel, frame};
    let codec = encoder::find_by_name("libx264").unwrap();
    let mut video = Context::new_with_codec(codec).encoder().video().unwrap();
    video.set_width(96);
    video.set_height(64);
    video.set_format(Pixel::YUV420P);
    video.set_time_base(Rational(1, 25));
    let mut video = video.open().unwrap();
    let mut bytes = Vec::new();
    let mut drain = |video: &mut encoder::Video| {
        let mut packet = Packet::empty();
        while video.receive_packet(&mut packet).is_ok() {
            bytes.extend_from_slice(packet.data().unwrap());
        }
    };
    for i in 0..10 {
        let mut picture = frame::Video::new(Pixel::YUV420P, 96, 64);
        (0..3).for_each(|plane| picture.data_mut(plane).fill(128));
        picture.set_pts(Some(i));
        let kind = frame::side_data::Type::A53CC;
        let mut captions = picture.new_side_data(kind, 3).unwrap();
        // SAFETY: three bytes were asked for, and the picture is nobody else's.
        #[allow(unsafe_code)] // side data that a test writes has no safe way in ffmpeg-next
        unsafe {
            let data = (*captions.as_mut_ptr()).data;
            std::slice::from_raw_parts_mut(data, 3).copy_from_slice(&[0xfc, 0x94, 0x20]);
        }
        video.send_frame(&picture).unwrap();
        drain(&mut video);
    }
    video.send_eof().unwrap();
    drain(&mut video);
    let file = folder.join("captions.h264");
    std::fs::write(&file, bytes).unwrap();
    file
}

#[test]
fn closed_captions_stay_in_the_pictures_or_are_told() {
    let dir = folder();
    let input = captioned(dir.path());
    let output = dir.path().join("a.mp4");
    let sent = send(&input, &output, &options()).unwrap();
    assert_eq!(sent.written.notes, Vec::<String>::new());
    let frames = ffprobe(&output, "-select_streams v:0 -show_frames").to_string();
    assert_eq!(
        frames.matches("ATSC A53 Part 4 Closed Captions").count(),
        10
    );
    let sent = send(&input, &dir.path().join("a.webm"), &options()).unwrap();
    assert!(
        sent.written.notes[0].contains("closed captions"),
        "{:?}",
        sent.written.notes
    );
    assert_eq!(sent.written.notes.len(), 1);
}
