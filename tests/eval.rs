//! Metrics against published numbers, other people's code and hand calculation; motion and flicker on drawn films; the
//! comparison, its page and the calibration on drawn photographs.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use autochrome::{
    color,
    eval::{
        EvalOptions, Exam, Figures, Marks, Report,
        calibrate::{self, Calibration, Limits, Trial},
        clip::{ClipRow, Consistency, Flicker},
        enlarged,
        frechet::Gaussian,
        judge,
        metrics::{ciede2000, colourfulness, colourfulness_abs, psnr_ab, psnr_rgb, ssim},
        motion::{Motion, Plane},
        page::page,
        painted,
        pictures::{HeldOut, Pictures},
    },
    frame::AbMap,
    net::{
        self, Decoding, Look, Looks, Precision, Quality,
        checkpoint::{self, Checkpoint},
        features::{Features, Layer},
        params::Params,
    },
    train::data::Photo,
};
use candle_core::{DType, Device, Tensor};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

mod common;
use common::{Lab, autochrome, on_cpu, run};

/// Sharma, Wu, Dalal 2005, table 1: two Lab colours and their difference.
const SHARMA: [([f64; 3], [f64; 3], f64); 34] = [
    (
        [50.0000, 2.6772, -79.7751],
        [50.0000, 0.0000, -82.7485],
        2.0425,
    ),
    (
        [50.0000, 3.1571, -77.2803],
        [50.0000, 0.0000, -82.7485],
        2.8615,
    ),
    (
        [50.0000, 2.8361, -74.0200],
        [50.0000, 0.0000, -82.7485],
        3.4412,
    ),
    (
        [50.0000, -1.3802, -84.2814],
        [50.0000, 0.0000, -82.7485],
        1.0000,
    ),
    (
        [50.0000, -1.1848, -84.8006],
        [50.0000, 0.0000, -82.7485],
        1.0000,
    ),
    (
        [50.0000, -0.9009, -85.5211],
        [50.0000, 0.0000, -82.7485],
        1.0000,
    ),
    (
        [50.0000, 0.0000, 0.0000],
        [50.0000, -1.0000, 2.0000],
        2.3669,
    ),
    (
        [50.0000, -1.0000, 2.0000],
        [50.0000, 0.0000, 0.0000],
        2.3669,
    ),
    (
        [50.0000, 2.4900, -0.0010],
        [50.0000, -2.4900, 0.0009],
        7.1792,
    ),
    (
        [50.0000, 2.4900, -0.0010],
        [50.0000, -2.4900, 0.0010],
        7.1792,
    ),
    (
        [50.0000, 2.4900, -0.0010],
        [50.0000, -2.4900, 0.0011],
        7.2195,
    ),
    (
        [50.0000, 2.4900, -0.0010],
        [50.0000, -2.4900, 0.0012],
        7.2195,
    ),
    (
        [50.0000, -0.0010, 2.4900],
        [50.0000, 0.0009, -2.4900],
        4.8045,
    ),
    (
        [50.0000, -0.0010, 2.4900],
        [50.0000, 0.0010, -2.4900],
        4.8045,
    ),
    (
        [50.0000, -0.0010, 2.4900],
        [50.0000, 0.0011, -2.4900],
        4.7461,
    ),
    (
        [50.0000, 2.5000, 0.0000],
        [50.0000, 0.0000, -2.5000],
        4.3065,
    ),
    (
        [50.0000, 2.5000, 0.0000],
        [73.0000, 25.0000, -18.0000],
        27.1492,
    ),
    (
        [50.0000, 2.5000, 0.0000],
        [61.0000, -5.0000, 29.0000],
        22.8977,
    ),
    (
        [50.0000, 2.5000, 0.0000],
        [56.0000, -27.0000, -3.0000],
        31.9030,
    ),
    (
        [50.0000, 2.5000, 0.0000],
        [58.0000, 24.0000, 15.0000],
        19.4535,
    ),
    ([50.0000, 2.5000, 0.0000], [50.0000, 3.1736, 0.5854], 1.0000),
    ([50.0000, 2.5000, 0.0000], [50.0000, 3.2972, 0.0000], 1.0000),
    ([50.0000, 2.5000, 0.0000], [50.0000, 1.8634, 0.5757], 1.0000),
    ([50.0000, 2.5000, 0.0000], [50.0000, 3.2592, 0.3350], 1.0000),
    (
        [60.2574, -34.0099, 36.2677],
        [60.4626, -34.1751, 39.4387],
        1.2644,
    ),
    (
        [63.0109, -31.0961, -5.8663],
        [62.8187, -29.7946, -4.0864],
        1.2630,
    ),
    (
        [61.2901, 3.7196, -5.3901],
        [61.4292, 2.2480, -4.9620],
        1.8731,
    ),
    (
        [35.0831, -44.1164, 3.7933],
        [35.0232, -40.0716, 1.5901],
        1.8645,
    ),
    (
        [22.7233, 20.0904, -46.6940],
        [23.0331, 14.9730, -42.5619],
        2.0373,
    ),
    (
        [36.4612, 47.8580, 18.3852],
        [36.2715, 50.5065, 21.2231],
        1.4146,
    ),
    (
        [90.8027, -2.0831, 1.4410],
        [91.1528, -1.6435, 0.0447],
        1.4441,
    ),
    (
        [90.9257, -0.5406, -0.9208],
        [88.6381, -0.8985, -0.7239],
        1.5381,
    ),
    (
        [6.7747, -0.2908, -2.4247],
        [5.8714, -0.0985, -2.2286],
        0.6377,
    ),
    (
        [2.0776, 0.0795, -1.1350],
        [0.9033, -0.0636, -0.5514],
        0.9082,
    ),
];

#[test]
fn ciede2000_is_that_of_its_published_test_data() {
    for (i, (x, y, expected)) in SHARMA.into_iter().enumerate() {
        for found in [ciede2000(x, y), ciede2000(y, x)] {
            assert!(
                (found - expected).abs() < 5e-5,
                "pair {}: {found}, published {expected}",
                i + 1
            );
        }
    }
}

