use super::*;
use crate::{
    frame::{Matrix, Range},
    media::{drawn::*, layout::natural_pixel},
};
use ffmpeg_next::{color, picture::Type};

/// The layout that a source's pictures get where the encoder takes anything.
fn natural(frame: &Video) -> Layout {
    let sampling = sampling_of(frame);
    Layout::for_pixel(natural_pixel(frame.format(), &sampling), &sampling).unwrap()
}

fn merger(frame: &Video) -> Merger {
    Merger::new(&info_of(frame), &natural(frame)).unwrap()
}

fn some_colour() -> AbMap {
    AbMap {
        width: 2,
        height: 1,
        a: vec![30.0, -20.0],
        b: vec![-10.0, 40.0],
    }
}

fn all_bytes(frame: &Video) -> Vec<Vec<u8>> {
    (0..frame.planes())
        .map(|i| frame.data(i).to_vec())
        .collect()
}

/// Source format, depth, and the format merged into: the list, and one of each further class.
const FORMATS: &[(Pixel, u32, Pixel)] = &[
    (Pixel::YUV420P, 8, Pixel::YUV420P),
    (Pixel::YUV422P10LE, 10, Pixel::YUV422P10LE),
    (Pixel::YUV444P12LE, 12, Pixel::YUV444P12LE),
    (Pixel::YUV410P, 8, Pixel::YUV410P),
    (Pixel::YUV411P, 8, Pixel::YUV411P),
    (Pixel::YUV440P, 8, Pixel::YUV440P),
    (Pixel::YUVA444P10LE, 10, Pixel::YUVA444P10LE),
    (Pixel::GRAY8, 8, Pixel::YUV420P),
    (Pixel::GRAY10LE, 10, Pixel::YUV420P10LE),
    (Pixel::GRAY16BE, 16, Pixel::YUV420P16LE),
    (Pixel::NV12, 8, Pixel::YUV420P),
    (Pixel::P010LE, 10, Pixel::YUV420P10LE),
    (Pixel::YUYV422, 8, Pixel::YUV422P),
    (Pixel::UYVY422, 8, Pixel::YUV422P),
    (Pixel::YUVJ420P, 8, Pixel::YUV420P),
    (Pixel::YUV420P9LE, 9, Pixel::YUV420P9LE),
    (Pixel::YUV420P10BE, 10, Pixel::YUV420P10LE),
    (Pixel::YUV422P14LE, 14, Pixel::YUV422P14LE),
    (Pixel::GRAY10BE, 10, Pixel::YUV420P10LE),
    (Pixel::GRAY12LE, 12, Pixel::YUV420P12LE),
    (Pixel::GRAYF32LE, 16, Pixel::YUV420P16LE),
    (Pixel::YA8, 8, Pixel::YUVA420P),
    (Pixel::YA16BE, 16, Pixel::YUVA420P16LE),
    (Pixel::NV21, 8, Pixel::YUV420P),
    (Pixel::NV16, 8, Pixel::YUV422P),
    (Pixel::NV24, 8, Pixel::YUV444P),
    (Pixel::P016LE, 16, Pixel::YUV420P16LE),
    (Pixel::P210LE, 10, Pixel::YUV422P10LE),
    (Pixel::YVYU422, 8, Pixel::YUV422P),
    (Pixel::Y210LE, 10, Pixel::YUV422P10LE),
    (Pixel::AYUV64LE, 16, Pixel::YUVA444P16LE),
    (Pixel::UYYVYY411, 8, Pixel::YUV411P),
];

#[test]
fn luma_is_the_source_s_bit_for_bit_in_every_format() {
    for &(pixel, depth, merged) in FORMATS {
        for (width, height) in [(641, 361), (64, 48), (1, 1)] {
            let luma = Noise(2).codes(width * height, depth);
            let frame = frame_of(pixel, width, height, &luma);
            assert_eq!(natural(&frame).pixel, merged, "{pixel:?}");
            for ab in [AbMap::constant(0.0, 0.0), some_colour()] {
                let mut merger = merger(&frame);
                let source = Picture(frame_of(pixel, width, height, &luma));
                let before = all_bytes(&source.0);
                let picture = merger.merge(&source, &ab).unwrap();
                assert_eq!(picture.0.format(), merged);
                assert!(luma_of(&picture.0) == luma, "{pixel:?} {width}x{height}");
                assert!(all_bytes(&source.0) == before, "{pixel:?} was written to");
                let again = merger.merge(&source, &ab).unwrap();
                assert!(luma_of(&again.0) == luma);
                assert!(
                    chroma_of(&again) == chroma_of(&picture),
                    "{pixel:?}: merging twice differs"
                );
            }
        }
    }
}

