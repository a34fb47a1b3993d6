//! The games that generator and discriminator can play. `s` is the discriminator's raw output, one number a patch;
//! every loss is a mean over patches and samples.
//!
//! With raw outputs `-log sigma(s)` is `softplus(-s)` and `-log(1 - sigma(s))` is `softplus(s)`: neither overflows, and
//! neither loses its gradient before `s` is some ninety.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::net::engine::eager::Eager;

/// Which game is played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Adversary {
    /// Goodfellow 2014, equation 1.
    #[serde(rename = "minimax")]
    Minimax,
    /// Goodfellow 2014, section 3: pix2pix's.
    #[default]
    #[serde(rename = "nonsaturating")]
    NonSaturating,
    /// Mao 2017, a = 0, b = c = 1.
    #[serde(rename = "lsgan")]
    LeastSquares,
    /// Gulrajani 2017; the discriminator's loss also has [`gradient_penalty`].
    #[serde(rename = "wgan-gp")]
    Wasserstein,
    /// Lim & Ye 2017; Miyato 2018.
    #[serde(rename = "hinge")]
    Hinge,
}

impl Adversary {
    /// Its row.
    pub fn game(self) -> &'static Game {
        &ADVERSARIES[self as usize]
    }
}

/// A game: what each side minimises.
pub struct Game {
    /// Which.
    pub adversary: Adversary,
    /// Name in the settings.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// The discriminator's loss, of its output on real and on made pictures.
    pub discriminator: fn(&Tensor, &Tensor) -> Result<Tensor>,
    /// The generator's loss, of the discriminator's output on made pictures.
    pub generator: fn(&Tensor) -> Result<Tensor>,
    /// The discriminator's loss when it cannot tell real from made; nothing where its loss has no floor.
    pub chance: Option<f32>,
    /// Whether the discriminator's loss has [`gradient_penalty`] added; its network then has no normalisation.
    pub penalised: bool,
}

/// Every game, in the order of [`Adversary`].
pub const ADVERSARIES: [Game; 5] = [
    Game {
        adversary: Adversary::Minimax,
        name: "minimax",
        about: "the first: both sides on one loss; the generator learns little while the discriminator wins",
        discriminator: cross_entropy,
        generator: |fake| softplus(fake)?.neg()?.mean_all(),
        chance: Some(std::f32::consts::LN_2),
        penalised: false,
    },
    Game {
        adversary: Adversary::NonSaturating,
        name: "nonsaturating",
        about: "pix2pix's: -log D(x, G(x)), which pulls even while the discriminator wins",
        discriminator: cross_entropy,
        generator: |fake| softplus(&fake.neg()?)?.mean_all(),
        chance: Some(std::f32::consts::LN_2),
        penalised: false,
    },
    Game {
        adversary: Adversary::LeastSquares,
        name: "lsgan",
        about: "least squares from 1 for real and 0 for made: steady, gentle",
        discriminator: |real, fake| half_squares(real, 1.)? + half_squares(fake, 0.)?,
        generator: |fake| half_squares(fake, 1.),
        chance: Some(0.25),
        penalised: false,
    },
    Game {
        adversary: Adversary::Wasserstein,
        name: "wgan-gp",
        about: "Wasserstein distance with gradient penalty: slow, steady, several discriminator steps each",
        discriminator: |real, fake| fake.mean_all()? - real.mean_all()?,
        generator: |fake| fake.mean_all()?.neg(),
        chance: None,
        penalised: true,
    },
    Game {
        adversary: Adversary::Hinge,
        name: "hinge",
        about: "the discriminator cares only for what it is not sure of; goes with spectral normalisation",
        discriminator: |real, fake| short_of_one(real)? + short_of_one(&fake.neg()?)?,
        generator: |fake| fake.mean_all()?.neg(),
        chance: Some(2.),
        penalised: false,
    },
];

/// The gradient penalty of WGAN-GP (Gulrajani 2017): the mean over samples of `10 (|dD/dab| - 1)^2`, on the way from made
/// to real ab, `eps * real + (1 - eps) * made`.
///
/// `real` and `made` are ab `[N, h, w, 2]`, `eps` `[N, 1, 1, 1]` of 0..1. A conditional critic sees `l` `[N, h, w, 1]`
/// before ab; its slope is taken along ab alone, as it is between chromas of one picture that it is to be steady. D of
/// a sample is the mean over its patches. The result can be differentiated by candle, once, with respect to the
/// critic's parameters.
///
/// # Errors
/// Shapes that do not fit; a critic with a step that has no second derivative, such as a normalisation.
pub fn gradient_penalty(
    critic: &Eager,
    l: Option<&Tensor>,
    (real, made): (&Tensor, &Tensor),
    eps: &Tensor,
) -> Result<Tensor> {
    const LAMBDA: f64 = 10.;
    // Keeps the root's own slope finite.
    const LEAST: f64 = 1e-12;
    let (real, made) = (real.detach(), made.detach());
    let between = (real.broadcast_mul(eps)? + made.broadcast_mul(&eps.affine(-1., 1.)?)?)?;
    let picture = match l {
        Some(l) => Tensor::cat(&[&l.detach(), &between], 3)?,
        None => between,
    };
    let slope = critic.slope(&picture)?;
    let channels = slope.dim(3)?;
    let slope = slope.narrow(3, channels - 2, 2)?;
    let norms = (slope.sqr()?.sum((1, 2, 3))? + LEAST)?.sqrt()?;
    (norms - 1.)?.sqr()?.mean_all()? * LAMBDA
}

/// `(-log sigma(real) - log(1 - sigma(fake))) / 2`: halved as in pix2pix, which slows the discriminator down.
fn cross_entropy(real: &Tensor, fake: &Tensor) -> Result<Tensor> {
    (softplus(&real.neg()?)?.mean_all()? + softplus(fake)?.mean_all()?)? * 0.5
}

/// Mean of `(s - target)^2 / 2`.
fn half_squares(s: &Tensor, target: f64) -> Result<Tensor> {
    (s - target)?.sqr()?.mean_all()? * 0.5
}

/// Mean of `max(1 - s, 0)`.
fn short_of_one(s: &Tensor) -> Result<Tensor> {
    s.affine(-1., 1.)?.relu()?.mean_all()
}

/// `log(1 + e^x)`, without overflow at any x.
fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + x.abs()?.neg()?.exp()?.affine(1., 1.)?.log()?
}