#[test]
fn psnr_and_colourfulness_by_hand() {
    assert!((psnr_ab(220. * 220.) - 0.).abs() < 1e-12);
    assert!((psnr_ab(2.2 * 2.2) - 40.).abs() < 1e-9);
    assert_eq!(colourfulness([[7.; 3], [200.; 3]].into_iter()), 0.);
    // Red and green: rg is 255 and -255 (mean 0, deviation 255), yb is 127.5 twice (mean 127.5, deviation 0).
    let found = colourfulness([[255., 0., 0.], [0., 255., 0.]].into_iter());
    assert!((found - (255. + 0.3 * 127.5)).abs() < 1e-9, "{found}");
}

#[test]
fn the_truth_is_perfect_and_grey_has_no_chroma() {
    let photo = RgbImage::from_fn(32, 24, |x, y| Rgb([8 * x as u8, 10 * y as u8, 90]));
    let exam = Exam::new(&photo, (32, 24));
    let perfect = judge(
        std::slice::from_ref(&exam),
        std::slice::from_ref(&exam.truth),
    );
    assert!(
        perfect.ciede2000 < 1e-9 && (perfect.chroma_ratio - 1.).abs() < 1e-9,
        "{perfect:?}"
    );
    assert!((perfect.colourfulness - perfect.true_colourfulness).abs() < 1e-9);
    let grey = judge(std::slice::from_ref(&exam), &[AbMap::constant(0., 0.)]);
    assert!(
        grey.ciede2000 > 5. && grey.chroma_ratio == 0. && grey.colourfulness < 1.,
        "{grey:?}"
    );
}

#[test]
fn a_map_is_enlarged_about_its_cell_centres() {
    let map = AbMap {
        width: 2,
        height: 1,
        a: vec![0., 4.],
        b: vec![1., 1.],
    };
    let big = enlarged(&map, 4, 2);
    assert_eq!(big.a, [0., 1., 3., 4., 0., 1., 3., 4.]);
    assert_eq!(big.b, [1.; 8]);
    assert_eq!(enlarged(&map, 2, 1), map);
}

/// As `picture` in tests/golden/metrics.py.
fn picture(width: u32, height: u32, kind: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let checks = (x / 4 + y / 4) % 2 * 60;
        let rgb = [
            5 * x + 3 * y + 11 * kind,
            2 * x + 7 * y + (x * y) % (9 + kind) * 8,
            x * (1 + kind) + 4 * y + checks,
        ];
        Rgb(rgb.map(|v| (v % 256) as u8))
    })
}

fn colours(picture: &RgbImage) -> impl Iterator<Item = [f64; 3]> {
    picture.pixels().map(|p| p.0.map(f64::from))
}

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/metrics.json")).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[track_caller]
fn close(what: &str, ours: f64, theirs: &Value, most: f64) {
    let apart = (ours - number(theirs)).abs();
    assert!(apart <= most, "{what}: {ours}, published code has {theirs}");
}

#[test]
fn picture_metrics_agree_with_scikit_image_and_published_code() {
    for pair in golden()["pairs"].as_array().unwrap() {
        let size = ["width", "height"].map(|name| pair[name].as_u64().unwrap() as u32);
        let of = |i: usize| picture(size[0], size[1], pair["kinds"][i].as_u64().unwrap() as u32);
        let (x, y) = (of(0), of(1));
        close("SSIM", ssim(&x, &y), &pair["ssim"], 1e-5);
        close("SSIM, swapped", ssim(&y, &x), &pair["ssim"], 1e-5);
        let squares = colours(&x).zip(colours(&y));
        let square =
            |(x, y): ([f64; 3], [f64; 3])| (0..3).map(|i| (x[i] - y[i]).powi(2)).sum::<f64>() / 3.;
        let mean = squares.map(square).sum::<f64>() / f64::from(size[0] * size[1]);
        close("PSNR_rgb", psnr_rgb(mean), &pair["psnr_rgb"], 1e-9);
        let (cf, abs) = (&pair["colourfulness"], &pair["colourfulness_abs"]);
        close("CF", colourfulness(colours(&x)), cf, 1e-9);
        close("CF_abs", colourfulness_abs(colours(&x)), abs, 1e-9);
        let lab = |rgb: [f64; 3]| color::lab_from_srgb(rgb.map(|v| v as f32 / 255.)).map(f64::from);
        let pairs = colours(&x).zip(colours(&y));
        let sum: f64 = pairs.map(|(x, y)| ciede2000(lab(x), lab(y))).sum();
        let mean = sum / f64::from(size[0] * size[1]);
        close("CIEDE2000", mean, &pair["ciede2000"], 1e-3);
    }
    let same = picture(40, 30, 0);
    assert!((ssim(&same, &same) - 1.).abs() < 1e-6);
}

#[test]
fn marks_are_the_metrics_of_the_painted_picture() {
    let truth = picture(48, 36, 0);
    let exam = Exam::new(&truth, (48, 36));
    let map = AbMap {
        a: exam.truth.b.clone(),
        b: exam.truth.a.clone(),
        ..exam.truth
    };
    let marks = Marks::of(&exam, &map);
    let painted = painted(&exam.thumb, &map);
    assert!((marks.colourfulness - colourfulness(colours(&painted))).abs() < 1e-9);
    assert!((marks.colourfulness_abs - colourfulness_abs(colours(&painted))).abs() < 1e-9);
    let differences = exam.truth.a.iter().zip(&exam.truth.b);
    let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
    let mean = differences.map(square).sum::<f64>() / (48. * 36.);
    assert!((marks.square_ab - mean).abs() < 1e-3 * mean, "{marks:?}");
    let of_truth = Marks::of(&exam, &exam.truth);
    assert_eq!(
        (of_truth.square_rgb, of_truth.square_ab, of_truth.ciede2000),
        (0., 0., 0.)
    );
}

