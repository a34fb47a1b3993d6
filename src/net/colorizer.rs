//! A [`Generator`] behind the narrow waist: thumbnails to tensors, tensors to colour maps.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::{Colorizer, Generator};
use crate::{
    color,
    error::Result,
    frame::{AbMap, Thumb},
};

/// Frames at once on a device that likes batches.
const CUDA_BATCH: usize = 8;

/// A generator with what it takes to use it.
pub struct Network {
    generator: Box<dyn Generator>,
    device: Device,
    size: usize,
    gain: f32,
    label: String,
    place: String,
    /// Most frames at once; lowered when the device's memory runs out.
    most: usize,
    warnings: Vec<String>,
}

impl Network {
    /// `generator`'s parameters are on `device`. `size` is the short side of the thumbnails that it was trained for,
    /// `gain` a factor on a and b, `label` what [`Colorizer::describe`] says, `place` what [`Colorizer::device`] says.
    pub fn new(
        generator: Box<dyn Generator>,
        device: Device,
        size: usize,
        gain: f32,
        label: String,
        place: String,
    ) -> Self {
        Self {
            generator,
            device,
            size,
            gain,
            label,
            place,
            most: usize::MAX,
            warnings: Vec::new(),
        }
    }

    /// Colour of thumbnails of one size, in one pass.
    fn forward(&self, thumbs: &[Thumb]) -> Result<Vec<AbMap>> {
        let (h, w, n) = (thumbs[0].height, thumbs[0].width, thumbs.len());
        let l = thumbs.iter().flat_map(|t| &t.l);
        let l: Vec<f32> = l.map(|l| color::network_from_l(*l)).collect();
        let l = Tensor::from_vec(l, (1, n, h, w), &self.device)?;
        let ab = self.generator.forward(&l, None)?; // [2, N, h', w']
        let (_, _, height, width) = ab.dims4()?;
        let planes = ab.flatten_from(2)?.to_vec3::<f32>()?;
        let plane = |channel: usize, i: usize| {
            let scale = |y: &f32| color::ab_from_network(y * self.gain);
            planes[channel][i].iter().map(scale).collect()
        };
        let map = |i| AbMap {
            width,
            height,
            a: plane(0, i),
            b: plane(1, i),
        };
        Ok((0..n).map(map).collect())
    }

    /// As [`Network::forward`] in batches; out of device memory means a smaller batch from then on, and a warning.
    fn batched(&mut self, thumbs: &[Thumb]) -> Result<Vec<AbMap>> {
        let mut maps = Vec::with_capacity(thumbs.len());
        while let Some(first) = thumbs.get(maps.len()) {
            let rest = &thumbs[maps.len()..];
            let same = |t: &&Thumb| (t.width, t.height) == (first.width, first.height);
            let count = rest.iter().take(self.most).take_while(same).count();
            match self.forward(&rest[..count]) {
                Ok(done) => maps.extend(done),
                Err(e) if count > 1 && e.to_string().to_lowercase().contains("out of memory") => {
                    self.most = count / 2;
                    let warning = format!(
                        "out of device memory at batch {count}: going on with {}",
                        self.most
                    );
                    self.warnings.push(warning);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(maps)
    }
}

impl Colorizer for Network {
    fn describe(&self) -> String {
        self.label.clone()
    }

    fn device(&self) -> &str {
        &self.place
    }

    fn thumb_size(&self, width: usize, height: usize) -> Option<(usize, usize)> {
        Some(thumb_size(
            self.size,
            self.generator.stride(),
            width,
            height,
        ))
    }

    fn predict(&mut self, thumbs: &[Thumb]) -> Result<Vec<AbMap>> {
        if self.device.is_cpu() {
            // One frame at a time: batching buys nothing on a CPU, and so no frame can depend on another.
            let alone = |thumb| self.forward(std::slice::from_ref(thumb));
            let maps: Result<Vec<_>> = thumbs.par_iter().map(alone).collect();
            return Ok(maps?.into_iter().flatten().collect());
        }
        self.batched(thumbs)
    }

    fn default_batch(&self) -> usize {
        if self.device.is_cpu() { 1 } else { CUDA_BATCH }
    }

    fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }
}

/// The size (width, height) nearest to a short side of `size` whose sides are multiples of `stride` and whose aspect
/// is nearest to `width` : `height`. A quarter more or less than `size` is taken where it fits the aspect better.
pub fn thumb_size(size: usize, stride: usize, width: usize, height: usize) -> (usize, usize) {
    let aspect = width.max(height) as f64 / width.min(height).max(1) as f64;
    // A strip narrower than 1:4 is squashed rather than let its long side grow without bound.
    let aspect = aspect.min(4.);
    let units = |samples: f64| (samples / stride as f64).round().max(1.);
    let fit = |short: f64| {
        let long = units(short * stride as f64 * aspect);
        ((long / short / aspect).ln().abs(), short, long)
    };
    let (least, most) = (units(size as f64 * 0.8), units(size as f64 * 1.25));
    let mut best = fit(units(size as f64));
    for short in least as usize..=most as usize {
        let other = fit(short as f64);
        // Only a clearly better aspect is worth another size.
        if other.0 + 0.01 < best.0 {
            best = other;
        }
    }
    let (short, long) = (best.1 as usize * stride, best.2 as usize * stride);
    if width < height {
        (short, long)
    } else {
        (long, short)
    }
}
