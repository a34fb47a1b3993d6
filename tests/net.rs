//! What every generator promises, for every row of ARCHS; models by name; agreement with PyTorch.

mod common;
use common::on_cpu;

use std::{collections::BTreeMap, sync::Arc};

use autochrome::{
    Error,
    frame::Thumb,
    net::{
        self, Colorizer, Decoding, DeviceChoice, Look, Looks, Model, Network, Options, Place,
        Precision, Quality, Setting,
        checkpoint::{self, COLOR, Header},
        engine::{
            Engine,
            eager::{Eager, Norms, Wanted},
        },
        graph::{Act, Conv, Graph, NormKind, Op, Window},
        params::{Draw, DrawKind, Init, Params, normal, stream},
        patchgan,
        unet::Norm,
    },
};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

#[path = "common/numbers.rs"]
mod numbers;
use numbers::{Kind, again, agree, kinds, random, sine, values};

/// A fresh generator and its parameters.
fn fresh(kind: &Kind) -> (Graph, Params) {
    let graph = kind.graph();
    let params = Params::seeded(&graph, 1, &Device::Cpu).unwrap();
    (graph, params)
}

fn eager<'a>(graph: &'a Graph, params: &'a Params) -> Eager<'a> {
    Eager {
        graph,
        params,
        bf16: false,
    }
}

fn thumbs(count: usize, width: usize, height: usize) -> Vec<Thumb> {
    let mut rng = stream(5, "thumbs");
    let mut thumb = || Thumb {
        width,
        height,
        l: (0..width * height)
            .map(|_| 50. + 20. * normal(&mut rng))
            .collect(),
    };
    (0..count).map(|_| thumb()).collect()
}

fn on(engine: Engine) -> Place {
    Place {
        device: Device::Cpu,
        engine,
        words: String::new(),
        warning: None,
    }
}

/// A fresh generator of this kind behind the narrow waist.
fn colorizer(kind: &Kind, engine: Engine) -> Network {
    let (graph, params) = fresh(kind);
    let model = Model {
        graph,
        params,
        size: 64,
        gain: 1.,
        label: kind.name.clone(),
    };
    Network::new(model, on(engine))
}

#[test]
fn every_generator_keeps_the_batch_axis_and_is_finite_on_pictures_that_are_not_square() {
    for kind in kinds() {
        let (graph, params) = fresh(&kind);
        let stride = graph.stride();
        let x = random(&[3, 2 * stride, 3 * stride, 1], "l");
        let y = eager(&graph, &params).evaluate(&x).unwrap();
        let (n, h, w, c) = y.dims4().unwrap();
        assert_eq!((c, n), (2, 3), "{}", kind.name);
        assert_eq!((h * 3, 2 * stride % h), (w * 2, 0), "{}", kind.name);
        assert!(
            values(&y).iter().all(|v| v.abs() <= 1.),
            "{}: finite, within -1..1",
            kind.name
        );
    }
}

#[test]
fn every_parameter_of_every_generator_gets_a_gradient() {
    for kind in kinds() {
        let (graph, params) = fresh(&kind);
        let side = 2 * graph.stride();
        let x = random(&[2, side, side, 1], "l");
        let pass = eager(&graph, &params)
            .learn(&x, &mut stream(1, "dropout"))
            .unwrap();
        let cotangent = random(pass.output().dims(), "cotangent");
        let grads = pass.backward(&cotangent, Wanted::Parameters).unwrap();
        assert_eq!(grads.len(), params.trained().len(), "{}", kind.name);
        for name in params.trained().keys() {
            let Some(grad) = grads.get(name) else {
                panic!("{} {name}: no gradient", kind.name)
            };
            let size = values(grad).iter().map(|v| v.abs()).sum::<f32>();
            assert!(
                size > 0. && size.is_finite(),
                "{} {name}: gradient {size}",
                kind.name
            );
        }
    }
}

/// Generators whose training is what they do in use: without dropout, and with batch norms that keep to their running
/// statistics.
#[test]
fn gradients_are_those_that_candle_finds_by_itself() {
    let all = [
        ("unet", json!({ "channels": 16, "dropout": 0. })),
        ("resnet", json!({ "norm": "group", "channels": 16 })),
        ("squeeze", json!({})),
        ("lite", json!({ "cut": true, "blur": true })),
    ];
    for (name, settings) in all {
        let graph = (net::arch(name).unwrap().graph)(&settings).unwrap();
        let graph = net::decoded(graph, &Decoding::default());
        let params = Params::seeded(&graph, 1, &Device::Cpu).unwrap();
        let side = 2 * graph.stride();
        let x = candle_core::Var::from_tensor(&random(&[2, side, side, 1], "l")).unwrap();
        let y = eager(&graph, &params).tracked(&x).unwrap();
        let cotangent = random(y.dims(), "cotangent");
        let theirs = (&y * &cotangent)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        let learn = || {
            let (mut noise, packs) = (stream(1, "dropout"), Arc::default());
            eager(&graph, &params)
                .learn_sharing(&x, &mut noise, &packs, Norms::Running)
                .unwrap()
        };
        let pass = learn();
        assert_eq!(values(pass.output()), values(&y), "{name}");
        assert!(pass.seen.is_empty(), "{name}: nothing moves the statistics");
        let ours = pass.backward(&cotangent, Wanted::Parameters).unwrap();
        for (parameter, var) in params.trained() {
            let what = format!("{name} {parameter}");
            agree(&ours[parameter], theirs.get(var).unwrap(), 1e-4, &what);
        }
        let ours = learn().backward(&cotangent, Wanted::Input).unwrap();
        assert_eq!(ours.len(), 1);
        agree(&ours[""], theirs.get(&x).unwrap(), 1e-4, name);
    }
}

