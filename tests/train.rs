//! The trainer: it learns, it resumes exactly, it survives bad pictures.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use autochrome::{
    Error,
    net::{self, DeviceChoice, Precision, checkpoint},
    train::{self, Config, Event, Job, data::Split},
};
use candle_core::Device;
use image::{Rgb, RgbImage};
use serde_json::json;

#[path = "common/numbers.rs"]
mod numbers;

/// Pictures in which the lower, darker half is green and the upper, lighter half blue, in varying shades.
fn draw_photos(folder: &Path, count: u32) {
    for i in 0..count {
        let picture = RgbImage::from_fn(40, 32, |x, y| {
            let shade = ((x * 7 + i * 13) % 40) as u8;
            if y < 16 {
                Rgb([120 + shade, 170 + shade, 210 + shade])
            } else {
                Rgb([30 + shade, 80 + shade, 20 + shade])
            }
        });
        picture.save(folder.join(format!("{i}.png"))).unwrap();
    }
}

/// A tiny pix2pix with every part in use.
fn tiny(steps: u64) -> Config {
    Config {
        network: json!({ "channels": 4, "depth": 3 }),
        size: 16,
        batch: 4,
        steps,
        warmup: 2,
        critic: serde_json::from_value(json!({ "channels": 8, "layers": 1 })).unwrap(),
        held_out: 0.1,
        check_every: 1000,
        ..Config::default()
    }
}

fn job(folder: &Path, name: &str, resume: bool) -> Job {
    Job {
        photos: vec![folder.join("photos")],
        output: folder.join(name),
        init: None,
        device: DeviceChoice::Cpu,
        resume,
    }
}

fn photos(count: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("photos")).unwrap();
    draw_photos(&folder.path().join("photos"), count);
    folder
}

fn never() -> AtomicBool {
    AtomicBool::new(false)
}

/// As [`tiny`] with batch norms, whose statistics move as well.
fn tiny_lite(steps: u64) -> Config {
    Config {
        arch: "lite".into(),
        network: json!({}),
        size: 64,
        ..tiny(steps)
    }
}

#[test]
fn resuming_equals_never_having_stopped_bit_for_bit() {
    for (config, half) in [(tiny(6), 3), (tiny_lite(4), 2)] {
        let folder = photos(30);
        let run = |name: &str, resume, stop: &AtomicBool, tell: &mut dyn FnMut(Event)| {
            let job = job(folder.path(), name, resume);
            train::run(&config, &job, stop, tell).unwrap().steps
        };
        run("whole.safetensors", false, &never(), &mut |_| ());
        let stop = never();
        let mut stop_half_way = |event: Event| {
            if matches!(event, Event::Step { step, .. } if step == half) {
                stop.store(true, Ordering::Relaxed);
            }
        };
        assert_eq!(
            run("parts.safetensors", false, &stop, &mut stop_half_way),
            half
        );
        let steps = run("parts.safetensors", true, &never(), &mut |_| ());
        assert_eq!(steps, config.steps);
        let same = |file: &str| {
            let of = |name: &str| fs::read(folder.path().join(file.replace("NAME", name))).unwrap();
            assert!(
                of("whole") == of("parts"),
                "{}: {file} differs",
                config.arch
            );
        };
        same("NAME.run/state.safetensors");
        same("NAME.safetensors");
    }
}

#[test]
fn a_run_does_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let states = ["1", "2"].map(|threads| {
        let path = folder.path().join(threads);
        let environment = [
            ("RAYON_NUM_THREADS", threads),
            ("AUTOCHROME_TEST_STATE", path.to_str().unwrap()),
        ];
        numbers::again("a_run_for_another_process", &environment);
        fs::read(path).unwrap()
    });
    assert!(states[0] == states[1], "the states differ");
}

#[test]
fn a_run_for_another_process() {
    let Some(path) = std::env::var_os("AUTOCHROME_TEST_STATE") else {
        return;
    };
    let folder = photos(20);
    let mut states = Vec::new();
    let configs = [
        tiny(3),
        tiny_lite(2),
        Config {
            bf16: true,
            ..tiny(2)
        },
    ];
    for (i, config) in configs.iter().enumerate() {
        let job = job(folder.path(), &format!("{i}.safetensors"), false);
        train::run(config, &job, &never(), &mut |_| ()).unwrap();
        states.extend(fs::read(job.folder().join("state.safetensors")).unwrap());
    }
    fs::write(path, states).unwrap();
}