/// As `samples` in tests/golden/metrics.py.
fn samples(count: usize, dimensions: usize, phase: f64, scale: f64, shift: f64) -> Vec<Vec<f32>> {
    let value = |i: usize| {
        let v = (i as f64 * 12.9898 + phase).sin() * 43.7585453;
        (((v - v.floor()) * 2. - 1.) * scale + shift) as f32
    };
    let row = |n: usize| (n * dimensions..(n + 1) * dimensions).map(value).collect();
    (0..count).map(row).collect()
}

fn fitted(samples: &[Vec<f32>]) -> Gaussian {
    Gaussian::fitted(samples.iter().map(Vec::as_slice)).unwrap()
}

#[test]
fn the_frechet_distance_agrees_with_scipy_even_with_few_samples() {
    for case in golden()["distances"].as_array().unwrap() {
        let [x, y] = [0, 1].map(|i| case["counts"][i].as_u64().unwrap() as usize);
        let dimensions = case["dimensions"].as_u64().unwrap() as usize;
        let x = fitted(&samples(x, dimensions, 0.5, 1., 0.));
        let y = fitted(&samples(y, dimensions, 2.5, 0.7, 0.2));
        close("distance", x.distance(&y), &case["frechet"], 1e-4);
        close("distance back", y.distance(&x), &case["frechet"], 1e-4);
        assert!(x.distance(&x) < 1e-9);
    }
    let one = samples(1, 4, 0., 1., 0.);
    assert!(Gaussian::fitted(one.iter().map(Vec::as_slice)).is_none());
}

#[test]
fn colour_distribution_consistency_agrees_with_numpy() {
    let mut consistency = Consistency::default();
    for kind in 0..4 {
        consistency.push(&picture(40, 30, kind));
        assert_eq!(consistency.value(), None, "four frames are too few");
    }
    (4..7).for_each(|kind| consistency.push(&picture(40, 30, kind)));
    let theirs = &golden()["cdc"];
    close("CDC", consistency.value().unwrap(), theirs, 1e-12);
}

const WIDTH: usize = 160;
const HEIGHT: usize = 120;

/// A smooth, rich pattern that is shifted by (x, y): lightness 0..100.
fn pattern(x: f64, y: f64) -> f64 {
    let waves = (x * 0.31).sin() + (y * 0.23 + 1.).sin() + ((x + y) * 0.11).cos();
    50. + 12. * (waves + (x * 0.07 - y * 0.13).sin())
}

fn plane(value: impl Fn(usize, usize) -> f64) -> Plane {
    let values = (0..WIDTH * HEIGHT).map(|i| value(i % WIDTH, i / WIDTH) as f32);
    Plane {
        width: WIDTH,
        height: HEIGHT,
        values: values.collect(),
    }
}

/// A background moving by (2.5, -1) a frame behind a darker square moving by (-6, 3) a frame.
fn scene(frame: f64) -> (Plane, impl Fn(usize, usize) -> bool) {
    let inside = move |x: usize, y: usize| {
        let (left, top) = (100. - 6. * frame, 30. + 3. * frame);
        let within = |v: usize, from: f64| (v as f64) >= from && (v as f64) < from + 40.;
        within(x, left) && within(y, top)
    };
    let lightness = plane(|x, y| {
        let (x64, y64) = (x as f64, y as f64);
        match inside(x, y) {
            true => 0.5 * pattern(2. * (x64 + 6. * frame), 2. * (y64 - 3. * frame)),
            false => pattern(x64 - 2.5 * frame, y64 + frame),
        }
    });
    (lightness, inside)
}

#[test]
fn motion_is_found_to_a_quarter_of_a_sample_and_what_was_hidden_is_known() {
    let ((before, was_inside), (now, inside)) = (scene(1.), scene(2.));
    let motion = Motion::between(&before, &now);
    let (mut right, mut seen, mut wrongly_seen, mut hidden) = (0, 0, 0, 0);
    for (i, vector) in motion.vectors().iter().enumerate() {
        let (x, y) = (i % WIDTH, i / WIDTH);
        let expected = if inside(x, y) { [6., -3.] } else { [-2.5, 1.] };
        let from = [
            x as f64 + f64::from(expected[0]),
            y as f64 + f64::from(expected[1]),
        ];
        let outside = from[0] < 0. || from[1] > (HEIGHT - 1) as f64;
        let covered =
            !inside(x, y) && was_inside(from[0].max(0.).round() as usize, from[1].round() as usize);
        if outside || covered {
            hidden += 1;
            wrongly_seen += usize::from(motion.seen()[i]);
        } else if motion.seen()[i] {
            seen += 1;
            let apart = (vector[0] - expected[0]).hypot(vector[1] - expected[1]);
            right += usize::from(apart <= 0.36);
        }
    }
    assert!(right as f64 > 0.97 * seen as f64, "{right} of {seen} right");
    assert!(seen > (WIDTH * HEIGHT) * 85 / 100, "{seen} seen");
    assert!(
        hidden > 300 && 4 * wrongly_seen < hidden,
        "{wrongly_seen} of {hidden} hidden ones taken for seen"
    );
}

#[test]
fn over_a_cut_nothing_is_seen() {
    let other = plane(|x, y| ((x * 37 + y * 91 + x * y) % 101) as f64);
    let share = Motion::between(&scene(0.).0, &other).seen_share();
    assert!(share < 0.4, "{share}");
}

/// Chroma that moves with the scene: the square is red, the background greenish with a slope.
fn steady(frame: f64) -> AbMap {
    let (_, inside) = scene(frame);
    let values = |f: &dyn Fn(usize, usize) -> f64| plane(f).values;
    let slope = |x: usize| (x as f64 - 2.5 * frame) * 0.05;
    AbMap {
        width: WIDTH,
        height: HEIGHT,
        a: values(&|x, y| if inside(x, y) { 40. } else { -20. + slope(x) }),
        b: values(&|x, y| if inside(x, y) { 30. } else { 10. }),
    }
}