/// Every generator on every engine that the CPU has here.
fn all() -> impl Iterator<Item = (Kind, Engine)> {
    let engines = |kind: Kind| {
        Engine::present(&Device::Cpu)
            .into_iter()
            .map(move |e| (kind.clone(), e))
    };
    kinds().into_iter().flat_map(engines)
}

#[test]
fn a_frame_alone_is_coloured_as_in_a_batch_bit_for_bit() {
    for (kind, engine) in all() {
        let mut model = colorizer(&kind, engine);
        let (width, height) = model.thumb_size(160, 90, 1.).unwrap();
        let thumbs = thumbs(3, width, height);
        let together = model.predict(&thumbs).unwrap();
        for (thumb, map) in thumbs.iter().zip(&together) {
            let alone = model.predict(std::slice::from_ref(thumb)).unwrap();
            assert_eq!(&alone[0], map, "{} on {engine}", kind.name);
        }
    }
}

/// rayon takes the number of threads from the environment, so each number needs a process: this test runs
/// [`colours_for_another_process`] in two of them.
#[test]
fn colours_are_bit_identical_for_one_and_two_threads() {
    let colours = |threads: &str| {
        let environment = [
            ("RAYON_NUM_THREADS", threads),
            ("AUTOCHROME_TEST_COLOURS", "1"),
        ];
        let text = again("colours_for_another_process", &environment);
        let lines = text.lines().filter(|line| line.contains("colours of"));
        let lines: Vec<_> = lines.map(str::to_owned).collect();
        assert_eq!(lines.len(), all().count(), "{text}");
        lines
    };
    assert_eq!(colours("1"), colours("2"));
}

#[test]
fn colours_for_another_process() {
    if std::env::var_os("AUTOCHROME_TEST_COLOURS").is_none() {
        return;
    }
    for (kind, engine) in all() {
        let mut model = colorizer(&kind, engine);
        let (width, height) = model.thumb_size(256, 160, 1.).unwrap();
        let maps = model.predict(&thumbs(3, width, height)).unwrap();
        let values = maps.iter().flat_map(|m| m.a.iter().chain(&m.b));
        let bytes: Vec<u8> = values.flat_map(|v| v.to_le_bytes()).collect();
        let digest = checkpoint::digest(&bytes);
        println!("\ncolours of {} on {engine}: {digest}", kind.name);
    }
}

#[test]
fn dropout_stands_on_the_three_levels_just_outside_the_innermost() {
    let dropped = |settings: Value| -> Vec<usize> {
        let graph = (net::arch("unet").unwrap().graph)(&settings).unwrap();
        let sizes = graph.sizes((256, 256));
        let nodes = graph.nodes().iter().zip(sizes);
        let dropped = nodes.filter(|(node, _)| matches!(node.op, Op::Dropout { .. }));
        dropped.map(|(_, (height, _))| height).collect()
    };
    assert_eq!(dropped(json!({ "depth": 8 })), [4, 8, 16]);
    assert_eq!(dropped(json!({ "depth": 3 })), [128]);
    assert_eq!(dropped(json!({ "depth": 8, "dropout": 0. })), [0; 0]);
}

#[test]
fn settings_that_make_no_network_are_refused_in_words() {
    let refusal = |arch: &str, settings: Value| match (net::arch(arch).unwrap().graph)(&settings) {
        Err(Error::Usage(why)) => why,
        other => panic!("{arch} with {settings}: {other:?}"),
    };
    for arch in ["unet", "encoder-decoder", "resnet"] {
        assert!(refusal(arch, json!({ "channels": 0 })).contains("channel"));
        assert!(refusal(arch, json!({ "norm": "layer" })).contains("group"));
        assert!(refusal(arch, json!({ "size": 3 })).contains("size"));
    }
    assert!(refusal("unet", json!({ "depth": 9 })).contains("2..=8"));
    assert!(refusal("unet", json!({ "dropout": 1. })).contains("dropout"));
}

