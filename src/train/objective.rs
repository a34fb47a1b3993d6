//! What the generator is asked to do: one function an objective, one row in [`OBJECTIVES`]; weights are settings.
//!
//! Every row is checked by the contract test in tests/objectives.rs, which loops over the tables here: against numbers
//! of PyTorch, and in f64 against finite differences. Everything is differentiable by candle, in f32 and f64.

mod adversarial;
mod classification;
mod pixel;

pub use adversarial::{ADVERSARIES, Adversary, Game};
pub use classification::Classes;

use candle_core::{Result as Candle, Tensor};

/// What an objective may look at. What is differentiated with respect to are `ab`, `logits` and `judged`. Pictures are
/// in network units.
pub struct Attempt<'a> {
    /// The generator's ab `[N, h, w, 2]`.
    pub ab: &'a Tensor,
    /// The truth at the same size.
    pub truth: &'a Tensor,
    /// The classes' scores `[N, h, w, Q]`, where the generator's head classifies.
    pub logits: Option<&'a Tensor>,
    /// The discriminator's raw output on `ab`, where there is one.
    pub judged: Option<&'a Tensor>,
    /// The game that generator and discriminator play.
    pub adversary: Adversary,
    /// What does not learn.
    pub frozen: &'a Frozen,
}

/// What objectives need that does not learn.
#[derive(Default)]
pub struct Frozen {
    /// The classes of the generator's head.
    pub classes: Option<Classes>,
}

/// What an objective needs of an [`Attempt`] that is not always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// [`Attempt::logits`].
    Logits,
    /// [`Attempt::judged`].
    Judged,
    /// [`Frozen::classes`].
    Classes,
}

/// An objective: a scalar to minimise.
pub struct Objective {
    /// Name in the settings.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// What must be there.
    pub needs: &'static [Need],
    /// The scalar, a mean over samples and pixels.
    pub loss: fn(&Attempt) -> Candle<Tensor>,
}

/// Every objective.
pub const OBJECTIVES: &[Objective] = &[
    Objective {
        name: "l1",
        about: "mean absolute error: pix2pix's; leans to grey",
        needs: &[],
        loss: |x| pixel::l1(x.ab, x.truth),
    },
    Objective {
        name: "huber",
        about: "mean error, squared below 11 CIE units: leans to the mean colour",
        needs: &[],
        loss: |x| pixel::huber(x.ab, x.truth),
    },
    Objective {
        name: "gan",
        about: "the adversarial loss of the chosen game: colour that the discriminator takes for real",
        needs: &[Need::Judged],
        loss: |x| (x.adversary.game().generator)(given(x.judged, "gan", "a discriminator")?),
    },
    Objective {
        name: "cross-entropy",
        about: "of the classes' scores with the truth's class: learns how likely each colour is",
        needs: &[Need::Logits, Need::Classes],
        loss: |x| {
            let (logits, classes) = classified(x, "cross-entropy")?;
            classes.cross_entropy(logits, x.truth)
        },
    },
    Objective {
        name: "cross-entropy-rebalanced",
        about: "the same with rare colours weighing more: livelier, with more errors",
        needs: &[Need::Logits, Need::Classes],
        loss: |x| {
            let (logits, classes) = classified(x, "cross-entropy-rebalanced")?;
            classes.rebalanced_cross_entropy(logits, x.truth)
        },
    },
];

fn classified<'a>(x: &Attempt<'a>, name: &str) -> Candle<(&'a Tensor, &'a Classes)> {
    const HEAD: &str = "a generator whose head classifies";
    let classes = given(x.frozen.classes.as_ref(), name, HEAD)?;
    Ok((given(x.logits, name, HEAD)?, classes))
}

/// What the objective of this name needs.
fn given<T>(what: Option<T>, name: &str, need: &str) -> Candle<T> {
    what.ok_or_else(|| candle_core::Error::msg(format!("the {name} objective needs {need}")))
}
