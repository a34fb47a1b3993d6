//! What the generator and the discriminator minimise: every row of the tables against PyTorch and finite differences.

use std::collections::{BTreeMap, BTreeSet};

use autochrome::{
    net::{
        checkpoint,
        engine::{eager::Eager, onednn},
        features::{Features, Layer},
        graph::{Act, Conv, Graph, NormKind, Window},
        params::{Params, stream},
    },
    train::objective::{
        ADVERSARIES, Adversary, Affine, Attempt, Classes, Frozen, Motion, Moved, Need, OBJECTIVES,
        Objective, gradient_penalty, refilmed,
    },
};
use candle_core::{DType, Device, Result, Tensor, Var};

#[path = "common/numbers.rs"]
mod numbers;
use numbers::{again, random, sine};

/// Height and width of the generator's head.
const HEAD: (usize, usize) = (16, 12);
const CLASSES: usize = 13;

/// Everything that an objective may look at, as in tests/golden/objectives.py.
struct Example {
    /// What gradients are wanted of.
    leaves: BTreeMap<String, Var>,
    l: Tensor,
    truth: Tensor,
    motion: Motion,
    frozen: Frozen,
    /// One that sees lightness, and one that does not.
    critics: [Critic; 2],
}

impl Example {
    fn new(dtype: DType) -> Self {
        let (h, w) = HEAD;
        let leaf = |name: &str, shape: &[usize], scale, shift| {
            let made = wave(name, shape, scale, shift, dtype);
            (name.to_owned(), Var::from_tensor(&made).unwrap())
        };
        let leaves = [
            leaf("ab", &[2, h, w, 2], 0.5, 0.),
            leaf("again", &[2, h, w, 2], 0.5, 0.),
            leaf("logits", &[2, h, w, CLASSES], 3., 0.),
            leaf("judged", &[2, 3, 3, 1], 2., 0.),
            leaf("real", &[2, 3, 3, 1], 2., 0.5),
            leaf("fake", &[2, 3, 3, 1], 2., 0.),
        ];
        let critics = [
            Critic::new(
                "with",
                Some(wave("small l", &[2, h, w, 1], 0.7, 0.1, dtype)),
                dtype,
            ),
            Critic::new("alone", None, dtype),
        ];
        let parameters = critics.iter().flat_map(|critic| {
            let named = critic.params.trained().iter();
            named.map(|(name, var)| (format!("{}.{name}", critic.name), var.clone()))
        });
        Self {
            leaves: leaves.into_iter().chain(parameters).collect(),
            l: wave("l", &[2, 2 * h, 2 * w, 1], 0.7, 0.1, dtype),
            truth: wave("truth", &[2, h, w, 2], 0.4, 0., dtype),
            motion: motion([(0.02, 1.01, 0.015, -0.01), (-0.1, 0.9, 0.05, 0.1)]),
            frozen: Frozen {
                classes: Some(classes(dtype)),
                features: Some(features().to_dtype(dtype).unwrap()),
            },
            critics,
        }
    }

    fn leaf(&self, name: &str) -> &Tensor {
        &self.leaves[name]
    }

    fn attempt(&self, adversary: Adversary) -> Attempt<'_> {
        Attempt {
            l: &self.l,
            ab: self.leaf("ab"),
            truth: &self.truth,
            logits: Some(self.leaf("logits")),
            judged: Some(self.leaf("judged")),
            adversary,
            moved: Some(Moved {
                again: self.leaf("again"),
                by: &self.motion,
            }),
            frozen: &self.frozen,
        }
    }

    /// One leaf is moved.
    fn nudge(&self, name: &str, by: &Tensor, times: f64) {
        let leaf = &self.leaves[name];
        let moved = (leaf.as_detached_tensor() + (by * times).unwrap()).unwrap();
        leaf.set(&moved).unwrap();
    }
}

fn wave(name: &str, shape: &[usize], scale: f64, shift: f64, dtype: DType) -> Tensor {
    let made = sine(name, shape, scale, shift);
    made.to_dtype(dtype).unwrap()
}

fn motion<const N: usize>(samples: [(f64, f64, f64, f64); N]) -> Motion {
    let samples = samples.map(|(angle, zoom, down, right)| Affine {
        angle,
        zoom,
        shift: (down, right),
    });
    Motion::new(samples.into())
}

/// SqueezeNet with waves for weights.
fn features() -> Features {
    let parameters = Features::graph(Layer::LAST).parameters().into_iter();
    let weights = parameters.map(|p| {
        let inputs: usize = p.shape[1..].iter().product();
        let scale = match p.shape.len() {
            1 => 0.1,
            _ => 2. / (inputs as f64).sqrt(),
        };
        let weight = sine(&p.name, &p.shape, scale, 0.);
        (p.name, weight)
    });
    Features::new(&weights.collect(), &Device::Cpu).unwrap()
}

