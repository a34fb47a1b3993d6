//! `cargo bench --bench network`: the generators and their training step, alone.
//!
//!     cargo bench --bench network                                 every generator
//!     cargo bench --bench network -- squeeze --export FOLDER      one; and what tests/bench/network.py needs
//!
//! The script then times the same network with the same weights in ONNX Runtime, OpenVINO and PyTorch beside the
//! figures from here. Prints medians and asserts nothing: the figures are for people.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use autochrome::{
    frame::Thumb,
    net::{
        self, ARCHS, Arch, Colorizer, Model, Network, Place,
        engine::{Engine, cpu_has_bf16, eager::Eager},
        params::{Params, normal, stream},
        patchgan::{self, PatchGanConfig},
    },
    train::{Config, Trainer, data::Batch},
};
use candle_core::{Device, Tensor};
use serde_json::{Value, json};

const SIZE: usize = 128;
const BATCH: usize = 16;
const ROUNDS: usize = 9;
/// Frames a measurement, so that one is long enough to time.
const FRAMES: usize = 8;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let export = arguments.iter().position(|a| a == "--export");
    let folder = export.and_then(|at| arguments.get(at + 1));
    println!(
        "{SIZE} px, {} threads, median of {ROUNDS}; bf16 in the CPU: {}",
        rayon::current_num_threads(),
        cpu_has_bf16()
    );
    for arch in ARCHS {
        if arguments.is_empty() || arguments.iter().any(|a| a == arch.name) {
            let times = measure(arch);
            println!("{:<8} {times}", arch.name);
            if let Some(folder) = folder {
                write(Path::new(folder), arch, &times);
            }
        }
    }
}

/// Milliseconds of everything, by name.
fn measure(arch: &Arch) -> Value {
    let mut times = json!({});
    for engine in Engine::present(&Device::Cpu) {
        let suffix = match engine {
            Engine::Plan { bf16: false } => "",
            Engine::Plan { bf16: true } if cpu_has_bf16() => "_bf16",
            _ => continue,
        };
        let mut model = network(arch, engine);
        let thumbs = thumbs();
        let one = median(|| {
            for thumb in &thumbs {
                model.predict(std::slice::from_ref(thumb)).expect("colours");
            }
        });
        let all = median(|| drop(model.predict(&thumbs).expect("colours")));
        times[format!("one{suffix}")] = json!(one / FRAMES as f64);
        times[format!("workers{suffix}")] = json!(all / FRAMES as f64);
    }
    times["step"] = json!(step(arch, false));
    if cpu_has_bf16() {
        times["step_bf16"] = json!(step(arch, true));
    }
    times
}

fn network(arch: &Arch, engine: Engine) -> Network {
    let graph = graph(arch);
    let model = Model {
        params: Params::seeded(&graph, 1, &Device::Cpu).expect("parameters"),
        graph,
        size: SIZE,
        gain: 1.,
        label: arch.name.into(),
    };
    let place = Place {
        engine,
        ..Place::cpu()
    };
    Network::new(model, place)
}

fn graph(arch: &Arch) -> net::graph::Graph {
    (arch.graph)(&(arch.defaults)()).expect("a network")
}

fn step(arch: &Arch, bf16: bool) -> f64 {
    let config = Config {
        arch: arch.name.into(),
        size: SIZE,
        batch: BATCH,
        shards: 2,
        critic: critic(),
        bf16,
        ..Config::default()
    };
    let mut trainer = Trainer::new(&config, None, Device::Cpu).expect("a trainer");
    let batch = Batch {
        l: random(&[BATCH, SIZE, SIZE, 1], "l"),
        ab: random(&[BATCH, SIZE, SIZE, 2], "ab"),
    };
    median(|| drop(trainer.step(&batch).expect("a step")))
}

/// A discriminator for the quarter of [`SIZE`] that the small generators make.
fn critic() -> PatchGanConfig {
    PatchGanConfig {
        layers: 1,
        ..PatchGanConfig::default()
    }
}

fn thumbs() -> Vec<Thumb> {
    let mut noise = stream(1, "thumbs");
    let mut thumb = || Thumb {
        width: SIZE,
        height: SIZE,
        l: (0..SIZE * SIZE).map(|_| 50. + 20. * normal(&mut noise)).collect(),
    };
    (0..FRAMES).map(|_| thumb()).collect()
}

fn random(shape: &[usize], purpose: &str) -> Tensor {
    let mut noise = stream(1, purpose);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| (0.3 * normal(&mut noise)).clamp(-1., 1.))
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor")
}

/// Median milliseconds of a run, after two that warm up.
fn median(mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS + 2)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        })
        .skip(2)
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// What tests/bench/network.py reads.
fn write(folder: &Path, arch: &Arch, times: &Value) {
    fs::create_dir_all(folder).expect("a folder");
    let generator = graph(arch);
    let params = Params::seeded(&generator, 1, &Device::Cpu).expect("parameters");
    let l = random(&[1, SIZE, SIZE, 1], "l");
    let eager = Eager {
        graph: &generator,
        params: &params,
        bf16: false,
    };
    let io = BTreeMap::from([
        ("ab", eager.evaluate(&l).expect("a result")),
        ("l", l),
        ("truth", random(&[1, SIZE, SIZE, 2], "ab")),
    ]);
    let file = |name: &str| folder.join(name);
    let tensors = |name: &str, tensors: BTreeMap<String, Tensor>| {
        let tensors = tensors.into_iter().collect();
        candle_core::safetensors::save(&tensors, file(name)).expect("a file");
    };
    let text = |name: &str, value: Value| {
        fs::write(file(name), value.to_string()).expect("a file");
    };
    tensors("io.safetensors", io.into_iter().map(|(n, t)| (n.to_owned(), t)).collect());
    tensors("generator.safetensors", params.values().expect("values"));
    text("generator.json", json!(generator));
    let critic = patchgan::graph(&critic());
    let params = Params::seeded(&critic, 2, &Device::Cpu).expect("parameters");
    tensors("critic.safetensors", params.values().expect("values"));
    text("critic.json", json!(critic));
    text(
        "bench.json",
        json!({
            "name": arch.name, "batch": BATCH, "size": SIZE, "threads": rayon::current_num_threads(), "rust": times,
        }),
    );
}
