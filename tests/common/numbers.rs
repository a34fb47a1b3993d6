//! What the tests of the networks share: numbers that need no file, and a test run again in another process.
#![allow(dead_code)] // each test binary uses a part

use std::process::Command;

use autochrome::net::{
    self, ARCHS, Arch, Decoding,
    graph::Graph,
    params::{normal, stream},
};
use candle_core::{Device, Tensor};
use serde_json::{Value, json};

/// A generator with settings.
#[derive(Clone)]
pub struct Kind {
    /// Its row's name, and what is not as by default.
    pub name: String,
    pub arch: &'static Arch,
    pub settings: Value,
}

impl Kind {
    /// 16 channels where their number is a setting: the classics are large.
    fn new(arch: &'static Arch, changes: &str) -> Self {
        let mut settings = (arch.defaults)();
        if let Some(channels) = settings.get_mut("channels") {
            *channels = json!(16);
        }
        let changed: Value = serde_json::from_str(changes).unwrap();
        for (name, value) in changed.as_object().unwrap() {
            settings[name] = value.clone();
        }
        let name = format!("{} {changes}", arch.name).replace(" {}", "");
        Self {
            name,
            arch,
            settings,
        }
    }

    /// The network as it is used.
    pub fn graph(&self) -> Graph {
        net::decoded(self.trunk(), &Decoding::default())
    }

    /// The network as it is trained, perhaps to logits.
    pub fn trunk(&self) -> Graph {
        (self.arch.graph)(&self.settings).unwrap()
    }
}

/// Every generator with its default settings and with its variants'.
pub fn kinds() -> Vec<Kind> {
    let of = |arch: &'static Arch| {
        let changes = ["{}"].into_iter().chain(arch.variants.iter().copied());
        changes.map(move |changes| Kind::new(arch, changes))
    };
    ARCHS.iter().flat_map(of).collect()
}

/// `scale * sin(0.7 i + the sum of the name's bytes) + shift`, as in tests/golden.
pub fn sine(name: &str, shape: &[usize], scale: f64, shift: f64) -> Tensor {
    let phase = name.bytes().map(f64::from).sum::<f64>();
    let value = |i: usize| (scale * (0.7 * i as f64 + phase).sin() + shift) as f32;
    let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Normal numbers that depend on the purpose alone.
pub fn random(shape: &[usize], purpose: &str) -> Tensor {
    let mut rng = stream(3, purpose);
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| normal(&mut rng)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

pub fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference.
pub fn apart(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let pairs = ours.iter().zip(theirs);
    let worst = |most: f32, v: f32| if v > most || v.is_nan() { v } else { most };
    pairs.map(|(a, b)| (a - b).abs()).fold(0., worst)
}

/// The largest difference as a part of the largest value is at most `most`.
pub fn agree(ours: &Tensor, theirs: &Tensor, most: f32, what: &str) {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    let (ours, theirs) = (values(ours), values(theirs));
    let largest = theirs.iter().fold(0f32, |most, v| most.max(v.abs()));
    let apart = apart(&ours, &theirs);
    assert!(
        apart <= most * largest,
        "{what}: {apart} apart, values to {largest}"
    );
}

/// Runs a test of this binary in a process with this environment, where it must pass, and gives what it printed.
pub fn again(test: &str, environment: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let passed = output.status.success() && text.contains("1 passed");
    assert!(passed, "{test} with {environment:?}: {text}{errors}");
    text
}
