use super::*;
use crate::{frame::Item, media::Source};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

const REACH: (usize, usize) = (7, 5);

fn draw(folder: &Path, name: &str, args: &str) -> PathBuf {
    let path = folder.join(name);
    let source = "-v error -y -nostdin -f lavfi -i testsrc2=s=160x120:r=25:d=10";
    let status = Command::new("ffmpeg")
        .args(source.split_whitespace())
        .args(args.split_whitespace())
        .arg(&path)
        .status();
    assert!(status.unwrap().success(), "{name}");
    path
}

/// Time, length and a hash of the luma of every frame.
fn frames(mut source: Source) -> Vec<(i64, i64, u64)> {
    let mut frames = Vec::new();
    while let Some(item) = source.next().unwrap() {
        let Item::Frame(frame) = item else {
            panic!("a packet");
        };
        let picture = &frame.picture.0;
        let mut hasher = DefaultHasher::new();
        let rows = picture.data(0).chunks(picture.stride(0));
        for row in rows.take(picture.height() as usize) {
            row[..picture.width() as usize].hash(&mut hasher);
        }
        frames.push((frame.pts, frame.duration, hasher.finish()));
    }
    assert_eq!(source.report().corrupt_packets, 0);
    frames
}

/// Every kind of film that is taken apart gives the same frames in parts as in one go; and which are taken apart.
#[test]
fn parts_are_what_they_are_in_the_whole_film() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = [
        ("closed.mp4", "-c:v libx264 -g 25 -bf 3", true),
        (
            "open.mkv",
            "-c:v libx264 -x264-params open-gop=1:keyint=25:scenecut=0:bframes=3:ref=4",
            true,
        ),
        (
            "refresh.mkv",
            "-c:v libx264 -x264-params intra-refresh=1:keyint=25:ref=1",
            true,
        ),
        ("mpeg2.ts", "-c:v mpeg2video -g 12 -bf 2 -q:v 4", true),
        (
            "hevc.mp4",
            "-c:v libx265 -x265-params log-level=none:keyint=25:open-gop=1",
            true,
        ),
        (
            "uneven.mkv",
            "-vf select='not(eq(mod(n,7),3))' -vsync vfr -c:v libx264 -g 20",
            true,
        ),
        (
            "vp9.webm",
            "-c:v libvpx-vp9 -g 25 -cpu-used 8 -deadline realtime",
            true,
        ),
        ("stills.avi", "-c:v mjpeg -q:v 5", true),
        ("one.mp4", "-c:v libx264 -g 1000", false),
        ("raw.h264", "-c:v libx264 -g 25", false),
        // Only some of its pictures have times.
        ("mpeg2.mpg", "-c:v mpeg2video -g 12 -bf 2 -q:v 4", false),
    ];
    for (name, args, apart) in kinds {
        let path = draw(folder.path(), name, args);
        let open = || Source::open(path.as_os_str(), &InputOptions::default()).unwrap();
        let whole = frames(open());
        let mut scan =
            Scan::of(path.as_os_str(), &InputOptions::default(), &mut |_| Ok(())).unwrap();
        let segments = scan.segments(2., REACH).unwrap();
        println!(
            "{name}: {} segments, {:?}, {:?}",
            segments.len(),
            scan.refusal(),
            scan.tried
        );
        assert_eq!(segments.len() > 2, apart, "{name}: {:?}", scan.refusal());
        if !apart {
            continue;
        }
        let kept: u64 = segments.iter().map(|s| s.frames).sum();
        assert_eq!(kept, whole.len() as u64, "{name}");
        let mut begun = 0;
        for segment in &segments {
            let film = open();
            let part = Source::part(&film, &InputOptions::default(), segment.part).unwrap();
            let got = frames(part);
            let first = whole.iter().position(|f| f.0 == got[0].0).unwrap();
            assert_eq!(got, whole[first..first + got.len()], "{name}: {segment:?}");
            let own = begun..begun + segment.frames as usize;
            begun = own.end;
            assert_eq!(whole[own.start].0, segment.from, "{name}");
            assert_eq!(whole.get(own.end).map(|f| f.0), segment.to, "{name}");
            assert_eq!(first, own.start.saturating_sub(REACH.0), "{name}");
            assert_eq!(
                first + got.len(),
                (own.end + REACH.1).min(whole.len()),
                "{name}"
            );
        }
    }
}

#[test]
fn a_short_film_is_one_segment() {
    let folder = tempfile::tempdir().unwrap();
    let path = draw(folder.path(), "film.mp4", "-c:v libx264 -g 25");
    let mut scan = Scan::of(path.as_os_str(), &InputOptions::default(), &mut |_| Ok(())).unwrap();
    let segments = scan.segments(120., REACH).unwrap();
    let all = Segment {
        part: Part {
            enter: None,
            from: 0,
            to: None,
        },
        from: 0,
        to: None,
        frames: 250,
    };
    assert_eq!(segments, [all]);
}