/// Cb and Cr of a planar picture.
fn chroma_of(picture: &Picture) -> [Vec<u16>; 2] {
    let frame = &picture.0;
    [1, 2].map(|i| {
        plane_of(
            frame,
            i,
            frame.plane_width(i) as usize,
            frame.plane_height(i) as usize,
        )
    })
}

#[test]
fn luma_that_fits_is_shared_not_copied() {
    for pixel in [
        Pixel::YUV420P,
        Pixel::NV12,
        Pixel::GRAY16LE,
        Pixel::YUVA444P10LE,
    ] {
        let source = Picture(noise_frame(pixel, 64, 48));
        let picture = merger(&source.0).merge(&source, &some_colour()).unwrap();
        assert_eq!(
            picture.0.data(0).as_ptr(),
            source.0.data(0).as_ptr(),
            "{pixel:?}"
        );
        // The picture holds the memory: it outlives the decoder's frame.
        let luma = luma_of(&source.0);
        drop(source);
        assert_eq!(luma_of(&picture.0), luma);
    }
}

#[test]
fn the_gray_model_s_chroma_is_neutral_and_one_buffer_for_all() {
    for &(pixel, depth, _) in FORMATS {
        let source = Picture(noise_frame(pixel, 33, 17));
        let mut merger = merger(&source.0);
        let [one, two] =
            [(); 2].map(|()| merger.merge(&source, &AbMap::constant(0.0, 0.0)).unwrap());
        for plane in chroma_of(&one) {
            assert!(plane.iter().all(|&v| v == 1 << (depth - 1)), "{pixel:?}");
        }
        assert_eq!(one.0.data(1).as_ptr(), two.0.data(2).as_ptr());
    }
}

#[test]
fn alpha_is_kept() {
    let (width, height) = (35, 21);
    let source = Picture(noise_frame(Pixel::YUVA444P10LE, width, height));
    let picture = merger(&source.0).merge(&source, &some_colour()).unwrap();
    assert_eq!(picture.0.data(3).as_ptr(), source.0.data(3).as_ptr());

    let source = Picture(noise_frame(Pixel::YA8, width, height));
    let picture = merger(&source.0).merge(&source, &some_colour()).unwrap();
    for y in 0..height {
        let row = &source.0.data(0)[y * source.0.stride(0)..][..2 * width];
        let alpha = &picture.0.data(3)[y * picture.0.stride(3)..][..width];
        assert!(row.chunks(2).map(|ya| ya[1]).eq(alpha.iter().copied()));
    }
    // No alpha in the source, one in the layout: opaque.
    let source = Picture(noise_frame(Pixel::YUV420P, width, height));
    let layout = Layout::for_pixel(Pixel::YUVA420P, &source.sampling()).unwrap();
    let mut merger = Merger::new(&info_of(&source.0), &layout).unwrap();
    let picture = merger.merge(&source, &some_colour()).unwrap();
    assert!(
        plane_of(&picture.0, 3, width, height)
            .iter()
            .all(|&v| v == 255)
    );
}

