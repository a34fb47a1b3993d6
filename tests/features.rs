//! SqueezeNet's features and their gradient against PyTorch; the file that they need.

use std::collections::BTreeMap;

use autochrome::net::{
    engine::eager::{Eager, Wanted},
    features::{Features, Layer},
    graph::Graph,
    params::stream,
};
use candle_core::{Device, Tensor};
use serde_json::{Value, json};

#[path = "common/numbers.rs"]
mod numbers;
use numbers::{sine, values};

/// `wave` of tests/golden/networks.py for convolutions, by the original's names.
fn waves() -> BTreeMap<String, Tensor> {
    let parameters = Features::graph(Layer::LAST).parameters().into_iter();
    let wave = |name: String, shape: Vec<usize>| {
        let scale = match shape.len() {
            4 => (2. / shape[1..].iter().product::<usize>() as f64).sqrt(),
            _ => 0.1,
        };
        let value = sine(&name, &shape, scale, 0.);
        (name, value)
    };
    let mut all: BTreeMap<_, _> = parameters.map(|p| wave(p.name, p.shape)).collect();
    // The classifier, which is not wanted here.
    all.insert(
        "conv10.bias".into(),
        Tensor::zeros(1000, candle_core::DType::F32, &Device::Cpu).unwrap(),
    );
    all
}

/// Pictures `[N, H, W, C]` of numbers that PyTorch makes in the order C, N, H, W.
fn pictures(name: &str, shape: [usize; 4], scale: f64, shift: f64) -> Tensor {
    let made = sine(name, &shape, scale, shift);
    made.permute((1, 2, 3, 0)).unwrap().contiguous().unwrap()
}

fn agrees_with_pytorch(name: &str, ours: &Tensor) {
    let golden: Value = serde_json::from_str(include_str!("golden/features.json")).unwrap();
    let ours = ours.permute((3, 0, 1, 2)).unwrap();
    assert_eq!(json!(ours.dims()), golden[name]["shape"], "{name}");
    let theirs: Vec<f64> = serde_json::from_value(golden[name]["every_37th"].clone()).unwrap();
    let largest = theirs.iter().fold(0f64, |most, v| most.max(v.abs()));
    let ours = values(&ours);
    assert_eq!(ours.len().div_ceil(37), theirs.len());
    for (ours, theirs) in ours.iter().step_by(37).zip(theirs) {
        let apart = (f64::from(*ours) - theirs).abs();
        assert!(
            apart < 1e-5 * largest,
            "{name}: {ours}, PyTorch has {theirs}"
        );
    }
}

fn eager<'a>(features: &'a Features, graph: &'a Graph) -> Eager<'a> {
    Eager {
        graph,
        params: features.params(),
        bf16: false,
    }
}

/// Pictures whose sizes are odd as well as even before a pooling.
fn picture() -> Tensor {
    pictures("picture", [3, 2, 46, 61], 0.5, 0.5)
}

const LAYERS: [(&str, Layer); 5] = [
    ("relu1", Layer::Relu1),
    ("fire3", Layer::Fire(3)),
    ("fire5", Layer::Fire(5)),
    ("fire8", Layer::Fire(8)),
    ("fire9", Layer::Fire(9)),
];

#[test]
fn features_agree_with_pytorch_at_every_layer_in_one_go_or_in_steps() {
    let features = Features::new(&waves(), &Device::Cpu).unwrap();
    let mut so_far: Option<(Layer, Tensor)> = None;
    for (name, layer) in LAYERS {
        let graph = Features::graph(layer);
        let whole = eager(&features, &graph).evaluate(&picture()).unwrap();
        assert_eq!(whole.dims()[3], layer.channels());
        agrees_with_pytorch(name, &whole);
        let stepped = match so_far {
            None => whole,
            Some((from, x)) => {
                let graph = Features::between(from, layer);
                eager(&features, &graph).evaluate(&x).unwrap()
            }
        };
        agrees_with_pytorch(name, &stepped);
        so_far = Some((layer, stepped));
    }
}

#[test]
fn the_gradient_on_the_picture_agrees_with_pytorch() {
    let features = Features::new(&waves(), &Device::Cpu).unwrap();
    let graph = Features::graph(Layer::LAST);
    let pass = eager(&features, &graph)
        .learn(&picture(), &mut stream(1, "no dropout here"))
        .unwrap();
    let (n, h, w, c) = pass.output().dims4().unwrap();
    let cotangent = pictures("cotangent", [c, n, h, w], 1., 0.);
    let gradients = pass.backward(&cotangent, Wanted::Input).unwrap();
    agrees_with_pytorch("gradient", &gradients[""]);
}

#[test]
fn other_weights_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("features.safetensors");
    let refused = |path| {
        let opened = Features::open(path, &Device::Cpu);
        opened.err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert!(refused(&path).contains("no such file"));
    std::fs::write(&path, b"no tensors").unwrap();
    assert!(refused(&path).contains("no intact safetensors file"));
    let mut weights = waves();
    weights.remove("fire7.squeeze.bias");
    candle_core::safetensors::save(&weights.into_iter().collect(), &path).unwrap();
    let why = refused(&path);
    assert!(why.contains("SqueezeNet v1.0") && why.contains("fire7.squeeze.bias"));
}
