//! What the generator and the discriminator minimise: every row of the tables against PyTorch and finite differences.

use std::collections::{BTreeMap, BTreeSet};

use autochrome::{
    net::checkpoint,
    train::objective::{ADVERSARIES, Adversary, Attempt, Classes, Frozen, OBJECTIVES},
};
use candle_core::{DType, Device, Result, Tensor, Var};

#[path = "common/numbers.rs"]
mod numbers;
use numbers::{random, sine};

/// Height and width of the generator's head.
const HEAD: (usize, usize) = (16, 12);
const CLASSES: usize = 13;

/// Everything that an objective may look at, as in tests/golden/objectives.py.
struct Example {
    /// What gradients are wanted of.
    leaves: BTreeMap<&'static str, Var>,
    truth: Tensor,
    frozen: Frozen,
}

impl Example {
    fn new(dtype: DType) -> Self {
        let (h, w) = HEAD;
        let made = |name, shape: &[usize], scale, shift| {
            let made = sine(name, shape, scale, shift);
            made.to_dtype(dtype).unwrap()
        };
        let leaf = |name, shape: &[usize], scale| {
            let made = made(name, shape, scale, 0.);
            (name, Var::from_tensor(&made).unwrap())
        };
        let leaves = [
            leaf("ab", &[2, h, w, 2], 0.5),
            leaf("logits", &[2, h, w, CLASSES], 3.),
            leaf("judged", &[2, 3, 3, 1], 2.),
            leaf("real", &[2, 3, 3, 1], 2.),
            leaf("fake", &[2, 3, 3, 1], 2.),
        ];
        Self {
            leaves: leaves.into(),
            truth: made("truth", &[2, h, w, 2], 0.4, 0.),
            frozen: Frozen {
                classes: Some(classes(dtype)),
            },
        }
    }

    fn leaf(&self, name: &str) -> &Tensor {
        &self.leaves[name]
    }

    fn attempt(&self, adversary: Adversary) -> Attempt<'_> {
        Attempt {
            ab: self.leaf("ab"),
            truth: &self.truth,
            logits: Some(self.leaf("logits")),
            judged: Some(self.leaf("judged")),
            adversary,
            frozen: &self.frozen,
        }
    }

    /// The same with one leaf moved.
    fn moved(&self, name: &'static str, by: &Tensor, times: f64) {
        let leaf = &self.leaves[name];
        let moved = (leaf.as_detached_tensor() + (by * times).unwrap()).unwrap();
        leaf.set(&moved).unwrap();
    }
}

/// A grid 25 CIE units wide.
fn classes(dtype: DType) -> Classes {
    let at = |i: usize| ((i as f64 - 1.5) * 25. / 110.) as f32;
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
            match (grads.get(var), golden.get(&key)) {
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
    agrees_with_pytorch(DType::F64, 1e-6);
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
                    example.moved(leaf, &way, steps * STEP);
                    let value = values(&loss(&example))[0];
                    example.moved(leaf, &way, -steps * STEP);
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

/// An objective that lacks what it needs says so by name; one that needs nothing more has a value.
#[test]
fn what_is_missing_is_named() {
    let (example, frozen) = (Example::new(DType::F32), Frozen::default());
    for objective in OBJECTIVES {
        let bare = Attempt {
            logits: None,
            judged: None,
            frozen: &frozen,
            ..example.attempt(Adversary::default())
        };
        match (objective.loss)(&bare) {
            Ok(_) => assert!(objective.needs.is_empty(), "{}", objective.name),
            Err(e) => {
                assert!(!objective.needs.is_empty(), "{}: {e}", objective.name);
                let words = format!("the {} objective needs", objective.name);
                assert!(e.to_string().contains(&words), "{e}");
            }
        }
    }
}
