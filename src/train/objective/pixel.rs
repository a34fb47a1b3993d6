//! Errors pixel by pixel.

use candle_core::{Result, Tensor};

/// Mean of `|x - y|`.
pub(super) fn l1(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    (x - y)?.abs()?.mean_all()
}

/// Mean of `d^2 / (2 beta)` where `d = |x - y|` is below beta = 0.1, else of `d - beta / 2`.
pub(super) fn huber(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    const BETA: f64 = 0.1;
    let d = (x - y)?.abs()?;
    // With m = min(d, beta) both branches are m^2 / (2 beta) + (d - m).
    let m = d.minimum(BETA)?;
    ((m.sqr()? * (0.5 / BETA))? + (d - m)?)?.mean_all()
}
