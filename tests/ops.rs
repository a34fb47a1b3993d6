//! The engine's operations: agreement with PyTorch, gradients, the same numbers on every way to do them.

use std::{collections::BTreeMap, fs, thread};

use autochrome::net::{
    Decoding, bins, checkpoint,
    engine::{
        Engine, Precision,
        eager::{Eager, Gradients, Wanted},
        onednn,
        ops::{
            ActGrad, Add, Back, BiasAct, BlockSum, Cat, ChannelSums, Conv, ConvData, ConvWeights,
            CrossEntropy, Decode, Geometry, Grads, Mask, MaxPool, Mean, Norm, Operation, Run,
            Slice, Statistics, Up, evaluate, tracked,
        },
        portable,
    },
    graph::{self, Act, Graph, RELU, Window},
    params::{Params, stream},
    squeeze,
};
use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use serde::Deserialize;

#[path = "common/numbers.rs"]
mod numbers;
use numbers::{again, agree, random, sine, values};

/// With this in the environment candle can differentiate gradients; a thread looks once.
const TWICE: &str = "CANDLE_GRAD_DO_NOT_DETACH";

fn twice() -> bool {
    std::env::var_os(TWICE).is_some()
}

/// A case of tests/golden/ops.py.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Case {
    name: String,
    kind: String,
    affine: BTreeMap<String, (f64, f64)>,
    x: Vec<usize>,
    w: Vec<usize>,
    weight: Vec<usize>,
    bias: Vec<usize>,
    size: usize,
    stride: usize,
    pad: (usize, usize),
    groups: usize,
    factor: usize,
    act: String,
    slope: f32,
    eps: f32,
    k: f32,
    temperature: f32,
    weighted: bool,
    /// What PyTorch made of it.
    #[serde(skip)]
    golden: BTreeMap<String, Tensor>,
}

fn cases() -> Vec<Case> {
    let (bytes, name) = (include_bytes!("golden/ops.safetensors"), "ops.safetensors");
    let mut cases: Vec<Case> = checkpoint::metadata(bytes, "cases", name).unwrap();
    let all = checkpoint::tensors(bytes, name, &Device::Cpu).unwrap();
    for case in &mut cases {
        let prefix = format!("{}.", case.name);
        let own = |(n, t): (&String, &Tensor)| Some((n.strip_prefix(&prefix)?.into(), t.clone()));
        case.golden = all.iter().filter_map(own).collect();
        assert!(case.golden.contains_key("y"), "{}", case.name);
    }
    assert_eq!(
        cases.iter().map(|c| c.golden.len()).sum::<usize>(),
        all.len()
    );
    cases
}

impl Case {
    /// Names of its inputs.
    fn names(&self) -> Vec<&'static str> {
        self.inputs().into_iter().map(|(name, _)| name).collect()
    }

    /// Its inputs by name.
    fn inputs(&self) -> Vec<(&'static str, Var)> {
        let shapes = [
            ("x", &self.x),
            ("w", &self.w),
            ("weight", &self.weight),
            ("bias", &self.bias),
        ];
        let given = shapes.into_iter().filter(|(_, shape)| !shape.is_empty());
        let made = given.map(|(name, shape)| {
            let (scale, shift) = self.affine.get(name).copied().unwrap_or((1., 0.));
            (name, leaf(&sine(name, shape, scale, shift)))
        });
        let mut all: Vec<_> = made.collect();
        if self.kind == "cross_entropy" {
            let [n, h, w, _] = self.x[..] else {
                panic!("{:?}", self.x)
            };
            all.push(("truth", leaf(&sine("truth", &[n, h, w, 2], 0.4, 0.05))));
        }
        all
    }

    fn agrees(&self, what: &str, ours: &Tensor) {
        let Some(theirs) = self.golden.get(what) else {
            panic!("{}: PyTorch has no {what}", self.name)
        };
        agree(ours, theirs, 1e-4, &format!("{} {what}", self.name));
    }

    fn window(&self) -> Window {
        let (size, stride, pad) = (self.size, self.stride, self.pad);
        Window { size, stride, pad }
    }

    /// Shows its operation.
    fn show(&self, look: &impl Look) {
        let geometry = Geometry {
            window: self.window(),
            groups: self.groups,
            bf16: false,
        };
        let act = match &self.act[..] {
            "leaky" => Act::Leaky(self.slope),
            "relu6" => Act::Relu6,
            "tanh" => Act::Tanh,
            _ => Act::None,
        };
        let x = self.inputs()[0].1.as_detached_tensor();
        let norm = |groups| {
            let statistics = Statistics::of(&x, groups, self.eps).unwrap();
            Norm { statistics, act }
        };
        let span = |i: usize| geometry.window.span(self.x[i]);
        match &self.kind[..] {
            "conv" => look.at(self, conv(geometry, act)),
            "conv_transposed" => look.at(self, conv_data(geometry, (span(1), span(2)))),
            "batch_norm" => look.at(self, norm(None)),
            "group_norm" => look.at(self, norm(Some(self.groups))),
            "max_pool" => look.at(self, MaxPool),
            "up" => look.at(self, Up(self.factor)),
            "mean" => look.at(self, Mean),
            "act" => look.at(self, BiasAct(act)),
            "decode" => {
                let decoding = Decoding {
                    k: self.k,
                    temperature: self.temperature,
                    calm: 0,
                };
                let each = 1. / 81.;
                let prior = sine("prior", &[81], 0.8 * each, each);
                look.at(self, Decode::new(&few_bins(), &prior, &decoding).unwrap())
            }
            "cross_entropy" => {
                let weights = sine("weights", &[81], 0.8, 1.);
                let weights = self.weighted.then_some(&weights);
                look.at(self, CrossEntropy::new(&few_bins(), weights).unwrap())
            }
            kind => panic!("what is {kind}?"),
        }
    }
}

