//! `cargo bench --bench network`: the generators and their training step, alone.
//!
//!     cargo bench --bench network                                      every generator
//!     cargo bench --bench network -- squeeze --export FOLDER           one; and what tests/bench/network.py needs
//!     cargo bench --bench network -- fast --export FOLDER              the generator and the step of a recipe
//!     python3 tests/bench/network.py FOLDER --ours 'cargo bench --bench network --'
//!
//! The script times the same network with the same weights in ONNX Runtime, OpenVINO and PyTorch, in turn with this
//! program. Prints medians and asserts nothing: the figures are for people.

use std::{collections::BTreeMap, fs, io::stdin, path::Path, process::Command, time::Instant};

use autochrome::{
    frame::Thumb,
    net::{
        self, ARCHS, Arch, Colorizer, Decoding, Model, Network, Place,
        engine::{Engine, cpu_has_bf16, eager::Eager},
        graph::Graph,
        params::{Params, normal, stream},
        patchgan::{self, PatchGanConfig},
    },
    train::{Config, Trainer, config, data::Batch},
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
    if let Some(name) = after("--turns") {
        return turns(&subject(name).expect("a generator or a recipe"));
    }
    println!(
        "{SIZE} px, {} threads, milliseconds, median of {ROUNDS}; bf16 in the CPU: {}",
        rayon::current_num_threads(),
        cpu_has_bf16()
    );
    let named: Vec<Subject> = arguments.iter().filter_map(|name| subject(name)).collect();
    let all = || ARCHS.iter().map(generator).collect();
    let subjects = if named.is_empty() { all() } else { named };
    for subject in &subjects {
        println!("{:<8} {:.2?}", subject.name, medians(subject));
        if let Some(folder) = after("--export") {
            write(Path::new(folder), subject);
        }
    }
}

/// The median of every time.
fn medians(subject: &Subject) -> BTreeMap<String, f64> {
    let mut bench = Bench::new(subject);
    bench.turn();
    let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (name, time) in bench.turn() {
            all.entry(name).or_default().push(time);
        }
    }
    let median = |(name, mut times): (String, Vec<f64>)| {
        times.sort_by(f64::total_cmp);
        (name, times[times.len() / 2])
    };
    all.into_iter().map(median).collect()
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
fn turns(subject: &Subject) {
    let mut bench = Bench::new(subject);
    bench.turn();
    for line in stdin().lines() {
        line.expect("a line");
        println!("turn {}", json!(bench.turn()));
    }
}

/// A generator and how it learns.
struct Subject {
    name: String,
    config: Config,
}

impl Subject {
    /// What learns: ab, or the bins' logits.
    fn trunk(&self) -> Graph {
        let arch = net::arch(&self.config.arch).expect("a generator");
        (arch.graph)(&self.config.network).expect("a network")
    }

    /// What is used: ab.
    fn whole(&self) -> Graph {
        net::decoded(self.trunk(), &Decoding::default())
    }

    fn adversarial(&self) -> bool {
        self.config.weight("gan") > 0.
    }
}

/// The generator or the recipe of this name; a flag, or the folder after it, is neither.
fn subject(name: &str) -> Option<Subject> {
    if let Ok(arch) = net::arch(name) {
        return Some(generator(arch));
    }
    let known = config::recipes().any(|known| known == name);
    known.then(|| Subject {
        name: name.into(),
        config: config::parsed(config::recipe(name).expect("a recipe")).expect("settings"),
    })
}

/// A generator of a and b, which learns against a discriminator.
fn generator(arch: &Arch) -> Subject {
    let mut network = (arch.defaults)();
    if let Some(head) = network.get_mut("head") {
        *head = json!("regression");
    }
    let config = Config {
        arch: arch.name.into(),
        network,
        size: SIZE,
        batch: BATCH,
        shards: 2,
        objectives: [("l1".into(), 100.0.into()), ("gan".into(), 1.0.into())].into(),
        critic: config::Critic {
            network: critic(),
            ..config::Critic::default()
        },
        ..Config::default()
    };
    Subject {
        name: arch.name.into(),
        config,
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
    fn new(subject: &Subject) -> Self {
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
            .map(|p| (suffix(*p), network(subject, engine(*p))));
        let trainers = precisions
            .iter()
            .map(|p| (suffix(*p), trainer(subject, *p)));
        Self {
            models: models.collect(),
            trainers: trainers.collect(),
            thumbs: thumbs(),
            batch: batch(&subject.config),
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

fn network(subject: &Subject, engine: Engine) -> Network {
    let graph = subject.whole();
    let model = Model {
        params: Params::seeded(&graph, 1, &Device::Cpu).expect("parameters"),
        graph,
        size: SIZE,
        gain: 1.,
        label: subject.name.clone(),
    };
    let place = Place {
        engine,
        ..Place::cpu()
    };
    Network::new(model, place)
}

fn trainer(subject: &Subject, bf16: bool) -> Trainer {
    let config = Config {
        bf16,
        ..subject.config.clone()
    };
    Trainer::new(&config, None, Device::Cpu).expect("a trainer")
}

fn batch(config: &Config) -> Batch {
    let plane = |name, channels| random(&[config.batch, config.size, config.size, channels], name);
    Batch {
        l: plane("l", 1),
        ab: plane("ab", 2),
        true_l: plane("true_l", 1),
    }
}

/// A discriminator for the quarter of [`SIZE`] that the small generators make.
fn critic() -> PatchGanConfig {
    PatchGanConfig {
        receptive: 16,
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
fn write(folder: &Path, subject: &Subject) {
    fs::create_dir_all(folder).expect("a folder");
    let graph = subject.whole();
    let params = Params::seeded(&graph, 1, &Device::Cpu).expect("parameters");
    let l = random(&[1, SIZE, SIZE, 1], "l");
    let eager = Eager {
        graph: &graph,
        params: &params,
        bf16: false,
    };
    let batch = batch(&subject.config);
    let first = trainer(subject, false).step(&batch).expect("a step");
    let io = BTreeMap::from([
        ("ab".into(), eager.evaluate(&l).expect("a result")),
        ("l".into(), l),
        ("batch_l".into(), batch.l),
        ("batch_ab".into(), batch.ab),
    ]);
    tensors(folder, "io", io);
    parts(folder, "generator", &graph, &params);
    if subject.adversarial() {
        let critic = patchgan::graph(&subject.config.critic.network);
        let params = Params::seeded(&critic, 2, &Device::Cpu).expect("parameters");
        parts(folder, "critic", &critic, &params);
    }
    let bench = json!({
        "name": subject.name,
        "threads": rayon::current_num_threads(),
        "settings": subject.config,
        "losses": BTreeMap::from_iter(first.losses),
    });
    text(folder, "bench", bench);
}

/// A network and its numbers.
fn parts(folder: &Path, name: &str, graph: &Graph, params: &Params) {
    text(folder, name, json!(graph));
    tensors(folder, name, params.values().expect("values"));
}

fn tensors(folder: &Path, name: &str, tensors: BTreeMap<String, Tensor>) {
    let file = folder.join(name).with_extension("safetensors");
    candle_core::safetensors::save(&tensors.into_iter().collect(), file).expect("a file");
}

fn text(folder: &Path, name: &str, value: Value) {
    let file = folder.join(name).with_extension("json");
    fs::write(file, value.to_string()).expect("a file");
}
