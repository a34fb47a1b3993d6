//! The trainer: it learns, it resumes exactly, whatever is in use; it survives bad pictures and says what is wrong.

mod common;
use common::on_cpu;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use autochrome::{
    Error,
    net::{self, DeviceChoice, Precision, checkpoint},
    train::{self, Config, Event, Job, config},
};
use candle_core::{Device, Tensor};
use image::{Rgb, RgbImage};
use serde_json::{Map, Value, json};

#[path = "common/numbers.rs"]
mod numbers;

/// Pictures of a bright sky, a dark meadow and a red ball somewhere, no two alike.
fn draw_photos(folder: &Path, count: u32) {
    for i in 0..count {
        let horizon = 10 + i * 7 % 13;
        let (x0, y0) = (6 + i * 11 % 29, 6 + i * 5 % 21);
        let picture = RgbImage::from_fn(40, 32, |x, y| {
            let shade = ((x * 3 + y * 5 + i * 13) % 40) as u8;
            if (x.abs_diff(x0)).pow(2) + (y.abs_diff(y0)).pow(2) < 16 + i % 9 {
                Rgb([200 + shade, 40 + shade, 40])
            } else if y < horizon {
                Rgb([120 + shade, 170 + shade, 210 + shade])
            } else {
                Rgb([30 + shade, 80 + shade, 20 + shade])
            }
        });
        picture.save(folder.join(format!("p_{i}.png"))).unwrap();
    }
}

fn with(settings: Value) -> Config {
    let Value::Object(settings) = settings else {
        panic!("settings are an object")
    };
    config::parsed(settings).unwrap()
}

/// A tiny pix2pix with every part in use; `more` settings win.
fn tiny(steps: u64, more: Value) -> Config {
    let mut settings = json!({
        "arch": "unet", "network": { "channels": 4, "depth": 3 },
        "size": 16, "batch": 4, "steps": steps, "rate": 2e-4, "warmup": 2, "held_out": 0.1, "check_every": 1000,
        "objectives": { "l1": 100, "gan": 1 },
        "critic": { "network": { "channels": 8, "receptive": 16 } },
    });
    let (Some(settings_), Value::Object(more)) = (settings.as_object_mut(), more) else {
        panic!("settings are an object")
    };
    settings_.extend(more);
    with(settings)
}