/// 9 x 9 bins around grey.
fn few_bins() -> Tensor {
    let bins = (-4..5).flat_map(|a| (-3..6).flat_map(move |b| [10. * a as f32, 10. * b as f32]));
    Tensor::from_vec(bins.collect(), (81, 2), &Device::Cpu).unwrap()
}

fn back<'a>(
    inputs: &'a [&'a Tensor],
    output: &'a Tensor,
    grad: &'a Tensor,
    wanted: &'a [bool],
    run: Run,
) -> Back<'a> {
    Back {
        inputs,
        output,
        grad,
        wanted,
        run,
    }
}

fn conv(geometry: Geometry, act: Act) -> Conv {
    Conv {
        geometry,
        act,
        packs: None,
    }
}

fn conv_data(geometry: Geometry, size: (usize, usize)) -> ConvData {
    ConvData {
        geometry,
        size,
        packs: None,
    }
}

/// Something that is done with every case.
trait Look {
    fn at<O: Operation>(&self, case: &Case, op: O);
}

fn leaf(t: &Tensor) -> Var {
    Var::from_tensor(t).unwrap()
}

fn tensors<'a>(inputs: &'a [(&str, Var)]) -> Vec<&'a Tensor> {
    inputs.iter().map(|(_, var)| var.as_tensor()).collect()
}

fn dot(a: &Tensor, b: &Tensor) -> Tensor {
    (a * b).unwrap().sum_all().unwrap()
}

/// The result and its gradients, by the operation's own rules.
struct Own;

impl Look for Own {
    fn at<O: Operation>(&self, case: &Case, op: O) {
        let inputs = case.inputs();
        let inputs = tensors(&inputs);
        let y = evaluate(&op, &inputs).unwrap();
        case.agrees("y", &y);
        let g = sine("g", y.dims(), 1., 0.);
        let grads = |wanted: &[bool]| {
            op.backward(&back(&inputs, &y, &g, wanted, Run::Plain))
                .unwrap()
        };
        let all = grads(&vec![true; inputs.len()]);
        assert_eq!(all.len(), inputs.len());
        for (i, name) in case.names().into_iter().enumerate() {
            // PyTorch finds the gradient of every input that has one.
            if !case.golden.contains_key(&format!("d{name}")) {
                assert!(all[i].is_none(), "{} d{name}", case.name);
                continue;
            }
            let grad = all[i].as_ref().unwrap();
            case.agrees(&format!("d{name}"), grad);
            // The same when it alone is wanted.
            let mut wanted = vec![false; inputs.len()];
            wanted[i] = true;
            let alone = grads(&wanted).swap_remove(i).unwrap();
            assert_eq!(values(&alone), values(grad), "{} d{name}", case.name);
        }
    }
}

/// As [`Own`] in candle's own operations and by its own rules.
struct Portable;

impl Look for Portable {
    fn at<O: Operation>(&self, case: &Case, op: O) {
        let inputs = case.inputs();
        let y = op.portable(&tensors(&inputs)).unwrap();
        first_order(case, &inputs, &y);
    }
}

fn first_order(case: &Case, inputs: &[(&str, Var)], y: &Tensor) -> (GradStore, Var) {
    case.agrees("y", y);
    let g = leaf(&sine("g", y.dims(), 1., 0.));
    let grads = dot(y, &g).backward().unwrap();
    let moved = |name: &&str| case.golden.contains_key(&format!("d{name}"));
    for (name, var) in inputs.iter().filter(|(name, _)| moved(name)) {
        case.agrees(&format!("d{name}"), grads.get(var).unwrap());
    }
    (grads, g)
}

/// Gradients of gradients; in which way is told by whether it is portable.
struct SecondOrder {
    portable: bool,
}