#[test]
fn groups_divide_any_number_of_channels() {
    for channels in 1..200 {
        let NormKind::Group { groups, .. } = Norm::Group.kind(channels) else {
            panic!("no group norm")
        };
        assert!(channels.is_multiple_of(groups) && groups <= (channels / 8).max(1));
    }
    let of_64 = NormKind::Group {
        groups: 8,
        eps: 1e-5,
    };
    assert_eq!(Norm::Group.kind(64), of_64);
}

/// As `wave` in tests/golden/networks.py.
fn wave(name: &str, shape: &[usize]) -> Tensor {
    let is = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let (scale, shift) = match shape {
        _ if name == "head.prior" => (0.8 / 261., 1. / 261.),
        [_, i, h, w] if name.ends_with("weight") => ((2. / (i * h * w) as f64).sqrt(), 0.),
        _ if is(&["weight", "running_var"]) => (0.1, 1.),
        _ if is(&["bias", "running_mean"]) => (0.1, 0.),
        _ => (1., 0.),
    };
    sine(name, shape, scale, shift)
}

/// Parameters that are their waves.
fn waves(graph: &Graph) -> Params {
    let parameters = graph.parameters().into_iter();
    let kept = Params::seeded(graph, 1, &Device::Cpu).unwrap();
    let waves = parameters.map(|p| {
        // Bins and filters are what they are.
        let constant = p.name == "head.bins" || p.name.contains(".blur.");
        let value = match constant {
            true => kept.get(&p.name).unwrap().detach(),
            false => wave(&p.name, &p.shape),
        };
        (p.name, value)
    });
    Params::given(graph, &waves.collect(), &Device::Cpu).unwrap()
}

/// The wave of this name and shape `[C, N, H, W]` as pictures `[N, H, W, C]`.
fn pictures(name: &str, shape: [usize; 4]) -> Tensor {
    wave(name, &shape)
        .permute((1, 2, 3, 0))
        .unwrap()
        .contiguous()
        .unwrap()
}

fn agrees_with_pytorch(name: &str, y: &Tensor) {
    // Made by tests/golden/networks.py: values in the order C, N, H, W.
    let golden: Value = serde_json::from_str(include_str!("golden/networks.json")).unwrap();
    let y = y.permute((3, 0, 1, 2)).unwrap();
    assert_eq!(json!(y.dims()), golden[name]["shape"], "{name}");
    let ours = values(&y);
    let theirs: Vec<f64> = serde_json::from_value(golden[name]["every_37th"].clone()).unwrap();
    assert_eq!(ours.len().div_ceil(37), theirs.len());
    for (i, (ours, theirs)) in ours.iter().step_by(37).zip(theirs).enumerate() {
        let apart = (f64::from(*ours) - theirs).abs();
        assert!(
            apart < 1e-4,
            "{name}, value {}: {ours}, PyTorch has {theirs}",
            37 * i
        );
    }
}

#[test]
fn every_generator_agrees_with_pytorch() {
    for kind in kinds() {
        let graph = fresh(&kind).0;
        let x = pictures("input", [1, 2, 64, 96]);
        let y = eager(&graph, &waves(&graph)).evaluate(&x).unwrap();
        agrees_with_pytorch(&kind.name, &y);
    }
}

#[test]
fn the_discriminator_agrees_with_pytorch() {
    let graph = patchgan::graph(&Default::default());
    let (l, ab) = (
        pictures("input", [1, 2, 64, 96]),
        pictures("chroma", [2, 2, 64, 96]),
    );
    let pair = Tensor::cat(&[l, ab], 3).unwrap();
    let logits = eager(&graph, &waves(&graph)).evaluate(&pair).unwrap();
    agrees_with_pytorch("patchgan", &logits);
}

/// The tensors of an ImageNet network: name and shape.
type Names = Vec<(String, Vec<usize>)>;

/// Ours from waves of these names, all of the encoder; refused in words where one is missing.
fn taken_over(kind: &Kind, theirs: Names) -> BTreeMap<String, Tensor> {
    let take = kind.arch.pretrained.unwrap();
    let ours = |theirs: &_| take(&kind.settings, theirs);
    let theirs = theirs.into_iter().map(|(name, shape)| {
        let wave = wave(&name, &shape);
        (name, wave)
    });
    let theirs: BTreeMap<_, _> = theirs.collect();
    for name in theirs.keys() {
        let mut others = theirs.clone();
        others.remove(name);
        match ours(&others) {
            Err(e @ Error::Model { .. }) => assert!(e.to_string().contains(name), "{e}"),
            Err(e) => panic!("{name}: not a model error: {e}"),
            Ok(_) => panic!("{} does without {name}", kind.name),
        }
    }
    let mut more = theirs.clone();
    more.insert("classifier".into(), wave("classifier", &[1000]));
    let made = ours(&more).unwrap();
    let own = ["decoder.", "head."];
    let encoder = kind.graph().parameters().into_iter();
    let encoder = encoder.filter(|p| !own.iter().any(|o| p.name.starts_with(o)));
    let encoder = encoder.filter(|p| !p.name.contains(".blur."));
    let shapes: BTreeMap<_, _> = encoder.map(|p| (p.name, p.shape)).collect();
    let made_shapes = made
        .iter()
        .map(|(name, t)| (name.clone(), t.dims().to_vec()));
    assert_eq!(made_shapes.collect::<BTreeMap<_, _>>(), shapes);
    made
}

