//! Point 3: the luma is the source's, bit for bit, at any depth and packing; grey stays exactly neutral.

use crate::common::*;

/// A pixel format, and the planar one whose luma is the same.
const FORMATS: &[(&str, &str)] = &[
    ("yuv420p", "yuv420p"),
    ("yuv422p10le", "yuv422p10le"),
    ("yuv444p12le", "yuv444p12le"),
    ("yuv410p", "yuv410p"),
    ("yuv411p", "yuv411p"),
    ("yuv440p", "yuv440p"),
    ("yuva444p10le", "yuva444p10le"),
    ("gray", "gray"),
    ("gray10le", "gray10le"),
    ("gray16be", "gray16le"),
    ("nv12", "yuv420p"),
    ("p010le", "yuv420p10le"),
    ("yuyv422", "yuv422p"),
    ("uyvy422", "yuv422p"),
];

/// Three frames of any size; testsrc2 itself makes odd ones even.
fn drawn(size: &str, format: &str) -> String {
    let crop = size.replace('x', ":");
    format!(
        "-f lavfi -i testsrc2=s=642x362:r=5:d=0.6 -vf format=yuv444p,crop={crop}:exact=1,format={format}"
    )
}

/// The source travels as bare samples: no container that could change their packing.
fn keeps_luma(format: &str, planar: &str, size: &str) {
    let lab = Lab::new();
    let make = format!("{} -c:v rawvideo -f rawvideo", drawn(size, format));
    let source = lab.film("source.raw", &make);
    let output = lab.path("out.mkv");
    let raw = format!(
        "--input-format rawvideo --input-option pixel_format={format} --input-option video_size={size}"
    );
    gray(&source, &output, &format!("{raw} --codec ffv1")).ok();

    let name = source.to_string_lossy();
    let input = [
        "-f",
        "rawvideo",
        "-pixel_format",
        format,
        "-video_size",
        size,
        "-i",
        &name,
    ];
    let before = luma(&input, Some(planar));
    let after = luma(&["-i", &output.to_string_lossy()], None);
    assert_eq!(before.len(), 3, "{format} {size}");
    assert_eq!(before, after, "{format} {size}");
    for which in ["u", "v"] {
        assert!(
            neutral(&plane(&output, which), &output),
            "{format} {size}: {which} is not neutral"
        );
    }
}

/// Whether every chroma sample is exactly half of the code values.
fn neutral(samples: &[u8], output: &std::path::Path) -> bool {
    let video = &streams(&probe(output), "video")[0];
    let format = video["pix_fmt"].as_str().unwrap_or_default().to_string();
    let depth = ["16", "12", "10"]
        .into_iter()
        .find(|d| format.contains(&format!("p{d}")));
    match depth.map(|d| 1u16 << (d.parse::<u16>().unwrap_or(8) - 1)) {
        None => samples.iter().all(|s| *s == 128),
        Some(half) => samples.chunks(2).all(|s| s == half.to_le_bytes()),
    }
}

#[test]
fn luma_is_kept_bit_for_bit_in_every_format() {
    for (format, planar) in FORMATS {
        keeps_luma(format, planar, "640x360");
    }
}

#[test]
fn luma_is_kept_bit_for_bit_at_odd_sizes() {
    for (format, planar) in FORMATS {
        keeps_luma(format, planar, "641x361");
    }
}

/// The same through the full chroma path: the colour model must not touch luma either.
#[test]
fn colour_leaves_luma_alone() {
    let lab = Lab::new();
    for (container, video) in [
        ("mp4", "-c:v libx264 -pix_fmt yuv420p"),
        ("mkv", "-c:v ffv1 -pix_fmt gray"),
    ] {
        let source = lab.clip(&format!("source.{container}"), 0.6, video);
        let output = lab.path(&format!("{container}.mkv"));
        colorize(&source, &output, "--model constant --codec ffv1").ok();
        let before = luma(&["-i", &source.to_string_lossy()], None);
        assert_eq!(
            before,
            luma(&["-i", &output.to_string_lossy()], None),
            "{container}"
        );
        assert!(
            !neutral(&plane(&output, "v"), &output),
            "{container}: constant gives no colour"
        );
    }
}

/// Point 2: depth and subsampling follow the source; grey becomes 4:2:0; the odd ones the nearest.
#[test]
fn depth_and_subsampling_follow_the_source() {
    let lab = Lab::new();
    let cases = [
        ("yuv420p", "yuv420p"),
        ("yuv422p", "yuv422p"),
        ("yuv444p10le", "yuv444p10le"),
        ("yuv420p10le", "yuv420p10le"),
        ("gray", "yuvj420p"), // ffprobe's name of full-range 8-bit 4:2:0 in H.264
        ("gray10le", "yuv420p10le"),
    ];
    for (from, to) in cases {
        let source = lab.clip("source.mkv", 0.2, &format!("-c:v ffv1 -pix_fmt {from}"));
        let output = lab.path("out.mkv");
        gray(&source, &output, "--force").ok();
        assert_eq!(
            streams(&probe(&output), "video")[0]["pix_fmt"],
            to,
            "from {from}"
        );
    }
    // Untagged grey uses the full range; its bytes are kept and the tag says so.
    let source = lab.clip("source.mkv", 0.2, "-c:v ffv1 -pix_fmt gray");
    let output = lab.path("out.mkv");
    gray(&source, &output, "--force").ok();
    assert_eq!(streams(&probe(&output), "video")[0]["color_range"], "pc");
    gray(&source, &output, "--force --pixel-format yuv444p").ok();
    assert_eq!(streams(&probe(&output), "video")[0]["pix_fmt"], "yuvj444p");
}