impl Look for SecondOrder {
    fn at<O: Operation>(&self, case: &Case, op: O) {
        if !case.golden.contains_key("ds_dx") || case.kind.contains("norm") && !self.portable {
            return;
        }
        let inputs = case.inputs();
        let y = match self.portable {
            true => op.portable(&tensors(&inputs)),
            false => tracked(op, &tensors(&inputs)),
        };
        let (first, g) = first_order(case, &inputs, &y.unwrap());
        // A norm's has the first term alone.
        let terms = if case.kind.contains("norm") { 1 } else { 2 };
        let terms = inputs[..terms].iter().map(|(name, var)| {
            let direction = sine(&format!("h{name}"), var.dims(), 1., 0.);
            dot(first.get(var).unwrap(), &direction)
        });
        let s = terms.reduce(|a, b| (a + b).unwrap()).unwrap();
        let second = s.backward().unwrap();
        for (name, var) in inputs.iter().chain([&("g", g)]) {
            if case.golden.contains_key(&format!("ds_d{name}")) {
                case.agrees(&format!("ds_d{name}"), second.get(var).unwrap());
            }
        }
    }
}

#[test]
fn operations_and_gradients_agree_with_pytorch() {
    for case in cases() {
        case.show(&Own);
        if case.kind == "batch_norm" {
            let x = case.inputs()[0].1.as_detached_tensor();
            let moments = Statistics::of(&x, None, case.eps).unwrap().moments;
            case.agrees("mean", &moments.get(0).unwrap().get(0).unwrap());
            case.agrees("var", &moments.get(1).unwrap().get(0).unwrap());
        }
    }
}

#[test]
fn portable_operations_agree_with_pytorch() {
    cases().iter().for_each(|case| case.show(&Portable));
}

/// candle looks at its environment once a thread, so that this needs a process.
#[test]
fn gradients_of_gradients_agree_with_pytorch() {
    again(
        "gradients_of_gradients_for_another_process",
        &[(TWICE, "1")],
    );
}

#[test]
fn gradients_of_gradients_for_another_process() {
    if !twice() {
        return;
    }
    for portable in [false, true] {
        cases()
            .iter()
            .for_each(|case| case.show(&SecondOrder { portable }));
    }
    let x = random(&[2, 4, 6, 5], "x");
    bends(
        "leaky",
        BiasAct(Act::Leaky(0.2)),
        &[x.clone(), random(&[5], "bias")],
    );
    bends("relu", BiasAct(RELU), std::slice::from_ref(&x));
    bends("max pool", MaxPool, std::slice::from_ref(&x));
    bends("up", Up(2), std::slice::from_ref(&x));
    bends("block sum", BlockSum(2), std::slice::from_ref(&x));
    bends("mean", Mean, std::slice::from_ref(&x));
    bends("sums", ChannelSums, std::slice::from_ref(&x));
    let (first, count) = (1, 3);
    bends("slice", Slice { first, count }, std::slice::from_ref(&x));
    bends("cat", Cat, &[x.clone(), random(&[2, 4, 6, 3], "other")]);
    bends("add", Add, &[x.clone(), random(&[2, 4, 6, 5], "other")]);
    bends(
        "add one sample",
        Add,
        &[x.clone(), random(&[2, 1, 1, 5], "one")],
    );
    bends("mask", Mask(random(&[2, 4, 6, 5], "mask")), &[x]);
    let Example { geometry, x, w, .. } = &examples(false)[2];
    let inputs = [x.clone(), w.clone(), random(&[32], "bias")];
    bends("conv, leaky", conv(*geometry, Act::Leaky(0.2)), &inputs);
    // What has none says so.
    let x = leaf(&random(&[1, 2, 2, 4], "x"));
    let (one, zero) = (random(&[4], "weight"), random(&[4], "bias"));
    let statistics = Statistics::of(&x, None, 1e-3).unwrap();
    let act = Act::None;
    let y = tracked(Norm { statistics, act }, &[&x, &one, &zero]).unwrap();
    let why = dot(&y, &y).backward().err().unwrap().to_string();
    assert!(
        why.contains("normalisation") && why.contains("WGAN-GP"),
        "{why}"
    );
    let y = tracked(BiasAct(Act::Tanh), &[&x]).unwrap();
    let grads = dot(&y, &y).backward();
    let slope = |grads: GradStore| dot(grads.get(&x).unwrap(), &x).backward();
    let why = grads.and_then(slope).err().unwrap().to_string();
    assert!(why.contains("tanh"), "{why}");
}

/// Gradients of gradients of <y, y>, on the CPU's way and the portable one.
fn bends<O: Operation>(what: &str, op: O, inputs: &[Tensor]) {
    let second = |portable: bool| -> Vec<Tensor> {
        let vars: Vec<Var> = inputs.iter().map(leaf).collect();
        let inputs: Vec<&Tensor> = vars.iter().map(Var::as_tensor).collect();
        let y = match portable {
            true => op.portable(&inputs),
            false => tracked(op.clone(), &inputs),
        };
        let y = y.unwrap();
        let first = dot(&y, &y).backward().unwrap();
        let slope = first.get(&vars[0]).unwrap();
        let second = dot(slope, &random(slope.dims(), "h")).backward().unwrap();
        vars.iter()
            .map(|var| second.get(var).unwrap().clone())
            .collect()
    };
    for (i, (ours, theirs)) in second(false).iter().zip(&second(true)).enumerate() {
        agree(ours, theirs, 1e-5, &format!("{what}, input {i}"));
    }
}

