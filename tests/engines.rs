//! What every engine promises for every generator: the pictures that the network makes step by step in f32.

mod common;
use common::on_cpu;

use std::{collections::BTreeMap, sync::Arc};

use autochrome::{
    color,
    eval::metrics::ciede2000,
    frame::{AbMap, Thumb},
    net::{
        self, Colorizer, DEFAULT_MODEL, Decoding, DeviceChoice, Looks, Model, Network, Place,
        Precision, Setting,
        checkpoint::{self, COLOR, Checkpoint, Header},
        engine::{
            Engine,
            eager::{Eager, Wanted},
            plan::{Plan, Worker},
        },
        graph::{Graph, Op},
        params::{Params, stream},
    },
};
use candle_core::{DType, Device, Tensor};
use rand::Rng;
use serde_json::Value;

#[path = "common/numbers.rs"]
mod numbers;
use numbers::{Kind, again, kinds, sine, values};

/// Smooth fields of lightness, as blurred pictures are: waves of all directions, the longer the stronger.
fn thumbs(count: usize, width: usize, height: usize) -> Vec<Thumb> {
    let mut rng = stream(7, "fields");
    let mut field = || {
        let waves: Vec<[f32; 4]> = (0..16)
            .map(|i| {
                let turn = rng.random::<f32>() * std::f32::consts::TAU;
                let cycles = 0.5 + i as f32 / 2.;
                let strength = 20. / (1. + cycles);
                [
                    cycles * turn.cos(),
                    cycles * turn.sin(),
                    rng.random(),
                    strength,
                ]
            })
            .collect();
        move |x: f32, y: f32| {
            let wave = |[u, v, phase, strength]: &[f32; 4]| {
                strength * ((u * x + v * y + phase) * std::f32::consts::TAU).sin()
            };
            (50. + waves.iter().map(wave).sum::<f32>()).clamp(2., 98.)
        }
    };
    let mut thumb = || {
        let field = field();
        let l = (0..width * height).map(|i| {
            let (x, y) = (i % width, i / width);
            field(x as f32 / height as f32, y as f32 / height as f32)
        });
        Thumb {
            width,
            height,
            l: l.collect(),
        }
    };
    (0..count).map(|_| thumb()).collect()
}

/// Step by step in f32: one picture's a and b in network units, `[1, h, w, 2]`.
fn eagerly(graph: &Graph, params: &Params, thumb: &Thumb) -> Tensor {
    let l = net::seen(thumb);
    let l = Tensor::from_vec(l, (1, thumb.height, thumb.width, 1), &Device::Cpu).unwrap();
    let bf16 = false;
    Eager {
        graph,
        params,
        bf16,
    }
    .evaluate(&l)
    .unwrap()
}

/// The same as a colour map.
fn reference(graph: &Graph, params: &Params, gain: f32, thumb: &Thumb) -> AbMap {
    let ab = eagerly(graph, params, thumb);
    let (_, height, width, _) = ab.dims4().unwrap();
    let ab = values(&ab);
    let plane = |first: usize| {
        let values = ab[first..].iter().step_by(2);
        values.map(|v| color::ab_from_network(v * gain)).collect()
    };
    AbMap {
        width,
        height,
        a: plane(0),
        b: plane(1),
    }
}

/// The name of the last convolution.
fn head(graph: &Graph) -> &str {
    let mut names = graph.nodes().iter().filter_map(|node| match &node.op {
        Op::Conv(conv) => Some(&conv.name[..]),
        _ => None,
    });
    names.next_back().unwrap()
}

/// What a batch norm's parameter of this name has beside it.
fn statistic(name: &str) -> String {
    let norm = name.rsplit_once('.').unwrap().0;
    format!("{norm}.running_mean")
}

/// A head whose logits are smooth over the bins, as a trained one's are: a bell of 30 CIE units that the features move.
fn unimodal(params: &Params, name: &str, bins: &Tensor) -> BTreeMap<String, Tensor> {
    let drawn = params.get(name).unwrap();
    let (count, inputs, h, w) = drawn.dims4().unwrap();
    let moves = drawn.narrow(0, 0, 2).unwrap().flatten_from(1).unwrap();
    let bins = (bins / 30.).unwrap();
    let weight = bins.matmul(&moves).unwrap();
    let bell = (bins.sqr().unwrap().sum(1).unwrap() * -0.5).unwrap();
    let bias = name.replace("weight", "bias");
    let weight = weight.reshape((count, inputs, h, w)).unwrap();
    BTreeMap::from([(name.to_owned(), weight), (bias, bell)])
}