/// Flicker of a drawn film of 8 frames with these colours.
fn flicker_of(colour: impl Fn(usize) -> AbMap) -> Flicker {
    let mut flicker = Flicker::default();
    let mut last: Option<(Plane, AbMap)> = None;
    for frame in 0..8 {
        let (now, _) = scene(frame as f64);
        let map = colour(frame);
        let motion = last
            .as_ref()
            .map(|(before, _)| Motion::between(before, &now));
        flicker.push(&map, last.as_ref().map(|(_, map)| map).zip(motion.as_ref()));
        last = Some((now, map));
    }
    flicker
}

#[test]
fn steady_colour_on_a_moving_picture_does_not_flicker() {
    let value = flicker_of(|frame| steady(frame as f64)).value().unwrap();
    assert!(value < 0.01, "{value}");
    // The same colours that stay where they are while the picture moves do flicker.
    let stuck = flicker_of(|_| steady(0.)).value().unwrap();
    assert!(stuck > 5. * value, "{stuck} against {value}");
}

#[test]
fn alternating_chroma_flickers_by_what_it_alternates() {
    // Chroma 20 and 10 in turn: a change of 10 every frame, over a mean of 15.
    let flicker = flicker_of(|frame| AbMap {
        width: WIDTH,
        height: HEIGHT,
        a: vec![0.; WIDTH * HEIGHT],
        b: vec![if frame % 2 == 0 { 20. } else { 10. }; WIDTH * HEIGHT],
    });
    let value = flicker.value().unwrap();
    assert!((value - 10. / 15.).abs() < 1e-6, "{value}");
    let series = flicker.series();
    assert_eq!((series.len(), series[0]), (8, None));
    assert!(
        series[1..]
            .iter()
            .all(|v| (v.unwrap() - value).abs() < 1e-6)
    );
    let grey = |_| AbMap {
        width: WIDTH,
        height: HEIGHT,
        a: vec![0.; WIDTH * HEIGHT],
        b: vec![0.; WIDTH * HEIGHT],
    };
    assert_eq!(
        flicker_of(grey).value(),
        None,
        "grey has no chroma to divide by"
    );
}

/// A folder of `count` drawn photographs of two sources, and one file that is none.
fn photographs(lab: &Lab, count: u32) -> PathBuf {
    let folder = lab.path("photos");
    std::fs::create_dir(&folder).unwrap();
    for i in 0..count {
        let source = if i % 3 == 0 { "a&b" } else { "fields" };
        let drawn = RgbImage::from_fn(64, 48, |x, y| {
            let sky = [90 + i % 40, 140, 200 - y];
            let grass = [60 + x, 120 + (i * 7) % 60, 40];
            // A house, somewhere else in each, or they would pass for one and the same.
            let (left, top) = (i * 13 % 48, i * 7 % 32);
            let house = (left..left + 16).contains(&x) && (top..top + 16).contains(&y);
            let colour = match house {
                true => [70, 20, 30],
                false if y < 20 + i % 9 => sky,
                false => grass,
            };
            Rgb(colour.map(|v| v as u8))
        });
        drawn
            .save(folder.join(format!("{source}_{i}.png")))
            .unwrap();
    }
    std::fs::write(folder.join("broken.jpg"), b"no picture").unwrap();
    folder
}

fn options(inputs: &[&Path], models: &[&str]) -> EvalOptions {
    EvalOptions {
        inputs: inputs.iter().map(|path| path.to_path_buf()).collect(),
        models: models.iter().map(|name| name.to_string()).collect(),
        looks: vec![Look::Vivid],
        network: on_cpu(Precision::F32),
        features: None,
        count: None,
        all: true,
        frames: 8,
        temporal: vec!["off".into()],
        key_interval: 6,
    }
}

fn compare(options: &EvalOptions) -> Report {
    autochrome::eval::run(options, &mut |_, _, _| ()).unwrap()
}

