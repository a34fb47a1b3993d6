//! The discriminators: what they see, and their numbers in training, against PyTorch.

use std::collections::BTreeMap;

use autochrome::{
    Error,
    net::{
        checkpoint,
        engine::eager::{Eager, Gradients, Pass, Wanted},
        graph::Graph,
        params::{Params, stream},
        patchgan::{self, Norm, PatchGanConfig},
        spectral::Spectral,
    },
};
use candle_core::{Device, Tensor};
use serde_json::json;

#[path = "common/numbers.rs"]
mod numbers;
use numbers::{agree, random, values};

/// Made by tests/golden/critic.py.
fn golden() -> BTreeMap<String, Tensor> {
    let bytes = include_bytes!("golden/critic.safetensors");
    checkpoint::tensors(bytes, "golden", &Device::Cpu).unwrap()
}

fn config(receptive: usize, norm: Norm) -> PatchGanConfig {
    PatchGanConfig {
        channels: 6,
        receptive,
        norm,
        ..Default::default()
    }
}

fn pass(graph: &Graph, params: &Params, x: &Tensor) -> Pass {
    let eager = Eager {
        graph,
        params,
        bf16: false,
    };
    eager.learn(x, &mut stream(1, "noise")).unwrap()
}

/// The golden's parameters; a fresh network's statistics, which training does not look at.
fn params(graph: &Graph, golden: &BTreeMap<String, Tensor>) -> Params {
    let params = Params::seeded(graph, 1, &Device::Cpu).unwrap();
    let own = params.trained().keys();
    let given = own.map(|name| (name.clone(), golden[name].clone()));
    params.set(&given.collect()).unwrap();
    params
}

/// Logits and all gradients are those of this case; `pull_back` is what the gradients go through first.
fn agrees(
    case: &str,
    (graph, params): (&Graph, &Params),
    golden: &BTreeMap<String, Tensor>,
    pull_back: impl Fn(&mut Gradients),
) {
    let of = |what: &str| &golden[&format!("{case}.{what}")];
    let cotangent = match case {
        "pixel" => of("g"),
        _ => &golden["g"],
    };
    let learn = || pass(graph, params, &golden["x"]);
    agree(learn().output(), of("y"), 1e-5, case);
    let dx = learn().backward(cotangent, Wanted::Input).unwrap();
    agree(&dx[""], of("dx"), 1e-4, case);
    let mut all = learn().backward(cotangent, Wanted::Parameters).unwrap();
    pull_back(&mut all);
    let count = golden.keys().filter(|n| n.starts_with(case)).count();
    let others = if case == "pixel" { 3 } else { 2 };
    assert_eq!(all.len(), count - others, "{case}");
    for (name, gradient) in &all {
        let theirs = of(name);
        // A bias that a norm takes off again has no gradient but noise.
        match values(theirs).iter().all(|v| v.abs() < 1e-9) {
            true => assert!(values(gradient).iter().all(|v| v.abs() < 1e-3), "{name}"),
            false => agree(gradient, theirs, 1e-4, &format!("{case} {name}")),
        }
    }
}

#[test]
fn every_norm_agrees_with_pytorch_in_training() {
    let golden = golden();
    let cases = [
        ("none", 34, Norm::None),
        ("batch", 34, Norm::Batch),
        ("instance", 34, Norm::Instance),
        ("group", 34, Norm::Group),
        ("pixel", 1, Norm::Instance),
    ];
    for (case, receptive, norm) in cases {
        let graph = patchgan::graph(&config(receptive, norm));
        let params = params(&graph, &golden);
        agrees(case, (&graph, &params), &golden, |_| ());
    }
}

/// The discriminator of the golden, with its vectors.
fn spectral(golden: &BTreeMap<String, Tensor>) -> (Graph, Params, Spectral) {
    let graph = patchgan::graph(&config(34, Norm::Spectral));
    let params = params(&graph, golden);
    let mut spectral = Spectral::new(&graph, 1, &Device::Cpu).unwrap();
    let mut state = spectral.state();
    for (name, vector) in state.iter_mut().filter(|(name, _)| name.ends_with("_u")) {
        *vector = golden[name].unsqueeze(1).unwrap();
    }
    spectral.restore(&state).unwrap();
    (graph, params, spectral)
}

#[test]
fn spectral_normalisation_agrees_with_pytorch() {
    let golden = golden();
    let (graph, params, mut spectral) = spectral(&golden);
    spectral.iterate(&params).unwrap();
    let divided = spectral.normalised(&params).unwrap();
    agrees("spectral", (&graph, &divided), &golden, |gradients| {
        spectral.pull_back(&params, gradients).unwrap()
    });
    let name = "model.2.bias";
    let bias = |params: &Params| values(params.get(name).unwrap());
    assert_eq!(bias(&divided), bias(&params), "only weights are divided");
}