/// oneDNN and our choice of it look at the environment once, so that each setting needs a process.
#[test]
fn every_cpu_agrees_with_pytorch() {
    for setting in [
        (onednn::VARIABLE, "off"),
        ("ONEDNN_MAX_CPU_ISA", "AVX2"),
        ("ONEDNN_MAX_CPU_ISA", "SSE41"),
    ] {
        again("operations_and_gradients_agree_with_pytorch", &[setting]);
        again(
            "gradients_of_gradients_for_another_process",
            &[setting, (TWICE, "1")],
        );
    }
}

#[test]
fn without_onednn_there_is_an_engine_and_a_word_on_why() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    fs::write(&text, "no library").unwrap();
    let missing = folder.path().join("missing.so");
    for (library, why) in [
        ("off", "AUTOCHROME_ONEDNN is off"),
        (text.to_str().unwrap(), "text.so"),
        (missing.to_str().unwrap(), "missing.so"),
        ("libm.so.6", "libm.so.6 is not oneDNN"),
    ] {
        let environment = [(onednn::VARIABLE, library), ("AUTOCHROME_TEST_WORDS", "1")];
        let said = again("words_for_another_process", &environment);
        let said = said.lines().find(|line| line.contains("engines")).unwrap();
        println!("{said}");
        assert!(
            said.contains("[Eager]") && said.contains("candle's own convolutions"),
            "{said}"
        );
        let help = said.contains("install libdnnl") && said.contains(onednn::VARIABLE);
        assert!(said.contains(why) && help, "{said}");
    }
}

#[test]
fn words_for_another_process() {
    if std::env::var_os("AUTOCHROME_TEST_WORDS").is_none() {
        return;
    }
    let (engine, why) = Engine::choose(&Device::Cpu, Precision::Auto);
    assert_eq!(engine, Engine::Eager);
    let engines = Engine::present(&Device::Cpu);
    println!("\nengines {engines:?}: {}", why.unwrap());
    let geometry = geometry(3, 1, (1, 1), 1, false);
    let (x, w) = (random(&[1, 4, 4, 2], "x"), random(&[3, 2, 3, 3], "w"));
    evaluate(&conv(geometry, RELU), &[&x, &w]).unwrap();
}

fn geometry(
    size: usize,
    stride: usize,
    pad: (usize, usize),
    groups: usize,
    bf16: bool,
) -> Geometry {
    Geometry {
        window: Window { size, stride, pad },
        groups,
        bf16,
    }
}

/// A convolution and three random tensors for it: picture, weight, gradient.
struct Example {
    geometry: Geometry,
    x: Tensor,
    w: Tensor,
    g: Tensor,
}

impl Example {
    fn new(geometry: Geometry, (inputs, outputs): (usize, usize), (h, w): (usize, usize)) -> Self {
        let Geometry { window, groups, .. } = geometry;
        let x = random(&[2, h, w, inputs], "x");
        let g = random(&[2, window.count(h), window.count(w), outputs], "g");
        let w = random(&[outputs, inputs / groups, window.size, window.size], "w");
        // Sums of products are then around 1.
        let w = (&w / ((w.elem_count() / outputs) as f64).sqrt()).unwrap();
        Self { geometry, x, w, g }
    }

    fn forward(&self) -> Tensor {
        evaluate(&conv(self.geometry, Act::None), &[&self.x, &self.w]).unwrap()
    }

    fn data(&self, g: &Tensor) -> Tensor {
        let (_, h, w, _) = self.x.dims4().unwrap();
        evaluate(&conv_data(self.geometry, (h, w)), &[g, &self.w]).unwrap()
    }

    fn weights(&self, g: &Tensor) -> Tensor {
        let geometry = self.geometry;
        evaluate(&ConvWeights { geometry }, &[&self.x, g]).unwrap()
    }

    fn all(&self) -> [Tensor; 3] {
        [self.forward(), self.data(&self.g), self.weights(&self.g)]
    }
}