/// A small discriminator.
struct Critic {
    name: &'static str,
    l: Option<Tensor>,
    graph: Graph,
    params: Params,
}

impl Critic {
    fn new(name: &'static str, l: Option<Tensor>, dtype: DType) -> Self {
        let (mut graph, x) = Graph::new(if l.is_some() { 3 } else { 2 });
        let first = Conv::new("first", 8, Window::new(4, 2, 1)).act(Act::Leaky(0.2));
        let x = graph.conv(x, first);
        graph.conv(x, Conv::new("last", 1, Window::new(4, 1, 1)));
        let waves = graph.parameters().into_iter().map(|p| {
            let scale = if p.shape.len() == 1 { 0.1 } else { 0.2 };
            let weight = sine(&format!("{name}.{}", p.name), &p.shape, scale, 0.);
            (p.name, weight)
        });
        let params = Params::given(&graph, &waves.collect(), &Device::Cpu).unwrap();
        Self {
            name,
            l,
            params: params.to_dtype(dtype).unwrap(),
            graph,
        }
    }

    fn penalty(&self, truth: &Tensor, ab: &Tensor) -> Result<Tensor> {
        let critic = Eager {
            graph: &self.graph,
            params: &self.params,
            bf16: false,
        };
        let eps = Tensor::new(&[0.3f32, 0.8], &Device::Cpu)?;
        let eps = eps.to_dtype(ab.dtype())?.reshape((2, 1, 1, 1))?;
        gradient_penalty(&critic, self.l.as_ref(), (truth, ab), &eps)
    }
}

/// A grid 10 CIE units wide.
fn classes(dtype: DType) -> Classes {
    let at = |i: usize| (i as f32 - 1.5) * 10.;
    let bins: Vec<Vec<f32>> = (0..CLASSES).map(|i| vec![at(i % 4), at(i / 4)]).collect();
    let weights: Vec<f32> = (0..CLASSES)
        .map(|i| (0.5 + 0.1 * i as f64) as f32)
        .collect();
    let tensor = |t: Result<Tensor>| t.and_then(|t| t.to_dtype(dtype)).unwrap();
    Classes {
        bins: tensor(Tensor::new(bins, &Device::Cpu)),
        weights: tensor(Tensor::new(weights, &Device::Cpu)),
    }
}

/// A loss under test: its name among the golden numbers, and itself.
type Case = (String, Box<dyn Fn(&Example) -> Tensor>);

/// Every row of both tables; what looks at the discriminator is there for every game.
fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for objective in OBJECTIVES {
        for game in &ADVERSARIES {
            let adversary = game.adversary;
            let loss = move |x: &Example| (objective.loss)(&x.attempt(adversary)).unwrap();
            if objective.name == "gan" {
                cases.push((format!("gan/{}", game.name), Box::new(loss)));
            } else if adversary == Adversary::default() {
                cases.push((objective.name.into(), Box::new(loss)));
            }
        }
    }
    for game in &ADVERSARIES {
        let loss = |x: &Example| (game.discriminator)(x.leaf("real"), x.leaf("fake")).unwrap();
        cases.push((format!("discriminator/{}", game.name), Box::new(loss)));
    }
    for i in 0..2 {
        let loss = move |x: &Example| {
            let penalty = x.critics[i].penalty(&x.truth, x.leaf("ab"));
            penalty.unwrap()
        };
        cases.push((format!("penalty/{}", ["with", "alone"][i]), Box::new(loss)));
    }
    cases
}

fn golden() -> BTreeMap<String, Tensor> {
    let bytes = include_bytes!("golden/objectives.safetensors");
    checkpoint::tensors(bytes, "objectives.safetensors", &Device::Cpu).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap();
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference as a part of the largest value is at most `most`.
fn agree(ours: &Tensor, theirs: &Tensor, most: f64, what: &str) {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    let (ours, theirs) = (values(ours), values(theirs));
    let largest = theirs.iter().fold(0f64, |most, v| most.max(v.abs()));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let apart = (ours - theirs).abs();
        assert!(
            apart <= most * largest,
            "{what}: {ours} for {theirs}, values to {largest}"
        );
    }
}