/// The bundled model, as if it had been trained with this split, with 30 % held out twice.
fn model_of_split(lab: &Lab, split: u64) -> PathBuf {
    let mut file = net::open(net::DEFAULT_MODEL).unwrap();
    file.header.trained =
        json!({ "settings": { "split": split, "held_out": 0.3, "of another time": 1 } });
    let bytes = checkpoint::bytes(&file.header, &file.tensors, DType::F16).unwrap();
    let path = lab.path(&format!("split{split}.safetensors"));
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn models_grey_a_constant_and_the_truth_stand_side_by_side() {
    let lab = Lab::new();
    let folder = photographs(&lab, 24);
    // The looks of a network that has learnt nothing are looks as well.
    let features = lab.path("features.safetensors");
    let weights = Params::seeded(&Features::graph(Layer::LAST), 1, &Device::Cpu).unwrap();
    let weights = weights.values().unwrap().into_iter().collect();
    candle_core::safetensors::save(&weights, &features).unwrap();
    let looks = compare(&EvalOptions {
        features: Some(features.clone()),
        looks: Look::ALL.to_vec(),
        count: Some(6),
        ..options(&[&folder], &[net::DEFAULT_MODEL])
    });
    let names: Vec<&str> = looks.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(
        names[..3],
        ["autochrome, faithful", "autochrome, vivid", "grey"]
    );
    assert_eq!(looks.rows[2].sfd_over_grey, Some(1.));
    assert!(looks.rows[0].colourfulness < looks.rows[1].colourfulness);
    let report = compare(&EvalOptions {
        features: Some(features),
        ..options(&[&folder], &["gray", "constant"])
    });
    let names: Vec<&str> = report.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(
        names,
        ["gray", "constant", "grey", "constant mean colour", "truth"]
    );
    let [gray, _, grey, mean, truth] = &report.rows[..] else {
        panic!("five rows")
    };
    assert_eq!(report.pictures.len(), 24);
    assert_eq!(report.skipped.len(), 1);
    assert!(
        report.skipped[0].0.ends_with("broken.jpg"),
        "{:?}",
        report.skipped
    );
    assert_eq!((gray.ciede2000, gray.ssim), (grey.ciede2000, grey.ssim));
    assert_eq!((grey.sfd_over_grey, grey.chroma_ratio), (Some(1.), 0.));
    assert!(
        mean.psnr_ab > grey.psnr_ab,
        "no constant is nearer than the mean"
    );
    assert!(truth.ciede2000 == 0. && truth.psnr_ab.is_infinite() && truth.d_colourfulness == 0.);
    assert!((truth.ssim - 1.).abs() < 1e-6 && truth.sfd.unwrap() < 1e-3 * grey.sfd.unwrap());
    assert!((grey.d_colourfulness - (truth.colourfulness - grey.colourfulness)).abs() < 1e-9);
    let sources: Vec<_> = report
        .sources
        .iter()
        .map(|s| (s.source.as_str(), s.photographs))
        .collect();
    assert_eq!(sources, [("a&b", 8), ("fields", 16)]);
    let by_source = report
        .sources
        .iter()
        .map(|s| s.photographs as f64 * s.rows[2].ciede2000);
    assert!((by_source.sum::<f64>() / 24. - grey.ciede2000).abs() < 1e-9);
}

#[test]
fn a_sample_has_every_source() {
    let lab = Lab::new();
    let folder = photographs(&lab, 24);
    let report = compare(&EvalOptions {
        count: Some(6),
        ..options(&[&folder], &["gray"])
    });
    let sources: Vec<_> = report
        .sources
        .iter()
        .map(|s| (s.source.as_str(), s.photographs))
        .collect();
    assert_eq!(sources, [("a&b", 2), ("fields", 4)]);
}

#[test]
fn only_what_no_model_has_learnt_from_is_judged() {
    let lab = Lab::new();
    let folder = photographs(&lab, 40);
    let models = [1, 2].map(|split| model_of_split(&lab, split));
    let names = [0, 1].map(|i| models[i].to_str().unwrap());
    let judged = |models: &[&str]| -> BTreeSet<String> {
        let report = compare(&EvalOptions {
            all: false,
            ..options(&[&folder], models)
        });
        report
            .pictures
            .into_iter()
            .map(|picture| picture.name)
            .collect()
    };
    let (one, two, both) = (judged(&names[..1]), judged(&names[1..]), judged(&names));
    assert!(one.len() < 30 && one != two);
    assert_eq!(both, one.intersection(&two).cloned().collect());
    let twice = compare(&options(&[&folder], &[names[0], names[0]]));
    assert_eq!(
        twice.rows[0].name, names[0],
        "two of one name are told in full"
    );
    let once = compare(&options(&[&folder], &[names[0], "gray"]));
    assert_eq!(once.rows[0].name, "split1");
}

#[test]
fn the_page_holds_every_picture_and_needs_nothing_else() {
    let lab = Lab::new();
    let folder = photographs(&lab, 9);
    let options = options(&[&folder], &["gray", "constant"]);
    let report = compare(&options);
    let page = page(&report, &options, &mut |_, _, _| ()).unwrap();
    // Grey, two models, truth.
    assert_eq!(page.matches("src=\"data:image/jpeg;base64,").count(), 9 * 4);
    for word in ["http:", "https:", "<link", "@import", "url("] {
        assert!(!page.contains(word), "{word} in the page");
    }
    assert!(page.contains("a&amp;b_0.png") && !page.contains("a&b_0.png"));
    let errors: Vec<f64> = page
        .split("data-error=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(errors.len(), 9);
    assert!(errors.is_sorted_by(|a, b| a >= b), "{errors:?}");
    let ends = |tag: &str| page.matches(&format!("</{tag}>")).count();
    for tag in [
        "table", "figure", "section", "details", "style", "script", "html",
    ] {
        let begins =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(begins, ends(tag), "{tag}");
    }
}

#[test]
fn a_film_is_judged_frame_by_frame_and_over_time() {
    let lab = Lab::new();
    let film = lab.film(
        "film.mkv",
        "-f lavfi -i testsrc2=s=160x120:r=25:d=1 -pix_fmt yuv420p -c:v ffv1",
    );
    let options = options(&[&film], &["constant"]);
    let report = compare(&options);
    let [clip] = &report.clips[..] else {
        panic!("one film")
    };
    assert_eq!((clip.frames, clip.cuts), (8, 0));
    let [constant, grey, mean, truth] = &clip.rows[..] else {
        panic!("four rows")
    };
    assert_eq!(mean.row.name, "constant mean colour");
    let nearer = |than: &ClipRow| mean.row.psnr_ab > than.row.psnr_ab;
    assert!(nearer(grey) && nearer(constant), "no constant is nearer");
    assert_eq!(constant.flicker, Some(0.));
    let own = truth.flicker.unwrap();
    assert_eq!(constant.flicker_over_truth, Some(-own));
    assert_eq!((grey.flicker, truth.flicker_over_truth), (None, Some(0.)));
    assert!(own > 0. && own < 0.5, "{own}");
    assert!(truth.cdc > Some(0.) && grey.cdc_over_truth.is_some());
    assert!(truth.row.ciede2000 == 0. && grey.row.ciede2000 > 5.);
    assert_eq!(truth.flicker_of_frames.len(), 8);
    assert!(grey.network_ran.is_empty() && grey.residual_of_frames == [None; 8]);
    let page = page(&report, &options, &mut |_, _, _| ()).unwrap();
    for chart in ["flicker of each frame", "chroma of the stillest patch"] {
        assert!(page.contains(&format!("<figcaption>{chart}")), "{chart}");
    }
    // Every frame by itself: the constant, which counts as a model, runs on each; nobody looks at motion.
    assert!(page.contains("<figcaption>frames that the network saw"));
    assert!(!page.contains("<figcaption>residual"));
}

#[test]
fn the_stillest_patch_is_where_nothing_moves() {
    let lab = Lab::new();
    // Waves of light and colour that move on, behind a black square and one in colour that stay.
    let moving = "geq=lum=120+60*sin((X+3*N)/7)*cos((Y+2*N)/9):cb=128+50*sin((X+3*N)/15):cr=128+50*cos((Y+2*N)/15)";
    let black = "drawbox=x=0:y=0:w=40:h=40:color=black:t=fill";
    let coloured = "drawbox=x=80:y=40:w=60:h=60:color=0x208060:t=fill";
    let film = lab.film(
        "still.mkv",
        &format!(
            "-f lavfi -i color=s=160x120:r=25:d=0.4,format=yuv444p,{moving},{black},{coloured} -c:v ffv1"
        ),
    );
    let report = compare(&options(&[&film], &["gray"]));
    let clip = &report.clips[0];
    let (left, top, side) = clip.still_patch.unwrap();
    let scale = 160. / clip.size.0 as f64;
    let [left, top, side] = [left, top, side].map(|v| v as f64 * scale);
    assert!((side - 10.).abs() < 1., "{side}");
    let within = |from: f64, begin: f64| from >= begin && from + side <= begin + 60.;
    assert!(within(left, 80.) && within(top, 40.), "{left}, {top}");
    let truth = &clip.rows[clip.rows.len() - 1].still_patch;
    assert_eq!(truth, &vec![truth[0]; 8]);
    let [l, a, b] = color::lab_from_srgb([0x20, 0x80, 0x60].map(|v| v as f32 / 255.));
    assert!(
        (truth[0][0] - a).hypot(truth[0][1] - b) < 3.,
        "{truth:?} is not {l}, {a}, {b}"
    );
    assert_eq!(clip.rows[0].still_patch, [[0.; 2]; 8]);
}

/// A film of three scenes in colour.
fn scenes(lab: &Lab, name: &str) -> PathBuf {
    let sources = "-f lavfi -i testsrc2=s=160x120:r=25:d=1 -f lavfi -t 1 -i mandelbrot=s=160x120:r=25 -f lavfi -i rgbtestsrc=s=160x120:r=25:d=1";
    let coded = "-filter_complex [0][1][2]concat=n=3:v=1 -c:v ffv1 -pix_fmt yuv420p";
    lab.film(name, &format!("{sources} {coded}"))
}

#[test]
fn of_films_in_a_folder_frames_are_judged_and_named_films_as_films() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("films")).unwrap();
    let inside = scenes(&lab, "films/inside.mkv");
    let folder = inside.parent().unwrap();
    let alone = compare(&options(&[folder], &["constant"]));
    assert!(alone.clips.is_empty() && alone.pictures.len() >= 3);
    assert!(
        alone
            .pictures
            .iter()
            .all(|picture| picture.name.contains("inside.mkv at "))
    );
    let named = lab.film(
        "named.mkv",
        "-f lavfi -i testsrc2=s=96x64:r=25:d=0.4 -pix_fmt yuv420p -c:v ffv1",
    );
    let both = compare(&options(&[folder, &named], &["constant"]));
    assert_eq!(
        (both.pictures.len(), both.clips.len()),
        (alone.pictures.len(), 1)
    );
    assert!(both.clips[0].name.ends_with("named.mkv"));
    let names = |rows: Vec<&autochrome::eval::report::Row>| -> Vec<String> {
        rows.into_iter().map(|row| row.name.clone()).collect()
    };
    let of_clip = both.clips[0].rows.iter().map(|row| &row.row).collect();
    assert_eq!(names(of_clip), names(both.rows.iter().collect()));
}