/// The default generator, small and with everything that it learns by.
fn tiny_lite(steps: u64) -> Config {
    tiny(
        steps,
        json!({
            "arch": "lite", "network": { "cut": true }, "size": 64,
            "objectives": {
                "cross-entropy": 0.5, "cross-entropy-rebalanced": 0.5, "huber": 0.3, "stability": 0.1,
                "colourfulness": 0.1,
            },
        }),
    )
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

/// Trains from the beginning and expects it to be done.
fn train(config: &Config, job: &Job) -> train::Trained {
    train::run(config, job, &never(), &mut |_| ()).unwrap()
}

/// Why it cannot be trained.
fn refusal(config: &Config, job: &Job) -> Error {
    train::run(config, job, &never(), &mut |_| ()).unwrap_err()
}

/// The newest checkpoint's files by name.
fn newest(run: &Path) -> Vec<(String, Vec<u8>)> {
    let folders = fs::read_dir(run.join("checkpoints")).unwrap();
    let newest = folders.map(|f| f.unwrap().path()).max().unwrap();
    let files = fs::read_dir(&newest).unwrap().map(|f| f.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .map(|path| {
            (
                path.file_name().unwrap().to_str().unwrap().into(),
                fs::read(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// The tensors of one part of the newest checkpoint.
fn part(run: &Path, part: &str) -> Vec<(String, Vec<f32>)> {
    let mut tensors = Vec::new();
    for (name, bytes) in newest(run) {
        if name.starts_with(part) {
            tensors.extend(checkpoint::tensors(&bytes, &name, &Device::Cpu).unwrap());
        }
    }
    assert!(!tensors.is_empty(), "no part {part}");
    let values = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    tensors
        .into_iter()
        .map(|(name, t)| (name, values(t)))
        .collect()
}

#[test]
fn resuming_equals_never_having_stopped_bit_for_bit() {
    let hinge = json!({
        "critic": { "loss": "hinge", "network": { "channels": 8, "receptive": 16, "norm": "spectral" } },
        "grow": [{ "size": 8, "batch": 8, "until": 0.5 }],
        "accumulate": 2,
        "ema": 0.9,
    });
    let configs = [
        (tiny(6, json!({})), 3),
        (tiny(6, hinge), 4),
        (tiny_lite(4), 2),
    ];
    for (config, half) in configs {
        let folder = photos(30);
        let run = |name: &str, resume, stop: &AtomicBool, tell: &mut dyn FnMut(Event)| {
            let job = job(folder.path(), name, resume);
            train::run(&config, &job, stop, tell).unwrap().steps
        };
        run("whole.safetensors", false, &never(), &mut |_| ());
        let stop = never();
        let mut stop_half_way = |event: Event| {
            if matches!(event, Event::Step(s) if s.step == half) {
                stop.store(true, Ordering::Relaxed);
            }
        };
        assert_eq!(
            run("parts.safetensors", false, &stop, &mut stop_half_way),
            half
        );
        let steps = run("parts.safetensors", true, &never(), &mut |_| ());
        assert_eq!(steps, config.steps);
        let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
        let [a, b] = [&whole, &parts].map(|name| newest(&name.with_extension("run")));
        for ((name, a), (_, b)) in a.iter().zip(&b) {
            assert!(a == b, "{}: {name} differs", config.arch);
        }
        assert_eq!(a.len(), b.len());
        let [a, b] =
            [&whole, &parts].map(|name| fs::read(name.with_extension("safetensors")).unwrap());
        assert!(a == b, "{}: the model differs", config.arch);
    }
}

#[test]
fn a_run_that_is_killed_at_any_moment_ends_as_one_that_was_not() {
    let folder = photos(30);
    let run = |name: &str, resume: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_autochrome"));
        command
            .arg("train")
            .arg(folder.path().join("photos"))
            .arg("-o")
            .arg(folder.path().join(name))
            .args([
                "--arch", "unet", "--size", "16", "--batch", "4", "--steps", "60",
            ])
            .args([
                "--checkpoint-every",
                "2",
                "--threads",
                "1",
                "--device",
                "cpu",
            ])
            .args([
                "--set",
                r#"network={"channels":4,"depth":3}"#,
                "--set",
                "held_out=0.1",
            ])
            .args([
                "--set",
                r#"objectives={"l1":1,"gan":0.1}"#,
                "--set",
                "check_every=50",
            ])
            .args(["--set", r#"critic.network={"channels":8,"receptive":16}"#])
            .args(if resume { &["--resume"][..] } else { &[] })
            .env("XDG_CACHE_HOME", folder.path())
            .stderr(Stdio::null());
        command
    };
    assert!(run("whole.safetensors", false).status().unwrap().success());
    let checkpoints = folder.path().join("killed.run/checkpoints");
    for attempt in 0..3 {
        let mut child = run("killed.safetensors", true).spawn().unwrap();
        // As soon as there is a checkpoint more, and then a little later each time.
        let newest = || {
            let folders = fs::read_dir(&checkpoints).ok()?;
            folders.filter_map(|f| Some(f.ok()?.file_name())).max()
        };
        let (before, start) = (newest(), Instant::now());
        while newest() == before && start.elapsed() < Duration::from_secs(20) {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(9 * attempt));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(run("killed.safetensors", true).status().unwrap().success());
    let model = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert!(model("killed.safetensors") == model("whole.safetensors"));
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
    let bf16 = tiny(2, json!({ "bf16": true }));
    for (i, config) in [tiny(3, json!({})), tiny_lite(2), bf16].iter().enumerate() {
        let job = job(folder.path(), &format!("{i}.safetensors"), false);
        train(config, &job);
        for (_, bytes) in newest(&job.folder()) {
            states.extend(bytes);
        }
    }
    fs::write(path, states).unwrap();
}

#[test]
fn a_batch_worked_through_in_rounds_teaches_the_same() {
    let folder = photos(20);
    let weights = |accumulate: usize, name: &str| {
        // No dropout, no batch norms: nothing in a part depends on which part it is.
        let config = tiny(
            3,
            json!({
                "network": { "channels": 4, "depth": 3, "dropout": 0, "norm": "group" },
                "batch": 8, "shards": 2, "accumulate": accumulate,
                "critic": { "network": { "channels": 8, "receptive": 16, "norm": "none" } },
            }),
        );
        let job = job(folder.path(), name, false);
        train(&config, &job);
        part(&job.folder(), "weights")
    };
    let (once, rounds) = (weights(1, "a.safetensors"), weights(4, "b.safetensors"));
    for ((name, a), (_, b)) in once.iter().zip(&rounds) {
        let apart = a
            .iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0., f32::max);
        assert!(apart < 1e-5, "{name}: {apart}");
    }
}

#[test]
fn a_run_learns_and_its_model_loads() {
    let folder = photos(40);
    let config = tiny(
        60,
        json!({ "objectives": { "l1": 1 }, "rate": 3e-3, "ema": 0.9, "augment": { "film": 0 } }),
    );
    let mut losses = Vec::new();
    let mut note = |event: Event| {
        if let Event::Step(train::Step { losses: all, .. }) = event {
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
    for file in ["sheet-000060.png", "curves.png", "config.json"] {
        assert!(job.folder().join(file).exists(), "{file}");
    }
    let metrics = fs::read_to_string(job.folder().join("metrics.csv")).unwrap();
    assert!(metrics.contains("ciede2000"), "{metrics}");
    let name = job.output.to_str().unwrap();
    assert_eq!(net::info(name).unwrap().trained["settings"]["size"], 16);
    net::load(name, &on_cpu(Precision::F32)).unwrap();
}

#[test]
fn who_learns_when() {
    let folder = photos(20);
    let drawn = |name: &str, more: Value| {
        let job = job(folder.path(), name, false);
        let config = tiny(1, more);
        train(&config, &job);
        let run = job.folder();
        // Statistics move with every picture seen, whatever the rate.
        let mut weights = part(&run, "weights");
        weights.retain(|(name, _)| !name.contains("running_"));
        (weights, part(&run, "critic-00"))
    };
    let plain = drawn("plain.safetensors", json!({}));
    // At step 0 of 1 the discriminator is alone for the second half; it must be drawn the same as ever.
    let alone =
        json!({ "loss": "hinge", "network": { "channels": 8, "receptive": 16 }, "alone": 0.9 });
    let alone = drawn("alone.safetensors", json!({ "critic": alone }));
    let still = json!({ "network": { "channels": 8, "receptive": 16 }, "gate": 1e9 });
    let gated = drawn("gated.safetensors", json!({ "critic": still, "rate": 0.0 }));
    assert!(
        plain.0 != gated.0 && plain.1 != gated.1,
        "a step moves both"
    );
    assert!(alone.0 == gated.0, "alone: the generator stays");
    assert!(alone.1 != gated.1, "alone: the discriminator learns");
    let gate = json!({ "network": { "channels": 8, "receptive": 16 }, "gate": 1e9 });
    let gate = drawn("gate.safetensors", json!({ "critic": gate }));
    assert!(gate.0 != gated.0, "gate: the generator learns");
    assert!(gate.1 == gated.1, "gate: the discriminator stays");
}

#[test]
fn statistics_settle_and_given_weights_stay_frozen() {
    let folder = photos(20);
    let start = job(folder.path(), "start.safetensors", false);
    let group = json!({ "arch": "lite", "network": { "cut": true }, "size": 64, "objectives": { "huber": 1 } });
    train(&tiny(1, group.clone()), &start);
    let from = Job {
        init: Some(start.output.to_str().unwrap().to_owned()),
        ..job(folder.path(), "frozen.safetensors", false)
    };
    let mut more = group;
    more["frozen"] = json!(100);
    more["settle"] = json!(1);
    train(&tiny(2, more), &from);
    let (before, after) = (
        net::open(start.output.to_str().unwrap()).unwrap().tensors,
        part(&from.folder(), "weights"),
    );
    for (name, values) in after {
        let before = before[&name].to_dtype(candle_core::DType::F32).unwrap();
        let before = before.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(before == values, "{name} moved");
    }
}

#[test]
fn minutes_and_epochs_become_steps_once() {
    let folder = photos(40);
    let epochs = job(folder.path(), "epochs.safetensors", false);
    let trained = train(&tiny(9999, json!({ "epochs": 2 })), &epochs);
    let config: Value =
        serde_json::from_slice(&fs::read(epochs.folder().join("config.json")).unwrap()).unwrap();
    let photos = config.to_string();
    assert!(
        (8..=20).contains(&trained.steps),
        "{} steps: {photos}",
        trained.steps
    );
    let minutes = job(folder.path(), "minutes.safetensors", false);
    let start = Instant::now();
    let trained = train(&tiny(9999, json!({ "minutes": 0.1 })), &minutes);
    let seconds = start.elapsed().as_secs_f64();
    assert!(
        trained.steps > 1 && seconds < 60.,
        "{} steps in {seconds} s",
        trained.steps
    );
    let again = job(folder.path(), "minutes.safetensors", true);
    let resumed = train(&tiny(9999, json!({ "minutes": 0.1 })), &again);
    assert_eq!(resumed.steps, trained.steps, "the length was decided once");
}

#[test]
fn a_run_starts_from_a_model_of_its_own_kind_only() {
    let folder = photos(20);
    let folder = folder.path();
    let first = job(folder, "first.safetensors", false);
    train(&tiny(1, json!({})), &first);
    let from_first = |name| Job {
        init: Some(first.output.to_str().unwrap().to_owned()),
        ..job(folder, name, false)
    };
    train(&tiny(1, json!({})), &from_first("second.safetensors"));
    let squeeze = tiny(1, json!({ "arch": "squeeze", "size": 32, "network": {} }));
    let error = refusal(&squeeze, &from_first("third.safetensors"));
    assert!(
        matches!(error, Error::Model { .. }) && error.to_string().contains("unet"),
        "{error}"
    );
}

#[test]
fn the_default_model_can_be_fine_tuned() {
    let folder = photos(20);
    let mut settings: Map<String, Value> = config::recipe("finetune").unwrap();
    settings.extend(train::settings_of("default").unwrap());
    for setting in ["steps=2", "minutes=null", "batch=2", "check_photos=2"] {
        config::set(&mut settings, setting).unwrap();
    }
    let config = config::parsed(settings).unwrap();
    let job = Job {
        init: Some("default".into()),
        ..job(folder.path(), "mine.safetensors", false)
    };
    let trained = train(&config, &job);
    assert_eq!(trained.steps, 2);
    let [ours, theirs] =
        [job.output.to_str().unwrap(), "default"].map(|name| net::info(name).unwrap());
    assert_eq!((ours.arch, ours.size), (theirs.arch, theirs.size));
}

/// Other seeds hold the same photographs out, and a model that is trained on keeps to those it never saw.
#[test]
fn what_is_held_out_follows_from_the_split_and_goes_with_the_model() {
    let folder = photos(60);
    let held_out = |name: &str, more: Value| {
        let config = Config {
            held_out: 0.3,
            ..tiny(1, more)
        };
        let job = job(folder.path(), name, false);
        let mut said = Vec::new();
        let mut hear = |event: Event| {
            if let Event::Note(words) = event {
                said.push(words);
            }
        };
        train::run(&config, &job, &AtomicBool::new(false), &mut hear).unwrap();
        said.retain(|words| words.contains("for validation"));
        (said, job.output)
    };
    let (first, _) = held_out("first.safetensors", json!({}));
    assert_eq!(
        first,
        held_out("second.safetensors", json!({ "seed": 2 })).0
    );
    let (other, model) = held_out("third.safetensors", json!({ "split": 7 }));
    assert_ne!(first, other);
    let settings = train::settings_of(model.to_str().unwrap()).unwrap();
    assert_eq!(
        (&settings["split"], &settings["held_out"]),
        (&json!(7), &json!(0.3))
    );
}

#[test]
fn an_earlier_run_is_neither_overwritten_nor_resumed_with_other_settings() {
    let folder = photos(20);
    let job = |resume| job(folder.path(), "m.safetensors", resume);
    train(&tiny(1, json!({})), &job(false));
    let again = refusal(&tiny(1, json!({})), &job(false));
    assert!(
        matches!(&again, Error::Train(why) if why.contains("--resume")),
        "{again}"
    );
    let other = refusal(&tiny(2, json!({ "rate": 1e-5 })), &job(true));
    assert!(
        matches!(&other, Error::Train(why) if why.contains("another rate")),
        "{other}"
    );
    let more_memory = tiny(2, json!({ "cache_mb": 0 }));
    assert_eq!(train(&more_memory, &job(true)).steps, 2);
}

#[test]
fn corrupt_pictures_are_skipped_and_named() {
    let folder = photos(30);
    let bad = folder.path().join("photos/bad.jpg");
    fs::write(&bad, b"this is no picture").unwrap();
    let mut warnings = String::new();
    let mut note = |event: Event| {
        if let Event::Warning(line) = event {
            warnings += &line;
        }
    };
    let job = job(folder.path(), "m.safetensors", false);
    let trained = train::run(&tiny(2, json!({})), &job, &never(), &mut note).unwrap();
    assert!(warnings.contains("bad.jpg"), "{warnings}");
    let names: Vec<_> = trained.skipped.iter().map(|(name, _)| name).collect();
    assert!(
        names.iter().any(|name| name.contains("bad.jpg")),
        "{names:?}"
    );
}

#[test]
fn what_cannot_go_together_is_refused_in_words() {
    let folder = photos(20);
    let critic =
        |receptive| json!({ "critic": { "network": { "channels": 8, "receptive": receptive } } });
    for (more, word) in [
        (critic(70), "receptive"),
        (json!({ "size": 20 }), "multiple of 8"),
        (
            json!({ "objectives": { "cross-entropy": 1 } }),
            "network.head=classification",
        ),
        (json!({ "objectives": { "perceptual": 1 } }), "features"),
    ] {
        let error = refusal(&tiny(1, more), &job(folder.path(), "m.safetensors", false));
        assert!(
            matches!(&error, Error::Usage(why) if why.contains(word)),
            "{error}"
        );
        assert!(!folder.path().join("m.safetensors").exists());
    }
}

#[test]
fn models_of_one_kind_have_a_mean() {
    let folder = photos(20);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (name, seed) in [("a.safetensors", 1), ("b.safetensors", 2)] {
        train(
            &tiny(1, json!({ "seed": seed })),
            &job(folder.path(), name, false),
        );
    }
    let models = [(path("a.safetensors"), 1.), (path("b.safetensors"), 3.)];
    train::merge(&models, Path::new(&path("mean.safetensors"))).unwrap();
    let value = |name: &str| {
        let tensors = net::open(&path(name)).unwrap().tensors;
        let (_, tensor) = tensors
            .iter()
            .find(|(name, _)| name.ends_with("weight"))
            .unwrap();
        let tensor = tensor.to_dtype(candle_core::DType::F32).unwrap();
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]
    };
    let (a, b, mean) = (
        value("a.safetensors"),
        value("b.safetensors"),
        value("mean.safetensors"),
    );
    assert!(
        (0.25 * a + 0.75 * b - mean).abs() <= 2e-3 * mean.abs().max(0.01),
        "{a} {b} {mean}"
    );
    let other = [(path("a.safetensors"), 1.), ("default".to_owned(), 1.)];
    let error = train::merge(&other, Path::new(&path("no.safetensors"))).unwrap_err();
    assert!(error.to_string().contains("one kind"), "{error}");
}
