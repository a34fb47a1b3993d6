//! Colourfulness (Hasler & Suesstrunk 2003) as an objective.

use candle_core::{Result, Tensor};

/// Mean over samples of `|CF(made) - CF(truth)| / 100`, of encoded sRGB pictures 0..1 `[N, H, W, 3]`. Aiming at the
/// truth's and not beyond keeps it from blotches of red.
pub(super) fn distance(made: &Tensor, truth: &Tensor) -> Result<Tensor> {
    let apart = (of(made)? - of(&truth.detach())?)?;
    apart.abs()?.mean_all()? / 100.
}

/// Colourfulness of each picture, `[N]`, in 8-bit units: with `rg = R - G` and `yb = (R + G) / 2 - B`, signed, the root
/// of their variances' sum and 0.3 times that of their means' squares.
fn of(rgb: &Tensor) -> Result<Tensor> {
    // A grey picture's roots are 0, where their slope has no bound; this moves them by a thousandth.
    const LEAST: f64 = 1e-6;
    let n = rgb.dim(0)?;
    let opponents = [[255., 127.5], [-255., 127.5], [0., -255.]];
    let opponents = Tensor::new(&opponents, rgb.device())?.to_dtype(rgb.dtype())?;
    let rg_yb = rgb.flatten_to(2)?.matmul(&opponents)?.reshape((n, (), 2))?;
    let mean = rg_yb.mean_keepdim(1)?;
    let variance = rg_yb.broadcast_sub(&mean)?.sqr()?.mean(1)?.sum(1)?;
    let offset = mean.sqr()?.sum((1, 2))?;
    (variance + LEAST)?.sqrt()? + ((offset + LEAST)?.sqrt()? * 0.3)?
}