/// Every kind of convolution that the networks have, and some that they might.
fn examples(bf16: bool) -> Vec<Example> {
    let example = |size, stride, pad, groups, channels, sides| {
        Example::new(geometry(size, stride, pad, groups, bf16), channels, sides)
    };
    let mut all = vec![
        example(1, 1, (0, 0), 1, (48, 32), (9, 11)),
        example(3, 1, (1, 1), 1, (32, 48), (9, 11)),
        example(3, 2, (0, 1), 1, (16, 32), (12, 16)),
        example(4, 2, (1, 1), 1, (16, 32), (12, 16)),
        example(4, 1, (1, 1), 1, (16, 1), (9, 11)),
        example(7, 2, (3, 3), 1, (1, 96), (12, 16)),
        example(7, 2, (3, 3), 1, (3, 32), (13, 15)),
        example(3, 1, (1, 1), 2, (16, 32), (9, 11)),
        example(3, 1, (1, 1), 1, (5, 7), (9, 11)),
        example(3, 2, (0, 1), 1, (1, 32), (12, 16)),
        example(3, 1, (1, 1), 1, (96, 2), (9, 11)),
    ];
    for channels in [32, 48, 21] {
        for (size, stride, pad) in [
            (3, 1, (1, 1)),
            (3, 2, (0, 1)),
            (5, 1, (2, 2)),
            (5, 2, (1, 2)),
        ] {
            // Down to pictures smaller than the window.
            for sides in [(12, 16), (10, 6), (2, 4)] {
                all.push(example(
                    size,
                    stride,
                    pad,
                    channels,
                    (channels, channels),
                    sides,
                ));
            }
        }
    }
    all
}

fn inner(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let pairs = values(a).into_iter().zip(values(b));
    pairs.map(|(a, b)| f64::from(a) * f64::from(b)).sum()
}

#[test]
fn a_convolution_and_its_gradients_are_adjoint() {
    for example in examples(false) {
        let y = example.forward();
        // With a part along the result, so that the product is not near 0.
        let g = (&example.g + &y).unwrap();
        let product = inner(&y, &g);
        let by_data = inner(&example.x, &example.data(&g));
        let by_weights = inner(&example.w, &example.weights(&g));
        for other in [by_data, by_weights] {
            let apart = (other - product).abs() / product.abs();
            assert!(
                apart <= 1e-5,
                "{:?}, {:?}: {apart}",
                example.geometry,
                example.x
            );
        }
    }
}

#[test]
fn convolutions_are_the_same_bit_for_bit_in_every_thread() {
    let all = || -> Vec<Vec<f32>> {
        let examples = examples(false).into_iter().chain(examples(true));
        examples.flat_map(|e| e.all().map(|t| values(&t))).collect()
    };
    let first = all();
    assert!(first == all());
    thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(all));
        for thread in threads {
            assert!(thread.join().unwrap() == first);
        }
    });
}

#[test]
fn products_of_bf16_numbers_are_near() {
    for (narrow, wide) in examples(true).into_iter().zip(examples(false)) {
        for (what, (ours, theirs)) in narrow.all().into_iter().zip(wide.all()).enumerate() {
            let what = format!("{what} of {:?}, {:?}", narrow.geometry, narrow.x.shape());
            agree(&ours, &theirs, 0.01, &what);
        }
    }
}

/// The CPU's way and the portable one agree, and so do the operation's gradients and those that candle finds.
fn both_ways<O: Operation>(what: &str, op: O, inputs: &[Tensor]) {
    let vars: Vec<Var> = inputs.iter().map(leaf).collect();
    let inputs: Vec<&Tensor> = vars.iter().map(Var::as_tensor).collect();
    let (ours, theirs) = (
        evaluate(&op, &inputs).unwrap(),
        op.portable(&inputs).unwrap(),
    );
    agree(&ours, &theirs, 1e-5, what);
    // Where nothing is to be differentiated some take a shorter way.
    let plain: Vec<Tensor> = inputs.iter().map(|t| t.detach()).collect();
    let plain = op.portable(&plain.iter().collect::<Vec<_>>()).unwrap();
    agree(&ours, &plain, 1e-5, what);
    let g = random(ours.dims(), "cotangent");
    let theirs = dot(&theirs, &g).backward().unwrap();
    let mut wanted = vec![true; inputs.len()];
    // An activation's gradient has a slope to y where there is a second derivative: not asked for.
    wanted[0] = O::NAME != "act-grad";
    let ours = op
        .backward(&back(&inputs, &ours, &g, &wanted, Run::Plain))
        .unwrap();
    for (i, ours) in ours.into_iter().enumerate().filter(|(i, _)| wanted[*i]) {
        let what = format!("{what}, gradient {i}");
        agree(&ours.unwrap(), theirs.get(&vars[i]).unwrap(), 1e-5, &what);
    }
}

const ACTS: [Act; 5] = [Act::None, RELU, Act::Leaky(0.2), Act::Relu6, Act::Tanh];

#[test]
fn convolutions_are_those_of_candle() {
    for Example { geometry, x, w, g } in examples(false) {
        let what = format!("{geometry:?} of {:?}", x.shape());
        let (_, height, width, _) = x.dims4().unwrap();
        let bias = random(&[w.dims()[0]], "bias");
        for act in ACTS {
            let inputs = [x.clone(), w.clone(), bias.clone()];
            let what = format!("{what}, {act:?}");
            both_ways(&what, conv(geometry, act), &inputs);
            both_ways(&what, conv(geometry, act), &inputs[..2]);
        }
        both_ways(&what, conv_data(geometry, (height, width)), &[g.clone(), w]);
        both_ways(&what, ConvWeights { geometry }, &[x, g]);
    }
}