/// The kinds of this generator.
fn kinds_of(arch: &str) -> impl Iterator<Item = Kind> {
    kinds().into_iter().filter(move |k| k.arch.name == arch)
}

/// The tensors of the first `blocks` blocks of EfficientNet-Lite0, as its PyTorch port names them.
fn efficientnet(blocks: usize) -> Names {
    let mut names: Names = vec![("_conv_stem.weight".into(), vec![32, 3, 3, 3])];
    let norm = |names: &mut Names, name: &str, channels: usize| {
        for what in ["weight", "bias", "running_mean", "running_var"] {
            names.push((format!("{name}.{what}"), vec![channels]));
        }
    };
    norm(&mut names, "_bn0", 32);
    // Kernel and channels of each block.
    let blocks_to_8 = [
        (3, 16),
        (3, 24),
        (3, 24),
        (5, 40),
        (5, 40),
        (3, 80),
        (3, 80),
        (3, 80),
        (5, 112),
    ];
    let more = [
        (5, 112),
        (5, 112),
        (5, 192),
        (5, 192),
        (5, 192),
        (5, 192),
        (3, 320),
    ];
    let mut inputs = 32;
    let all = blocks_to_8.into_iter().chain(more);
    for (i, (size, channels)) in all.take(blocks).enumerate() {
        let name = format!("_blocks.{i}");
        let wide = if i == 0 { inputs } else { 6 * inputs };
        if i > 0 {
            names.push((
                format!("{name}._expand_conv.weight"),
                vec![wide, inputs, 1, 1],
            ));
            norm(&mut names, &format!("{name}._bn0"), wide);
        }
        names.push((
            format!("{name}._depthwise_conv.weight"),
            vec![wide, 1, size, size],
        ));
        norm(&mut names, &format!("{name}._bn1"), wide);
        names.push((
            format!("{name}._project_conv.weight"),
            vec![channels, wide, 1, 1],
        ));
        norm(&mut names, &format!("{name}._bn2"), channels);
        inputs = channels;
    }
    names
}

#[test]
fn lite_takes_over_the_weights_of_efficientnet() {
    for kind in kinds_of("lite") {
        let blocks = if kind.settings["cut"] == json!(true) {
            11
        } else {
            16
        };
        taken_over(&kind, efficientnet(blocks));
    }
    let ours = taken_over(&kinds_of("lite").next().unwrap(), efficientnet(16));
    let same = |our: &str, their: &str| {
        assert_eq!(
            values(&ours[our]),
            values(&wave(their, ours[our].dims())),
            "{our}"
        );
    };
    same("stem.bn.running_mean", "_bn0.running_mean");
    same(
        "blocks.0.depthwise.weight",
        "_blocks.0._depthwise_conv.weight",
    );
    same("blocks.0.depthwise.bn.bias", "_blocks.0._bn1.bias");
    same("blocks.15.expand.bn.weight", "_blocks.15._bn0.weight");
    same(
        "blocks.15.project.bn.running_var",
        "_blocks.15._bn2.running_var",
    );
    // The sum of the planes of R, G and B.
    let stem = wave("_conv_stem.weight", &[32, 3, 3, 3])
        .sum_keepdim(1)
        .unwrap();
    agree(
        &ours["stem.weight"],
        &(stem * (127.5 / 128.)).unwrap(),
        1e-6,
        "stem",
    );
}