/// A fresh generator: statistics that are not those of a fresh one, and a head as strong as a trained one's, 16 CIE
/// units on the whole.
fn realistic(kind: &Kind) -> (Graph, Params) {
    let graph = kind.graph();
    let params = Params::seeded(&graph, 1, &Device::Cpu).unwrap();
    let mut set = BTreeMap::new();
    for p in graph
        .parameters()
        .into_iter()
        .filter(|p| p.shape.len() == 1 && params.statistics().contains_key(&statistic(&p.name)))
    {
        let (scale, shift) = match p.name.rsplit('.').next().unwrap() {
            "weight" | "running_var" => (0.1, 1.),
            _ => (0.1, 0.),
        };
        set.insert(p.name.clone(), sine(&p.name, &p.shape, scale, shift));
    }
    params.set(&set).unwrap();
    let name = format!("{}.weight", head(&graph));
    if let Some(bins) = params.get("head.bins") {
        params.set(&unimodal(&params, &name, bins)).unwrap();
    }
    // tanh bends, so that once is not enough.
    for _ in 0..4 {
        let ab = values(&eagerly(&graph, &params, &thumbs(1, 160, 128)[0]));
        let strength = (ab.iter().map(|v| v * v).sum::<f32>() / ab.len() as f32).sqrt();
        let weight = (params.get(&name).unwrap() * (16. / 110. / f64::from(strength))).unwrap();
        params.set(&[(name.clone(), weight)].into()).unwrap();
    }
    (graph, params)
}

fn place(device: &Device, engine: Engine) -> Place {
    Place {
        device: device.clone(),
        engine,
        words: format!("{engine} on {:?}", device.location()),
        warning: None,
    }
}

fn cpu(engine: Engine) -> Place {
    place(&Device::Cpu, engine)
}

/// Every place that this build and machine have: the CPU's engines, and a GPU where there is one.
fn places() -> Vec<Place> {
    let mut devices = vec![Device::Cpu];
    devices.extend(DeviceChoice::Cuda(0).open().ok().map(|(device, _)| device));
    let of = |device: &Device| -> Vec<Place> {
        let engines = Engine::present(device).into_iter();
        engines.map(|engine| place(device, engine)).collect()
    };
    devices.iter().flat_map(of).collect()
}

/// The network with these parameters on that place.
fn network(graph: &Graph, params: &Params, place: Place) -> Network {
    let model = Model {
        graph: graph.clone(),
        params: Params::given(graph, &params.values().unwrap(), &place.device).unwrap(),
        size: 128,
        gain: 1.,
        label: String::new(),
    };
    Network::new(model, place)
}

/// Largest difference in CIE units.
fn apart(a: &AbMap, b: &AbMap) -> f32 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    numbers::apart(&a.a, &b.a).max(numbers::apart(&a.b, &b.b))
}

/// CIEDE2000 of every pixel of two colour maps on the same lightness: mean and 99th percentile.
fn differences(thumb: &Thumb, ours: &AbMap, theirs: &AbMap) -> (f64, f64) {
    let factor = thumb.width / ours.width;
    let colour = |map: &AbMap, i: usize| {
        let (x, y) = (i % map.width * factor, i / map.width * factor);
        let l = thumb.l[y * thumb.width + x];
        [l, map.a[i], map.b[i]].map(f64::from)
    };
    let pixels = 0..ours.a.len();
    let mut all: Vec<f64> = pixels
        .map(|i| ciede2000(colour(ours, i), colour(theirs, i)))
        .collect();
    all.sort_by(f64::total_cmp);
    (
        all.iter().sum::<f64>() / all.len() as f64,
        all[all.len() * 99 / 100],
    )
}