/// Point 2: odd sizes that an encoder refuses in 4:2:0 become 4:4:4 with a message; never cropped.
#[test]
fn odd_sizes_are_never_cropped() {
    let lab = Lab::new();
    let make = format!("{} -c:v ffv1", drawn("641x361", "yuv420p"));
    let source = lab.film("source.mkv", &make);
    let output = lab.path("out.mp4");
    let run = gray(&source, &output, "").ok();
    assert!(
        run.stderr.contains("4:4:4") || run.stderr.contains("yuv444p"),
        "{}",
        run.stderr
    );
    let video = &streams(&probe(&output), "video")[0];
    assert_eq!(
        (&video["width"], &video["height"], &video["pix_fmt"]),
        (&641.into(), &361.into(), &"yuv444p".into())
    );
}

/// Point 3: range, matrix, primaries, transfer and chroma position are kept; where they are missing, what was used is
/// written.
#[test]
fn colour_tags_are_kept_or_written() {
    let lab = Lab::new();
    let tags = "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range pc -chroma_sample_location topleft";
    let source = lab.clip(
        "tagged.mkv",
        0.2,
        &format!("-pix_fmt yuv420p -c:v libx264 {tags}"),
    );
    for name in ["out.mp4", "out.mkv", "out.mov"] {
        let output = lab.path(name);
        gray(&source, &output, "").ok();
        let (before, after) = (
            &streams(&probe(&source), "video")[0],
            &streams(&probe(&output), "video")[0],
        );
        for tag in [
            "color_range",
            "color_space",
            "color_primaries",
            "color_transfer",
            "chroma_location",
        ] {
            assert_eq!(before[tag], after[tag], "{name}: {tag}");
        }
    }
    let untagged = lab.clip("untagged.mkv", 0.2, "-pix_fmt yuv420p -c:v libx264");
    let output = lab.path("written.mkv");
    gray(&untagged, &output, "").ok();
    let video = &streams(&probe(&output), "video")[0];
    assert_eq!(video["color_range"], "tv");
    // Below 720 lines the matrix in use is BT.601's, under either of its two names.
    assert!(
        ["smpte170m", "bt470bg"].contains(&video["color_space"].as_str().unwrap_or_default()),
        "{video}"
    );
}

/// Point 3: anamorphic, rotated and interlaced films keep what they are.
#[test]
fn shape_and_fields_are_kept() {
    let lab = Lab::new();
    let source = lab.clip("wide.mp4", 0.2, "-vf hue=s=0,setsar=16/15 -pix_fmt yuv420p");
    let turned = lab.film("turned.mp4", "-i wide.mp4 -c copy -metadata:s:v rotate=90");
    for (input, name) in [
        (&source, "a.mkv"),
        (&source, "a.mp4"),
        (&turned, "b.mp4"),
        (&turned, "b.mov"),
    ] {
        let output = lab.path(name);
        gray(input, &output, "").ok();
        let (before, after) = (
            &streams(&probe(input), "video")[0],
            &streams(&probe(&output), "video")[0],
        );
        for key in ["width", "height", "sample_aspect_ratio", "side_data_list"] {
            assert_eq!(before[key], after[key], "{name}: {key}");
        }
    }
    let fields = "-vf hue=s=0,setfield=tff -pix_fmt yuv420p -c:v libx264 -flags +ildct+ilme -x264-params tff=1";
    let interlaced = lab.clip("fields.mkv", 0.4, fields);
    let output = lab.path("fields.out.mkv");
    gray(&interlaced, &output, "").ok();
    let order = |path| streams(&probe(path), "video")[0]["field_order"].clone();
    assert_eq!(order(&interlaced), order(&output));
    assert!(
        frame_flags(&output).iter().all(|f| f == "1,1"),
        "coded progressive"
    );
}

/// "interlaced_frame,top_field_first" of every frame.
fn frame_flags(path: &std::path::Path) -> Vec<String> {
    let output = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "V:0", "-of", "csv=p=0"])
        .args(["-show_entries", "frame=interlaced_frame,top_field_first"])
        .arg(path)
        .output()
        .expect("ffprobe");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|l| l.trim_matches(',').to_string())
        .filter(|l| !l.is_empty())
        .collect()
}
