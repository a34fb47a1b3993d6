//! How pictures look as a whole: pooled features of an ImageNet network, and the distance between sets of pictures.

use std::path::Path;

use candle_core::{Device, Tensor};
use image::{RgbImage, imageops};

use super::frechet::Gaussian;
use crate::{
    error::Result,
    net::{
        engine::eager::Eager,
        features::{Features, Layer},
        graph::Graph,
    },
};

/// The network's smallest picture.
const LEAST: u32 = 32;

/// Looks at pictures with SqueezeNet.
pub struct Looker {
    features: Features,
    graph: Graph,
    device: Device,
}

impl Looker {
    /// With the weights in the file at `path`.
    ///
    /// # Errors
    /// As for [`Features::open`].
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        let mut graph = Features::graph(Layer::LAST);
        graph.mean(graph.output());
        Ok(Self {
            features: Features::open(path, device)?,
            graph,
            device: device.clone(),
        })
    }

    /// The mean features of a picture; sides below 32 are enlarged.
    ///
    /// # Errors
    /// Out of memory.
    pub fn look(&self, picture: &RgbImage) -> Result<Vec<f32>> {
        let (width, height) = picture.dimensions();
        if width.min(height) < LEAST {
            let (width, height) = (width.max(LEAST), height.max(LEAST));
            let filter = imageops::FilterType::Triangle;
            return self.look(&imageops::resize(picture, width, height, filter));
        }
        let shape = (1, height as usize, width as usize, 3);
        let values = picture.as_raw().iter().map(|v| f32::from(*v) / 255.);
        let rgb = Tensor::from_iter(values, &Device::Cpu)?.reshape(shape)?;
        let eager = Eager {
            graph: &self.graph,
            params: self.features.params(),
            bf16: false,
        };
        let pooled = eager.evaluate(&rgb.to_device(&self.device)?)?;
        Ok(pooled.flatten_all()?.to_vec1()?)
    }
}

/// The Frechet distance between the looks of results and of truths ("SFD": as FID, but with SqueezeNet, so not to be
/// compared with it). It depends on the pictures and their number. `None` for fewer than two.
pub fn distance<'a>(
    results: impl ExactSizeIterator<Item = &'a [f32]> + Clone,
    truths: impl ExactSizeIterator<Item = &'a [f32]> + Clone,
) -> Option<f64> {
    Some(Gaussian::fitted(results)?.distance(&Gaussian::fitted(truths)?))
}
