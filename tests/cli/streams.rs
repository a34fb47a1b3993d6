//! Point 4: everything that is not the main video is kept, and what cannot be kept is said before the first frame.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::common::*;

const METADATA: &str = ";FFMETADATA1\ntitle=A film\nartist=Somebody\ndate=1924\n\
    [CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=700\ntitle=One\n\
    [CHAPTER]\nTIMEBASE=1/1000\nSTART=700\nEND=2000\ntitle=Two\n";

const LINES: &str = "1\n00:00:00,200 --> 00:00:00,900\nGood day!\n\n2\n00:00:01,100 --> 00:00:01,800\nÄnd gööd night.\n\n";

/// Files that the films below are made of.
fn ingredients(lab: &Lab) {
    fs::write(lab.path("meta.txt"), METADATA).expect("metadata");
    fs::write(lab.path("lines.srt"), LINES).expect("subtitles");
    fs::write(lab.path("notes.txt"), "Restored by nobody.\n").expect("an attachment");
    lab.film(
        "cover.png",
        "-f lavfi -i testsrc2=s=64x64:d=0.04 -frames:v 1",
    );
}

const TRACKS: &str = "-f lavfi -i testsrc2=s=160x120:r=25:d=2 -f lavfi -i sine=440:r=48000:d=2 \
    -f lavfi -i sine=880:r=48000:d=2 -i lines.srt -i meta.txt";

/// A Matroska film with one of everything.
fn rich_mkv(lab: &Lab) -> PathBuf {
    ingredients(lab);
    let maps = "-map_metadata 4 -map_chapters 4 -map 0:v -map 1:a -map 2:a -map 3 -map 3";
    let codecs = "-c:v libx264 -pix_fmt yuv420p -c:a:0 aac -c:a:1 flac -c:s:0 srt -c:s:1 ass";
    let names = "-metadata:s:a:0 language=eng -metadata:s:a:0 title=Piano -metadata:s:a:1 language=fra \
        -metadata:s:s:0 language=eng -metadata:s:s:1 language=ger -metadata:s:v language=und";
    let roles = "-disposition:a:0 default -disposition:a:1 comment -disposition:s:0 forced \
        -disposition:s:1 hearing_impaired";
    let files = "-attach notes.txt -metadata:s:t:0 mimetype=text/plain -attach cover.png -metadata:s:t:1 mimetype=image/png \
        -metadata:s:t:1 filename=cover.png";
    lab.film(
        "rich.mkv",
        &format!("{TRACKS} {maps} {codecs} {names} {roles} {files}"),
    )
}

/// An MP4 film with one of everything.
fn rich_mp4(lab: &Lab) -> PathBuf {
    ingredients(lab);
    let maps =
        "-i cover.png -map_metadata 4 -map_chapters 4 -map 0:v -map 1:a -map 2:a -map 3 -map 5:v";
    let codecs = "-c:v:0 libx264 -pix_fmt yuv420p -c:v:1 png -c:a:0 aac -c:a:1 mp2 -c:s mov_text";
    let names =
        "-metadata:s:a:0 language=eng -metadata:s:a:1 language=fra -metadata:s:s:0 language=ger";
    let roles = "-disposition:a:0 default -disposition:a:1 0 -disposition:v:1 attached_pic";
    lab.film(
        "rich.mp4",
        &format!("{TRACKS} {maps} {codecs} {names} {roles}"),
    )
}

/// What must be the same of each stream, apart from the codec.
fn kept(stream: &Value) -> Value {
    let roles = stream["disposition"]
        .as_object()
        .map(|d| d.iter().filter(|(_, on)| **on == 1).map(|(k, _)| k.clone()));
    serde_json::json!({
        "language": stream["tags"]["language"], "title": stream["tags"]["title"],
        "roles": roles.map(|r| r.collect::<Vec<_>>()),
    })
}

fn chapters(probed: &Value) -> Vec<String> {
    let all = probed["chapters"].as_array().cloned().unwrap_or_default();
    all.iter()
        .map(|c| {
            format!(
                "{} {} {}",
                c["start_time"], c["end_time"], c["tags"]["title"]
            )
        })
        .collect()
}