#[test]
fn grey_rgb_keeps_its_exact_value() {
    let (width, height) = (37, 9);
    let grey = |depth| Noise(3).codes(width * height, depth);
    type Pack = fn(u16) -> Vec<u8>;
    let packed: [(Pixel, u32, Pack); 8] = [
        (Pixel::RGB24, 8, |v| vec![v as u8; 3]),
        (Pixel::BGRA, 8, |v| vec![v as u8, v as u8, v as u8, 77]),
        (Pixel::ZRGB32, 8, |v| vec![v as u8, v as u8, v as u8, 77]),
        (Pixel::ARGB, 8, |v| vec![77, v as u8, v as u8, v as u8]),
        (Pixel::RGB48BE, 16, |v| v.to_be_bytes().repeat(3)),
        (Pixel::BGR48LE, 16, |v| v.to_le_bytes().repeat(3)),
        (Pixel::X2RGB10LE, 10, |v| {
            (u32::from(v) * (1 + (1 << 10) + (1 << 20)))
                .to_le_bytes()
                .to_vec()
        }),
        (Pixel::RGB565LE, 8, |v| {
            // Grey in 5, 6 and 5 bits is black, white and little else.
            (if v < 128 { 0u16 } else { 0xFFFF }).to_le_bytes().to_vec()
        }),
    ];
    for (pixel, depth, pack) in packed {
        let luma = grey(depth);
        let mut frame = noise_frame(pixel, width, height);
        for (i, &v) in luma.iter().enumerate() {
            let bytes = pack(v);
            draw(
                &mut frame,
                0,
                (i % width, i / width),
                (bytes.len(), 0),
                &bytes,
            );
        }
        let sampling = sampling_of(&frame);
        assert_eq!(
            (u32::from(sampling.depth), sampling.range),
            (depth, Range::Full),
            "{pixel:?}"
        );
        let source = Picture(frame);
        let picture = merger(&source.0).merge(&source, &some_colour()).unwrap();
        let truth: Vec<u16> = match pixel {
            Pixel::RGB565LE => luma
                .iter()
                .map(|&v| if v < 128 { 0 } else { 255 })
                .collect(),
            _ => luma,
        };
        assert!(luma_of(&picture.0) == truth, "{pixel:?}");
        assert_eq!(picture.0.color_range(), color::Range::JPEG);
    }
}

#[test]
fn planar_rgb_palettes_and_bits_are_read() {
    let (width, height) = (21, 5);
    // GBR planes of 10 bits.
    let luma = Noise(4).codes(width * height, 10);
    let mut frame = noise_frame(Pixel::GBRP10LE, width, height);
    for (i, v) in luma.iter().enumerate() {
        for plane in 0..3 {
            draw(
                &mut frame,
                plane,
                (i % width, i / width),
                (2, 0),
                &v.to_le_bytes(),
            );
        }
    }
    let source = Picture(frame);
    let merged = merger(&source.0).merge(&source, &some_colour()).unwrap();
    assert!(luma_of(&merged.0) == luma);

    // A palette that is the grey scale backwards: 0xAARRGGBB in this machine's order.
    let mut frame = noise_frame(Pixel::PAL8, width, height);
    let indices: Vec<u16> = (0..width * height)
        .map(|i| u16::from(frame.data(0)[i / width * frame.stride(0) + i % width]))
        .collect();
    write_palette(&mut frame, |i| {
        0xFF00_0000 | (0x0001_0101 * (255 - u32::from(i)))
    });
    let source = Picture(frame);
    let merged = merger(&source.0).merge(&source, &some_colour()).unwrap();
    assert!(luma_of(&merged.0) == indices.iter().map(|i| 255 - i).collect::<Vec<_>>());

    for (pixel, one) in [(Pixel::MonoBlack, 255), (Pixel::MonoWhite, 0)] {
        let source = Picture(noise_frame(pixel, width, height));
        let merged = merger(&source.0).merge(&source, &some_colour()).unwrap();
        let bit = |i: usize| {
            let (x, y) = (i % width, i / width);
            source.0.data(0)[y * source.0.stride(0) + x / 8] >> (7 - x % 8) & 1
        };
        let truth = (0..width * height).map(|i| if bit(i) == 1 { one } else { 255 - one });
        assert!(
            luma_of(&merged.0) == truth.collect::<Vec<u16>>(),
            "{pixel:?}"
        );
    }
}

fn write_palette(frame: &mut Video, colour: impl Fn(u8) -> u32) {
    let bytes: Vec<u8> = (0..=255).flat_map(|i| colour(i).to_ne_bytes()).collect();
    ffi::write_palette(frame, &bytes);
}