#[test]
fn squeeze_takes_over_the_weights_of_squeezenet() {
    let mut names: Names = Vec::new();
    let mut conv = |name: String, outputs: usize, inputs: usize, size: usize| {
        names.push((format!("{name}.weight"), vec![outputs, inputs, size, size]));
        names.push((format!("{name}.bias"), vec![outputs]));
    };
    conv("conv1".into(), 96, 3, 7);
    let mut inputs = 96;
    for n in 2..=9 {
        let expand = [0, 0, 64, 64, 128, 128, 192, 192, 256, 256][n];
        conv(format!("fire{n}.squeeze"), expand / 4, inputs, 1);
        conv(format!("fire{n}.expand1x1"), expand, expand / 4, 1);
        conv(format!("fire{n}.expand3x3"), expand, expand / 4, 3);
        inputs = 2 * expand;
    }
    for kind in kinds_of("squeeze") {
        taken_over(&kind, names.clone());
    }
    let ours = taken_over(&kinds_of("squeeze").next().unwrap(), names);
    let name = "fire9.expand3x3.weight";
    assert_eq!(values(&ours[name]), values(&wave(name, ours[name].dims())));
    let bias = (wave("fire2.squeeze.bias", &[16]) / 100.).unwrap();
    agree(&ours["fire2.squeeze.bias"], &bias, 1e-6, "bias");
    let planes = wave("conv1.weight", &[96, 3, 7, 7]);
    let sums = values(&planes.sum((2, 3)).unwrap());
    // What the means of B, G and R less the middle grey add where the picture is that grey.
    let offset = |sums: &[f32]| 23.5 * sums[0] + 10.5 * sums[1] + 4.5 * sums[2];
    let offsets: Vec<f32> = sums.chunks_exact(3).map(offset).collect();
    let offsets = Tensor::from_vec(offsets, 96, &Device::Cpu).unwrap();
    let bias = ((wave("conv1.bias", &[96]) + offsets).unwrap() / 100.).unwrap();
    agree(&ours["conv1.bias"], &bias, 1e-5, "bias");
    let stem = (planes.sum_keepdim(1).unwrap() * 1.275).unwrap();
    agree(&ours["conv1.weight"], &stem, 1e-6, "conv1");
}

/// Millions of parameters that gradients move.
fn millions(kind: &Kind) -> f64 {
    let parameters = kind.graph().parameters().into_iter();
    let trained = parameters.filter(|p| p.trained);
    trained
        .map(|p| p.shape.iter().product::<usize>())
        .sum::<usize>() as f64
        / 1e6
}

#[test]
fn lite_is_as_large_as_it_says() {
    for kind in kinds_of("lite") {
        let size = millions(&kind);
        let flops = kind.graph().flops((128, 128)) as f64 / 1e9;
        println!(
            "{}: {size:.2} M parameters, {flops:.2} GFLOP at 128 px",
            kind.name
        );
        let cut = kind.settings["cut"] == json!(true);
        let about = if cut { 1.3..1.7 } else { 3.6..4.4 };
        assert!(about.contains(&size), "{}: {size} M", kind.name);
    }
}

/// How much the result changes when the picture moves by one pixel, as a part of how much it varies.
fn unsteadiness(graph: &Graph, given: &BTreeMap<String, Tensor>) -> f64 {
    let params = Params::seeded(graph, 1, &Device::Cpu).unwrap();
    params.set(given).unwrap();
    let (side, margin) = (128, 4);
    let wave =
        |x: usize, y: usize, i: f32| (0.05 * i * x as f32 + 0.08 * (9. - i) * y as f32).sin() / 9.;
    let value = |x, y| (1..9).map(|i| wave(x, y, i as f32)).sum::<f32>();
    let picture = |from: usize| {
        let l = (0..side * side).map(|i| value(from + i % side, i / side));
        let l = Tensor::from_vec(l.collect::<Vec<_>>(), (1, side, side, 1), &Device::Cpu).unwrap();
        let y = eager(graph, &params).evaluate(&l).unwrap();
        // Borders see what is beyond the picture.
        let inside = side / 4 - 2 * margin;
        let y = y
            .narrow(1, margin, inside)
            .unwrap()
            .narrow(2, margin, inside)
            .unwrap();
        y.contiguous().unwrap()
    };
    let (here, there) = (picture(0), picture(1));
    let square = |t: Tensor| {
        f64::from(
            t.sqr()
                .unwrap()
                .mean_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap(),
        )
    };
    let varies = here
        .broadcast_sub(&here.mean_keepdim((1, 2)).unwrap())
        .unwrap();
    (square((there - here).unwrap()) / square(varies)).sqrt()
}

#[test]
fn blurring_before_samples_are_dropped_steadies_the_result() {
    let lite = net::arch("lite").unwrap();
    let imagenet = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/weights/efficientnet-lite0.safetensors"
    );
    let weights = std::fs::read(imagenet).ok();
    if weights.is_none() {
        println!("without the weights of ImageNet: only a drawn network is looked at");
    }
    let of = |settings: Value| {
        let graph = (lite.graph)(&settings).unwrap();
        let given = weights.as_ref().map(|bytes| {
            let theirs = checkpoint::tensors(bytes, "lite0", &Device::Cpu).unwrap();
            lite.pretrained.unwrap()(&settings, &theirs).unwrap()
        });
        let drawn = unsteadiness(&graph, &BTreeMap::new());
        (
            drawn,
            given.map_or(drawn, |given| unsteadiness(&graph, &given)),
        )
    };
    let (plain, blurred) = (of(json!({})), of(json!({ "blur": true })));
    println!(
        "change by one pixel, drawn and ImageNet encoder: plain {plain:.3?}, blurred {blurred:.3?}"
    );
    assert!(blurred.0 < plain.0 && blurred.1 < plain.1);
}