/// Whether what an engine made is what it should be.
fn judge(what: &str, narrow: bool, thumb: &Thumb, ours: &AbMap, theirs: &AbMap) {
    let (mean, most) = differences(thumb, ours, theirs);
    let apart = apart(ours, theirs);
    println!("{what}: {apart} CIE units at most, CIEDE2000 {mean} mean, {most} at 99 %");
    match narrow {
        false => assert!(apart <= 0.05, "{what}: {apart} CIE units"),
        true => assert!(
            mean <= 0.5 && most <= 2.,
            "{what}: CIEDE2000 {mean}, {most}"
        ),
    }
}

#[test]
fn every_engine_makes_the_same_pictures_of_every_generator() {
    for kind in kinds() {
        let (graph, params) = realistic(&kind);
        let thumbs = thumbs(2, 160, 128);
        for place in places() {
            let what = format!("{} by {}", kind.name, place.words);
            let narrow = place.engine == Engine::Plan { bf16: true };
            let mut model = network(&graph, &params, place);
            let maps = model.predict(&thumbs).unwrap();
            assert_eq!(model.take_warnings(), [""; 0], "{what}");
            for (thumb, map) in thumbs.iter().zip(&maps) {
                let theirs = reference(&graph, &params, 1., thumb);
                judge(&what, narrow, thumb, map, &theirs);
            }
        }
    }
}

#[test]
fn every_device_learns_the_same_from_the_same() {
    for kind in kinds() {
        let (graph, params) = realistic(&kind);
        let gradients = |device: &Device| {
            let params = Params::given(&graph, &params.values().unwrap(), device).unwrap();
            let l = numbers::random(&[2, 64, 64, 1], "l")
                .to_device(device)
                .unwrap();
            let bf16 = false;
            let eager = Eager {
                graph: &graph,
                params: &params,
                bf16,
            };
            let pass = eager.learn(&l, &mut stream(1, "noise")).unwrap();
            let grad = numbers::random(pass.output().dims(), "g")
                .to_device(device)
                .unwrap();
            pass.backward(&grad, Wanted::Parameters).unwrap()
        };
        let ours = gradients(&Device::Cpu);
        assert_eq!(ours.len(), params.trained().len(), "{}", kind.name);
        for place in places().iter().filter(|place| !place.device.is_cpu()) {
            for (name, theirs) in gradients(&place.device) {
                let (ours, theirs) = (values(&ours[&name]), values(&theirs));
                let largest = ours.iter().fold(0f32, |most, v| most.max(v.abs()));
                let apart = numbers::apart(&ours, &theirs);
                assert!(
                    apart <= 1e-3 * largest,
                    "{} {name} by {}: {apart} of {largest}",
                    kind.name,
                    place.words
                );
            }
        }
    }
}

/// The file of a bundled model, and its network.
fn bundled_model(name: &str) -> (Checkpoint, Graph, Params) {
    let file = net::open(name).unwrap();
    let graph = (net::arch(&file.header.arch).unwrap().graph)(&file.header.network).unwrap();
    let graph = net::decoded(graph, &file.header.looks.vivid.decoding);
    let params = Params::given(&graph, &file.tensors, &Device::Cpu).unwrap();
    (file, graph, params)
}

#[test]
fn bundled_models_make_the_same_pictures_in_every_precision() {
    let precisions = [Precision::F32, Precision::Bf16, Precision::Auto];
    for (name, precision) in net::bundled().flat_map(|name| precisions.map(|p| (name, p))) {
        let (file, graph, params) = bundled_model(name);
        let place = DeviceChoice::Cpu.place(precision).unwrap();
        let mut model = net::load(name, &on_cpu(precision)).unwrap();
        assert_eq!(model.device(), place.words);
        let (width, height) = model.thumb_size(640, 480, 1.).unwrap();
        let thumbs = thumbs(2, width, height);
        let maps = model.predict(&thumbs).unwrap();
        for (thumb, map) in thumbs.iter().zip(&maps) {
            let theirs = reference(&graph, &params, file.header.looks.vivid.gain, thumb);
            let narrow = place.engine == Engine::Plan { bf16: true };
            judge(&place.words, narrow, thumb, map, &theirs);
        }
    }
}