#[test]
fn after_many_iterations_sigma_is_the_largest_singular_value() {
    let golden = golden();
    let (_, params, mut spectral) = spectral(&golden);
    for _ in 0..300 {
        spectral.iterate(&params).unwrap();
    }
    let divided = spectral.normalised(&params).unwrap();
    let mut seen = 0;
    for name in params.trained().keys().filter(|n| n.ends_with(".weight")) {
        let sigma = golden[&format!("sigma.{name}")].get(0).unwrap();
        let theirs = params.get(name).unwrap().broadcast_div(&sigma).unwrap();
        agree(divided.get(name).unwrap(), &theirs, 1e-5, name);
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn spectral_vectors_are_restored_bit_for_bit_and_those_of_another_network_refused() {
    let graph = patchgan::graph(&config(34, Norm::Spectral));
    let params = Params::seeded(&graph, 1, &Device::Cpu).unwrap();
    let fresh = |seed| Spectral::new(&graph, seed, &Device::Cpu).unwrap();
    let numbers =
        |spectral: &Spectral| -> Vec<Vec<f32>> { spectral.state().values().map(values).collect() };
    let (mut one, mut other) = (fresh(1), fresh(2));
    assert_eq!(numbers(&one), numbers(&fresh(1)));
    assert_ne!(numbers(&one), numbers(&other));
    one.iterate(&params).unwrap();
    other.restore(&one.state()).unwrap();
    one.iterate(&params).unwrap();
    other.iterate(&params).unwrap();
    assert_eq!(numbers(&one), numbers(&other));
    let larger = PatchGanConfig {
        channels: 7,
        ..config(34, Norm::Spectral)
    };
    let foreign = Spectral::new(&patchgan::graph(&larger), 1, &Device::Cpu).unwrap();
    assert!(other.restore(&foreign.state()).is_none());
    assert_eq!(numbers(&one), numbers(&other), "nothing has changed");
}

/// Which logits move where pixels do: the side of what one logit sees.
fn seen(receptive: usize, side: usize) -> usize {
    let config = PatchGanConfig {
        channels: 2,
        ..config(receptive, Norm::None)
    };
    let graph = patchgan::graph(&config);
    let params = Params::seeded(&graph, 1, &Device::Cpu).unwrap();
    let pass = pass(&graph, &params, &random(&[1, side, side, 3], "picture"));
    let (_, h, w, _) = pass.output().dims4().unwrap();
    // Of the logit in the middle: which pixels it depends on.
    let mut one = vec![0f32; h * w];
    one[h / 2 * w + w / 2] = 1.;
    let one = Tensor::from_vec(one, (1, h, w, 1), &Device::Cpu).unwrap();
    let slope = pass.backward(&one, Wanted::Input).unwrap();
    let slope = values(&slope[""]);
    let moves = |y: &usize| {
        slope[y * side * 3..(y + 1) * side * 3]
            .iter()
            .any(|v| *v != 0.)
    };
    let rows: Vec<usize> = (0..side).filter(moves).collect();
    rows[rows.len() - 1] - rows[0] + 1
}

#[test]
fn a_logit_sees_as_many_pixels_as_the_receptive_field_says() {
    for (receptive, side) in [
        (1, 8),
        (16, 48),
        (34, 96),
        (70, 160),
        (142, 320),
        (286, 640),
    ] {
        assert_eq!(seen(receptive, side), receptive);
    }
}

#[test]
fn the_smallest_side_gives_one_logit_and_a_smaller_one_none() {
    for receptive in [1, 16, 34, 70, 142, 286] {
        let config = config(receptive, Norm::Batch);
        let graph = patchgan::graph(&config);
        let of = |side: usize| graph.sizes((side, side))[graph.output().index()];
        let least = config.smallest_side();
        assert_eq!(of(least), (1, 1), "{receptive}");
        assert_eq!(of(least - 1), (0, 0), "{receptive}");
    }
}

#[test]
fn an_unconditional_one_sees_chroma_alone() {
    let unconditional = PatchGanConfig {
        conditional: false,
        ..config(16, Norm::None)
    };
    let graph = patchgan::graph(&unconditional);
    assert_eq!((unconditional.inputs(), graph.nodes()[0].channels), (2, 2));
    let with_l = patchgan::graph(&config(16, Norm::None));
    assert_eq!(with_l.nodes()[0].channels, 3);
}

#[test]
fn settings_that_make_no_discriminator_are_refused_in_words() {
    let refusal = |config: PatchGanConfig| match config.validate() {
        Err(Error::Usage(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = refusal(config(50, Norm::Batch));
    assert!(why.contains("50") && why.contains("70"), "{why}");
    let none = PatchGanConfig {
        channels: 0,
        ..Default::default()
    };
    assert!(refusal(none).contains("channel"));
    PatchGanConfig::default().validate().unwrap();
    let parsed = serde_json::from_value::<PatchGanConfig>;
    let norm = |name: &str| parsed(json!({ "norm": name })).map(|c| c.norm);
    assert_eq!(norm("spectral").unwrap(), Norm::Spectral);
    let why = norm("layer").unwrap_err().to_string();
    assert!(why.contains("instance"), "{why}");
    assert!(parsed(json!({ "layers": 3 })).is_err());
}
