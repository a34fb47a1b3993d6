use super::*;
use crate::media::drawn::*;

fn tagged(pixel: Pixel, lines: usize, tag: impl Fn(&mut ffmpeg::frame::Video)) -> Sampling {
    let mut frame = noise_frame(pixel, 16, lines);
    tag(&mut frame);
    sampling_of(&frame)
}

#[test]
fn untagged_sources_get_the_tags_that_are_used() {
    let sampling = |pixel, lines| tagged(pixel, lines, |_| ());
    assert_eq!(sampling(Pixel::YUV420P, 576).matrix, Matrix::BT601);
    assert_eq!(sampling(Pixel::YUV420P, 720).matrix, Matrix::BT709);
    assert_eq!(sampling(Pixel::YUV420P, 576).range, Range::Limited);
    for pixel in [
        Pixel::GRAY8,
        Pixel::GRAY10LE,
        Pixel::YA8,
        Pixel::RGB24,
        Pixel::PAL8,
        Pixel::YUVJ420P,
        Pixel::MonoWhite,
    ] {
        assert_eq!(sampling(pixel, 16).range, Range::Full, "{pixel:?}");
    }
    assert_eq!(sampling(Pixel::YUV420P, 16).chroma_offset, (0.0, 0.5));
    assert_eq!(sampling(Pixel::YUVJ420P, 16).chroma_offset, (0.5, 0.5));
    assert_eq!(sampling(Pixel::YUV411P, 16).chroma_offset, (0.0, 0.0));
    assert_eq!(sampling(Pixel::YUV410P, 16).chroma_offset, (0.0, 1.5));
    let depths = [
        (Pixel::P010LE, 10),
        (Pixel::GRAYF32LE, 16),
        (Pixel::RGB565LE, 8),
        (Pixel::MonoBlack, 8),
        (Pixel::XYZ12LE, 12),
    ];
    for (pixel, depth) in depths {
        assert_eq!(sampling(pixel, 16).depth, depth, "{pixel:?}");
    }
}

#[test]
fn tags_are_honoured_and_what_cannot_be_is_replaced() {
    let grey = tagged(Pixel::GRAY8, 16, |f| f.set_color_range(color::Range::MPEG));
    assert_eq!(grey.range, Range::Limited);
    let spaces = [
        (Space::BT470BG, Matrix::BT601),
        (Space::BT709, Matrix::BT709),
        (Space::BT2020NCL, Matrix::BT2020),
        (Space::BT2020CL, Matrix::BT2020),
        (Space::FCC, Matrix::FCC),
        (Space::SMPTE240M, Matrix::SMPTE240M),
        (Space::YCGCO, Matrix::BT601),
        (Space::RGB, Matrix::BT601),
    ];
    for (space, matrix) in spaces {
        let found = tagged(Pixel::YUV444P, 16, |f| f.set_color_space(space)).matrix;
        assert_eq!(found, matrix, "{space:?}");
    }
    let dv = tagged(Pixel::YUV420P, 16, |f| {
        ffi::set_chroma_location(f, Location::TopLeft)
    });
    assert_eq!(dv.chroma_offset, (0.0, 0.0));
}

#[test]
fn tags_of_a_sampling_are_read_back_as_that_sampling() {
    for pixel in [
        Pixel::YUV420P,
        Pixel::YUV422P,
        Pixel::YUV444P,
        Pixel::YUV411P,
        Pixel::YUV410P,
        Pixel::YUV440P,
    ] {
        for space in [
            Space::BT709,
            Space::SMPTE170M,
            Space::BT2020NCL,
            Space::FCC,
            Space::SMPTE240M,
        ] {
            for place in [
                Location::Left,
                Location::Center,
                Location::TopLeft,
                Location::Top,
                Location::Bottom,
            ] {
                let tag = |f: &mut ffmpeg::frame::Video| {
                    f.set_color_space(space);
                    ffi::set_chroma_location(f, place);
                };
                let sampling = tagged(pixel, 16, tag);
                let written = tagged(pixel, 16, |f| Tags::of(&sampling).write(f));
                assert_eq!(written, sampling, "{pixel:?} {space:?} {place:?}");
            }
        }
    }
}

#[test]
fn rgb_has_the_picture_s_matrix_and_range() {
    // Limited white, black and a red: 601 and 709 make different reds of the same codes.
    let red = |space| {
        let mut frame = noise_frame(Pixel::YUV444P, 16, 16);
        for (plane, code) in [81, 90, 240].into_iter().enumerate() {
            frame.data_mut(plane).fill(code);
        }
        frame.set_color_space(space);
        Picture(frame).to_rgb(4, 4).unwrap()[..3].to_vec()
    };
    // 81, 90, 240 is pure red in BT.601 (ITU-R BT.601, 8-bit colour bars at 100 %).
    assert!(
        red(Space::SMPTE170M)
            .iter()
            .zip([255, 0, 0])
            .all(|(&v, t): (&u8, u8)| v.abs_diff(t) <= 1)
    );
    assert!(red(Space::BT709)[1] > 10 || red(Space::BT709)[0] < 250);
    let grey = frame_of(Pixel::GRAY8, 8, 8, &[200; 64]);
    let rgb = Picture(grey).to_rgb(8, 8).unwrap();
    assert!(
        rgb.iter().all(|v| v.abs_diff(200) <= 1),
        "grey is full range"
    );
}