/// What is written down and read back is the same model: bins, frequencies, k, T and gain.
#[test]
fn a_classifying_model_from_a_file_makes_the_same_pictures_on_every_engine() {
    let named = |kind: &Kind| kind.name == r#"lite {"cut": true}"#;
    let kind = kinds().into_iter().find(named).unwrap();
    let (_, params) = realistic(&kind);
    let prior = sine("prior", &[261], 0.5 / 261., 1. / 261.);
    params.set(&[("head.prior".into(), prior)].into()).unwrap();
    let decoding = Decoding {
        k: 0.7,
        temperature: 0.5,
        calm: 2,
    };
    let header = Header {
        arch: kind.arch.name.into(),
        network: kind.settings.clone(),
        color: COLOR.into(),
        size: 64,
        looks: Looks::both(Setting {
            decoding,
            gain: 1.2,
        }),
        trained: Value::Null,
        figures: Value::Null,
    };
    let tensors = params.values().unwrap();
    let bytes = checkpoint::bytes(&header, &tensors, DType::F32).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let graph = net::decoded(kind.trunk(), &decoding);
    let thumbs = thumbs(3, 96, 64);
    for precision in [Precision::F32, Precision::Bf16] {
        let mut model = net::load(path.to_str().unwrap(), &on_cpu(precision)).unwrap();
        assert_eq!(model.thumb_size(640, 640, 1.), Some((64, 64)));
        let maps = model.predict(&thumbs).unwrap();
        let narrow = precision == Precision::Bf16 && model.device().contains("bf16");
        for (thumb, map) in thumbs.iter().zip(&maps) {
            let theirs = reference(&graph, &params, header.looks.vivid.gain, thumb);
            judge(model.device(), narrow, thumb, map, &theirs);
            assert!(map.a.iter().chain(&map.b).all(|v| v.abs() <= 110.));
            let alone = model.predict(std::slice::from_ref(thumb)).unwrap();
            assert_eq!(&alone[0], map);
        }
    }
    // Another k makes other pictures.
    let other = net::decoded(kind.trunk(), &Decoding { k: 0., ..decoding });
    let [ours, theirs] = [&graph, &other].map(|g| reference(g, &params, 1., &thumbs[0]));
    assert!(apart(&ours, &theirs) > 0.5);
    // And a temperature of 0 makes none.
    let cold = Decoding {
        temperature: 0.,
        ..decoding
    };
    let header = Header {
        looks: Looks::both(Setting {
            decoding: cold,
            gain: 1.,
        }),
        ..header
    };
    std::fs::write(
        &path,
        checkpoint::bytes(&header, &tensors, DType::F32).unwrap(),
    )
    .unwrap();
    let why = net::load(path.to_str().unwrap(), &on_cpu(Precision::F32));
    let why = why.err().unwrap().to_string();
    assert!(why.contains("temperature must be above 0"), "{why}");
}

/// The plans that this machine can run.
fn plans() -> Vec<bool> {
    let narrow = |engine| match engine {
        Engine::Plan { bf16 } => Some(bf16),
        Engine::Eager => None,
    };
    let engines = Engine::present(&Device::Cpu).into_iter();
    engines.filter_map(narrow).collect()
}

/// Every generator by every plan.
fn planned() -> impl Iterator<Item = (Kind, bool)> {
    let plans = |kind: Kind| plans().into_iter().map(move |b| (kind.clone(), b));
    kinds().into_iter().flat_map(plans)
}

#[test]
fn no_convolution_of_a_plan_is_a_reference_implementation() {
    for (kind, bf16) in planned() {
        let (graph, params) = realistic(&kind);
        let plan = Plan::compile(&graph, &params, (128, 160), bf16).unwrap();
        let names = plan.implementations();
        assert!(!names.is_empty());
        for name in names {
            let known = !name.is_empty() && !name.starts_with("ref");
            assert!(known, "{}, bf16 {bf16}: {name}", kind.name);
        }
    }
}