const WIDE: Limits = Limits {
    max_ciede2000: Some(100.),
    min_colourfulness: 0.,
    max_colourfulness: 10.,
    max_k: 1.,
    min_calm: 0,
};

/// Calibrates; also how many photographs the network was run on.
fn calibrated(options: &EvalOptions, limits: &Limits) -> (Calibration, usize) {
    let mut runs = 0;
    let found = calibrate::run(options, limits, &mut |what, done, _| {
        if what == "photographs" {
            runs = done;
        }
    });
    (found.unwrap(), runs)
}

/// The figures of a model, by itself, on the validation photographs of a split of seed 1 with 30 % held out twice.
fn figures_of(bytes: &[u8], folder: &Path) -> Figures {
    let of_seed = HeldOut {
        split: 1,
        held_out: 0.3,
    };
    let pictures = Pictures::gather(&[folder.into()], &[of_seed], false, &mut |_, _| ()).unwrap();
    let file = Checkpoint::parse(bytes, "tuned").unwrap();
    let mut tuned = net::ready("tuned", file, &on_cpu(Precision::F32)).unwrap();
    let exam = |photo: &Photo| {
        Exam::new(
            &photo.open().unwrap(),
            tuned.thumb_size(64, 48, 1.).unwrap(),
        )
    };
    let exams: Vec<Exam> = pictures.validation.iter().map(exam).collect();
    judge(
        &exams,
        &autochrome::eval::colour(tuned.as_mut(), &exams).unwrap(),
    )
}

#[track_caller]
fn same_figures(by_itself: &Figures, said: &Figures) {
    let near = |a: f64, b: f64, most: f64| assert!((a - b).abs() < most, "{by_itself:?}, {said:?}");
    near(by_itself.ciede2000, said.ciede2000, 1e-4);
    near(by_itself.psnr_ab, said.psnr_ab, 1e-4);
    near(by_itself.colourfulness, said.colourfulness, 1e-2);
}