#[test]
fn the_other_operations_are_those_of_candle() {
    let x = (random(&[2, 4, 6, 10], "x") * 4.).unwrap();
    let y = random(&[2, 4, 6, 10], "y");
    let other = random(&[2, 4, 6, 3], "other");
    let one = random(&[2, 1, 1, 10], "one");
    let rows = [random(&[10], "weight"), random(&[10], "bias")];
    for act in ACTS {
        let what = format!("{act:?}");
        both_ways(&what, BiasAct(act), std::slice::from_ref(&x));
        both_ways(&what, BiasAct(act), &[x.clone(), rows[1].clone()]);
        let result = evaluate(&BiasAct(act), &[&x]).unwrap();
        both_ways(&what, ActGrad(act), &[result, y.clone()]);
        let fixed = Statistics::fixed(&rows[1], &rows[0].sqr().unwrap(), 1e-3);
        let own = [None, Some(2), Some(10), Some(1)].map(|g| Statistics::of(&x, g, 1e-3));
        for statistics in own.into_iter().chain([fixed]) {
            let statistics = statistics.unwrap();
            let what = format!("{act:?} after norm by {statistics:?}");
            let inputs = [x.clone(), rows[0].clone(), rows[1].clone()];
            both_ways(&what, Norm { statistics, act }, &inputs);
        }
    }
    both_ways("sums", ChannelSums, std::slice::from_ref(&x));
    both_ways("cat", Cat, &[x.clone(), other]);
    for (first, count) in [(0, 10), (0, 3), (3, 6), (9, 1)] {
        both_ways("slice", Slice { first, count }, std::slice::from_ref(&x));
    }
    for factor in [1, 2, 3] {
        both_ways("up", Up(factor), std::slice::from_ref(&x));
    }
    for factor in [1, 2] {
        both_ways("block sum", BlockSum(factor), std::slice::from_ref(&x));
    }
    both_ways("max pool", MaxPool, std::slice::from_ref(&x));
    both_ways("mean", Mean, std::slice::from_ref(&x));
    both_ways("add", Add, &[x.clone(), y.clone()]);
    both_ways("add one sample", Add, &[x.clone(), one]);
    both_ways("mask", Mask(y), &[x]);
}

/// The bins of a model, frequencies and weights of them, logits and a truth.
struct Choice {
    bins: Tensor,
    prior: Tensor,
    weights: Tensor,
    z: Tensor,
    truth: Tensor,
}

impl Choice {
    fn new(n: usize, h: usize, w: usize) -> Self {
        let of = |values: Vec<f32>| Tensor::from_vec(values, bins::COUNT, &Device::Cpu).unwrap();
        let seen = values(
            &(random(&[bins::COUNT], "prior") * 2.)
                .unwrap()
                .exp()
                .unwrap(),
        );
        let prior = bins::smoothed(bins::in_gamut(), &seen);
        let all = bins::in_gamut().concat();
        Self {
            bins: Tensor::from_vec(all, (bins::COUNT, 2), &Device::Cpu).unwrap(),
            weights: of(bins::rebalanced(&prior, 0.5)),
            prior: of(prior),
            z: (random(&[n, h, w, bins::COUNT], "z") * 4.).unwrap(),
            truth: (random(&[n, h, w, 2], "truth") * 0.3).unwrap(),
        }
    }

    fn decode(&self) -> Decode {
        Decode::new(&self.bins, &self.prior, &Decoding::default()).unwrap()
    }

    fn cross_entropy(&self, weighted: bool) -> CrossEntropy {
        CrossEntropy::new(&self.bins, weighted.then_some(&self.weights)).unwrap()
    }
}

#[test]
fn choices_of_bins_are_those_of_candle() {
    let choice = Choice::new(2, 3, 5);
    both_ways("decode", choice.decode(), std::slice::from_ref(&choice.z));
    for weighted in [false, true] {
        let op = choice.cross_entropy(weighted);
        let inputs = [&choice.z, &choice.truth];
        let ours = evaluate(&op, &inputs).unwrap();
        let z = leaf(&choice.z);
        let theirs = op.portable(&[&z, &choice.truth]).unwrap();
        agree(&ours, &theirs, 1e-5, "cross-entropy");
        let g = random(ours.dims(), "g");
        let theirs = dot(&theirs, &g).backward().unwrap();
        let gradient = |run| {
            let made = op.backward(&back(&inputs, &ours, &g, &[true, false], run));
            made.unwrap().swap_remove(0).unwrap()
        };
        let wanted = theirs.get(&z).unwrap();
        agree(&gradient(Run::Plain), wanted, 1e-5, "its gradient");
        // Softmax and shares both sum to 1, so that the gradient of each pixel sums to nothing.
        let sums = values(&gradient(Run::Plain).sum(3).unwrap());
        assert!(sums.iter().all(|sum| sum.abs() < 1e-4));
    }
    // However sure a network is of a wrong bin, its loss and gradient are numbers.
    let sure = (&choice.z * 1e4).unwrap();
    let op = choice.cross_entropy(true);
    let loss = evaluate(&op, &[&sure, &choice.truth]).unwrap();
    let ab = evaluate(&choice.decode(), &[&sure]).unwrap();
    assert!(
        values(&loss)
            .iter()
            .chain(&values(&ab))
            .all(|v| v.is_finite())
    );
    assert!(values(&ab).iter().all(|v| v.abs() <= 1.));
}