/// Gradients of a loss, and its value, are PyTorch's; where PyTorch has no gradient there is none.
fn agrees_with_pytorch(dtype: DType, most: f64) {
    let (golden, example) = (golden(), Example::new(dtype));
    let mut seen = BTreeSet::new();
    for (name, loss) in cases() {
        let value = loss(&example);
        assert_eq!(value.dtype(), dtype, "{name}");
        let grads = value.backward().unwrap();
        let key = format!("{name}.value");
        let Some(theirs) = golden.get(&key) else {
            panic!("tests/golden/objectives.py knows no {name}")
        };
        agree(&value, theirs, most, &key);
        seen.insert(key);
        for (leaf, var) in &example.leaves {
            let key = format!("{name}.d{leaf}");
            let ours = grads
                .get(var)
                .filter(|g| values(g).iter().any(|g| *g != 0.));
            match (ours, golden.get(&key)) {
                (Some(ours), Some(theirs)) => agree(ours, theirs, most, &key),
                (None, None) => continue,
                (ours, _) => panic!("{key}: ours {}", ours.is_some()),
            }
            seen.insert(key);
        }
    }
    let all: BTreeSet<String> = golden.into_keys().collect();
    assert_eq!(seen, all, "what is stored and what was looked at");
}

#[test]
fn every_loss_and_its_gradients_agree_with_pytorch() {
    agrees_with_pytorch(DType::F32, 1e-4);
    // The constants of colour and the weights of the features are f32 there too.
    agrees_with_pytorch(DType::F64, 1e-5);
}

/// Along random directions in the space of every leaf, central differences.
#[test]
fn every_gradient_agrees_with_finite_differences() {
    const STEP: f64 = 1e-6;
    let example = Example::new(DType::F64);
    for (name, loss) in cases() {
        let grads = loss(&example).backward().unwrap();
        for (leaf, var) in &example.leaves {
            let Some(gradient) = grads.get(var) else {
                continue;
            };
            let size = values(gradient).iter().map(|g| g * g).sum::<f64>().sqrt();
            for i in 0..4 {
                let way = random(var.dims(), &format!("{name} {leaf} {i}"));
                let way = way.to_dtype(DType::F64).unwrap();
                let at = |steps: f64| {
                    example.nudge(leaf, &way, steps * STEP);
                    let value = values(&loss(&example))[0];
                    example.nudge(leaf, &way, -steps * STEP);
                    value
                };
                let slope = (at(1.) - at(-1.)) / (2. * STEP);
                let ours: f64 = values(&(gradient * &way).unwrap()).iter().sum();
                assert!(
                    (slope - ours).abs() <= 1e-5 * size,
                    "{name} d{leaf}: {ours}, by differences {slope}, gradient {size}"
                );
            }
        }
    }
}

fn scores(v: f32) -> Var {
    Var::from_tensor(&Tensor::full(v, (2, 3, 3, 1), &Device::Cpu).unwrap()).unwrap()
}

/// Values and gradients stay finite, and what has been decided stays decided.
#[test]
fn games_are_stable_where_one_side_has_won() {
    for game in &ADVERSARIES {
        for (real, fake) in [(100., -100.), (-100., 100.), (1000., 1000.)] {
            let (real, fake) = (scores(real), scores(fake));
            let losses = [
                (game.discriminator)(&real, &fake).unwrap(),
                (game.generator)(&fake).unwrap(),
            ];
            for loss in losses {
                let grads = loss.backward().unwrap();
                let grads = [&real, &fake].map(|leaf| grads.get(leaf).map(values));
                let all: Vec<f64> = grads.into_iter().flatten().flatten().collect();
                assert!(values(&loss)[0].is_finite(), "{}", game.name);
                assert!(all.iter().all(|g| g.is_finite()), "{}: {all:?}", game.name);
            }
        }
    }
}

#[test]
fn games_are_what_a_hand_computes() {
    let discriminator = |adversary: Adversary, real, fake| {
        let loss = (adversary.game().discriminator)(&scores(real), &scores(fake));
        values(&loss.unwrap())[0]
    };
    let generator = |adversary: Adversary, fake| {
        values(&(adversary.game().generator)(&scores(fake)).unwrap())[0]
    };
    use Adversary::*;
    for (ours, by_hand) in [
        // Half of -log sigma(0) - log(1 - sigma(0)).
        (discriminator(NonSaturating, 0., 0.), 2f64.ln()),
        (discriminator(Minimax, 100., -100.), 0.),
        (discriminator(Minimax, -100., 100.), 100.),
        (generator(Minimax, 100.), -100.),
        (generator(Minimax, -100.), 0.),
        (generator(NonSaturating, -100.), 100.),
        (discriminator(LeastSquares, 3., 1.), 2. + 0.5),
        (generator(LeastSquares, 4.), 4.5),
        (discriminator(Wasserstein, 3., 1.), -2.),
        (generator(Wasserstein, 3.), -3.),
        (discriminator(Hinge, 0.25, -3.), 0.75),
        (discriminator(Hinge, 2., 0.5), 1.5),
        (generator(Hinge, 3.), -3.),
    ] {
        assert!((ours - by_hand).abs() < 1e-5, "{ours}, {by_hand} by hand");
    }
}