#[test]
fn what_a_calibration_says_of_a_setting_is_what_the_model_then_does() {
    let lab = Lab::new();
    let folder = photographs(&lab, 40);
    let regression = untrained(json!({ "cut": true, "head": "regression" }));
    let model = written(&lab, "regression.safetensors", &regression);
    let options = options(&[&folder], &[model.to_str().unwrap()]);
    let (found, runs) = calibrated(&options, &WIDE);
    assert!(found.photographs > 3 && found.trials.len() == 11);
    assert_eq!(runs, found.photographs);
    let chosen = *found.vivid().unwrap();
    let errors = found.trials.iter().map(|t| t.figures.ciede2000);
    let least = errors.fold(f64::INFINITY, f64::min);
    assert_eq!(
        chosen.figures.ciede2000, least,
        "without features the least error is taken"
    );
    let bytes = found.tuned().unwrap();
    let file = Checkpoint::parse(&bytes, "tuned").unwrap();
    assert_eq!(file.header.looks, Looks::both(chosen.setting.stored()));
    let said = &file.header.figures["validation"];
    assert_eq!(said["vivid"]["ciede2000"], json!(least));
    same_figures(&figures_of(&bytes, &folder), &chosen.figures);

    let strict = Limits {
        max_ciede2000: Some(0.001),
        ..WIDE
    };
    let (found, _) = calibrated(&options, &strict);
    let why = found.vivid().unwrap_err();
    assert_eq!(why.exit_code(), 2);
    assert!(why.to_string().contains("--max-de00") && found.tuned().is_err());
}

/// A model of this kind that nobody trained, lively enough to choose by.
fn untrained(network: Value) -> Checkpoint {
    let mut file = net::open(net::DEFAULT_MODEL).unwrap();
    file.header.arch = "lite".into();
    file.header.network = network;
    file.header.size = 32;
    file.header.looks.vivid.gain = 1.7;
    file.header.trained = json!({ "settings": { "split": 1, "held_out": 0.3 } });
    let graph = (net::arch("lite").unwrap().graph)(&file.header.network).unwrap();
    let graph = net::decoded(graph, &Decoding::default());
    let params = Params::seeded(&graph, 7, &Device::Cpu).unwrap();
    file.tensors = params.values().unwrap().into_iter().collect();
    let head = &file.tensors["decoder.head.weight"] * 30.;
    file.tensors
        .insert("decoder.head.weight".into(), head.unwrap());
    file
}

