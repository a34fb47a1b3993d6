//! Sources against what the `ffmpeg` and `ffprobe` programs say of the same files, and against broken files.

use super::*;
use crate::{Error, media::Packet};
use ffmpeg::Rescale;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{atomic::Ordering, mpsc},
    time::Duration,
};
use tempfile::TempDir;

/// Runs a program to its end, quietly, and returns what it prints.
fn run(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(["-v", "error"]);
    if program == "ffmpeg" {
        command.args(["-y", "-nostdin"]);
    }
    let output = command.args(args).output().expect("run it");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder for one test's media.
struct Drawn(TempDir);

impl Drawn {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Draws `name` with `ffmpeg ARGS name`, ARGS split at spaces.
    fn draw(&self, args: &str, name: &str) -> PathBuf {
        let path = self.path(name);
        let mut words: Vec<&str> = args.split_whitespace().collect();
        words.push(path.to_str().expect("UTF-8"));
        run("ffmpeg", &words);
        assert!(path.exists() || name.contains('%'), "ffmpeg {args} {name}");
        path
    }
}

const PICTURE: &str = "-f lavfi -i testsrc2=s=160x120:r=25:d=4";
const SOUND: &str = "-f lavfi -i sine=f=440:r=48000:d=4";

/// All that a source yields.
#[derive(Default)]
struct Drained {
    /// (pts, duration)
    frames: Vec<(i64, i64)>,
    /// (width, height)
    sizes: Vec<(u32, u32)>,
    packets: Vec<Packet>,
    report: SourceReport,
    warnings: Vec<String>,
    shift: i64,
}

fn drain(mut source: Source) -> Result<Drained> {
    let mut all = Drained {
        shift: source.shift(),
        ..Drained::default()
    };
    while let Some(item) = source.next()? {
        match item {
            Item::Frame(frame) => {
                assert_eq!(frame.index, all.frames.len() as u64);
                all.sizes
                    .push((frame.picture.0.width(), frame.picture.0.height()));
                all.frames.push((frame.pts, frame.duration));
            }
            Item::Packet(packet) => all.packets.push(packet),
        }
    }
    all.report = source.report();
    all.warnings = source.take_warnings();
    assert_eq!(all.report.frames, all.frames.len() as u64);
    assert!(all.frames.windows(2).all(|w| w[0].0 < w[1].0), "pts rise");
    assert!(all.frames.iter().all(|f| f.1 > 0), "durations");
    Ok(all)
}

fn open_with(path: &Path, options: &InputOptions) -> Result<Source> {
    Source::open(path.as_os_str(), options)
}

fn open(path: &Path) -> Source {
    open_with(path, &InputOptions::default()).expect("open")
}

fn read(path: &Path) -> Drained {
    drain(open(path)).expect("read")
}

fn refusal(path: &Path, options: &InputOptions) -> Error {
    match open_with(path, options).and_then(drain) {
        Err(e) => e,
        Ok(_) => panic!("{} was read", path.display()),
    }
}

/// best_effort_timestamp of every frame of the main video; `None` where it has none.
fn probed(path: &Path) -> Vec<Option<i64>> {
    let path = path.to_str().expect("UTF-8");
    let args = "-select_streams V:0 -show_entries frame=best_effort_timestamp -of csv=p=0";
    let mut words: Vec<&str> = args.split(' ').collect();
    words.push(path);
    let lines = run("ffprobe", &words);
    let number = |l: &str| l.trim_end_matches(',').parse().ok();
    lines
        .lines()
        .filter(|l| !l.is_empty())
        .map(number)
        .collect()
}

/// Frames that `ffmpeg` decodes.
fn counted(path: &Path) -> usize {
    let path = path.to_str().expect("UTF-8");
    let tail = "-map 0:V:0 -fps_mode passthrough -f framemd5 -";
    let mut words = vec!["-i", path];
    words.extend(tail.split(' '));
    let lines = run("ffmpeg", &words);
    lines.lines().filter(|l| !l.starts_with('#')).count()
}

/// ../shared/NAME, or a note that the test is skipped.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared")
        .join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn a_source_can_go_to_a_thread() {
    fn is_send<T: Send>() {}
    is_send::<Source>();
}

#[test]
fn timestamps_and_counts_are_ffprobes() {
    let media = Drawn::new();
    let uneven = "-vf select=not(mod(n\\,3))+gt(n\\,70)*not(mod(n\\,7)) -fps_mode vfr";
    let films = [
        media.draw(&format!("{PICTURE} -c:v libx264 -bf 0"), "cfr.mp4"),
        media.draw(&format!("{PICTURE} -c:v libx264 -bf 3"), "b.mkv"),
        media.draw(&format!("{PICTURE} -c:v libx264 -bf 3 {uneven}"), "vfr.mp4"),
        media.draw(&format!("{PICTURE} -c:v libx264 -bf 3 {uneven}"), "vfr.mkv"),
        media.draw(&format!("{PICTURE} -c:v mpeg2video -bf 2"), "b.ts"),
        media.draw(&format!("{PICTURE} -c:v mpeg4 -bf 2"), "b.avi"),
        media.draw(
            &format!("{PICTURE} -c:v libvpx-vp9 -b:v 0 -crf 40 -deadline realtime"),
            "alt.webm",
        ),
    ];
    for film in films {
        let source = open(&film);
        let start = source.shift().rescale(
            ffmpeg::rescale::TIME_BASE,
            ffmpeg::Rational::from(source.info().video.time_base),
        );
        let all = drain(source).expect("read");
        let ours: Vec<i64> = all.frames.iter().map(|f| f.0 + start).collect();
        let theirs = probed(&film).into_iter().zip(&ours);
        let theirs: Vec<i64> = theirs.map(|(t, &o)| t.unwrap_or(o)).collect();
        assert_eq!(ours, theirs, "{}", film.display());
        assert_eq!(ours.len(), counted(&film), "{}", film.display());
        let tiled = all.frames.windows(2).all(|w| w[0].0 + w[0].1 == w[1].0);
        assert!(tiled, "a frame lasts until the next: {}", film.display());
        let clean = SourceReport {
            frames: all.report.frames,
            ..SourceReport::default()
        };
        assert_eq!(all.report, clean, "{}", film.display());
        assert_eq!(all.warnings, [""; 0], "{}", film.display());
    }
}

#[test]
fn a_raw_stream_gets_even_times() {
    let media = Drawn::new();
    let raw = media.draw(&format!("{PICTURE} -c:v libx264 -bf 2"), "raw.h264");
    let all = read(&raw);
    assert_eq!(all.frames.len(), 100);
    // Its time base is 1/1200000.
    let even = all
        .frames
        .iter()
        .enumerate()
        .all(|(i, f)| *f == (i as i64 * 48_000, 48_000));
    assert!(even, "{:?}", &all.frames[..4]);
}

#[test]
fn the_last_frame_keeps_its_duration() {
    let media = Drawn::new();
    // 10 frames, every one 0.2 s later than the one before; the last is a picture of 0.04 s.
    let list = media.path("list.txt");
    let png = media.draw("-f lavfi -i testsrc2=s=64x48:d=0.04", "a.png");
    let entry = |length| format!("file '{}'\nduration {length}\n", png.display());
    let text: String = (0..10).map(|_| entry(0.2)).collect();
    fs::write(&list, text).expect("write");
    let args = format!(
        "-f concat -safe 0 -i {} -fps_mode passthrough -c:v libx264 -bf 2",
        list.display()
    );
    // MP4 says where its track ends; Matroska does not: there the last lasts as long as the one before.
    for (name, length) in [("last.mp4", 0.04), ("last.mkv", 0.2)] {
        let film = media.draw(&args, name);
        let (num, den) = open(&film).info().video.time_base;
        let last = *read(&film).frames.last().expect("frames");
        let seconds = |ticks: i64| ticks as f64 * f64::from(num) / f64::from(den);
        assert!((seconds(last.0) - 1.8).abs() < 0.002, "{name}: {last:?}");
        assert!((seconds(last.1) - length).abs() < 0.002, "{name}: {last:?}");
    }
}

#[test]
fn one_constant_is_subtracted_from_all_streams() {
    let media = Drawn::new();
    let args =
        format!("{PICTURE} -itsoffset 0.3 {SOUND} -c:v mpeg2video -c:a mp2 -output_ts_offset 5");
    let film = media.draw(&args, "late.ts");
    let all = read(&film);
    assert!(all.shift > 5_000_000, "{}", all.shift);
    assert_eq!(all.frames[0].0, 0);
    let first = all.packets[0].packet.pts().expect("pts");
    // 0.3 s in 90 kHz ticks; MP2 frames begin within 24 ms of it.
    assert!((first - 27_000).abs() < 2_200, "{first}");
}

#[test]
fn encoder_priming_stays_negative() {
    let media = Drawn::new();
    let film = media.draw(
        &format!("{PICTURE} {SOUND} -c:v libx264 -c:a aac"),
        "aac.mp4",
    );
    let all = read(&film);
    assert_eq!(all.frames[0].0, 0);
    assert_eq!(all.packets[0].packet.pts(), Some(-1024));
    assert!(
        all.packets[0].packet.side_data().count() > 0,
        "skip samples"
    );
}

#[test]
fn start_and_duration_are_exact() {
    let media = Drawn::new();
    for (codec, name) in [
        ("libx264 -bf 3 -g 30", "a.mp4"),
        ("libx264 -bf 2 -g 40", "a.mkv"),
        ("mpeg2video -bf 2 -g 12", "a.ts"),
        ("libx264 -g 25", "a.h264"),
    ] {
        let sound = if name == "a.h264" {
            ""
        } else {
            " -f lavfi -i sine=d=4 -c:a mp2"
        };
        let film = media.draw(&format!("{PICTURE}{sound} -c:v {codec}"), name);
        let whole = read(&film);
        let tb = ffmpeg::Rational::from(open(&film).info().video.time_base);
        for (from, to) in [(25, 75), (0, 10), (61, 62), (99, 100), (43, 100)] {
            let options = InputOptions {
                start: Some(f64::from(from) * 0.04),
                duration: Some(f64::from(to - from) * 0.04),
                ..InputOptions::default()
            };
            let source = open_with(&film, &options).expect("open");
            let (begin, end) = (source.shift(), source.end());
            let part = drain(source).expect("read");
            let wanted = &whole.frames[from as usize..to as usize];
            let shifted: Vec<_> = wanted.iter().map(|f| (f.0 - wanted[0].0, f.1)).collect();
            // Without a start the part begins with the sound, a little before the first frame.
            let lead = if from == 0 { wanted[0].0 } else { 0 };
            let moved: Vec<_> = part.frames.iter().map(|f| (f.0 - lead, f.1)).collect();
            let last = moved.len() - 1;
            assert_eq!(moved[..last], shifted[..last], "{name} {from}..{to}");
            assert_eq!(moved[last].0, shifted[last].0, "{name} {from}..{to}");
            assert_eq!(moved[last].1, shifted[last].1 - lead, "{name} {from}..{to}");
            let first = (wanted[0].0 - lead).rescale(tb, ffmpeg::rescale::TIME_BASE);
            assert_eq!(begin - whole.shift, first, "{name}");
            assert!(
                (end.expect("end") - i64::from(to - from) * 40_000).abs() <= 20,
                "{name}"
            );
            for packet in &part.packets {
                let t = packet.packet.pts().expect("pts") as f64 * f64::from(packet.time_base);
                assert!(
                    (from == 0 || t >= 0.0) && t < f64::from(to - from) * 0.04,
                    "{name} {from}..{to}: {t}"
                );
            }
            // MP2 frames of 1152 samples at 44.1 kHz.
            let sound = f64::from(to - from) * 0.04 * 44_100.0 / 1152.0;
            assert!(
                name == "a.h264" || (part.packets.len() as f64 - sound).abs() <= 2.0,
                "{name} {from}..{to}: {} of {sound}",
                part.packets.len()
            );
        }
    }
    let film = media.path("a.mp4");
    let options = |start, duration| InputOptions {
        start,
        duration,
        ..InputOptions::default()
    };
    let late = refusal(&film, &options(Some(9.0), None)).to_string();
    assert!(late.contains("the film is 4."), "{late}");
    assert_eq!(refusal(&film, &options(Some(-1.0), None)).exit_code(), 2);
    assert_eq!(refusal(&film, &options(None, Some(0.0))).exit_code(), 2);
    assert_eq!(
        refusal(&film, &options(None, Some(f64::NAN))).exit_code(),
        2
    );
}

#[test]
fn odd_files_end_in_frames_or_a_sentence() {
    let Some(folder) = shared("odd") else { return };
    let refused = [
        ("exo_subsample_encrypted_altref.webm", "encrypted"),
        ("nasa_13013.mp4.audio.mp3", "only sound"),
        ("sine_mono_mp3.swf", "only sound"),
        ("sps_subsetsps_bothVUI.264", "not a media file"),
    ];
    for entry in fs::read_dir(folder).expect("list") {
        let path = entry.expect("entry").path();
        let name = path
            .file_name()
            .expect("name")
            .to_string_lossy()
            .into_owned();
        let (sender, receiver) = mpsc::channel();
        let file = path.clone();
        std::thread::spawn(move || {
            let result = open_with(&file, &InputOptions::default()).and_then(drain);
            sender
                .send(result.map(|all| all.frames.len()))
                .expect("send");
        });
        let result = receiver
            .recv_timeout(Duration::from_secs(60))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        match refused.iter().find(|(n, _)| *n == name) {
            Some((_, why)) => {
                let e = result.expect_err(&name);
                assert!(e.to_string().contains(why), "{e}");
                assert_eq!(e.exit_code(), 3);
            }
            None => assert_eq!(result.expect(&name), counted(&path), "{name}"),
        }
    }
}

#[test]
fn a_truncated_film_is_used_up_to_its_end() {
    let media = Drawn::new();
    for (args, name) in [("-movflags faststart", "cut.mp4"), ("", "cut.mkv")] {
        let film = media.draw(
            &format!("{PICTURE} {SOUND} -c:v libx264 -g 10 -c:a aac {args}"),
            name,
        );
        let bytes = fs::read(&film).expect("read");
        fs::write(&film, &bytes[..bytes.len() / 2]).expect("write");
        let all = read(&film);
        assert!(
            (20..80).contains(&all.frames.len()),
            "{name}: {}",
            all.frames.len()
        );
        assert!(all.report.truncated, "{name}: {:?}", all.report);
        assert!(
            all.warnings.iter().any(|w| w.contains("cut short")),
            "{:?}",
            all.warnings
        );
    }
    let film = media.draw(&format!("{PICTURE} -c:v libx264"), "noend.mp4");
    let bytes = fs::read(&film).expect("read");
    fs::write(&film, &bytes[..bytes.len() / 2]).expect("write");
    let why = refusal(&film, &InputOptions::default()).to_string();
    assert!(why.contains("damaged"), "{why}");
}

#[test]
fn corrupt_packets_are_counted_and_passed_over() {
    let media = Drawn::new();
    for (codec, name) in [
        ("libx264 -g 20", "bad.mp4"),
        ("mpeg2video", "bad.ts"),
        ("ffv1 -level 3 -slicecrc 1", "bad.mkv"),
    ] {
        let film = media.draw(&format!("{PICTURE} {SOUND} -c:v {codec} -c:a mp2"), name);
        let mut bytes = fs::read(&film).expect("read");
        let middle = bytes.len() / 2;
        for (i, byte) in bytes[middle..middle + 20_000].iter_mut().enumerate() {
            *byte ^= if i % 7 == 0 { 0x5a } else { 0 };
        }
        fs::write(&film, bytes).expect("write");
        let all = read(&film);
        assert!(
            all.report.corrupt_packets + all.report.damaged_frames > 0,
            "{name}: {:?}",
            all.report
        );
        let said = all
            .warnings
            .iter()
            .filter(|w| w.contains("damaged data"))
            .count();
        assert_eq!(said, 1, "{name}: {:?}", all.warnings);
        let decoded = counted(&film);
        assert!(
            all.frames.len() >= decoded && decoded > 60,
            "{name}: {} of {decoded}",
            all.frames.len()
        );
    }
}

#[test]
fn a_jump_and_a_new_size_in_the_middle_are_smoothed() {
    let media = Drawn::new();
    let tail = "-c:v mpeg2video -c:a mp2 -shortest";
    let first = media.draw(&format!("{PICTURE} {SOUND} {tail}"), "1.ts");
    let larger = "-f lavfi -i testsrc2=s=320x180:r=25:d=2 -f lavfi -i sine=d=2:r=48000";
    let second = media.draw(&format!("{larger} {tail} -output_ts_offset 3600"), "2.ts");
    let mut bytes = fs::read(first).expect("read");
    bytes.extend(fs::read(second).expect("read"));
    let film = media.path("both.ts");
    fs::write(&film, bytes).expect("write");
    let all = read(&film);
    assert_eq!(all.frames.len(), counted(&film));
    assert!(all.frames.len() >= 148, "{}", all.frames.len());
    assert!(all.sizes.iter().all(|&s| s == (160, 120)), "one size");
    assert_eq!(
        (all.report.size_changes, all.report.discontinuities),
        (1, 1),
        "{:?}",
        all.report
    );
    let gaps: Vec<i64> = all.frames.windows(2).map(|w| w[1].0 - w[0].0).collect();
    assert!(
        gaps.iter().all(|&g| (3600..10_000).contains(&g)),
        "{gaps:?}"
    );
    let sound = all
        .packets
        .last()
        .and_then(|p| p.packet.pts())
        .expect("sound");
    assert!((5 * 90_000..7 * 90_000).contains(&sound), "{sound}");
    // The jump, the size, and the packet that the cut runs through.
    assert_eq!(all.warnings.len(), 3, "{:?}", all.warnings);
}

#[test]
fn colour_tags_that_name_nothing_are_unspecified() {
    let media = Drawn::new();
    // MPEG-2's decoder hands 8 bits on as they are; as an enum they crashed the program.
    let tags = "colour_primaries=200:transfer_characteristics=201:matrix_coefficients=202";
    let args = format!("{PICTURE} -c:v mpeg2video -bsf:v mpeg2_metadata={tags}");
    let film = media.draw(&args, "tags.ts");
    let source = open(&film);
    assert_eq!(
        source.streams(),
        ["0 video mpeg2video 160x120 yuv420p tv 25 fps"]
    );
    let first = source.first_frame().expect("a frame");
    assert_eq!(first.0.color_space(), ffmpeg::color::Space::Unspecified);
    assert_eq!(
        first.0.color_primaries(),
        ffmpeg::color::Primaries::Unspecified
    );
    assert_eq!(drain(source).expect("read").frames.len(), 100);
}

#[test]
fn stills_and_sequences_are_films() {
    let media = Drawn::new();
    let still = media.draw("-f lavfi -i testsrc2=s=64x48 -frames:v 1", "still.png");
    let photo = media.draw("-f lavfi -i testsrc2=s=64x48 -frames:v 1", "photo.jpg");
    for path in [still, photo] {
        assert_eq!(read(&path).frames, [(0, 1)]);
    }
    media.draw(
        "-f lavfi -i testsrc2=s=64x48:r=24:d=1 -start_number 10",
        "f%04d.png",
    );
    let sequence = media.path("f%04d.png");
    let missing = refusal(&sequence, &InputOptions::default()).to_string();
    assert!(missing.contains("start_number"), "{missing}");
    let option = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    let options = InputOptions {
        options: vec![option("start_number", "10"), option("framerate", "24")],
        ..InputOptions::default()
    };
    let source = open_with(&sequence, &options).expect("open");
    assert_eq!(source.info().video.frame_rate, Some((24, 1)));
    assert_eq!(drain(source).expect("read").frames.len(), 24);
}

#[test]
fn refusals_say_what_and_what_to_try() {
    let media = Drawn::new();
    let file = |name: &str, bytes: &[u8]| {
        let path = media.path(name);
        fs::write(&path, bytes).expect("write");
        path
    };
    let film = media.draw(&format!("{PICTURE} -c:v libx264"), "film.mp4");
    let cover = media.draw("-f lavfi -i testsrc2=s=64x48 -frames:v 1", "cover.png");
    let song = media.draw(
        &format!(
            "{SOUND} -i {} -map 0 -map 1 -c:v copy -disposition:v attached_pic",
            cover.display()
        ),
        "song.mp3",
    );
    let cenc = "-encryption_scheme cenc-aes-ctr -encryption_key 76a6c65c5ea762046bd749a2e632ccbb -encryption_kid a7e61c373e219033c21091fa607bf3b8";
    let locked = media.draw(&format!("{PICTURE} -c:v libx264 {cenc}"), "locked.mp4");
    let key = (
        "decryption_key".to_owned(),
        "76a6c65c5ea762046bd749a2e632ccbb".to_owned(),
    );
    let plain = InputOptions::default();
    let format = InputOptions {
        format: Some("nonesuch".into()),
        ..InputOptions::default()
    };
    let option = InputOptions {
        options: vec![("colour".into(), "1".into())],
        ..InputOptions::default()
    };
    let text = b"It was a bright cold day in April.\n".repeat(40);
    let cases = [
        (media.path("missing.mp4"), &plain, 3, "no such file"),
        (media.path("missing%03d.png"), &plain, 3, "start_number"),
        (file("empty.mp4", b""), &plain, 3, "empty (0 bytes)"),
        (media.path("."), &plain, 3, "folder"),
        (file("note.txt", &text), &plain, 3, "not a media file"),
        (file("note.mp4", &text), &plain, 3, "not a media file"),
        (song, &plain, 3, "cover art"),
        (locked.clone(), &plain, 3, "encrypted"),
        ("nonesuch://host/film".into(), &plain, 3, "kind of address"),
        (film.clone(), &format, 2, "--input-format nonesuch"),
        (film, &option, 2, "--input-option colour"),
    ];
    for (path, options, code, words) in cases {
        let e = refusal(&path, options);
        assert!(e.to_string().contains(words), "{}: {e}", path.display());
        assert_eq!(e.exit_code(), code, "{e}");
    }
    let open = InputOptions {
        options: vec![key],
        ..InputOptions::default()
    };
    assert_eq!(
        drain(open_with(&locked, &open).expect("open"))
            .expect("read")
            .frames
            .len(),
        100
    );
}

#[cfg(unix)]
#[test]
fn unreadable_names_and_files_are_refused() {
    use std::os::unix::{ffi::OsStrExt, fs::PermissionsExt};
    let name = OsStr::from_bytes(b"film\xff.mp4");
    let e = refusal(Path::new(name), &InputOptions::default());
    assert!(e.to_string().contains("UTF-8"), "{e}");
    let media = Drawn::new();
    let path = media.path("closed.mp4");
    fs::write(&path, b"x").expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("close");
    if fs::File::open(&path).is_ok() {
        eprintln!("skipped: this user may read everything");
        return;
    }
    let e = refusal(&path, &InputOptions::default());
    assert!(e.to_string().contains("permission"), "{e}");
}

#[test]
fn a_colon_in_a_files_name_is_no_protocol() {
    let media = Drawn::new();
    let plain = media.draw(&format!("{PICTURE} -c:v libx264"), "a.mp4");
    let path = media.path("act 1: the sea.mp4");
    fs::rename(plain, &path).expect("rename");
    assert_eq!(read(&path).frames.len(), 100);
}

/// Reads standard input where a test below has started it for that, and stops after a second.
#[test]
fn child_that_reads_standard_input() {
    if std::env::var_os("AUTOCHROME_TEST_STDIN").is_none() {
        return;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let options = InputOptions {
        interrupt: Some(stop.clone()),
        ..InputOptions::default()
    };
    let read = std::thread::spawn(move || open_with(Path::new("-"), &options).and_then(drain));
    for _ in 0..400 {
        std::thread::sleep(Duration::from_millis(50));
        if read.is_finished() {
            break;
        }
        stop.store(
            std::env::var_os("AUTOCHROME_TEST_STOP").is_some(),
            Ordering::Relaxed,
        );
    }
    println!(
        "READ {:?}",
        read.join().expect("join").map(|all| all.frames.len())
    );
}

fn child() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    let name = "media::input::tests::child_that_reads_standard_input";
    command.args(["--exact", "--nocapture", name]);
    command.env("AUTOCHROME_TEST_STDIN", "1");
    command
}

#[test]
fn standard_input_is_read() {
    let media = Drawn::new();
    let tail = "-c:v libx264 -c:a aac";
    // MP4 with its index at the end needs a file that can be sought in; Matroska comes through a pipe.
    let file = media.draw(&format!("{PICTURE} {SOUND} {tail}"), "film.mp4");
    let piped = media.draw(&format!("{PICTURE} {SOUND} {tail}"), "film.mkv");
    let mut cat = Command::new("cat")
        .arg(piped)
        .stdout(Stdio::piped())
        .spawn()
        .expect("cat");
    let pipe = cat.stdout.take().expect("pipe");
    let file = fs::File::open(file).expect("open");
    for stdin in [Stdio::from(file), Stdio::from(pipe)] {
        let output = child().stdin(stdin).output().expect("run");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("READ Ok(100)"), "{text}");
    }
    cat.wait().expect("cat ends");
}