#[test]
fn a_run_learns_and_its_model_loads() {
    let folder = photos(40);
    let config = Config {
        objectives: [("l1".to_owned(), 1.)].into(),
        rate: 3e-3,
        ema: 0.9,
        film_stocks: false,
        ..tiny(60)
    };
    let mut losses = Vec::new();
    let mut note = |event: Event| {
        if let Event::Step { losses: all, .. } = event {
            losses.push(all[0].1);
        }
    };
    let job = job(folder.path(), "model.safetensors", false);
    train::run(&config, &job, &never(), &mut note).unwrap();
    assert!(
        losses[59] < 0.7 * losses[0],
        "running mean of the loss: {} to {}",
        losses[0],
        losses[59]
    );
    assert!(job.folder().join("sheet-000060.png").exists());
    assert!(
        fs::read_to_string(job.folder().join("log.csv"))
            .unwrap()
            .contains("ciede2000")
    );
    let name = job.output.to_str().unwrap();
    assert_eq!(net::info(name).unwrap().trained["settings"]["size"], 16);
    net::load(name, &DeviceChoice::Cpu, Precision::F32).unwrap();
}

#[test]
fn a_run_starts_from_a_model_of_its_own_kind_only() {
    let folder = photos(20);
    let folder = folder.path();
    let first = job(folder, "first.safetensors", false);
    train::run(&tiny(1), &first, &never(), &mut |_| ()).unwrap();
    let from_first = |name| Job {
        init: Some(first.output.clone()),
        ..job(folder, name, false)
    };
    train::run(
        &tiny(1),
        &from_first("second.safetensors"),
        &never(),
        &mut |_| (),
    )
    .unwrap();
    let squeeze = Config {
        arch: "squeeze".into(),
        size: 32,
        network: json!({}),
        ..tiny(1)
    };
    let error = train::run(
        &squeeze,
        &from_first("third.safetensors"),
        &never(),
        &mut |_| (),
    )
    .unwrap_err();
    assert!(
        matches!(error, Error::Model { .. }) && error.to_string().contains("unet"),
        "{error}"
    );
}

/// Needs the ImageNet weights, which are no part of the repository.
#[test]
fn the_encoder_starts_from_imagenet() {
    let weights =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/weights/squeezenet-v1.0.safetensors");
    if !weights.exists() {
        println!("skipped: {} is not there", weights.display());
        return;
    }
    let folder = photos(20);
    let config = Config {
        arch: "squeeze".into(),
        network: json!({}),
        objectives: [("huber".to_owned(), 1.)].into(),
        ..tiny(1)
    };
    let job = Job {
        init: Some(weights),
        ..job(folder.path(), "m.safetensors", false)
    };
    train::run(&config, &job, &never(), &mut |_| ()).unwrap();
    let state = fs::read(job.folder().join("state.safetensors")).unwrap();
    let state = checkpoint::tensors(&state, "state", &Device::Cpu).unwrap();
    // The original's own numbers, as songhan's file has them: fire2's weights are taken over as they are.
    let weight = state["generator/fire2.squeeze.weight"]
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    let spread = (weight.iter().map(|w| w * w).sum::<f32>() / weight.len() as f32).sqrt();
    assert!((0.01..1.).contains(&spread), "{spread}");
    assert_eq!(state["generator/conv1.weight"].dims(), [96, 1, 7, 7]);
}

#[test]
fn an_earlier_run_is_neither_overwritten_nor_resumed_with_other_settings() {
    let folder = photos(20);
    let folder = folder.path();
    train::run(
        &tiny(1),
        &job(folder, "m.safetensors", false),
        &never(),
        &mut |_| (),
    )
    .unwrap();
    let again = train::run(
        &tiny(1),
        &job(folder, "m.safetensors", false),
        &never(),
        &mut |_| (),
    );
    assert!(matches!(&again, Err(Error::Train(why)) if why.contains("--resume")));
    let other = Config {
        rate: 1e-5,
        ..tiny(2)
    };
    let other = train::run(
        &other,
        &job(folder, "m.safetensors", true),
        &never(),
        &mut |_| (),
    );
    assert!(matches!(&other, Err(Error::Train(why)) if why.contains("other settings")));
}