#[test]
fn tables_are_in_order() {
    let mut names = BTreeSet::new();
    for objective in OBJECTIVES {
        assert!(names.insert(objective.name), "two are {}", objective.name);
        assert!(!objective.about.is_empty());
    }
    for game in &ADVERSARIES {
        assert_eq!(game.adversary.game().name, game.name);
        // The name in the settings is that of the table.
        let name = serde_json::to_value(game.adversary).unwrap();
        assert_eq!(name, game.name);
    }
}

/// An objective has a value with what it says that it needs, and without any one of these says so by name.
#[test]
fn what_is_missing_is_named() {
    let value = |objective: &Objective, present: &[Need]| {
        let mut example = Example::new(DType::F32);
        if !present.contains(&Need::Classes) {
            example.frozen.classes = None;
        }
        if !present.contains(&Need::Features) {
            example.frozen.features = None;
        }
        let mut attempt = example.attempt(Adversary::default());
        attempt.logits = attempt.logits.filter(|_| present.contains(&Need::Logits));
        attempt.judged = attempt.judged.filter(|_| present.contains(&Need::Judged));
        attempt.moved = attempt.moved.filter(|_| present.contains(&Need::Moved));
        (objective.loss)(&attempt)
    };
    for objective in OBJECTIVES {
        value(objective, objective.needs).unwrap();
        for missing in objective.needs {
            let mut present = objective.needs.to_vec();
            present.retain(|need| need != missing);
            let why = value(objective, &present).unwrap_err().to_string();
            let words = format!("the {} objective needs", objective.name);
            assert!(why.contains(&words), "{why}");
        }
    }
}

#[test]
fn pictures_without_room_for_features_are_refused() {
    let example = Example::new(DType::F32);
    let (l, ab) = (random(&[2, 12, 16, 1], "l"), random(&[2, 12, 16, 2], "ab"));
    let small = Attempt {
        l: &l,
        ab: &ab,
        truth: &ab,
        ..example.attempt(Adversary::default())
    };
    for objective in OBJECTIVES
        .iter()
        .filter(|o| o.needs.contains(&Need::Features))
    {
        let why = (objective.loss)(&small).unwrap_err().to_string();
        assert!(
            why.contains("16 x 12") && why.contains("larger size"),
            "{why}"
        );
    }
}

/// oneDNN is looked for once, so that another choice needs a process.
#[test]
fn without_onednn_losses_agree_with_pytorch() {
    let environment = [(onednn::VARIABLE, "off")];
    again(
        "every_loss_and_its_gradients_agree_with_pytorch",
        &environment,
    );
}

/// The gradient penalty of a critic that has none says what to change.
#[test]
fn a_critic_with_a_norm_has_no_gradient_penalty() {
    let (mut graph, x) = Graph::new(2);
    let x = graph.conv(x, Conv::same("first", 4, 3));
    let x = graph.norm(x, "norm", NormKind::Batch { eps: 1e-5 }, Act::Leaky(0.2));
    graph.conv(x, Conv::same("last", 1, 3));
    let critic = Eager {
        graph: &graph,
        params: &Params::seeded(&graph, 1, &Device::Cpu).unwrap(),
        bf16: false,
    };
    let ab = random(&[2, 8, 8, 2], "ab");
    let eps = Tensor::full(0.5f32, (2, 1, 1, 1), &Device::Cpu).unwrap();
    let penalty = gradient_penalty(&critic, None, (&ab, &ab), &eps);
    let why = penalty.unwrap_err().to_string();
    assert!(why.contains("WGAN-GP"), "{why}");
}

