//! `cargo bench --bench network`: the generators and their training step, alone.
//!
//!     cargo bench --bench network                                      every generator
//!     cargo bench --bench network -- squeeze --export FOLDER           one; and what tests/bench/network.py needs
//!     python3 tests/bench/network.py FOLDER --ours 'cargo bench --bench network --'
//!
//! The script times the same network with the same weights in ONNX Runtime, OpenVINO and PyTorch, in turn with this
//! program. Prints medians and asserts nothing: the figures are for people.

use std::{collections::BTreeMap, fs, io::stdin, path::Path, process::Command, time::Instant};

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
/// Frames a turn, so that one is long enough to time.
const FRAMES: usize = 32;

fn main() {
    if std::env::var_os(ALLOCATOR).is_none() {
        std::process::exit(as_the_program_runs());
    }
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let after = |flag: &str| {
        let at = arguments.iter().position(|a| a == flag);
        at.and_then(|at| arguments.get(at + 1))
    };
    let asked = |arch: &&Arch| arguments.is_empty() || arguments.iter().any(|a| a == arch.name);
    if let Some(name) = after("--turns") {
        return turns(net::arch(name).expect("a generator"));
    }
    println!(
        "{SIZE} px, {} threads, milliseconds, median of {ROUNDS}; bf16 in the CPU: {}",
        rayon::current_num_threads(),
        cpu_has_bf16()
    );
    for arch in ARCHS.iter().filter(asked) {
        let mut bench = Bench::new(arch);
        bench.turn();
        let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for _ in 0..ROUNDS {
            for (name, time) in bench.turn() {
                all.entry(name).or_default().push(time);
            }
        }
        let medians: BTreeMap<String, f64> = all
            .into_iter()
            .map(|(name, mut times)| {
                times.sort_by(f64::total_cmp);
                (name, times[times.len() / 2])
            })
            .collect();
        println!("{:<8} {medians:.2?}", arch.name);
        if let Some(folder) = after("--export") {
            write(Path::new(folder), arch);
        }
    }
}

/// The setting of glibc's allocator that `autochrome train` makes for itself.
const ALLOCATOR: &str = "GLIBC_TUNABLES";

/// This program again, in the environment that `autochrome` gives itself; its exit code.
fn as_the_program_runs() -> i32 {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = std::env::var("RAYON_NUM_THREADS").unwrap_or(cores.to_string());
    let status = Command::new(std::env::current_exe().expect("this program"))
        .args(std::env::args().skip(1))
        .env(
            ALLOCATOR,
            "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=2147483647",
        )
        .env("RAYON_NUM_THREADS", threads)
        .env("CANDLE_NUM_THREADS", "1")
        .env("OMP_NUM_THREADS", "1")
        .status()
        .expect("this program runs");
    status.code().unwrap_or(1)
}

/// A turn for every line that comes in, so that another program can take turns with this one.
fn turns(arch: &Arch) {
    let mut bench = Bench::new(arch);
    bench.turn();
    for line in stdin().lines() {
        line.expect("a line");
        println!("turn {}", json!(bench.turn()));
    }
}

/// Everything that is timed of a generator, made once.
struct Bench {
    models: Vec<(&'static str, Network)>,
    trainers: Vec<(&'static str, Trainer)>,
    thumbs: Vec<Thumb>,
    batch: Batch,
}

impl Bench {
    fn new(arch: &Arch) -> Self {
        let suffix = |bf16: bool| if bf16 { "_bf16" } else { "" };
        let precisions = if cpu_has_bf16() {
            &[false, true][..]
        } else {
            &[false]
        };
        let engine = |bf16: bool| match Place::cpu().engine {
            Engine::Plan { .. } => Engine::Plan { bf16 },
            Engine::Eager => Engine::Eager,
        };
        let models = precisions
            .iter()
            .map(|p| (suffix(*p), network(arch, engine(*p))));
        let trainers = precisions.iter().map(|p| (suffix(*p), trainer(arch, *p)));
        Self {
            models: models.collect(),
            trainers: trainers.collect(),
            thumbs: thumbs(),
            batch: Batch {
                l: random(&[BATCH, SIZE, SIZE, 1], "l"),
                ab: random(&[BATCH, SIZE, SIZE, 2], "ab"),
            },
        }
    }

    /// Milliseconds of everything, by name: `one` frame at a time, a frame a thread (`workers`), a training `step`.
    fn turn(&mut self) -> BTreeMap<String, f64> {
        let mut times = BTreeMap::new();
        for (suffix, model) in &mut self.models {
            let one = milliseconds(|| {
                for thumb in &self.thumbs {
                    model.predict(std::slice::from_ref(thumb)).expect("colours");
                }
            });
            let all = milliseconds(|| drop(model.predict(&self.thumbs).expect("colours")));
            times.insert(format!("one{suffix}"), one / FRAMES as f64);
            times.insert(format!("workers{suffix}"), all / FRAMES as f64);
        }
        for (suffix, trainer) in &mut self.trainers {
            let step = milliseconds(|| drop(trainer.step(&self.batch).expect("a step")));
            times.insert(format!("step{suffix}"), step);
        }
        times
    }
}

fn milliseconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64() * 1e3
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
    (arch.graph)(&settings(arch)).expect("a network")
}

/// Settings by default, but to a and b, which the other programs make as well.
fn settings(arch: &Arch) -> Value {
    let mut settings = (arch.defaults)();
    if let Some(head) = settings.get_mut("head") {
        *head = json!("regression");
    }
    settings
}

fn trainer(arch: &Arch, bf16: bool) -> Trainer {
    let config = Config {
        arch: arch.name.into(),
        network: settings(arch),
        size: SIZE,
        batch: BATCH,
        shards: 2,
        critic: critic(),
        bf16,
        ..Config::default()
    };
    Trainer::new(&config, None, Device::Cpu).expect("a trainer")
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
        l: (0..SIZE * SIZE)
            .map(|_| 50. + 20. * normal(&mut noise))
            .collect(),
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

/// What tests/bench/network.py reads.
fn write(folder: &Path, arch: &Arch) {
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
    tensors(
        "io.safetensors",
        io.into_iter().map(|(n, t)| (n.to_owned(), t)).collect(),
    );
    tensors("generator.safetensors", params.values().expect("values"));
    text("generator.json", json!(generator));
    let critic = patchgan::graph(&critic());
    let params = Params::seeded(&critic, 2, &Device::Cpu).expect("parameters");
    tensors("critic.safetensors", params.values().expect("values"));
    text("critic.json", json!(critic));
    text(
        "bench.json",
        json!({
            "name": arch.name, "batch": BATCH, "size": SIZE, "threads": rayon::current_num_threads()
        }),
    );
}
