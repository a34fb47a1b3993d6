//! What the generator is asked to do: one function an objective, one row in [`OBJECTIVES`]; weights are settings.

use candle_core::{Result as Candle, Tensor};

/// What an objective may look at.
pub struct Attempt {
    /// The generator's ab `[N, h, w, 2]`, network units.
    pub ab: Tensor,
    /// The truth at the same size.
    pub truth: Tensor,
    /// The discriminator's logits on `ab`; there when the adversarial objective has a weight.
    pub logits: Option<Tensor>,
}

/// An objective: a scalar to minimise.
pub struct Objective {
    /// Name in the settings.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// The scalar, a mean over samples and pixels.
    pub loss: fn(&Attempt) -> Candle<Tensor>,
}

/// Every objective.
pub const OBJECTIVES: &[Objective] = &[
    Objective {
        name: "l1",
        about: "mean absolute error: pix2pix's; leans to grey",
        loss: |x| l1(&x.ab, &x.truth),
    },
    Objective {
        name: "huber",
        about: "mean error, squared below 11 CIE units: leans to the mean colour",
        loss: |x| huber(&x.ab, &x.truth),
    },
    Objective {
        name: "gan",
        about: "non-saturating adversarial loss: -log D(x, G(x))",
        loss: |x| match &x.logits {
            Some(logits) => softplus(&logits.neg()?)?.mean_all(),
            None => candle_core::bail!("the adversarial objective needs a discriminator"),
        },
    },
];

/// The discriminator's loss (Goodfellow 2014), halved as in pix2pix: `(-log D(real) - log(1 - D(fake))) / 2`.
///
/// # Errors
/// A defect.
pub fn discriminator_loss(real: &Tensor, fake: &Tensor) -> Candle<Tensor> {
    (softplus(&real.neg()?)?.mean_all()? + softplus(fake)?.mean_all()?)? * 0.5
}

/// Mean of `|x - y|`.
fn l1(x: &Tensor, y: &Tensor) -> Candle<Tensor> {
    (x - y)?.abs()?.mean_all()
}

/// Mean of `d^2 / (2 beta)` where `d = |x - y|` is below beta = 0.1, else of `d - beta / 2`.
fn huber(x: &Tensor, y: &Tensor) -> Candle<Tensor> {
    const BETA: f64 = 0.1;
    let d = (x - y)?.abs()?;
    // With m = min(d, beta) both branches are m^2 / (2 beta) + (d - m).
    let m = d.minimum(BETA)?;
    ((m.sqr()? * (0.5 / BETA))? + (d - m)?)?.mean_all()
}

/// `log(1 + e^x)`, without overflow at any x.
fn softplus(x: &Tensor) -> Candle<Tensor> {
    x.relu()? + x.abs()?.neg()?.exp()?.affine(1., 1.)?.log()?
}
