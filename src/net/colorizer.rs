//! A network behind the narrow waist: thumbnails to tensors, tensors to colour maps.

use std::sync::Arc;

use candle_core::Device;
use rayon::prelude::*;

use super::{
    Colorizer, Place,
    border::Border,
    engine::{
        Engine,
        eager::Eager,
        ops::take_lacking,
        plan::{Plan, Worker},
        upload,
    },
    grain,
    graph::Graph,
    params::Params,
};
use crate::{
    color,
    error::{Error, Result},
    frame::{AbMap, Thumb},
};

/// Frames at once on a device that likes batches.
const CUDA_BATCH: usize = 8;

/// Sizes of thumbnails for which a compiled plan is kept.
const PLANS: usize = 4;

/// A generator with its numbers.
pub struct Model {
    /// The network.
    pub graph: Graph,
    /// Its parameters.
    pub params: Params,
    /// Short side of the thumbnails that it was trained for.
    pub size: usize,
    /// Factor on a and b.
    pub gain: f32,
    /// What [`Colorizer::describe`] says.
    pub label: String,
}

impl Model {
    /// Step by step, in one batch.
    fn eagerly<T>(
        &self,
        device: &Device,
        thumbs: &[Thumb],
        made: &impl Fn(&[f32], (usize, usize)) -> T,
    ) -> Result<Vec<T>> {
        let (h, w, n) = (thumbs[0].height, thumbs[0].width, thumbs.len());
        let l: Vec<f32> = thumbs.iter().flat_map(seen).collect();
        let l = upload(&l, (n, h, w, 1), device)?;
        let eager = Eager {
            graph: &self.graph,
            params: &self.params,
            bf16: false,
        };
        let said = eager.evaluate(&l)?; // [N, h', w', C]
        let (_, height, width, _) = said.dims4()?;
        let pictures = said.flatten_from(1)?.to_vec2::<f32>()?;
        let made = |values: &Vec<f32>| made(values, (height, width));
        Ok(pictures.iter().map(made).collect())
    }
}

/// What a network says of one thumbnail.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// `[height, width, channels]`: a and b in network units, or logits of bins.
    pub values: Vec<f32>,
    /// Height and width.
    pub size: (usize, usize),
}

/// A model with a place to run.
pub struct Network {
    model: Model,
    place: Place,
    /// Compiled plans by height and width, the last used first, each with a worker a thread.
    plans: Vec<((usize, usize), Vec<Worker>)>,
    /// Most frames at once; lowered when the device's memory runs out.
    most: usize,
    warnings: Vec<String>,
}

impl Network {
    /// `model`'s parameters are on the place's device.
    pub fn new(model: Model, place: Place) -> Self {
        let warnings = place.warning.iter().cloned().collect();
        Self {
            model,
            place,
            plans: Vec::new(),
            most: usize::MAX,
            warnings,
        }
    }

    /// What the network says of each thumbnail, without the model's gain.
    ///
    /// # Errors
    /// As for [`Colorizer::predict`].
    pub fn said(&mut self, thumbs: &[Thumb]) -> Result<Vec<Said>> {
        self.batched(thumbs, &|values, size| Said {
            values: values.to_vec(),
            size,
        })
    }

    /// What is `made` of the network's result, of height and width, for thumbnails of one size.
    fn forward<T: Send>(
        &mut self,
        thumbs: &[Thumb],
        made: &(impl Fn(&[f32], (usize, usize)) -> T + Sync),
    ) -> Result<Vec<T>> {
        if let Engine::Plan { bf16 } = self.place.engine {
            match self.compiled((thumbs[0].height, thumbs[0].width), bf16) {
                Ok(()) => return self.by_plan(thumbs, made),
                Err(why) => {
                    let name = self.place.engine;
                    self.place.engine = match bf16 {
                        true => Engine::Plan { bf16: false },
                        false => Engine::Eager,
                    };
                    self.plans.clear();
                    self.warnings.push(format!(
                        "this network cannot be run by {name} ({why}): going on with {}, slower",
                        self.place.engine
                    ));
                    return self.forward(thumbs, made);
                }
            }
        }
        if self.place.device.is_cpu() {
            // One frame at a time: batching buys nothing on a CPU, and so no frame can depend on another.
            let Self { model, place, .. } = &*self;
            let alone = |thumb| model.eagerly(&place.device, std::slice::from_ref(thumb), made);
            let all: Result<Vec<_>> = thumbs.par_iter().map(alone).collect();
            return Ok(all?.into_iter().flatten().collect());
        }
        self.model.eagerly(&self.place.device, thumbs, made)
    }