/// In f64, in candle's own operations: the slope along a direction is the difference quotient.
#[test]
fn choices_of_bins_agree_with_finite_differences() {
    let choice = Choice::new(1, 2, 3);
    let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    let (z, truth) = (wide(&choice.z), wide(&choice.truth));
    let direction = wide(&random(z.dims(), "direction"));
    let check = |what: &str, f: &dyn Fn(&Tensor) -> Tensor, ours: Tensor| {
        let at = |step: f64| {
            let moved = (&z + (&direction * step).unwrap()).unwrap();
            f(&moved).sum_all().unwrap().to_scalar::<f64>().unwrap()
        };
        let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
        let var = leaf(&z);
        let slopes = f(&var).sum_all().unwrap().backward().unwrap();
        let along = |slope: &Tensor| dot(slope, &direction).to_scalar::<f64>().unwrap();
        let by_candle = along(slopes.get(&var).unwrap());
        let by_us = along(&wide(&ours));
        let size = difference.abs();
        assert!(
            (by_candle - difference).abs() <= 1e-6 * size,
            "{what}: {by_candle}, {difference}"
        );
        assert!(
            (by_us - difference).abs() <= 1e-4 * size,
            "{what}: {by_us}, {difference}"
        );
    };
    let slope = |ours: Grads| ours.into_iter().next().flatten().unwrap();
    let ab = evaluate(&choice.decode(), &[&choice.z]).unwrap();
    let ones = ab.ones_like().unwrap();
    let inputs = [&choice.z, &choice.truth];
    let op = choice.decode();
    let ours = op.backward(&back(&inputs[..1], &ab, &ones, &[true], Run::Plain));
    check(
        "decode",
        &|z| op.portable(&[z]).unwrap(),
        slope(ours.unwrap()),
    );
    for weighted in [false, true] {
        let op = choice.cross_entropy(weighted);
        let loss = evaluate(&op, &inputs).unwrap();
        let ones = loss.ones_like().unwrap();
        let ours = op.backward(&back(&inputs, &loss, &ones, &[true, false], Run::Plain));
        let portable = |z: &Tensor| op.portable(&[z, &truth]).unwrap();
        check("cross-entropy", &portable, slope(ours.unwrap()));
    }
}

#[test]
fn moments_are_those_of_candle() {
    let x = random(&[3, 5, 7, 12], "x");
    for groups in [None, Some(1), Some(3), Some(12)] {
        let ours = Statistics::of(&x, groups, 1e-5).unwrap();
        let (parts, each) = groups.map_or((1, 12), |groups| (3, groups));
        assert_eq!(ours.samples, Some(3 * 5 * 7 * 12 / (parts * each)));
        let theirs = portable::moments(&x, parts, each).unwrap();
        agree(&ours.moments, &theirs, 1e-5, "moments");
    }
}

/// Where several samples of a window are equally large, the first has the gradient, on every way.
#[test]
fn pooling_gives_each_gradient_to_one_sample() {
    let coarse = (random(&[2, 8, 6, 5], "x") * 1.5).unwrap().round().unwrap();
    for x in [
        random(&[2, 8, 6, 5], "x"),
        random(&[2, 7, 9, 5], "x"),
        coarse,
    ] {
        let y = evaluate(&MaxPool, &[&x]).unwrap();
        let g = leaf(&random(y.dims(), "g"));
        let scatter = |run| {
            MaxPool
                .backward(&back(&[&x], &y, &g, &[true], run))
                .unwrap()
                .remove(0)
        };
        let ours = scatter(Run::Plain).unwrap();
        let theirs = portable::max_scatter(&x, &g).unwrap();
        agree(&ours, &theirs, 1e-6, "scatter");
        let total = |t: &Tensor| values(t).into_iter().map(f64::from).sum::<f64>();
        assert!((total(&ours) - total(&g)).abs() < 1e-4, "nothing is lost");
        let h = random(x.dims(), "h");
        let grads = dot(&scatter(Run::Tracked).unwrap(), &h).backward().unwrap();
        let theirs = portable::max_gather(&x, &h).unwrap();
        agree(grads.get(&g).unwrap(), &theirs, 1e-6, "gather");
    }
}