#[test]
fn a_rich_matroska_film_keeps_everything() {
    let lab = Lab::new();
    let source = rich_mkv(&lab);
    let output = lab.path("out.mkv");
    gray(&source, &output, "").ok();
    let (before, after) = (probe(&source), probe(&output));
    for kind in ["video", "audio", "subtitle", "attachment"] {
        let kinds = |p: &Value| streams(p, kind).iter().map(kept).collect::<Vec<_>>();
        assert_eq!(kinds(&before), kinds(&after), "{kind}");
    }
    assert_eq!(chapters(&before), chapters(&after));
    assert_eq!(chapters(&after).len(), 2);
    for tag in ["title", "ARTIST", "DATE"] {
        assert_eq!(
            before["format"]["tags"][tag], after["format"]["tags"][tag],
            "{tag}"
        );
    }
    for map in ["0:a", "0:s"] {
        assert_eq!(packets(&source, map), packets(&output, map), "{map}");
    }
    let extract = |film: &PathBuf, name: &str| {
        let film = film.to_string_lossy();
        let copy = lab.path(name).to_string_lossy().into_owned();
        let args = [
            "-v",
            "error",
            "-y",
            "-dump_attachment:t:0",
            &copy,
            "-i",
            &film,
        ];
        // With nothing to write ffmpeg ends with an error; the attachment is there all the same.
        let _ = std::process::Command::new("ffmpeg").args(args).status();
        fs::read(lab.path(name)).expect("the attachment")
    };
    assert_eq!(
        extract(&source, "before.txt"),
        extract(&output, "after.txt")
    );
    let cover = |p: &Value| {
        p["streams"]
            .as_array()
            .map(|s| s.iter().filter(|s| s["codec_name"] == "png").count())
    };
    assert_eq!(cover(&before), cover(&after), "cover art");
}