#[test]
fn a_worker_gives_equal_results_again_and_again_in_the_same_memory() {
    for (kind, bf16) in planned() {
        let (graph, params) = realistic(&kind);
        let plan = Arc::new(Plan::compile(&graph, &params, (64, 96), bf16).unwrap());
        let mut worker = Worker::new(plan).unwrap();
        let inputs = ["first", "second"].map(|name| values(&sine(name, &[64 * 96], 0.7, 0.)));
        let mut run = |i: usize| {
            let result = worker.run(&inputs[i]).unwrap();
            (result.to_vec(), result.as_ptr() as usize)
        };
        let (first, second) = (run(0), run(1));
        assert_ne!(first.0, second.0);
        assert_eq!(first.1, second.1, "{}: memory is made once", kind.name);
        assert_eq!(run(0), first, "{}", kind.name);
        assert_eq!(run(1), second, "{}", kind.name);
        assert!(worker.run(&inputs[0][1..]).is_err());
    }
}

#[test]
fn sizes_of_pictures_may_alternate() {
    for (kind, bf16) in planned() {
        let (graph, params) = realistic(&kind);
        let engine = Engine::Plan { bf16 };
        // More sizes than plans are kept, and all of them in one call.
        let sizes = [(64, 64), (96, 64), (64, 96), (32, 64), (64, 32), (96, 96)];
        let all: Vec<Thumb> = sizes
            .iter()
            .map(|(w, h)| thumbs(1, *w, *h).remove(0))
            .collect();
        let alone: Vec<AbMap> = all
            .iter()
            .map(|thumb| {
                let mut fresh = network(&graph, &params, cpu(engine));
                fresh
                    .predict(std::slice::from_ref(thumb))
                    .unwrap()
                    .remove(0)
            })
            .collect();
        let mut model = network(&graph, &params, cpu(engine));
        for _ in 0..2 {
            assert!(
                model.predict(&all).unwrap() == alone,
                "{} on {engine}",
                kind.name
            );
        }
        assert_eq!(model.take_warnings(), [""; 0]);
    }
}

#[test]
fn a_plan_for_a_picture_that_is_too_small_is_refused_in_words() {
    // Every network but a shallow one has no sample left of 8 px.
    for (kind, bf16) in planned().filter(|(kind, _)| kind.trunk().stride() > 8) {
        let (graph, params) = realistic(&kind);
        for size in [(8, 8), (8, 64)] {
            let Err(why) = Plan::compile(&graph, &params, size, bf16) else {
                panic!("{} takes {size:?}", kind.name)
            };
            assert!(why.contains("too small"), "{}: {why}", kind.name);
        }
    }
}

/// oneDNN looks at its environment once, so that each setting needs a process.
#[test]
fn older_cpus_make_the_same_pictures() {
    if plans().is_empty() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let maps = |isa: &str, precision: &str| -> (Vec<f32>, String) {
        let path = folder.path().join(isa);
        let environment = [
            ("ONEDNN_MAX_CPU_ISA", isa),
            ("AUTOCHROME_TEST_PRECISION", precision),
            ("AUTOCHROME_TEST_MAPS", path.to_str().unwrap()),
        ];
        let said = again("colours_for_another_process", &environment);
        let maps = std::fs::read(path).unwrap();
        (bytemuck::pod_collect_to_vec(&maps), said)
    };
    let (all, said) = maps("DEFAULT", "f32");
    assert!(said.contains("warnings []"), "{said}");
    for isa in ["AVX2", "SSE41"] {
        // These have no bf16: f32 takes its place, and that is said.
        for (precision, warning) in [("f32", "warnings []"), ("bf16", "runs in f32")] {
            let (maps, said) = maps(isa, precision);
            let apart = numbers::apart(&maps, &all);
            assert!(apart <= 0.05, "{isa}: {apart} CIE units");
            assert!(said.contains(warning), "{said}");
        }
    }
}

#[test]
fn colours_for_another_process() {
    let Some(path) = std::env::var_os("AUTOCHROME_TEST_MAPS") else {
        return;
    };
    let precision = std::env::var("AUTOCHROME_TEST_PRECISION").unwrap();
    let precision = precision.parse().unwrap();
    let mut model = net::load(DEFAULT_MODEL, &on_cpu(precision)).unwrap();
    let (width, height) = model.thumb_size(640, 480, 1.).unwrap();
    let maps = model.predict(&thumbs(2, width, height)).unwrap();
    println!("\nwarnings {:?}", model.take_warnings());
    let all: Vec<f32> = maps.into_iter().flat_map(|m| [m.a, m.b].concat()).collect();
    std::fs::write(path, bytemuck::cast_slice(&all)).unwrap();
}