#[test]
fn the_same_seed_draws_the_same_parameters_and_another_seed_others() {
    let drawn = |seed| {
        let (mut graph, x) = Graph::new(1);
        let init = Init::Normal(1., 0.02);
        graph.conv(x, Conv::new("layer", 1000, Window::new(1, 1, 0)).init(init));
        let params = Params::seeded(&graph, seed, &Device::Cpu).unwrap();
        values(params.get("layer.weight").unwrap())
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    let mean = drawn(1).iter().sum::<f32>() / 1000.;
    let spread = (drawn(1).iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 1000.).sqrt();
    assert!(
        (mean - 1.).abs() < 0.003 && (spread - 0.02).abs() < 0.002,
        "mean {mean}, spread {spread}"
    );
}

/// One convolution of each kind: wide, narrow, of an enlarging picture, depthwise, in groups; and a norm.
fn every_shape() -> Graph {
    let (mut g, x) = Graph::new(8);
    let window = Window::new(4, 2, 1);
    let x = g.conv(x, Conv::new("wide", 16, window));
    let x = g.conv(x, Conv::same("narrow", 96, 1));
    let x = g.conv(x, Conv::new("transposed", 24, window).transposed());
    let x = g.conv(x, Conv::same("depthwise", 24, 5).groups(24));
    let x = g.conv(x, Conv::same("groups", 32, 3).groups(4));
    g.norm(x, "norm", NormKind::Batch { eps: 1e-5 }, Act::None);
    g
}

/// Each weight drawn so, as `[groups, rows of one, columns]`.
fn weights(kind: DrawKind, gain: f32) -> Vec<(&'static str, Tensor)> {
    let graph = every_shape().drawn(&Draw { kind, gain });
    let params = Params::seeded(&graph, 1, &Device::Cpu).unwrap();
    let groups = [
        ("wide", 1),
        ("narrow", 1),
        ("transposed", 1),
        ("depthwise", 24),
        ("groups", 4),
    ];
    let matrix = |(name, groups): (&'static str, usize)| {
        let weight = params.get(&format!("{name}.weight")).unwrap();
        let rows = weight.dim(0).unwrap() / groups;
        (name, weight.reshape((groups, rows, ())).unwrap())
    };
    groups.into_iter().map(matrix).collect()
}

/// Standard deviation around 0.
fn spread(t: &Tensor) -> f32 {
    let values = values(t);
    (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt()
}

#[test]
fn weights_are_drawn_as_wide_as_each_method_says() {
    // By hand: inputs and outputs of each, window included, as PyTorch counts them, but of one group.
    let fans = [
        (8 * 16, 16 * 16),
        (16, 96),
        (24 * 16, 96 * 16),
        (25, 25),
        (6 * 9, 8 * 9),
    ];
    let near = |kind, wanted: &dyn Fn(f32, f32) -> f32| {
        for ((name, weight), (fan_in, fan_out)) in weights(kind, 0.5).iter().zip(fans) {
            let wanted = wanted(fan_in as f32, fan_out as f32);
            // Three standard errors of the estimate.
            let error = 3. / (2. * weight.elem_count() as f32).sqrt();
            let ratio = spread(weight) / wanted;
            assert!(
                (ratio - 1.).abs() < error,
                "{kind:?} {name}: {ratio} of {wanted}"
            );
        }
    };
    near(DrawKind::Normal, &|_, _| 0.5);
    near(DrawKind::Xavier, &|i, o| 0.5 * (2. / (i + o)).sqrt());
    near(DrawKind::Kaiming, &|i, _| (2. / i).sqrt());
}

#[test]
fn orthogonal_weights_are_orthogonal_in_every_group() {
    let gain = 0.5;
    for (name, weight) in weights(DrawKind::Orthogonal, gain) {
        let (_, rows, columns) = weight.dims3().unwrap();
        let wide = match rows <= columns {
            true => weight,
            false => weight.transpose(1, 2).unwrap(),
        };
        let products = wide.matmul(&wide.transpose(1, 2).unwrap()).unwrap();
        let one = Tensor::eye(rows.min(columns), DType::F32, &Device::Cpu).unwrap();
        let one = (one * f64::from(gain * gain)).unwrap();
        let one = one.broadcast_as(products.shape()).unwrap();
        agree(&products, &one, 1e-5, name);
    }
    // Large, square and therefore nearly dependent.
    let (mut g, x) = Graph::new(256);
    g.conv(x, Conv::same("square", 256, 1));
    let draw = Draw {
        kind: DrawKind::Orthogonal,
        gain: 1.,
    };
    let params = Params::seeded(&g.drawn(&draw), 1, &Device::Cpu).unwrap();
    let square = params.get("square.weight").unwrap();
    let square = square.reshape((256, 256)).unwrap();
    let one = Tensor::eye(256, DType::F32, &Device::Cpu).unwrap();
    agree(
        &square.matmul(&square.t().unwrap()).unwrap(),
        &one,
        1e-5,
        "square",
    );
    let mean = values(&square).iter().sum::<f32>() / 65536.;
    assert!(
        mean.abs() < 1e-3,
        "every direction is equally likely: {mean}"
    );
}

#[test]
fn only_weights_of_convolutions_are_drawn_otherwise() {
    let params = |graph: Graph| Params::seeded(&graph, 1, &Device::Cpu).unwrap();
    let own = params(every_shape());
    assert_eq!(every_shape().drawn(&Draw::default()), every_shape());
    for kind in [DrawKind::Normal, DrawKind::Xavier, DrawKind::Orthogonal] {
        let draw = Draw { kind, gain: 0.02 };
        let drawn = params(every_shape().drawn(&draw));
        let again = params(every_shape().drawn(&draw));
        for (name, value) in drawn.values().unwrap() {
            let is_weight = value.dims().len() == 4;
            let same = values(&value) == values(own.get(&name).unwrap());
            assert_eq!(same, !is_weight, "{kind:?} {name}");
            assert_eq!(values(&value), values(again.get(&name).unwrap()), "{name}");
        }
        let norm = drawn.get("norm.weight").unwrap();
        let mean = values(norm).iter().sum::<f32>() / 32.;
        assert!((mean - 1.).abs() < 0.02, "{mean}");
    }
}

#[test]
fn a_way_to_draw_is_a_setting() {
    let parsed = |value: Value| serde_json::from_value::<Draw>(value);
    let draw = parsed(json!({ "kind": "orthogonal", "gain": 0.02 })).unwrap();
    assert_eq!(draw.kind, DrawKind::Orthogonal);
    assert_eq!(parsed(json!({})).unwrap().kind, DrawKind::Own);
    let why = parsed(json!({ "kind": "he" })).unwrap_err().to_string();
    assert!(why.contains("kaiming"), "{why}");
    for gain in [0., -1., f32::NAN, f32::INFINITY] {
        let draw = Draw { gain, ..draw };
        assert!(matches!(draw.validate(), Err(Error::Usage(_))), "{gain}");
    }
    draw.validate().unwrap();
}

#[test]
fn thumbnails_keep_the_display_aspect() {
    let stride = 16;
    for (w, h) in [
        (640, 480),
        (1920, 1080),
        (720, 576),
        (1080, 1920),
        (1000, 1000),
        (2390, 1000),
    ] {
        let (tw, th) = net::thumb_size(96, stride, w, h);
        assert_eq!((tw % stride, th % stride), (0, 0));
        let squash = (tw as f64 / th as f64) / (w as f64 / h as f64);
        assert!((0.94..1.07).contains(&squash), "{w}x{h} became {tw}x{th}");
        assert!((76..=128).contains(&tw.min(th)), "{w}x{h} became {tw}x{th}");
    }
    let (tw, th) = net::thumb_size(96, stride, 10_000, 10);
    assert!(tw <= 512 && th >= stride, "a strip became {tw}x{th}");
}

#[test]
fn test_models_need_no_file_and_look_at_no_pixels() {
    let mut gray = net::load("gray", &on_cpu(Precision::F32)).unwrap();
    let mut constant = net::load("constant", &on_cpu(Precision::F32)).unwrap();
    let thumbs = thumbs(2, 16, 16);
    assert_eq!(gray.thumb_size(1920, 1080, 1.), None);
    let maps = gray.predict(&thumbs).unwrap();
    assert_eq!(
        (maps.len(), &maps[0].a[..], &maps[1].b[..]),
        (2, &[0f32][..], &[0f32][..])
    );
    let map = &constant.predict(&thumbs).unwrap()[0];
    assert!(map.a[0] != 0. || map.b[0] != 0.);
}

#[test]
fn bundled_models_say_what_they_are() {
    assert!(net::bundled().any(|name| name == net::DEFAULT_MODEL));
    for name in net::bundled() {
        let info = net::info(name).unwrap();
        assert!(info.parameters > 100_000 && info.digest.len() == 64);
        assert!(
            info.trained["photographs"].as_u64() > Some(1000)
                && info.trained["settings"]["seed"].is_u64()
        );
        let mut model = net::load(name, &on_cpu(Precision::F32)).unwrap();
        assert!(
            model.describe().contains(&info.digest[..12]),
            "{}",
            model.describe()
        );
        let (width, height) = model.thumb_size(640, 480, 1.).unwrap();
        let map = &model.predict(&thumbs(1, width, height)).unwrap()[0];
        assert_eq!(map.a.len(), map.width * map.height);
        assert!(map.a.iter().chain(&map.b).all(|v| v.is_finite()));
    }
}

/// Other than by default.
const DECODING: Decoding = Decoding {
    k: 0.25,
    temperature: 0.5,
    calm: 1,
};

/// Two looks that are not alike.
fn looks() -> Looks {
    let vivid = Setting {
        decoding: DECODING,
        gain: 1.5,
    };
    Looks {
        vivid,
        faithful: Setting::default(),
    }
}

/// A model file of this kind with fresh parameters.
fn file_of(kind: &Kind, color: &str) -> Vec<u8> {
    let (_, params) = fresh(kind);
    let header = Header {
        arch: kind.arch.name.into(),
        network: kind.settings.clone(),
        color: color.into(),
        size: 64,
        looks: looks(),
        trained: json!({ "steps": 0 }),
        figures: Value::Null,
    };
    checkpoint::bytes(&header, &params.values().unwrap(), DType::F16).unwrap()
}

#[test]
fn every_generator_comes_back_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    for kind in kinds() {
        let path = folder.path().join("model.safetensors");
        let bytes = file_of(&kind, COLOR);
        std::fs::write(&path, &bytes).unwrap();
        let name = path.to_str().unwrap();
        assert!(net::is_model_name(name));
        let info = net::info(name).unwrap();
        assert_eq!(
            (&info.arch[..], info.size, info.looks),
            (kind.arch.name, 64, Some(looks()))
        );
        assert_eq!(info.digest, checkpoint::digest(&bytes));
        let classifies = kind.trunk().channels(kind.trunk().output()) == 261;
        let said = info.to_string();
        match classifies {
            false => assert!(
                said.contains("regression") && said.contains("vivid: gain 1.5"),
                "{said}"
            ),
            true => assert!(
                said.contains("classification")
                    && said.contains("k 0.25, temperature 0.5, calm 1, gain 1.5"),
                "{said}"
            ),
        }
        let model = net::load(name, &on_cpu(Precision::F32)).unwrap();
        assert!(model.describe().contains(kind.arch.name) && model.describe().contains("vivid"));
        let large = Options {
            quality: Quality::Pixels(128),
            ..on_cpu(Precision::F32)
        };
        let large = net::load(name, &large).unwrap();
        assert_eq!(large.thumb_size(640, 640, 1.), Some((128, 128)));
        let maps = Look::ALL.map(|look| {
            let options = Options {
                look,
                ..on_cpu(Precision::F32)
            };
            let mut model = net::load(name, &options).unwrap();
            model.predict(&thumbs(1, 64, 64)).unwrap()
        });
        assert_ne!(maps[0], maps[1], "the looks are alike");
        assert_eq!(
            file_of(&kind, COLOR),
            bytes,
            "the same model is the same file"
        );
    }
}

#[test]
fn a_wrong_file_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        match net::load(path.to_str().unwrap(), &on_cpu(Precision::F32)) {
            Err(e @ Error::Model { .. }) => e.to_string(),
            Err(e) => panic!("{name}: not a model error: {e}"),
            Ok(_) => panic!("{name} was taken"),
        }
    };
    let good = file_of(&kinds()[1], COLOR);
    assert!(refusal("text.safetensors", b"hello").contains("no safetensors file"));
    assert!(refusal("cut.safetensors", &good[..good.len() / 2]).contains("safetensors file"));
    assert!(refusal("color.safetensors", &file_of(&kinds()[1], "YUV")).contains("YUV"));
    let foreign = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
    let foreign =
        checkpoint::serialize(&BTreeMap::from([("w".into(), foreign)]), "format", &"pt").unwrap();
    assert!(refusal("foreign.safetensors", &foreign).contains("does not say what it is"));
    let missing = net::load("no-such-model", &on_cpu(Precision::F32))
        .err()
        .unwrap()
        .to_string();
    assert!(
        missing.contains("gray") && missing.contains(net::DEFAULT_MODEL),
        "{missing}"
    );
}

#[test]
fn devices_are_named_and_refused_in_words() {
    for name in ["auto", "cpu", "cuda:0", "cuda:7"] {
        assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
    }
    assert_eq!(
        "cuda".parse::<DeviceChoice>().unwrap(),
        DeviceChoice::Cuda(0)
    );
    for name in ["gpu", "cuda:", "cuda:x", ""] {
        assert!(
            matches!(name.parse::<DeviceChoice>(), Err(Error::Usage(_))),
            "{name}"
        );
    }
    for name in ["auto", "f32", "bf16"] {
        assert_eq!(name.parse::<Precision>().unwrap().to_string(), name);
    }
    assert!(matches!("f16".parse::<Precision>(), Err(Error::Usage(_))));
    let (_, why) = DeviceChoice::Auto.open().unwrap();
    assert!(why.contains("auto"), "auto says why: {why}");
    if !cfg!(feature = "cuda") {
        let refusal = DeviceChoice::Cuda(0).open().err().unwrap().to_string();
        assert!(refusal.contains("--features cuda"), "{refusal}");
    }
}
