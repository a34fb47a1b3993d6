//! Films as they come: scenes in colour among black-and-white ones, bars, words burnt in, pictures lying on their side.

use std::path::Path;

use crate::common::*;

/// Samples of a chroma plane of 320 x 240 in 4:2:0.
const CHROMA: usize = 160 * 120;

/// Cb and Cr of every frame.
fn chroma(film: &Path) -> Vec<[Vec<u8>; 2]> {
    let [cb, cr] = ["u", "v"].map(|name| plane(film, name));
    let frames = cb.chunks(CHROMA).zip(cr.chunks(CHROMA));
    frames.map(|(cb, cr)| [cb.to_vec(), cr.to_vec()]).collect()
}

/// Twelve frames each: black-and-white, in colour, in sepia, black-and-white.
fn documentary(lab: &Lab) -> std::path::PathBuf {
    let scene =
        |source: &str, look: &str| format!("-f lavfi -i {source}=s=320x240:r=25:d=0.48{look}");
    let inputs = [
        scene("mandelbrot", ":start_scale=0.4").replace(":d=0.48", ""),
        scene("testsrc2", ""),
        scene("testsrc2", ",hflip,hue=s=0"),
        scene("smptebars", ",hue=s=0"),
    ];
    let graph = "[0:v]trim=duration=0.48,hue=s=0,format=yuv420p[a];[1:v]format=yuv420p[b];\
        [2:v]format=gbrp,colorchannelmixer=.393:.769:.189:0:.349:.686:.168:0:.272:.534:.131,format=yuv420p[c];\
        [3:v]format=yuv420p[d];[a][b][c][d]concat=n=4:v=1:a=0";
    lab.film(
        "documentary.mkv",
        &format!("{} -filter_complex {graph} -c:v ffv1", inputs.join(" ")),
    )
}

#[test]
fn scenes_in_colour_keep_it_bit_for_bit_and_the_others_are_coloured() {
    let lab = Lab::new();
    let film = documentary(&lab);
    let source = chroma(&film);
    assert_eq!(source.len(), 48);
    // Which of the four scenes keep their chroma.
    for (temporal, which, kept) in [
        ("motion", "auto", [false, true, false, false]),
        ("off", "auto", [false, true, false, false]),
        ("motion", "always", [false, true, true, false]),
        ("motion", "never", [false; 4]),
    ] {
        let output = lab.path("out.mkv");
        let args = format!(
            "--force --json --model constant --codec ffv1 --temporal {temporal} --keep-color {which}"
        );
        let run = colorize(&film, &output, &args).ok();
        let count = kept.iter().filter(|kept| **kept).count() * 12;
        assert_eq!(run.json()["kept"], count, "{temporal} {which}");
        let result = chroma(&output);
        for (i, (before, after)) in source.iter().zip(&result).enumerate() {
            assert_eq!(
                before == after,
                kept[i / 12],
                "frame {i}, {temporal}, {which}"
            );
        }
        assert_eq!(
            luma(&["-i", &film.to_string_lossy()], None),
            luma(&["-i", &output.to_string_lossy()], None)
        );
    }
}

/// What is kept lies otherwise in the output: packed, turned to another depth, as RGB.
#[test]
fn colour_is_kept_in_every_format() {
    let lab = Lab::new();
    for (format, to, seen_in, planes, most) in [
        ("yuv420p10le", "yuv420p10le", "yuv420p10le", ["u", "v"], 0),
        ("yuv422p", "yuv422p", "yuv422p", ["u", "v"], 0),
        ("nv12", "yuv420p", "yuv420p", ["u", "v"], 0),
        ("yuyv422", "yuv422p", "yuv422p", ["u", "v"], 0),
        ("gbrp", "yuv444p", "gbrp", ["r", "b"], 4),
    ] {
        // Raw video in NUT holds every format.
        let drawn = "-f lavfi -i testsrc2=s=320x240:r=25:d=0.2 -c:v rawvideo -pix_fmt";
        let film = lab.film("colour.nut", &format!("{drawn} {format}"));
        let output = lab.path("out.mkv");
        let args = format!("--force --model constant --codec ffv1 --pixel-format {to}");
        colorize(&film, &output, &args).ok();
        let seen = |name: &str, which: &str| {
            let planar = format!("-i {name} -vf format={seen_in} -c:v ffv1");
            plane(&lab.film("planar.mkv", &planar), which)
        };
        for which in planes {
            let (before, after) = (seen("colour.nut", which), seen("out.mkv", which));
            let pairs = before.iter().zip(&after);
            let apart = pairs.map(|(a, b)| a.abs_diff(*b)).max();
            assert!(apart <= Some(most), "{format}: {which} by {apart:?}");
        }
    }
}