#[test]
fn a_stalled_pipe_can_be_interrupted() {
    let mut child = child();
    child
        .env("AUTOCHROME_TEST_STOP", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = child.spawn().expect("run");
    // Its standard input stays open and silent until the child has ended.
    let open = child.stdin.take();
    let output = child.wait_with_output().expect("wait");
    drop(open);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("READ Err(Stopped)"), "{text}");
}

#[test]
fn a_stalled_read_can_be_interrupted() {
    // A server that accepts and never answers.
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = format!("http://{}/film.mp4", server.local_addr().expect("address"));
    let stop = Arc::new(AtomicBool::new(false));
    let options = InputOptions {
        interrupt: Some(stop.clone()),
        ..InputOptions::default()
    };
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let opened = Source::open(OsStr::new(&address), &options);
        sender.send(opened.err()).expect("send");
    });
    assert!(
        receiver.recv_timeout(Duration::from_millis(300)).is_err(),
        "it waits"
    );
    stop.store(true, Ordering::Relaxed);
    let result = receiver
        .recv_timeout(Duration::from_secs(5))
        .expect("it ends");
    assert!(matches!(result, Some(Error::Stopped)), "{result:?}");
}

#[test]
fn rotation_and_aspect_are_known() {
    let media = Drawn::new();
    let wide = media.draw(
        &format!("{PICTURE} -c:v libx264 -vf setsar=2/1"),
        "wide.mp4",
    );
    let info = open(&wide).info().video.clone();
    assert_eq!(
        (info.width, info.height, info.display, info.rotation),
        (160, 120, (320, 120), 0)
    );
    let args = format!("-display_rotation -90 -i {} -c copy", wide.display());
    let turned = media.path("turned.mp4");
    // FFmpeg 5.1 has no -display_rotation (counter-clockwise); it takes the old tag instead, the same way round.
    let old = format!("-i {} -c copy -metadata:s:v:0 rotate=270", wide.display());
    for args in [args, old] {
        let mut words: Vec<&str> = args.split(' ').collect();
        words.push(turned.to_str().expect("UTF-8"));
        run("ffmpeg", &words);
        if turned.exists() && open(&turned).info().video.rotation != 0 {
            break;
        }
    }
    let info = open(&turned).info().video.clone();
    assert_eq!((info.display, info.rotation), ((120, 320), 90));
}

#[test]
fn streams_are_described() {
    let media = Drawn::new();
    let args = format!(
        "{PICTURE} {SOUND} -c:v libx264 -colorspace bt709 -color_range tv -c:a aac -ac 2 -metadata:s:a:0 language=eng"
    );
    let film = media.draw(&args, "film.mkv");
    assert_eq!(
        open(&film).streams(),
        [
            "0 video h264 160x120 yuv420p bt709 tv 25 fps",
            "1 audio aac 48000 Hz stereo eng"
        ]
    );
}