fn written(lab: &Lab, name: &str, file: &Checkpoint) -> PathBuf {
    let path = lab.path(name);
    let bytes = checkpoint::bytes(&file.header, &file.tensors, DType::F16).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A classification, its bins' frequencies as `prior` says.
fn classification(lab: &Lab, name: &str, prior: impl Fn(usize) -> f32) -> PathBuf {
    let mut file = untrained(json!({ "cut": true }));
    let prior = (0..261).map(prior).collect();
    let prior = Tensor::from_vec(prior, 261, &Device::Cpu).unwrap();
    file.tensors.insert("head.prior".into(), prior);
    written(lab, name, &file)
}

/// The values of tensors, bit for bit.
fn bits(tensor: &Tensor) -> (DType, Vec<u16>) {
    let values = tensor
        .flatten_all()
        .unwrap()
        .to_vec1::<half::f16>()
        .unwrap();
    (
        tensor.dtype(),
        values.into_iter().map(|v| v.to_bits()).collect(),
    )
}

#[test]
fn k_and_temperature_of_a_classification_are_chosen_and_do_what_was_said() {
    let lab = Lab::new();
    let folder = photographs(&lab, 24);
    let model = classification(&lab, "counted.safetensors", |i| {
        if i == 100 { 0.7 } else { 0.3 / 260. }
    });
    let mut options = options(&[&folder], &[model.to_str().unwrap()]);
    // Another size than the file's: the settings are for that one.
    options.network.quality = Quality::Pixels(40);
    let (found, runs) = calibrated(&options, &WIDE);
    assert!(found.photographs > 3 && !found.counted);
    assert_eq!(
        runs, found.photographs,
        "however many settings are tried, the network runs once on every photograph"
    );
    assert!((3 * 3 * 2 * 5..6 * 5 * 3 * 9).contains(&found.trials.len()));
    let chosen = *found.vivid().unwrap();
    let errors = found.trials.iter().map(|t| t.figures.ciede2000);
    let (least, most) = errors.fold((f64::INFINITY, 0f64), |(l, m), e| (l.min(e), m.max(e)));
    assert!(chosen.figures.ciede2000 == least && most > least + 0.01);
    // Every way of decoding, not only the chosen one.
    let different = |t: &&Trial| {
        t.setting
            .decoding
            .is_some_and(|d| d.k == 0.4 && d.calm == 2)
            && t.setting.gain == 1.4
    };
    for trial in [chosen].iter().chain(found.trials.iter().find(different)) {
        let mut one = found.clone();
        one.trials = vec![*trial];
        (one.faithful, one.vivid) = (0, Some(0));
        let bytes = one.tuned().unwrap();
        let file = Checkpoint::parse(&bytes, "tuned").unwrap();
        assert_eq!(file.header.looks, Looks::both(trial.setting.stored()));
        assert_eq!(file.header.size, 40);
        let before = net::open(model.to_str().unwrap()).unwrap();
        assert!(file.tensors.keys().eq(before.tensors.keys()));
        for (name, tensor) in &before.tensors {
            assert_eq!(bits(&file.tensors[name]), bits(tensor), "{name}");
        }
        same_figures(&figures_of(&bytes, &folder), &trial.figures);
    }
    let strict = Limits {
        min_colourfulness: 5.,
        ..WIDE
    };
    let (found, _) = calibrated(&options, &strict);
    let why = found.vivid().unwrap_err().to_string();
    for word in [
        "no setting of k, T, calm and gain",
        "the nearest, k 0",
        ", T ",
        ", gain 2.6",
    ] {
        assert!(why.contains(word), "{why}");
    }
    assert!(found.to_string().contains("    k     T  calm  gain"));
}

#[test]
fn bins_that_nobody_counted_are_counted_by_the_network() {
    let lab = Lab::new();
    let folder = photographs(&lab, 24);
    let model = classification(&lab, "uncounted.safetensors", |_| 1. / 261.);
    let options = options(&[&folder], &[model.to_str().unwrap()]);
    let (found, _) = calibrated(&options, &WIDE);
    assert!(found.counted && found.to_string().contains("equally frequent"));
    let bytes = found.tuned().unwrap();
    let file = Checkpoint::parse(&bytes, "tuned").unwrap();
    let before = net::open(model.to_str().unwrap()).unwrap();
    for (name, tensor) in &before.tensors {
        let same = bits(&file.tensors[name]) == bits(tensor);
        assert_eq!(same, name != "head.prior", "{name}");
    }
    let prior = file.tensors["head.prior"].to_dtype(DType::F32).unwrap();
    let sum = prior.sum_all().unwrap().to_scalar::<f32>().unwrap();
    assert!((sum - 1.).abs() < 1e-2, "{sum}");
    same_figures(
        &figures_of(&bytes, &folder),
        &found.vivid().unwrap().figures,
    );
}

#[test]
fn the_program_says_what_is_wrong_with_an_input() {
    let lab = Lab::new();
    let empty = lab.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let eval = |args: &[&str]| run(autochrome(["eval"]).args(args).args(["--model", "gray"]));
    let empty = empty.to_str().unwrap();
    eval(&[empty]).fails(3, &["no photographs", "*.mp4"]);
    eval(&["/no/such/folder"]).fails(3, &["no such file"]);
    eval(&[empty, "--calibrate"]).fails(2, &["nothing to calibrate"]);
    eval(&[empty, "-o", "x.safetensors"]).fails(2, &["--calibrate"]);
    let grey = lab.clip("grey.mkv", 0.3, "-c:v ffv1");
    let grey = grey.to_str().unwrap();
    eval(&[grey]).fails(3, &["no colour to judge by"]);
    let film = lab.film(
        "film.mkv",
        "-f lavfi -i testsrc2=s=96x64:r=25:d=0.4 -pix_fmt yuv420p -c:v ffv1",
    );
    let page = lab.path("report.html");
    let done = eval(&[
        film.to_str().unwrap(),
        grey,
        "--report",
        page.to_str().unwrap(),
        "--json",
    ])
    .ok();
    assert!(
        done.stderr.contains("1 file could not be judged"),
        "{}",
        done.stderr
    );
    let found = done.json();
    assert_eq!(found["clips"][0]["frames"], 10);
    assert_eq!(found["clips"][0]["rows"][3]["name"], "truth");
    assert_eq!(found["skipped"][0][0], grey);
    assert!(
        std::fs::read_to_string(page)
            .unwrap()
            .starts_with("<!doctype html>")
    );
}

#[test]
fn a_film_is_steadier_by_motion_and_needs_the_network_less_often() {
    let lab = Lab::new();
    let film = lab.film(
        "film.mkv",
        "-f lavfi -i testsrc2=s=480x360:r=25:d=1,trim=end_frame=1,loop=24:1,crop=320:240:3*n:n -pix_fmt yuv420p -c:v ffv1",
    );
    let options_of_three = EvalOptions {
        temporal: ["off", "smooth", "motion"].map(String::from).to_vec(),
        frames: 24,
        ..options(&[&film], &[net::DEFAULT_MODEL])
    };
    let report = compare(&options_of_three);
    let rows = &report.clips[0].rows;
    let names: Vec<&str> = rows.iter().map(|row| row.row.name.as_str()).collect();
    assert_eq!(
        names[..3],
        [
            "autochrome, off",
            "autochrome, smooth",
            "autochrome, motion"
        ]
    );
    assert_eq!((names[3], names[names.len() - 1]), ("grey", "truth"));
    let runs: Vec<_> = rows.iter().map(|row| row.network_runs).collect();
    assert_eq!((runs[0], runs[1], runs[3]), (Some(24), Some(24), None));
    assert!(runs[2] <= Some(8), "{runs:?}");
    for row in &rows[..3] {
        let ran = row.network_ran.iter().filter(|ran| **ran).count();
        assert_eq!((row.network_ran.len(), Some(ran)), (24, row.network_runs));
    }
    assert_eq!(rows[0].residual_of_frames, [None; 24]);
    let residual = |row: &ClipRow| -> Vec<f64> {
        let all = row.residual_of_frames.iter();
        all.map(|share| share.unwrap()).collect()
    };
    let (smooth, motion) = (residual(&rows[1]), residual(&rows[2]));
    for residual in [&smooth, &motion] {
        assert!(
            residual.iter().all(|share| (0. ..=1.).contains(share)),
            "{residual:?}"
        );
        assert_eq!((residual.len(), residual[0]), (24, 0.));
    }
    let sum = |residual: &[f64]| residual.iter().sum::<f64>();
    assert!(
        sum(&motion) > sum(&smooth),
        "the way to a key frame is longer than to the frame before"
    );
    let flicker = |row: &ClipRow| row.flicker.unwrap();
    for steadied in &rows[1..3] {
        let (off, on) = (flicker(&rows[0]), flicker(steadied));
        assert!(
            on < 0.7 * off,
            "{}: {on} instead of {off}",
            steadied.row.name
        );
    }
    // The same frames, in the same order: the error does not grow much.
    assert!(rows[2].row.ciede2000 < rows[0].row.ciede2000 + 0.3);
    let page = page(&report, &options_of_three, &mut |_, _, _| ()).unwrap();
    assert_eq!(page.matches("<figure class=\"chart\">").count(), 4);
    let wrong = EvalOptions {
        temporal: vec!["none".into()],
        ..options(&[&film], &["gray"])
    };
    let why = autochrome::eval::run(&wrong, &mut |_, _, _| ()).unwrap_err();
    assert!(why.to_string().contains("off, smooth, motion"), "{why}");
}
