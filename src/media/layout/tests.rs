use super::*;
use crate::media::{drawn::*, picture::sampling_of};

fn natural(pixel: Pixel) -> Pixel {
    natural_pixel(pixel, &sampling_of(&noise_frame(pixel, 16, 16)))
}

#[test]
fn the_natural_format_keeps_depth_chroma_and_alpha() {
    use Pixel::*;
    let pairs = [
        (YUV420P, YUV420P),
        (YUV422P10LE, YUV422P10LE),
        (YUV444P12BE, YUV444P12LE),
        (YUVJ422P, YUV422P),
        (YUV411P, YUV411P),
        (YUV410P, YUV410P),
        (YUV440P12LE, YUV440P12LE),
        (NV12, YUV420P),
        (P016LE, YUV420P16LE),
        (GRAY8, YUV420P),
        (GRAY14LE, YUV420P14LE),
        (GRAYF32LE, YUV420P16LE),
        (RGB24, YUV420P),
        (RGBA, YUVA420P),
        (RGB48LE, YUV420P16LE),
        (GBRAP12LE, YUVA422P12LE),
        (PAL8, YUV420P),
        (MonoWhite, YUV420P),
        (YA8, YUVA420P),
        (YUVA444P10LE, YUVA444P10LE),
    ];
    for (source, kept) in pairs {
        assert_eq!(natural(source), kept, "{source:?}");
    }
}

#[test]
fn the_nearest_format_never_loses_depth_and_no_chroma_that_anyone_could_play() {
    use Pixel::*;
    let x264 = [
        YUV420P,
        YUVJ420P,
        YUV422P,
        YUVJ422P,
        YUV444P,
        YUVJ444P,
        NV12,
        NV16,
        YUV420P10LE,
        YUV422P10LE,
        YUV444P10LE,
        NV20LE,
        GRAY8,
        GRAY10LE,
    ];
    let prores = [YUV422P10LE, YUV444P10LE, YUVA444P10LE];
    let png = [
        RGB24, RGBA, RGB48BE, RGBA64BE, PAL8, GRAY8, YA8, GRAY16BE, YA16BE, MonoBlack,
    ];
    let mjpeg = [YUVJ420P, YUVJ422P, YUVJ444P];
    let cases: &[(&[Pixel], Pixel, Option<Pixel>)] = &[
        (&x264, YUV420P, Some(YUV420P)),
        (&x264, YUV420P9LE, Some(YUV420P10LE)),
        (&x264, YUV420P12LE, Option::None),
        (&x264, YUV411P, Some(YUV420P)),
        (&x264, YUV410P, Some(YUV420P)),
        (&x264, YUV440P, Some(YUV444P)),
        (&x264, YUVA420P, Some(YUV420P)),
        (&x264, YUV422P10LE, Some(YUV422P10LE)),
        (&prores, YUV420P, Some(YUV422P10LE)),
        (&prores, YUVA444P10LE, Some(YUVA444P10LE)),
        (&prores, YUV444P12LE, Option::None),
        (&png, YUV420P, Some(RGB24)),
        (&png, YUVA420P, Some(RGBA)),
        (&png, YUV420P10LE, Some(RGB48BE)),
        (&mjpeg, YUV420P, Some(YUVJ420P)),
        (&[GRAY8], YUV420P, Option::None),
    ];
    for &(supported, wanted, found) in cases {
        assert_eq!(
            nearest(supported, wanted),
            found,
            "{wanted:?} of {supported:?}"
        );
    }
}

#[test]
fn a_layout_says_how_samples_lie_in_its_format() {
    let source = sampling_of(&noise_frame(Pixel::YUV422P10LE, 16, 16));
    let layout = |pixel| Layout::for_pixel(pixel, &source);
    let same = layout(Pixel::YUV422P10LE).unwrap();
    assert_eq!(same.sampling, source);
    assert_eq!(same.name(), "yuv422p10le");
    let small = layout(Pixel::YUV420P).unwrap().sampling;
    assert_eq!(
        (small.depth, small.log2_h, small.chroma_offset),
        (8, 1, (0.0, 0.5))
    );
    let rgb = layout(Pixel::RGB48BE).unwrap();
    assert_eq!((rgb.sampling.depth, rgb.sampling.log2_w), (10, 0));
    assert_eq!(rgb.planar(), Some(Pixel::YUV444P10LE));
    assert_eq!(layout(Pixel::YUVJ420P).unwrap().sampling.range, Range::Full);
    assert_eq!(
        layout(Pixel::P010LE).unwrap().planar(),
        Some(Pixel::YUV420P10LE)
    );
    assert!(layout(Pixel::VAAPI).is_none());
    assert!(layout(Pixel::PAL8).is_none(), "swscale draws no palettes");
}