#[test]
fn before_and_after_stand_side_by_side() {
    let lab = Lab::new();
    // An odd width, whose last column the grey half repeats.
    let film = lab.film(
        "film.mkv",
        "-f lavfi -i testsrc=s=161x120:r=25:d=0.4 -f lavfi -i sine=d=0.4 -vf hue=s=0 -pix_fmt yuv444p -c:v ffv1",
    );
    let (output, side) = (lab.path("out.mkv"), lab.path("side.mkv"));
    let args = format!("--model constant --codec ffv1 --compare {}", side.display());
    colorize(&film, &output, &args).ok();
    let probed = probe(&side);
    let video = &streams(&probed, "video")[0];
    assert_eq!(
        (&video["width"], &video["height"]),
        (&328.into(), &120.into())
    );
    assert_eq!(streams(&probed, "audio").len(), 1);
    assert_eq!(times(&side), times(&output));
    let (y, v) = (plane(&side, "y"), plane(&side, "v"));
    let mean = |values: &mut dyn Iterator<Item = f64>| {
        let (sum, count) = values.fold((0., 0.), |(sum, count), v| (sum + v, count + 1.));
        sum / count
    };
    let halves = |plane: &[u8]| -> (Vec<u8>, Vec<u8>) {
        let rows = plane.chunks(328).map(|row| row.split_at(164));
        let (left, right): (Vec<_>, Vec<_>) = rows.unzip();
        (left.concat(), right.concat())
    };
    let (left, right) = halves(&y);
    let pairs = left.iter().zip(&right);
    let apart = mean(&mut pairs.map(|(a, b)| f64::from(a.abs_diff(*b))));
    assert!(apart < 2., "the halves differ by {apart}");
    let (grey, colour) = halves(&v);
    let off = |half: Vec<u8>| mean(&mut half.iter().map(|v| (f64::from(*v) - 128.).abs()));
    assert!(off(grey) < 0.5);
    assert!(off(colour) > 5.);
    assert!(lab.leftovers().is_empty());
    colorize(&film, &lab.path("again.mkv"), &args).fails(4, &["side.mkv", "exists already"]);
    // One name for both, also written otherwise, and the input's.
    let same = format!(
        "--model constant --compare {}/./one.mkv",
        lab.dir().display()
    );
    colorize(&film, &lab.path("one.mkv"), &same).fails(4, &["one.mkv", "name another file"]);
    let input = format!("--model constant --force --compare {}", film.display());
    colorize(&film, &lab.path("two.mkv"), &input).fails(4, &["film.mkv", "the input itself"]);
    assert!(!lab.path("one.mkv").exists() && !lab.path("two.mkv").exists());
    assert!(lab.leftovers().is_empty());
}

/// Bars of black stay black, exactly, whatever moves between them, on a film that is shown upright and on one that lies
/// on its side; and so does white: words that are burnt in.
#[test]
fn bars_and_burnt_in_words_stay_neutral() {
    let lab = Lab::new();
    let picture = "-f lavfi -i mandelbrot=s=320x160:r=25:start_scale=0.4 -frames:v 30";
    let words = "drawbox=x=80:y=170:w=160:h=12:color=white:t=fill";
    let shown = format!("-vf hue=s=0,pad=320:240:0:40,{words}");
    let film = lab.film(
        "boxed.mp4",
        &format!("{picture} {shown} -pix_fmt yuv420p -c:v libx264 -qp 0"),
    );
    let turned = lab.film("turned.mp4", "-i boxed.mp4 -c copy -metadata:s:v rotate=90");
    for (film, name) in [(&film, "upright.mkv"), (&turned, "turned.mkv")] {
        let output = lab.path(name);
        colorize(film, &output, "--codec ffv1 --saturation 2").ok();
        for (i, planes) in chroma(&output).iter().enumerate() {
            for plane in planes {
                let rows = |rows: std::ops::Range<usize>| &plane[rows.start * 160..rows.end * 160];
                let still = |part: &[u8]| part.iter().all(|v| v.abs_diff(128) <= 1);
                assert!(
                    still(rows(0..20)) && still(rows(100..120)),
                    "{name}: frame {i}"
                );
                let words: Vec<u8> = (86..90)
                    .flat_map(|y| plane[y * 160 + 42..y * 160 + 118].to_vec())
                    .collect();
                assert!(still(&words), "{name}: words of frame {i}");
            }
            let coloured = planes
                .iter()
                .flatten()
                .filter(|v| v.abs_diff(128) > 3)
                .count();
            assert!(coloured > CHROMA / 4, "{name}: frame {i} has no colour");
        }
    }
}

/// What a scan's mask or a graphic adds on two sides is no part of the scene, however light it is; and the picture between
/// has the colours that it has without.
#[test]
fn masks_of_any_tone_stay_neutral() {
    let lab = Lab::new();
    let sample = |name: &str, mask: &str| {
        let shown = format!("-vf hue=s=0,scale=240:180{mask}");
        let film = lab.film(
            name,
            &format!("-ss 2 -i {SAMPLE} -frames:v 8 {shown} -pix_fmt yuv420p -an -c:v ffv1"),
        );
        let output = lab.path(&format!("color-{name}"));
        colorize(&film, &output, "--codec ffv1").ok();
        [plane(&output, "u"), plane(&output, "v")]
    };
    // Columns of one frame's chroma, 90 rows of `width` samples.
    let columns = |plane: &[u8], width: usize, range: std::ops::Range<usize>| -> Vec<u8> {
        let rows = plane[..90 * width].chunks(width);
        rows.flat_map(|row| row[range.clone()].to_vec()).collect()
    };
    let bare = sample("bare.mkv", "").map(|plane| columns(&plane, 120, 4..116));
    for tone in ["black", "gray", "0xc8c8c8"] {
        let mask = format!(",pad=320:180:40:0:color={tone}");
        let planes = sample(&format!("{tone}.mkv"), &mask);
        let mut apart = 0.;
        for (plane, bare) in planes.iter().zip(&bare) {
            let mut bars = columns(plane, 160, 0..15);
            bars.extend(columns(plane, 160, 145..160));
            assert!(bars.iter().all(|v| v.abs_diff(128) <= 2), "{tone}");
            let picture = columns(plane, 160, 24..136);
            let differences = picture
                .iter()
                .zip(bare)
                .map(|(a, b)| f64::from(a.abs_diff(*b)));
            apart += differences.sum::<f64>() / picture.len() as f64;
        }
        assert!(apart < 8., "{tone}: {apart} from the film without a mask");
    }
}
