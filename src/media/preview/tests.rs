use super::*;
use crate::{
    frame::AbMap,
    media::{Layout, Merger, Picture, drawn::*},
};
use ffmpeg_next::format::Pixel;

fn merged(index: u64, level: u16) -> Merged {
    let source = Picture(frame_of(Pixel::GRAY8, 96, 48, &[level; 96 * 48]));
    let layout = Layout::for_pixel(Pixel::YUV420P, &source.sampling()).unwrap();
    let mut merger = Merger::new(&info_of(&source.0), &layout).unwrap();
    let picture = merger.merge(&source, &AbMap::constant(20.0, 30.0)).unwrap();
    Merged {
        index,
        pts: index as i64,
        duration: 1,
        arrived: std::time::Instant::now(),
        picture,
    }
}

fn film(rotation: u16) -> VideoInfo {
    let frame = noise_frame(Pixel::GRAY8, 96, 48);
    // Pixels twice as high as wide: upright it is square.
    let display = (96, 96);
    VideoInfo {
        rotation,
        display,
        ..info_of(&frame)
    }
}

#[test]
fn a_sheet_shows_frames_from_the_whole_film() {
    let folder = tempfile::tempdir().unwrap();
    for (frames, pairs) in [(1, 1), (3, 3), (8, 8), (40, 8), (100, 8)] {
        for total in [None, Some(frames), Some(10 * frames)] {
            let path = folder.path().join("sheet.png");
            let mut sink = Box::new(PreviewSink::create(&path, &film(90), total, true).unwrap());
            for i in 0..frames {
                sink.frame(&merged(i, 60 + i as u16)).unwrap();
                assert!(sink.held.len() <= sink.most());
            }
            let written = sink.finish().unwrap();
            assert_eq!(written.frames, frames);
            let sheet = image::open(&path).unwrap().into_rgb8();
            if total != Some(10 * frames) {
                let (columns, rows) = if pairs > 4 {
                    (2, pairs / 2)
                } else {
                    (1, pairs)
                };
                assert_eq!(
                    sheet.dimensions(),
                    (columns * 208 + 8, rows * 104 + 8),
                    "{frames} {total:?}"
                );
            }
            // The left of a pair is grey, the right has colour; both as light.
            let (grey, colour) = (sheet.get_pixel(50, 50).0, sheet.get_pixel(154, 50).0);
            assert!(
                grey[0] == grey[1] && grey[1] == grey[2] && grey[0] >= 60,
                "{grey:?}"
            );
            assert!(colour[0] > colour[2] + 20, "{colour:?}");
        }
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "only the sheet");
}

#[test]
fn colour_is_turned_upright_as_grey_is() {
    // Light on the coded picture's left; a quarter turn puts it on top.
    let luma: Vec<u16> = (0..96 * 48)
        .map(|i| if i % 96 < 48 { 220 } else { 40 })
        .collect();
    let source = Picture(frame_of(Pixel::YUV420P, 96, 48, &luma));
    let layout = Layout::for_pixel(Pixel::YUV420P, &source.sampling()).unwrap();
    let mut merger = Merger::new(&info_of(&source.0), &layout).unwrap();
    let picture = merger.merge(&source, &AbMap::constant(0.0, 0.0)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut sink =
        PreviewSink::create(&folder.path().join("a.png"), &film(90), None, false).unwrap();
    let pair = sink
        .pair(&Merged {
            index: 0,
            pts: 0,
            duration: 1,
            arrived: std::time::Instant::now(),
            picture,
        })
        .unwrap();
    for image in [&pair.grey, &pair.colour] {
        assert_eq!(image.dimensions(), (96, 96));
        assert!(image.get_pixel(48, 10).0[1] > 200 && image.get_pixel(48, 85).0[1] < 50);
    }
    // Both sides show the same grey.
    for at in [(10, 10), (80, 90)] {
        let (grey, colour) = (
            pair.grey.get_pixel(at.0, at.1).0,
            pair.colour.get_pixel(at.0, at.1).0,
        );
        assert!(grey[0].abs_diff(colour[0]) <= 2, "{grey:?} {colour:?}");
    }
}

#[test]
fn nothing_is_left_of_an_unfinished_sheet_and_nothing_is_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sheet.png");
    let mut sink = PreviewSink::create(&path, &film(0), None, false).unwrap();
    sink.frame(&merged(0, 100)).unwrap();
    drop(sink);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    let empty = Box::new(PreviewSink::create(&path, &film(0), None, false).unwrap());
    assert_eq!(empty.finish().unwrap().bytes, None);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    fs::write(&path, "mine").unwrap();
    let refused = PreviewSink::create(&path, &film(0), None, false)
        .map(|_| ())
        .unwrap_err();
    assert!(refused.to_string().contains("--force"), "{refused}");
    let nowhere = folder.path().join("none/sheet.png");
    let refused = PreviewSink::create(&nowhere, &film(0), None, false)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(refused.exit_code(), 4);
}
