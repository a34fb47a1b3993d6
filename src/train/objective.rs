//! What the generator is asked to do: one function an objective, one row in [`OBJECTIVES`]; weights are settings.
//!
//! Every row is checked by the contract test in tests/objectives.rs, which loops over the tables here: against numbers
//! of PyTorch, and in f64 against finite differences. Everything is differentiable by candle, in f32 and f64.

mod adversarial;
mod classification;
mod colourfulness;
mod perceptual;
mod pixel;
mod rgb;
mod stability;

pub use adversarial::{ADVERSARIES, Adversary, Game, gradient_penalty};
pub use classification::Classes;
pub use stability::{Affine, Motion, refilmed};

use candle_core::{Result as Candle, Tensor};

use crate::net::features::Features;

/// What an objective may look at. What is differentiated with respect to are `ab`, `logits`, `judged` and what was made
/// [`Moved::again`]. Pictures are in network units.
pub struct Attempt<'a> {
    /// True lightness `[N, H, W, 1]`, where H and W are h and w or a whole multiple of them: the larger, the more the
    /// perceptual objectives see of the picture.
    pub l: &'a Tensor,
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
    /// What became of the moved picture, where it was moved.
    pub moved: Option<Moved<'a>>,
    /// What does not learn.
    pub frozen: &'a Frozen,
}

/// What the generator made of lightness that was moved and [`refilmed`].
#[derive(Clone, Copy)]
pub struct Moved<'a> {
    /// Its ab `[N, h, w, 2]`.
    pub again: &'a Tensor,
    /// The motion.
    pub by: &'a Motion,
}

/// What objectives need that does not learn.
#[derive(Default)]
pub struct Frozen {
    /// The classes of the generator's head.
    pub classes: Option<Classes>,
    /// The network whose features are compared.
    pub features: Option<Features>,
}

/// What an objective needs of an [`Attempt`] that is not always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// [`Attempt::logits`].
    Logits,
    /// [`Attempt::judged`].
    Judged,
    /// [`Attempt::moved`].
    Moved,
    /// [`Frozen::classes`].
    Classes,
    /// [`Frozen::features`].
    Features,
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
    Objective {
        name: "perceptual",
        about: "distance of an ImageNet network's features: what looks alike may differ in pixels",
        needs: &[Need::Features],
        loss: |x| seen(x, "perceptual", perceptual::of_features),
    },
    Objective {
        name: "style",
        about: "distance of which features go together: the palette and texture as a whole",
        needs: &[Need::Features],
        loss: |x| seen(x, "style", perceptual::of_styles),
    },
    Objective {
        name: "colourfulness",
        about: "difference of colourfulness, picture by picture: against grey, not beyond the truth",
        needs: &[],
        loss: |x| {
            let (made, truth) = coloured(x)?;
            colourfulness::distance(&made, &truth)
        },
    },
    Objective {
        name: "stability",
        about: "difference that a small motion, another exposure and grain make: against flicker in films",
        needs: &[Need::Moved],
        loss: |x| {
            let moved = given(x.moved, "stability", "the picture moved")?;
            stability::distance(x.ab, moved.again, moved.by)
        },
    },
];

/// The colours that were made, and the true ones.
fn coloured(x: &Attempt) -> Candle<(Tensor, Tensor)> {
    Ok((rgb::srgb(x.l, x.ab)?, rgb::srgb(x.l, x.truth)?.detach()))
}

fn seen(x: &Attempt, name: &str, distance: perceptual::Distance) -> Candle<Tensor> {
    const FEATURES: &str =
        "the weights of SqueezeNet v1.0: the setting features, a safetensors file";
    let features = given(x.frozen.features.as_ref(), name, FEATURES)?;
    let (made, truth) = coloured(x)?;
    perceptual::distance(features, &made, &truth, distance)
}

fn classified<'a>(x: &Attempt<'a>, name: &str) -> Candle<(&'a Tensor, &'a Classes)> {
    const HEAD: &str = "a generator whose head classifies";
    let classes = given(x.frozen.classes.as_ref(), name, HEAD)?;
    Ok((given(x.logits, name, HEAD)?, classes))
}

/// What the objective of this name needs.
fn given<T>(what: Option<T>, name: &str, need: &str) -> Candle<T> {
    what.ok_or_else(|| candle_core::Error::msg(format!("the {name} objective needs {need}")))
}