    /// Sees to it that the first plan is the one for this size.
    fn compiled(&mut self, size: (usize, usize), bf16: bool) -> std::result::Result<(), String> {
        match self.plans.iter().position(|(s, _)| *s == size) {
            Some(at) => self.plans[..=at].rotate_right(1),
            None => {
                let Model { graph, params, .. } = &self.model;
                let plan = Arc::new(Plan::compile(graph, params, size, bf16)?);
                let threads = 0..rayon::current_num_threads();
                let workers = threads.map(|_| Worker::new(plan.clone()));
                let workers = workers.collect::<std::result::Result<_, _>>()?;
                self.plans.truncate(PLANS - 1);
                self.plans.insert(0, (size, workers));
            }
        }
        Ok(())
    }

    /// By the first plan: every worker takes every so-manieth thumbnail.
    fn by_plan<T: Send>(
        &mut self,
        thumbs: &[Thumb],
        made: &(impl Fn(&[f32], (usize, usize)) -> T + Sync),
    ) -> Result<Vec<T>> {
        let Some((_, workers)) = self.plans.first_mut() else {
            return Err(Error::internal("colorizer", "no plan"));
        };
        let count = workers.len().min(thumbs.len());
        let done = workers[..count]
            .par_iter_mut()
            .enumerate()
            .map(|(first, worker)| {
                let mine = thumbs.iter().skip(first).step_by(count);
                mine.map(|thumb| {
                    let l = seen(thumb);
                    let (height, width, _) = worker.result();
                    let said = worker.run(&l).map_err(|e| Error::internal("network", e))?;
                    Ok(made(said, (height, width)))
                })
                .collect::<Result<Vec<_>>>()
            });
        let mut done: Vec<_> = done
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .map(Vec::into_iter)
            .collect();
        let next = |i: usize| done[i % count].next();
        Ok((0..thumbs.len()).filter_map(next).collect())
    }

    /// As [`Network::forward`] in batches; out of device memory means a smaller batch from then on, and a warning.
    fn batched<T: Send>(
        &mut self,
        thumbs: &[Thumb],
        made: &(impl Fn(&[f32], (usize, usize)) -> T + Sync),
    ) -> Result<Vec<T>> {
        let mut all = Vec::with_capacity(thumbs.len());
        while let Some(first) = thumbs.get(all.len()) {
            let rest = &thumbs[all.len()..];
            let same = |t: &&Thumb| (t.width, t.height) == (first.width, first.height);
            let count = rest.iter().take(self.most).take_while(same).count();
            match self.forward(&rest[..count], made) {
                Ok(done) => all.extend(done),
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
        Ok(all)
    }
}

/// What a network sees of a thumbnail: its lightness without border and grain, in network units.
pub fn seen(thumb: &Thumb) -> Vec<f32> {
    let l = Border::of(thumb).mirrored(thumb);
    let mut l = grain::removed(&l, (thumb.height, thumb.width));
    l.iter_mut().for_each(|l| *l = color::network_from_l(*l));
    l
}

/// Colours `[h, w, 2]` in network units as a colour map, their chroma times `gain`.
pub fn colour_map(ab: &[f32], (height, width): (usize, usize), gain: f32) -> AbMap {
    let plane = |channel: usize| {
        let values = ab[channel..].iter().step_by(2);
        values.map(|y| color::ab_from_network(y * gain)).collect()
    };
    AbMap {
        width,
        height,
        a: plane(0),
        b: plane(1),
    }
}

impl Colorizer for Network {
    fn describe(&self) -> String {
        self.model.label.clone()
    }

    fn device(&self) -> &str {
        &self.place.words
    }

    fn thumb_size(&self, width: usize, height: usize, scale: f64) -> Option<(usize, usize)> {
        let stride = self.model.graph.stride();
        let size = (self.model.size as f64 * scale).round() as usize;
        Some(thumb_size(size, stride, width, height))
    }

    fn predict(&mut self, thumbs: &[Thumb]) -> Result<Vec<AbMap>> {
        let gain = self.model.gain;
        let mut maps = self.batched(thumbs, &|ab, size| colour_map(ab, size, gain))?;
        for (thumb, map) in thumbs.iter().zip(&mut maps) {
            Border::of(thumb).bleach(map);
        }
        Ok(maps)
    }

    fn default_batch(&self) -> usize {
        match self.place.device.is_cpu() {
            // A frame a thread on half of the threads: decoder and encoder want the others. All of them were 1 to
            // 5 % slower at 480p on two cores.
            true => rayon::current_num_threads().div_ceil(2),
            false => CUDA_BATCH,
        }
    }

    fn take_warnings(&mut self) -> Vec<String> {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(take_lacking());
        warnings
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