#[test]
fn what_only_swscale_can_read_is_still_read() {
    // XYZ of noise: any luma will do, but a picture comes out.
    let source = Picture(noise_frame(Pixel::XYZ12LE, 16, 16));
    let merged = merger(&source.0).merge(&source, &some_colour()).unwrap();
    assert_eq!(merged.0.format(), Pixel::YUV420P12LE);
}

#[test]
fn another_depth_is_a_rounded_shift_in_limited_range_and_keeps_white_in_full() {
    let code = |depth, range| Sampling {
        depth,
        range,
        ..sampling_of(&noise_frame(Pixel::YUV420P, 2, 2))
    };
    use Range::{Full, Limited};
    let table = |d, r, e, s| requantised(&code(d, r), &code(e, s));
    let up = table(8, Limited, 10, Limited);
    assert_eq!([up[0], up[16], up[235], up[255]], [0, 64, 940, 1020]);
    let down = table(10, Limited, 8, Limited);
    assert_eq!(
        [down[64], down[65], down[66], down[940], down[1023]],
        [16, 16, 17, 235, 255]
    );
    let full = table(8, Full, 10, Full);
    assert_eq!([full[0], full[128], full[255]], [0, 514, 1023]);
    let wide = table(8, Limited, 8, Full);
    assert_eq!([wide[0], wide[16], wide[235], wide[255]], [0, 0, 255, 255]);

    let luma = Noise(5).codes(24 * 10, 8);
    let source = Picture(frame_of(Pixel::YUV420P, 24, 10, &luma));
    let layout = Layout::for_pixel(Pixel::YUV422P10LE, &source.sampling()).unwrap();
    let merged = Merger::new(&info_of(&source.0), &layout)
        .unwrap()
        .merge(&source, &some_colour())
        .unwrap();
    assert!(luma_of(&merged.0) == luma.iter().map(|v| v << 2).collect::<Vec<_>>());
}

#[test]
fn properties_travel_and_the_tags_used_are_written() {
    let mut frame = noise_frame(Pixel::YUV420P, 32, 32);
    frame.set_pts(Some(4711));
    frame.set_kind(Type::B);
    ffi::set_aspect_and_field(&mut frame, (16, 11), true);
    frame.new_side_data(ffmpeg_next::frame::side_data::Type::A53CC, 6);
    let source = Picture(frame);
    let merged = merger(&source.0).merge(&source, &some_colour()).unwrap();
    let m = &merged.0;
    assert_eq!(m.pts(), Some(4711));
    assert_eq!(m.kind(), Type::None, "the encoder chooses its own");
    assert_eq!(
        (m.aspect_ratio().numerator(), m.aspect_ratio().denominator()),
        (16, 11)
    );
    assert!(m.is_interlaced());
    assert!(
        m.side_data(ffmpeg_next::frame::side_data::Type::A53CC)
            .is_some()
    );
    assert_eq!(m.color_space(), color::Space::SMPTE170M, "32 lines");
    assert_eq!(m.color_range(), color::Range::MPEG);
    assert_eq!(m.color_primaries(), color::Primaries::BT709);
    assert_eq!(m.chroma_location(), ffmpeg_next::chroma::Location::Left);
    assert_eq!(
        source.0.color_space(),
        color::Space::Unspecified,
        "the source is not touched"
    );
}

#[test]
fn interlaced_pictures_get_the_chroma_of_their_fields() {
    let luma: Vec<u16> = (0..32 * 32)
        .map(|i| if i / 32 % 2 == 0 { 60 } else { 180 })
        .collect();
    let picture = |interlaced| {
        let mut frame = frame_of(Pixel::YUV420P, 32, 32, &luma);
        ffi::set_aspect_and_field(&mut frame, (1, 1), interlaced);
        let source = Picture(frame);
        chroma_of(
            &merger(&source.0)
                .merge(&source, &AbMap::constant(20.0, 20.0))
                .unwrap(),
        )
    };
    let (fields, frame) = (picture(true), picture(false));
    assert_ne!(fields[0][0], fields[0][16], "dark and light rows");
    assert_eq!(frame[0][0], frame[0][16], "their average");
}