#[test]
fn a_run_resumes_with_more_or_less_memory_for_photographs() {
    let folder = photos(20);
    let job = |resume| job(folder.path(), "m.safetensors", resume);
    train::run(&tiny(1), &job(false), &never(), &mut |_| ()).unwrap();
    let other = Config {
        cache_mb: 0,
        ..tiny(2)
    };
    let trained = train::run(&other, &job(true), &never(), &mut |_| ()).unwrap();
    assert_eq!(trained.steps, 2);
}

#[test]
fn corrupt_pictures_are_skipped_and_named() {
    let folder = photos(30);
    let bad = folder.path().join("photos/bad.jpg");
    fs::write(&bad, b"this is no picture").unwrap();
    // A whole header with half the pixels missing: it is found out only when it is decoded.
    let cut = folder.path().join("photos/cut.png");
    let whole = fs::read(folder.path().join("photos/0.png")).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let config = Config {
        held_out: 0.02,
        ..tiny(20)
    };
    let mut warnings = String::new();
    let mut note = |event: Event| {
        if let Event::Warning(line) = event {
            warnings += &line;
        }
    };
    let trained = train::run(
        &config,
        &job(folder.path(), "m.safetensors", false),
        &never(),
        &mut note,
    )
    .unwrap();
    assert!(warnings.contains("bad.jpg"), "{warnings}");
    assert!(trained.skipped.contains(&bad), "{:?}", trained.skipped);
    assert!(trained.skipped.contains(&cut), "{:?}", trained.skipped);
}

#[test]
fn a_folder_without_pictures_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let error = Split::scan(&[folder.path().to_owned()], 0.1, 1).unwrap_err();
    assert!(
        matches!(&error, Error::Train(why) if why.contains(folder.path().to_str().unwrap())),
        "{error}"
    );
}

#[test]
fn the_split_depends_on_content_and_seed_not_on_names() {
    let folder = photos(60);
    let photos = folder.path().join("photos");
    let contents = |seed| {
        let split = Split::scan(std::slice::from_ref(&photos), 0.2, seed).unwrap();
        assert!(!split.test.is_empty() && !split.validation.is_empty());
        let mut test: Vec<_> = split
            .test
            .iter()
            .map(|path| fs::read(path).unwrap())
            .collect();
        test.sort();
        (
            test,
            split.train.len() + split.validation.len() + split.test.len(),
        )
    };
    let before = contents(1);
    for i in 0..60 {
        fs::rename(
            photos.join(format!("{i}.png")),
            photos.join(format!("renamed-{:03}.png", 100 - i)),
        )
        .unwrap();
    }
    fs::copy(photos.join("renamed-100.png"), photos.join("copy.png")).unwrap();
    assert_eq!(contents(1), before, "renaming and copying change nothing");
    assert_ne!(contents(2).0, before.0);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let wrong = [
        (
            Config {
                batch: 3,
                ..tiny(1)
            },
            "batch",
        ),
        (
            Config {
                held_out: 0.6,
                ..tiny(1)
            },
            "held_out",
        ),
        (
            Config {
                objectives: [("l3".to_owned(), 1.)].into(),
                ..tiny(1)
            },
            "l3",
        ),
        (
            Config {
                smallest_crop: 0.,
                ..tiny(1)
            },
            "smallest_crop",
        ),
        (
            Config {
                cache_mb: usize::MAX,
                ..tiny(1)
            },
            "cache_mb",
        ),
    ];
    for (config, name) in wrong {
        let error = config.validate().unwrap_err();
        assert!(
            matches!(&error, Error::Usage(why) if why.contains(name)),
            "{error}"
        );
    }
    Config::default().validate().unwrap();
}

#[test]
fn a_discriminator_that_is_too_deep_for_the_size_is_refused() {
    let folder = photos(20);
    let config = Config {
        critic: serde_json::from_value(json!({ "channels": 8, "layers": 3 })).unwrap(),
        ..tiny(1)
    };
    let error = train::run(
        &config,
        &job(folder.path(), "m.safetensors", false),
        &never(),
        &mut |_| (),
    )
    .unwrap_err();
    assert!(
        matches!(&error, Error::Usage(why) if why.contains("fewer layers")),
        "{error}"
    );
}

#[test]
fn the_rate_rises_holds_and_falls_to_zero() {
    let config = Config {
        rate: 1.,
        warmup: 10,
        constant: 0.5,
        steps: 100,
        ..Config::default()
    };
    let rates = [0, 4, 9, 30, 50, 75, 99].map(|step| (config.rate_at(step) * 100.).round());
    assert_eq!(rates, [10., 50., 100., 100., 100., 50., 2.]);
}