#[test]
fn a_motion_by_nothing_or_by_whole_samples_is_exact() {
    let x = random(&[2, 8, 6, 3], "x");
    let still = (0., 1., 0., 0.);
    // Two samples down and one to the left, of 8.
    let motion = motion([still, (0., 1., 0.25, -0.125)]);
    let warped = motion.warp(&x).unwrap();
    let (first, second) = (x.get(0).unwrap(), x.get(1).unwrap());
    agree(&warped.get(0).unwrap(), &first, 1e-6, "still");
    let part = |t: &Tensor, down, right| {
        let part = t.narrow(0, down, 6).and_then(|t| t.narrow(1, right, 5));
        part.unwrap()
    };
    let moved = warped.get(1).unwrap();
    agree(&part(&moved, 0, 1), &part(&second, 2, 0), 1e-6, "moved");
    let inside = motion.inside((8, 6), DType::F32, &Device::Cpu).unwrap();
    let count = |i| values(&inside.get(i).unwrap()).iter().sum::<f64>();
    assert_eq!((count(0), count(1)), (48., 30.));
    assert!(
        motion
            .warp(&x.get(0).unwrap().unsqueeze(0).unwrap())
            .is_err()
    );
}

/// The same motion at every size: moving a picture and shrinking it commute, as far as a shrunk picture can show it.
#[test]
fn a_motion_is_the_same_at_every_size() {
    let motion = Motion::draw(4, &mut stream(1, "motion"));
    let field = |n: usize| {
        let at = |i: usize, side: usize| (i as f32 + 0.5) / side as f32 - 0.5;
        let value = |i: usize| {
            let (y, x) = (at(i / n % n, n), at(i % n, n));
            y * 2. - x + y * x
        };
        let values: Vec<f32> = (0..4 * n * n).map(value).collect();
        Tensor::from_vec(values, (4, n, n, 1), &Device::Cpu).unwrap()
    };
    let shrunk = motion
        .warp(&field(64))
        .unwrap()
        .reshape((4 * 16, 4, 16, 4))
        .unwrap();
    let shrunk = shrunk
        .mean((1, 3))
        .unwrap()
        .reshape((4, 16, 16, 1))
        .unwrap();
    let small = motion.warp(&field(16)).unwrap();
    let inside = motion.inside((16, 16), DType::F32, &Device::Cpu).unwrap();
    let [shrunk, small] = [shrunk, small].map(|t| (t * &inside).unwrap());
    agree(&small, &shrunk, 2e-3, "a smooth field");
}

#[test]
fn drawn_motions_are_small_and_follow_from_the_seed() {
    let draw = |seed| Motion::draw(8, &mut stream(seed, "motion"));
    let x = random(&[8, 32, 32, 1], "x");
    let warp = |seed| values(&draw(seed).warp(&x).unwrap());
    assert_eq!(warp(1), warp(1));
    assert_ne!(warp(1), warp(2));
    let inside = draw(1).inside((32, 32), DType::F64, &Device::Cpu).unwrap();
    let kept = values(&inside).iter().sum::<f64>() / (8. * 32. * 32.);
    assert!(
        (0.85..1.).contains(&kept),
        "{kept} of the samples stay inside"
    );
}

#[test]
fn another_film_has_another_exposure_and_grain() {
    let l = (random(&[4, 16, 16, 1], "l") * 0.2).unwrap();
    let film = |seed| refilmed(&l, &mut stream(seed, "film")).unwrap();
    assert_eq!(values(&film(1)), values(&film(1)));
    let apart = values(&(film(1) - &l).unwrap());
    let most = apart.iter().fold(0f64, |most, v| most.max(v.abs()));
    assert!((0.01..0.3).contains(&most), "{most}");
    let white = refilmed(&l.ones_like().unwrap(), &mut stream(1, "film")).unwrap();
    assert!(values(&white).iter().all(|v| (-1. ..=1.).contains(v)));
}

/// A grey picture has no colourfulness and an infinite slope of roots: the loss is finite, and so is its gradient.
#[test]
fn grey_and_black_and_white_have_gradients() {
    for l in [-1f32, 0.2, 1.] {
        let l = Tensor::full(l, (1, 32, 32, 1), &Device::Cpu).unwrap();
        let ab = Var::zeros((1, 32, 32, 2), DType::F32, &Device::Cpu).unwrap();
        let truth = (random(ab.dims(), "truth") * 0.2).unwrap();
        let example = Example::new(DType::F32);
        for objective in OBJECTIVES.iter().filter(|o| !o.name.starts_with("cross")) {
            let attempt = Attempt {
                l: &l,
                ab: &ab,
                truth: &truth,
                moved: Some(Moved {
                    again: &ab,
                    by: &motion([(0., 1., 0., 0.)]),
                }),
                ..example.attempt(Adversary::default())
            };
            let loss = (objective.loss)(&attempt).unwrap();
            let grads = loss.backward().unwrap();
            let grads = grads.get(&ab).map(values).unwrap_or_default();
            let finite = values(&loss)[0].is_finite() && grads.iter().all(|g| g.is_finite());
            assert!(finite, "{}", objective.name);
        }
    }
}