#[test]
fn rgb_layouts_are_converted_last() {
    // Full-range grey stays R = G = B = Y'.
    let luma = Noise(6).codes(40 * 30, 8);
    let source = Picture(frame_of(Pixel::GRAY8, 40, 30, &luma));
    let layout = Layout::for_pixel(Pixel::RGB24, &source.sampling()).unwrap();
    assert_eq!(layout.name(), "rgb24");
    let mut merger = Merger::new(&info_of(&source.0), &layout).unwrap();
    let rgb = merger.merge(&source, &AbMap::constant(0.0, 0.0)).unwrap();
    assert_eq!(rgb.0.format(), Pixel::RGB24);
    assert_eq!(rgb.0.color_space(), color::Space::RGB);
    for (i, &v) in luma.iter().enumerate() {
        let at = i / 40 * rgb.0.stride(0) + i % 40 * 3;
        let [r, g, b] = [0, 1, 2].map(|c| rgb.0.data(0)[at + c]);
        assert!(
            r == g && g == b && r.abs_diff(v as u8) <= 1,
            "{r} {g} {b} for {v}"
        );
    }
    // A colour in the middle of the range is the Lab colour, but for its luma, which is the grey's.
    let source = Picture(frame_of(Pixel::GRAY8, 40, 30, &[128; 1200]));
    let rgb = merger.merge(&source, &AbMap::constant(15.0, 20.0)).unwrap();
    let l = color_lab(128);
    let truth = crate::color::srgb_from_lab([l, 15.0, 20.0]);
    let m = Matrix::BT601;
    let luma = m.kr * truth[0] + (1.0 - m.kr - m.kb) * truth[1] + m.kb * truth[2];
    for (v, truth) in rgb.0.data(0)[..3].iter().zip(truth) {
        let truth = (truth - luma) * 255.0 + 128.0;
        assert!((f32::from(*v) - truth).abs() < 1.6, "{v} for {truth}");
    }
}

fn color_lab(code: usize) -> f32 {
    crate::color::lightness_table(8, Range::Full)[code]
}

#[test]
fn semi_planar_and_big_endian_encoders_get_the_same_samples() {
    let luma = Noise(7).codes(34 * 22, 10);
    let source = Picture(frame_of(Pixel::YUV420P10LE, 34, 22, &luma));
    let layout = |pixel| Layout::for_pixel(pixel, &source.sampling()).unwrap();
    let merge = |pixel| {
        Merger::new(&info_of(&source.0), &layout(pixel))
            .unwrap()
            .merge(&source, &some_colour())
            .unwrap()
    };
    let (planar, p010) = (merge(Pixel::YUV420P10LE), merge(Pixel::P010LE));
    assert_eq!(p010.0.format(), Pixel::P010LE);
    let back = merger(&p010.0)
        .merge(&p010, &AbMap::constant(0.0, 0.0))
        .unwrap();
    assert!(luma_of(&back.0) == luma);
    let cb = u16::from_le_bytes([p010.0.data(1)[0], p010.0.data(1)[1]]) >> 6;
    assert_eq!(cb, chroma_of(&planar)[0][0]);
}

#[test]
fn a_format_that_changes_in_the_middle_is_followed_and_a_size_is_refused() {
    let luma = Noise(8).codes(32 * 32, 8);
    let planar = Picture(frame_of(Pixel::YUV420P, 32, 32, &luma));
    let packed = Picture(frame_of(Pixel::YUYV422, 32, 32, &luma));
    let mut merger = merger(&planar.0);
    for source in [&planar, &packed, &planar] {
        let merged = merger.merge(source, &some_colour()).unwrap();
        assert_eq!(merged.0.format(), Pixel::YUV420P);
        assert!(luma_of(&merged.0) == luma);
    }
    let small = Picture(noise_frame(Pixel::YUV420P, 16, 16));
    let refused = merger
        .merge(&small, &some_colour())
        .map(|_| ())
        .unwrap_err();
    assert!(refused.to_string().contains("16x16"), "{refused}");
}
