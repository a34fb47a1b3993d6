//! What pictures look like to a frozen network: feature and style reconstruction (Johnson 2016, arXiv 1603.08155).

use candle_core::{Result, Tensor, Var};

use crate::net::{
    engine::eager::{Eager, Pass, Wanted},
    features::{Features, Layer},
    graph::Graph,
    params::stream,
};

/// Where features are compared: edges and their colours, textures, parts of things.
const LAYERS: [Layer; 3] = [Layer::Relu1, Layer::Fire(3), Layer::Fire(5)];

/// The smallest side that leaves something to see in the last of them.
const SMALLEST: usize = 16;

/// Keeps what a layer that sees nothing is divided by from 0.
const LEAST: f64 = 1e-6;

/// A distance between two pictures' features of one layer, `[N, h, w, C]`: a mean over samples.
pub(super) type Distance = fn(&Tensor, &Tensor) -> Result<Tensor>;

/// Mean absolute difference of features as a part of the truth's mean.
pub(super) fn of_features(made: &Tensor, truth: &Tensor) -> Result<Tensor> {
    let apart = (made - truth)?.abs()?.mean((1, 2, 3))?;
    (apart / (truth.abs()?.mean((1, 2, 3))? + LEAST)?)?.mean_all()
}

/// Squared difference of Gram matrices as a part of the truth's square: which features go together, wherever.
pub(super) fn of_styles(made: &Tensor, truth: &Tensor) -> Result<Tensor> {
    let truth = gram(truth)?;
    let apart = (gram(made)? - &truth)?.sqr()?.sum((1, 2))?;
    (apart / (truth.sqr()?.sum((1, 2))? + LEAST)?)?.mean_all()
}

/// `F F^T / (C H W)`, `[N, C, C]`.
fn gram(features: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = features.dims4()?;
    let features = features.reshape((n, h * w, c))?;
    features.t()?.matmul(&features)? / (c * h * w) as f64
}

/// Mean over [`LAYERS`] of the distance between the features of `made` and of `truth`: encoded sRGB pictures 0..1
/// `[N, H, W, 3]`.
///
/// The network's own backward pass is several times faster than candle's, and finds no gradients of frozen weights. So
/// the gradient g is found here, and what is returned is the distance plus `<g, made - made>`: the same number, with
/// that gradient.
pub(super) fn distance(
    features: &Features,
    made: &Tensor,
    truth: &Tensor,
    distance: Distance,
) -> Result<Tensor> {
    let (_, h, w, _) = made.dims4()?;
    if h.min(w) < SMALLEST {
        candle_core::bail!(
            "pictures of {w} x {h} are too small for perceptual and style losses, which need {SMALLEST} a side: train at a larger size"
        )
    }
    let parts = parts();
    let passes = look(features, &parts, made)?;
    let mut picture = truth.detach();
    let (mut total, mut slopes) = (None, Vec::new());
    for (graph, pass) in parts.iter().zip(&passes) {
        picture = eager(features, graph).evaluate(&picture)?;
        let seen = Var::from_tensor(&pass.output().detach())?;
        let apart = (distance(&seen, &picture)? / LAYERS.len() as f64)?;
        slopes.push(apart.backward()?.remove(&seen));
        total = Some(added(total, apart.detach())?);
    }
    let mut slope = None;
    for (pass, own) in passes.into_iter().zip(slopes).rev() {
        if let Some(own) = own {
            slope = Some(added(slope, own)?);
        }
        if let Some(after) = slope {
            slope = pass.backward(&after, Wanted::Input)?.remove("");
        }
    }
    match (total, slope) {
        (Some(total), Some(slope)) => total + ((made - made.detach())? * slope)?.sum_all()?,
        _ => candle_core::bail!("the features do not depend on the picture"),
    }
}

/// The network up to the first of [`LAYERS`], and from each to the next.
fn parts() -> Vec<Graph> {
    let between = LAYERS.windows(2).map(|l| Features::between(l[0], l[1]));
    let first = std::iter::once(Features::graph(LAYERS[0]));
    first.chain(between).collect()
}

fn eager<'a>(features: &'a Features, graph: &'a Graph) -> Eager<'a> {
    Eager {
        graph,
        params: features.params(),
        bf16: false,
    }
}

/// Every part's pass over a picture.
fn look(features: &Features, parts: &[Graph], picture: &Tensor) -> Result<Vec<Pass>> {
    let mut passes: Vec<Pass> = Vec::new();
    for graph in parts {
        let picture = passes.last().map_or(picture, Pass::output);
        // It drops nothing, so that nothing is drawn.
        let mut noise = stream(0, "features");
        passes.push(eager(features, graph).learn(picture, &mut noise)?);
    }
    Ok(passes)
}

fn added(sum: Option<Tensor>, more: Tensor) -> Result<Tensor> {
    match sum {
        None => Ok(more),
        Some(sum) => sum + more,
    }
}