#[test]
fn gradients_of_a_network_are_the_same_whichever_thread_finds_them() {
    let graph = squeeze::graph(&Default::default());
    let params = Params::seeded(&graph, 1, &Device::Cpu).unwrap();
    let x = random(&[2, 64, 48, 1], "x");
    for bf16 in [false, true] {
        let gradients = || -> Vec<Vec<f32>> {
            let eager = Eager {
                graph: &graph,
                params: &params,
                bf16,
            };
            let pass = eager.learn(&x, &mut stream(1, "noise")).unwrap();
            let g = random(pass.output().dims(), "g");
            let gradients: Gradients = pass.backward(&g, Wanted::Parameters).unwrap();
            gradients.values().map(values).collect()
        };
        let first = gradients();
        let (a, b) = rayon::join(gradients, gradients);
        let other = thread::scope(|scope| scope.spawn(gradients).join().unwrap());
        assert!(first == a && first == b && first == other, "bf16 {bf16}");
    }
}

/// The gradient penalty of WGAN-GP (Gulrajani et al. 2017): the mean over samples of (|dD/dx| - 1)^2; and the norms.
fn penalty(graph: &Graph, params: &Params, x: &Tensor) -> (Tensor, Vec<f32>) {
    let x = leaf(x);
    let eager = Eager {
        graph,
        params,
        bf16: false,
    };
    let d = eager.tracked(&x).unwrap().sum_all().unwrap();
    let slope = d.backward().unwrap().remove(&x).unwrap();
    let norms = slope.sqr().unwrap().sum((1, 2, 3)).unwrap().sqrt().unwrap();
    let penalty = (&norms - 1.).unwrap().sqr().unwrap().mean_all().unwrap();
    (penalty, values(&norms))
}

/// For a critic linear in its picture |dD/dx| is known: with a 1x1 convolution it is |w| times the square root of the
/// number of pixels.
fn linear_critic() {
    let (mut graph, x) = Graph::new(3);
    graph.conv(x, graph::Conv::same("last", 1, 1));
    let params = Params::seeded(&graph, 1, &Device::Cpu).unwrap();
    let (penalty, _) = penalty(&graph, &params, &random(&[4, 6, 8, 3], "x"));
    let weight = &params.trained()["last.weight"];
    let size = inner(weight, weight).sqrt();
    let root = 48f64.sqrt();
    let expected = (root * size - 1.).powi(2);
    let value = f64::from(penalty.to_scalar::<f32>().unwrap());
    assert!(
        (value - expected).abs() <= 1e-4 * expected,
        "{value}, {expected} by hand"
    );
    let grads = penalty.backward().unwrap();
    let by_hand = (weight.as_tensor() * (2. * (root * size - 1.) * root / size)).unwrap();
    agree(
        grads.get(weight).unwrap(),
        &by_hand,
        1e-4,
        "a linear critic",
    );
}

/// A critic of two layers, its penalty's gradients by name. Scaling either layer's weights scales dD/dx, so that both
/// inner products of weights and gradient are the mean of 2 (n - 1) n over the samples' norms n.
fn deep_critic() -> Vec<f32> {
    let (mut graph, x) = Graph::new(3);
    let window = Window::new(4, 2, 1);
    let first = graph::Conv::new("first", 16, window)
        .no_bias()
        .act(Act::Leaky(0.2));
    let x = graph.conv(x, first);
    graph.conv(x, graph::Conv::new("last", 1, window).no_bias());
    let params = Params::seeded(&graph, 1, &Device::Cpu).unwrap();
    let (penalty, norms) = penalty(&graph, &params, &random(&[4, 16, 16, 3], "x"));
    let grads = penalty.backward().unwrap();
    let n = norms.into_iter().map(f64::from);
    let expected = n.map(|n| 2. * (n - 1.) * n).sum::<f64>() / 4.;
    let mut all = Vec::new();
    for (name, var) in params.trained() {
        let grad = grads.get(var).unwrap();
        let along = inner(var, grad);
        let apart = (along - expected).abs();
        assert!(
            apart <= 1e-4 * expected.abs(),
            "{name}: {along}, {expected} by the identity"
        );
        all.extend(values(grad));
    }
    all
}

#[test]
fn the_gradient_penalty_moves_a_critic_as_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let gradients = |library: Option<&str>| {
        let path = folder.path().join("gradients");
        let mut environment = vec![
            (TWICE, "1"),
            ("AUTOCHROME_TEST_GRADIENTS", path.to_str().unwrap()),
        ];
        environment.extend(library.map(|library| (onednn::VARIABLE, library)));
        again("penalty_for_another_process", &environment);
        let all: Vec<f32> = bytemuck::pod_collect_to_vec(&fs::read(path).unwrap());
        let count = all.len();
        Tensor::from_vec(all, count, &Device::Cpu).unwrap()
    };
    agree(
        &gradients(None),
        &gradients(Some("off")),
        1e-4,
        "two layers",
    );
}

#[test]
fn penalty_for_another_process() {
    let Some(path) = std::env::var_os("AUTOCHROME_TEST_GRADIENTS") else {
        return;
    };
    linear_critic();
    fs::write(path, bytemuck::cast_slice(&deep_critic())).unwrap();
}