#[test]
fn a_rich_mp4_film_keeps_everything() {
    let lab = Lab::new();
    let source = rich_mp4(&lab);
    for name in ["out.mp4", "out.mov", "out.mkv"] {
        let output = lab.path(name);
        gray(&source, &output, "").ok();
        let (before, after) = (probe(&source), probe(&output));
        assert_eq!(
            streams(&before, "audio")
                .iter()
                .map(kept)
                .collect::<Vec<_>>(),
            streams(&after, "audio")
                .iter()
                .map(kept)
                .collect::<Vec<_>>(),
            "{name}"
        );
        let languages = |p: &Value| {
            streams(p, "subtitle")
                .iter()
                .map(|s| s["tags"]["language"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(languages(&before), languages(&after), "{name}");
        assert_eq!(chapters(&before), chapters(&after), "{name}");
        assert_eq!(
            packets(&source, "0:a"),
            packets(&output, "0:a"),
            "{name}: sound"
        );
        let has_cover = after["streams"]
            .as_array()
            .is_some_and(|s| s.iter().any(|s| s["codec_name"] == "png"));
        assert!(has_cover || name == "out.mov", "{name}: no cover art");
        let tags = after["format"]["tags"].to_string().to_lowercase();
        assert!(
            tags.contains("a film") && tags.contains("somebody"),
            "{name}: {tags}"
        );
    }
}

/// MPEG-TS repackages (ADTS, Annex B): the decoded samples are equal.
#[test]
fn repackaged_sound_decodes_to_the_same_samples() {
    let lab = Lab::new();
    let make = "-f lavfi -i testsrc2=s=160x120:r=25:d=2 -f lavfi -i sine=r=48000:d=2 -c:v libx264 -pix_fmt yuv420p -c:a aac";
    let ts = lab.film("source.ts", make);
    let mp4 = lab.film("source.mp4", make);
    for (source, name) in [(&ts, "out.mp4"), (&ts, "out.ts"), (&mp4, "out.ts")] {
        let output = lab.path(name);
        gray(source, &output, "--force").ok();
        let frames =
            |path: &std::path::Path| frame_md5(&["-i", &path.to_string_lossy()], &["-map", "0:a"]);
        let (before, after) = (frames(source), frames(&output));
        // Containers without skip-samples play the encoder's priming: compare what both have.
        let extra = before.len().abs_diff(after.len());
        assert!(
            extra <= 2,
            "{name}: {} blocks became {}",
            before.len(),
            after.len()
        );
        let least = before.len().min(after.len()) - 2;
        assert_eq!(
            before[before.len() - least..before.len() - 1],
            after[after.len() - least..after.len() - 1],
            "{name}"
        );
    }
}

/// Subtitles that only need another text codec are converted.
#[test]
fn text_subtitles_are_converted() {
    let lab = Lab::new();
    rich_mkv(&lab);
    let mkv = lab.film(
        "srt.mkv",
        "-i rich.mkv -map 0:v -map 0:a:0 -map 0:s:0 -c copy",
    );
    let mp4 = rich_mp4(&lab);
    for (source, name, codec) in [
        (&mkv, "a.mp4", "mov_text"),
        (&mp4, "b.mkv", "subrip"),
        (&mkv, "c.mkv", "subrip"),
    ] {
        let output = lab.path(name);
        gray(source, &output, "--drop-unsupported").ok();
        let found = streams(&probe(&output), "subtitle")[0]["codec_name"].clone();
        assert_eq!(found, codec, "{name}");
        assert_eq!(texts(source), texts(&output), "{name}");
        for (before, after) in line_times(source).iter().zip(line_times(&output)) {
            assert!(
                (before - after).abs() < 0.0011,
                "{name}: {before} s became {after} s"
            );
        }
    }
}

/// What the first subtitle track says.
fn texts(path: &Path) -> Vec<String> {
    let output = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:s:0", "-f", "srt", "-"])
        .output()
        .expect("ffmpeg");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter(|l| l.contains(char::is_alphabetic));
    lines.map(str::to_string).collect()
}

/// When its lines come, in seconds after the first picture.
fn line_times(path: &Path) -> Vec<f64> {
    let output = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "s:0", "-of", "csv=p=0"])
        .args(["-show_entries", "packet=pts_time,size"])
        .arg(path)
        .output()
        .expect("ffprobe");
    let first = times(path)[0];
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let packets = text.lines().filter_map(|l| l.split_once(','));
    // In MP4 a packet of two bytes is the silence between two lines.
    let lines = packets.filter(|(_, size)| *size != "2");
    lines
        .filter_map(|(time, _)| time.parse::<f64>().ok())
        .map(|t| t - first)
        .collect()
}

/// A stream that the container cannot hold is an error that names one that holds it; --drop-unsupported goes on.
#[test]
fn a_container_that_cannot_hold_a_stream_is_refused_in_time() {
    let lab = Lab::new();
    let source = rich_mkv(&lab);
    for name in ["out.webm", "out.mp4"] {
        let output = lab.path(name);
        gray(&source, &output, "").fails(4, &["mkv", "--drop-unsupported"]);
        assert!(!output.exists() && lab.leftovers().is_empty(), "{name}");
        gray(&source, &output, "--drop-unsupported").ok();
        assert_eq!(times(&output).len(), 50, "{name}");
    }
}

#[test]
fn timecode_is_kept() {
    let lab = Lab::new();
    let make = "-f lavfi -i testsrc2=s=160x120:r=25:d=1 -c:v libx264 -pix_fmt yuv420p -timecode 10:11:12:13";
    let source = lab.film("source.mov", make);
    for name in ["out.mov", "out.mp4", "out.mkv"] {
        let output = lab.path(name);
        gray(&source, &output, "").ok();
        assert!(probe(&output).to_string().contains("10:11:12:13"), "{name}");
    }
}

/// The output says that its colours are machine-made: program, version, model, settings.
#[test]
fn colours_are_marked_as_made_by_a_machine() {
    let lab = Lab::new();
    let source = lab.clip("source.mp4", 0.2, "-pix_fmt yuv420p -metadata comment=mine");
    for name in ["out.mp4", "out.mkv", "out.mov", "out.webm"] {
        let output = lab.path(name);
        colorize(&source, &output, "--model constant").ok();
        let tags = probe(&output)["format"]["tags"].to_string();
        for word in [
            "machine-made",
            "autochrome",
            env!("CARGO_PKG_VERSION"),
            "constant",
        ] {
            assert!(tags.contains(word), "{name}: no {word} in {tags}");
        }
    }
}

/// The sample has chapters, sound and subtitles: all arrive.
#[test]
fn the_sample_keeps_its_streams() {
    let lab = Lab::new();
    let output = lab.path("village.mp4");
    gray(SAMPLE.as_ref(), &output, "--preset veryfast").ok();
    let (before, after) = (probe(SAMPLE.as_ref()), probe(&output));
    assert_eq!(chapters(&before), chapters(&after));
    assert_eq!(chapters(&after).len(), 3);
    assert_eq!(packets(SAMPLE.as_ref(), "0:a"), packets(&output, "0:a"));
    assert_eq!(packets(SAMPLE.as_ref(), "0:s"), packets(&output, "0:s"));
    assert_eq!(times(SAMPLE.as_ref()), times(&output));
}
