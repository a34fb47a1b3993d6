//! One step of a run, and the model that comes of all of them.

use std::{collections::BTreeMap, sync::Arc};

use candle_core::{Device, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Config,
    critic::{Critic, Judge},
    data::{Batch, Split},
    journal::Losses,
    learner::{Learner, Learnt, Sum, add, leaf, slope},
    liveliness::Chosen,
    objective::{Attempt, Classes, Frozen, Motion, Moved, Need, OBJECTIVES, Objective, refilmed},
    optim::{Step, decayed},
    start::start,
    store::{Named, Saved},
};
use crate::{
    error::{Error, Result},
    eval::Exam,
    net::{
        self, Decoding, Place, Precision,
        checkpoint::{COLOR, Header},
        decoder::Head,
        engine::{
            Engine, allow_tf32, cpu_has_bf16,
            eager::{Gradients, Norms, Pass, Seen, Wanted},
            onednn::Packs,
            ops::{self, BlockSum, Run},
            upload,
        },
        features::Features,
        graph::Graph,
        params::{Params, stream},
    },
};

const SLOW_BF16: &str =
    "this CPU does not multiply bf16 numbers itself: --set bf16=false is many times faster here";

/// How logits become colours while a network learns, and until its looks are chosen.
const LEARNING: Decoding = Decoding {
    k: 0.,
    temperature: 1.,
    calm: 0,
};

/// Generator, discriminator and their optimisers.
pub struct Trainer {
    config: Config,
    device: Device,
    step: u64,
    generator: Learner,
    critic: Option<Critic>,
    /// Running mean of the generator's parameters, and its statistics.
    mean: BTreeMap<String, Tensor>,
    /// Names of parameters that were given rather than drawn.
    given: Vec<String>,
    /// What the objectives look at that does not learn.
    frozen: Frozen,
    /// Parts of a batch; more than the settings say once a device's memory has run out.
    parts: usize,
    warnings: Vec<String>,
}

/// What a step has come to.
pub struct Stepped {
    /// Losses by name.
    pub losses: Losses,
    /// Mean chroma of the generator's results over the truth's.
    pub chroma: f32,
    /// Standard deviation of chroma of the generator's results over the truth's.
    pub spread: f32,
}

/// A part of a batch at the size of the generator's head: what was given, what is true.
struct Part {
    index: usize,
    /// What the generator is given, at full size.
    input: Tensor,
    /// The same at the head's size.
    l: Tensor,
    /// True lightness, at full size.
    true_l: Tensor,
    /// True chroma there.
    truth: Tensor,
}

/// A part and what the generator made of it.
struct Made {
    part: Part,
    pass: Pass,
}

impl Trainer {
    /// A run at its beginning, from the weights of `init` where there is one.
    ///
    /// # Errors
    /// [`Error::Usage`] for settings that do not go together, [`Error::Model`] for an `init` that does not fit.
    pub fn new(config: &Config, init: Option<&str>, device: Device) -> Result<Self> {
        allow_tf32(true);
        let (_, slow) = Engine::choose(&device, Precision::F32);
        let mut warnings = Vec::from_iter(slow);
        if device.is_cpu() && config.bf16 && !cpu_has_bf16() {
            warnings.push(SLOW_BF16.into());
        }
        let graph = (net::arch(&config.arch)?.graph)(&config.network)?;
        fits(config, &graph)?;
        let generator = Learner::new(graph, config.seed, config.betas, config, &device)?;
        let mut given = Vec::new();
        if let Some(name) = init {
            let start = start(name, config, &generator.graph)?;
            generator.params.set(&start.given)?;
            warnings.extend(start.words);
            given = start.given.into_keys().collect();
        }
        let classes = match Head::of(&generator.graph) {
            Head::Regression => None,
            Head::Classification => Some(Classes::new(&device)?),
        };
        let critic = match config.weight("gan") > 0. {
            true => Some(Critic::new(config, &device)?),
            false => None,
        };
        Ok(Self {
            frozen: Frozen {
                classes,
                features: features(config, &device)?,
            },
            config: config.clone(),
            device,
            step: 0,
            mean: generator.params.values()?,
            generator,
            critic,
            given,
            parts: config.shards * config.accumulate,
            warnings,
        })
    }

    /// Lets rare classes weigh more in the rebalanced cross-entropy, by how frequent each is.
    ///
    /// # Errors
    /// Out of memory.
    pub fn rebalance(&mut self, frequencies: &[f32]) -> Result<()> {
        match &mut self.frozen.classes {
            Some(classes) => Ok(classes.rebalance(frequencies)?),
            None => Ok(()),
        }
    }

    /// What the user should hear of since the last call.
    pub fn take_warnings(&mut self) -> Vec<String> {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(ops::take_lacking());
        warnings
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Sides of crops and thumbnails must be multiples of this.
    pub fn stride(&self) -> usize {
        self.generator.graph.stride()
    }

    /// One step: the discriminator on detached results, then the generator. Where the device's memory does not hold a
    /// part of the batch, the parts are halved from then on, with a warning; the step goes on as if it had begun so.
    ///
    /// # Errors
    /// [`Error::Train`] where a loss is no longer finite; out of memory with parts of one photograph.
    pub fn step(&mut self, batch: &Batch) -> Result<Stepped> {
        let count = batch.l.dim(0)?;
        loop {
            let share = count / self.parts;
            match self.whole_step(batch, share) {
                Err(e) if share.is_multiple_of(2) && is_out_of_memory(&e) => {
                    self.parts *= 2;
                    self.warnings.push(format!(
                        "out of device memory with {share} photographs at once: going on with {}",
                        share / 2
                    ));
                }
                done => return done,
            }
        }
    }

    fn whole_step(&mut self, batch: &Batch, share: usize) -> Result<Stepped> {
        let turn = self.config.turn(self.step);
        let rounds = self.rounds();
        let mut made = None;
        let mut losses = Losses::new();
        let mut seen = Seeing::default();
        if turn.critic() {
            let (lesson, results) = self.teach(batch, share, &rounds)?;
            losses.extend(lesson);
            made = results;
        }
        if turn.generator() {
            let (lesson, gradients, sights) = self.learn(batch, share, &rounds, made)?;
            losses.extend(lesson);
            finite(&losses, self.step)?;
            let length = self.move_generator(&gradients)?;
            losses.push(("gradient", length as f32));
            self.generator.see(&sights.norms)?;
            seen = sights;
        }
        finite(&losses, self.step)?;
        self.step += 1;
        self.average()?;
        Ok(Stepped {
            losses,
            chroma: seen.chroma(),
            spread: seen.spread(),
        })
    }

    /// Parts of a batch by rounds: those of a round are worked on side by side on the CPU, and one at a time elsewhere,
    /// where one keeps the device busy.
    fn rounds(&self) -> Vec<Vec<usize>> {
        let wide = match self.device.is_cpu() {
            true => self.config.shards,
            false => 1,
        };
        let parts: Vec<usize> = (0..self.parts).collect();
        parts.chunks(wide).map(<[usize]>::to_vec).collect()
    }

    /// The discriminator's step. Gives what the generator made, where that was one round and can be used again.
    fn teach(
        &mut self,
        batch: &Batch,
        share: usize,
        rounds: &[Vec<usize>],
    ) -> Result<(Losses, Option<Vec<Made>>)> {
        let Some(mut critic) = self.critic.take() else {
            return Err(Error::internal("trainer", "no discriminator"));
        };
        let learnt = critic
            .iterate()
            .and_then(|()| self.lessons(&critic, batch, share, rounds));
        let rate = self.config.rate_at(self.step);
        let stepped = learnt.and_then(|((losses, gradients), made)| {
            finite(&losses, self.step)?;
            let loss = losses.first().map_or(0., |(_, loss)| *loss);
            critic.step(loss, gradients, rate)?;
            Ok((losses, made))
        });
        self.critic = Some(critic);
        stepped
    }

    fn lessons(
        &self,
        critic: &Critic,
        batch: &Batch,
        share: usize,
        rounds: &[Vec<usize>],
    ) -> Result<(Learnt, Option<Vec<Made>>)> {
        let judge = critic.judge()?;
        let packs = Arc::<Packs>::default();
        let mut sum = Sum::default();
        let mut last = None;
        for round in rounds {
            let made = side_by_side(round, |i| self.make(batch, *i, share, &packs))?;
            let lesson = |made: &Made| {
                let Part {
                    index, l, truth, ..
                } = &made.part;
                let ab = self.colours(made.pass.output(), Run::Plain)?;
                judge.lesson(l, truth, &ab, &mut self.noise("critic", *index))
            };
            sum.add(side_by_side(&made, lesson)?)?;
            last = Some(made);
        }
        Ok((sum.mean()?, last.filter(|_| rounds.len() == 1)))
    }

    /// Losses and gradients of the generator.
    fn learn(
        &self,
        batch: &Batch,
        share: usize,
        rounds: &[Vec<usize>],
        made: Option<Vec<Made>>,
    ) -> Result<(Losses, Gradients, Seeing)> {
        // Packed weights live until the weights move.
        let packs = Arc::<Packs>::default();
        let judge = match self.config.turn(self.step).critic() {
            true => self.critic.as_ref().map(Critic::judge).transpose()?,
            false => None,
        };
        let mut sum = Sum::default();
        let mut seen = Seeing::default();
        let mut ready = made;
        for round in rounds {
            let made = match ready.take() {
                Some(made) => made,
                None => side_by_side(round, |i| self.make(batch, *i, share, &packs))?,
            };
            let gradients = |made| self.gradients(made, judge.as_ref(), &packs);
            let parts: Result<Vec<_>> = made.into_par_iter().map(gradients).collect();
            let (learnt, sights): (Vec<_>, Vec<_>) = parts?.into_iter().unzip();
            sum.add(learnt)?;
            sights.into_iter().for_each(|sight| seen.add(sight));
        }
        let (losses, gradients) = sum.mean()?;
        Ok((losses, gradients, seen))
    }

    /// Moves the generator; gives the length of the gradients.
    fn move_generator(&mut self, gradients: &Gradients) -> Result<f64> {
        let Config {
            clip,
            decay,
            given_rate,
            frozen,
            ..
        } = self.config;
        let rate = self.config.rate_at(self.step);
        let of_given = if self.step < frozen { 0. } else { given_rate };
        let rate = |name: &str| match self.given.binary_search_by(|n| n.as_str().cmp(name)) {
            Ok(_) => rate * of_given,
            Err(_) => rate,
        };
        let optimiser = &mut self.generator.optimiser;
        Ok(optimiser.step(gradients, Step { clip, decay }, rate)?)
    }

    /// A source of random numbers for one purpose in one part of this step.
    fn noise(&self, purpose: &str, index: usize) -> ChaCha8Rng {
        stream(
            self.config.seed,
            &format!("{purpose} {} {index}", self.step),
        )
    }

    /// Part `index` of a batch, and what the generator makes of it.
    fn make(&self, batch: &Batch, index: usize, share: usize, packs: &Arc<Packs>) -> Result<Made> {
        let part = |t: &Tensor| -> Result<Tensor> {
            let part = t.narrow(0, index * share, share)?.contiguous()?;
            if self.device.is_cpu() {
                return Ok(part);
            }
            let values = part.flatten_all()?.to_vec1::<f32>()?;
            Ok(upload(&values, part.shape(), &self.device)?)
        };
        let input = part(&batch.l)?;
        let mut noise = self.noise("dropout", index);
        let norms = self.norms();
        let pass = self.generator.learn(&input, norms, &mut noise, packs)?;
        // The head may be smaller than the input: compare at its size.
        let factor = input.dim(1)? / pass.output().dim(1)?;
        let shrink = |t: &Tensor| match factor {
            1 => Ok::<_, Error>(t.clone()),
            _ => Ok((ops::evaluate(&BlockSum(factor), &[t])? / (factor * factor) as f64)?),
        };
        let part = Part {
            index,
            l: shrink(&input)?,
            true_l: part(&batch.true_l)?,
            truth: shrink(&part(&batch.ab)?)?,
            input,
        };
        Ok(Made { part, pass })
    }

    /// What batch norms see at this step.
    fn norms(&self) -> Norms {
        match self.config.settled(self.step) {
            true => Norms::Running,
            false => Norms::Batch,
        }
    }

    /// What a head says as colours; through `run` candle may differentiate.
    fn colours(&self, raw: &Tensor, run: Run) -> Result<Tensor> {
        match &self.frozen.classes {
            None => Ok(raw.clone()),
            Some(classes) => Ok(run.apply(classes.decode(&LEARNING)?, &[raw])?),
        }
    }

    fn gradients(
        &self,
        made: Made,
        judge: Option<&Judge>,
        packs: &Arc<Packs>,
    ) -> Result<(Learnt, Sight)> {
        let Made { part, pass } = made;
        let raw = leaf(pass.output())?;
        let ab = self.colours(raw.as_tensor(), Run::Tracked)?;
        let sight = Sight::of(&ab, &part.truth, &pass.seen)?;
        let mut losses = Losses::new();
        let mut total = Vec::new();
        if let Some(judge) = judge {
            let mut noise = self.noise("judge", part.index);
            let (loss, slope) = judge.verdict(&part.l, &ab.detach(), &mut noise)?;
            losses.push(("gan", loss));
            let weight = self.config.weight("gan");
            // Its derivative with respect to ab is the slope that came from behind the discriminator.
            total.push(((&ab * slope)?.sum_all()? * weight)?);
        }
        let again = self.again(&part, packs)?;
        let attempt = Attempt {
            l: &part.true_l,
            ab: &ab,
            truth: &part.truth,
            logits: self.frozen.classes.as_ref().map(|_| raw.as_tensor()),
            judged: None,
            adversary: self.config.critic.loss,
            moved: again.as_ref().map(Again::moved),
            frozen: &self.frozen,
        };
        for objective in OBJECTIVES {
            let weight = self.config.weight_at(objective.name, self.step);
            // What the discriminator said was asked for above.
            if weight > 0. && !objective.needs.contains(&Need::Judged) {
                let loss = (objective.loss)(&attempt)?;
                losses.push((objective.name, loss.to_scalar()?));
                total.push((loss * weight)?);
            }
        }
        let Some(total) = total
            .into_iter()
            .map(Ok)
            .reduce(|a, b| a? + b?)
            .transpose()?
        else {
            // Before its only objective begins a run has nothing to do.
            return Ok(((losses, Gradients::new()), sight));
        };
        let slopes = total.backward()?;
        let mut gradients = pass.backward(&slope(&slopes, &raw)?, Wanted::Parameters)?;
        if let Some(again) = again {
            let slope = slope(&slopes, &again.raw)?;
            add(
                &mut gradients,
                again.pass.backward(&slope, Wanted::Parameters)?,
            )?;
        }
        Ok(((losses, gradients), sight))
    }

    /// The part moved and disturbed, and what the generator makes of it, where an objective asks for it.
    fn again(&self, part: &Part, packs: &Arc<Packs>) -> Result<Option<Again>> {
        if self.config.weight_at("stability", self.step) == 0. {
            return Ok(None);
        }
        let mut noise = self.noise("motion", part.index);
        let motion = Motion::draw(part.input.dim(0)?, &mut noise);
        let moved = refilmed(&motion.warp(&part.input)?, &mut noise)?;
        let norms = self.norms();
        let pass = self.generator.learn(&moved, norms, &mut noise, packs)?;
        let raw = leaf(pass.output())?;
        let ab = self.colours(raw.as_tensor(), Run::Tracked)?;
        Ok(Some(Again {
            motion,
            pass,
            raw,
            ab,
        }))
    }

    /// Moves the running mean towards the parameters and statistics; faster in the beginning, when it knows nothing yet.
    /// The last statistics by themselves would be those of a few batches, and of other weights than the mean's.
    fn average(&mut self) -> Result<()> {
        let step = self.step as f64;
        let decay = self.config.ema.min((1. + step) / (10. + step));
        let params = &self.generator.params;
        let var = |name: &String| {
            params
                .trained()
                .get(name)
                .or_else(|| params.statistics().get(name))
        };
        let means: Vec<_> = self.mean.iter_mut().collect();
        means.into_par_iter().try_for_each(|(name, mean)| {
            if let Some(var) = var(name) {
                *mean = decayed(mean, &var.as_detached_tensor(), decay)?;
            }
            Ok(())
        })
    }
}

/// The frozen network that objectives compare features by, where one has a weight.
fn features(config: &Config, device: &Device) -> Result<Option<Features>> {
    let needs = |o: &&Objective| o.needs.contains(&Need::Features) && config.weight(o.name) > 0.;
    let Some(objective) = OBJECTIVES.iter().find(needs) else {
        return Ok(None);
    };
    let Some(path) = &config.features else {
        return Err(Error::Usage(format!(
            "{} compares the features of ImageNet SqueezeNet v1.0: --set features=FILE says where its weights are (safetensors)",
            objective.name
        )));
    };
    Features::open(path, device).map(Some)
}

/// Values `f` of all, side by side.
fn side_by_side<A: Sync, B: Send>(
    all: &[A],
    f: impl Fn(&A) -> Result<B> + Send + Sync,
) -> Result<Vec<B>> {
    all.par_iter().map(f).collect()
}

fn finite(losses: &Losses, step: u64) -> Result<()> {
    match losses.iter().find(|(_, loss)| !loss.is_finite()) {
        None => Ok(()),
        Some((name, _)) => Err(Error::Train(format!(
            "the {name} loss is not finite at step {step}; go on from the last checkpoint (--resume) in a run with a lower rate, or with --set clip=1"
        ))),
    }
}

fn is_out_of_memory(e: &Error) -> bool {
    e.to_string().to_lowercase().contains("out of memory")
}

/// Whether crops of every size go through the generator, and its results through the discriminator.
fn fits(config: &Config, graph: &Graph) -> Result<()> {
    let stride = graph.stride();
    let least = config.critic.network.smallest_side();
    for (size, _) in config.sizes() {
        if !size.is_multiple_of(stride) {
            return Err(Error::Usage(format!(
                "size {size} must be a multiple of {stride} for {} with {}",
                config.arch, config.network
            )));
        }
        let (side, _) = graph.sizes((size, size))[graph.output().index()];
        if config.weight("gan") > 0. && side < least {
            return Err(Error::Usage(format!(
                "{} makes {side} px of chroma at size {size}, a discriminator that sees {} px needs {least}: take a larger size or a smaller critic.network.receptive",
                config.arch, config.critic.network.receptive
            )));
        }
    }
    let classes = Head::of(graph) == Head::Classification;
    let needs = OBJECTIVES
        .iter()
        .find(|o| o.needs.contains(&Need::Logits) && !classes && config.weight(o.name) > 0.);
    match needs {
        None => Ok(()),
        Some(objective) => Err(Error::Usage(format!(
            "{} is for networks that tell classes apart: --set network.head=classification where {} has such a head, --recipe pix2pix, or --set objectives.{0}=0 with another objective",
            objective.name, config.arch
        ))),
    }
}

/// The same pictures moved and disturbed, and what the generator makes of them.
struct Again {
    motion: Motion,
    pass: Pass,
    raw: Var,
    ab: Tensor,
}

impl Again {
    fn moved(&self) -> Moved<'_> {
        Moved {
            by: &self.motion,
            again: &self.ab,
        }
    }
}

/// What one part of a batch looked like: sums over its samples.
struct Sight {
    norms: Vec<Seen>,
    /// Samples, and the sums of chroma and of its square, of the results and of the truth.
    sums: [f64; 5],
}

impl Sight {
    fn of(ab: &Tensor, truth: &Tensor, norms: &[Seen]) -> Result<Self> {
        let count = (truth.elem_count() / 2) as f64;
        let [c, c2] = chroma_sums(ab)?;
        let [t, t2] = chroma_sums(truth)?;
        Ok(Self {
            norms: norms.to_vec(),
            sums: [count, c, c2, t, t2],
        })
    }
}

/// Sums of chroma and of its square over all samples of `[N, h, w, 2]`.
fn chroma_sums(ab: &Tensor) -> Result<[f64; 2]> {
    let ab = ab.detach().flatten_all()?.to_vec1::<f32>()?;
    let chroma = ab.chunks_exact(2).map(|ab| f64::from(ab[0].hypot(ab[1])));
    Ok(chroma.fold([0., 0.], |[sum, squares], c| [sum + c, squares + c * c]))
}

/// What a whole batch looked like.
#[derive(Default)]
struct Seeing {
    norms: Vec<Vec<Seen>>,
    sums: [f64; 5],
}

impl Seeing {
    fn add(&mut self, sight: Sight) {
        self.norms.push(sight.norms);
        self.sums
            .iter_mut()
            .zip(sight.sums)
            .for_each(|(sum, s)| *sum += s);
    }

    /// Mean chroma of the results over the truth's.
    fn chroma(&self) -> f32 {
        let [_, c, _, t, _] = self.sums;
        (c / t.max(1e-9)) as f32
    }

    /// Standard deviation of chroma of the results over the truth's.
    fn spread(&self) -> f32 {
        let [n, c, c2, t, t2] = self.sums;
        let std = |sum: f64, squares: f64| {
            let mean = sum / n.max(1.);
            (squares / n.max(1.) - mean * mean).max(0.).sqrt()
        };
        (std(c, c2) / std(t, t2).max(1e-9)) as f32
    }
}

/// The model that a run has so far.
impl Trainer {
    /// Every parameter of the model: the running mean, and the classes with their prior where it has any.
    ///
    /// # Errors
    /// Out of memory.
    pub fn tensors(&self, prior: Option<&[f32]>) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = self.mean.clone();
        if let Some(classes) = &self.frozen.classes {
            tensors.extend(classes.statistics(prior)?);
        }
        Ok(tensors)
    }

    /// The model, on the CPU, with these settings of its last step and this prior of its classes.
    ///
    /// # Errors
    /// Out of memory.
    pub fn model(
        &self,
        decoding: &Decoding,
        gain: f32,
        prior: Option<&[f32]>,
    ) -> Result<net::Network> {
        let graph = net::decoded(self.generator.graph.clone(), decoding);
        let model = net::Model {
            params: Params::given(&graph, &self.tensors(prior)?, &Device::Cpu)?,
            graph,
            size: self.config.size,
            gain,
            label: self.config.arch.clone(),
        };
        Ok(net::Network::new(model, Place::cpu()))
    }

    /// How likely the model thinks each class on average over photographs: what the prior correction divides by.
    /// Nothing for a regression.
    ///
    /// # Errors
    /// Out of memory.
    pub fn prior(&self, exams: &[Exam]) -> Result<Option<Vec<f32>>> {
        if self.frozen.classes.is_none() || exams.is_empty() {
            return Ok(None);
        }
        let params = Params::given(&self.generator.graph, &self.mean, &Device::Cpu)?;
        let means = exams.par_iter().map(|exam| {
            let l = net::seen(&exam.thumb);
            let shape = (1, exam.thumb.height, exam.thumb.width, 1);
            let l = Tensor::from_vec(l, shape, &Device::Cpu)?;
            let logits = self.generator.eager(&params).evaluate(&l)?;
            let likely = candle_nn::ops::softmax_last_dim(&logits)?;
            Ok(likely.mean((0, 1, 2))?.to_vec1::<f32>()?)
        });
        let means: Vec<Vec<f32>> = means.collect::<Result<_>>()?;
        let mut prior = vec![0.; means[0].len()];
        for mean in &means {
            prior
                .iter_mut()
                .zip(mean)
                .for_each(|(p, m)| *p += m / means.len() as f32);
        }
        Ok(Some(prior))
    }

    /// What the model says of itself.
    pub fn header(&self, chosen: &Chosen, split: &Split) -> Header {
        // Figures on what it has learnt from are not to pass for others.
        let on = match split.validation.is_empty() {
            true => "training",
            false => "validation",
        };
        Header {
            arch: self.config.arch.clone(),
            network: self.config.network.clone(),
            color: COLOR.into(),
            size: self.config.size,
            looks: chosen.looks,
            trained: json!({
                "by": concat!("autochrome ", env!("CARGO_PKG_VERSION")),
                "settings": self.config,
                "steps": self.step,
                "photographs": split.train.len(),
            }),
            figures: json!({ on: chosen.figures }),
        }
    }

    /// Goes to the last steps before `step` without having done those before: to measure how long they take.
    pub fn pretend(&mut self, step: u64) {
        self.step = step;
    }
}

/// Tensors of a checkpoint, by part and name.
pub type Parts = BTreeMap<&'static str, Named>;

/// What the next step depends on besides the tensors.
#[derive(Serialize, Deserialize)]
struct State {
    settings: Config,
    step: u64,
    generator_steps: u64,
    critic_steps: u64,
    given: Vec<String>,
    parts: usize,
}

impl Trainer {
    /// Everything that the next step depends on: tensors by part and name, and the rest.
    ///
    /// # Errors
    /// Out of memory.
    pub fn state(&self) -> Result<(Parts, Value)> {
        let (moments, generator_steps) = self.generator.optimiser.state();
        let mut parts = BTreeMap::from([
            ("weights", self.generator.params.values()?),
            ("mean", self.mean.clone()),
            ("moments", moments),
        ]);
        let mut critic_steps = 0;
        if let Some(critic) = &self.critic {
            let (moments, steps) = critic.learner.optimiser.state();
            critic_steps = steps;
            parts.insert("critic", critic.learner.params.values()?);
            parts.insert("critic-moments", moments);
            parts.insert("critic-spectral", critic.spectral_state());
        }
        let state = State {
            settings: self.config.clone(),
            step: self.step,
            generator_steps,
            critic_steps,
            given: self.given.clone(),
            parts: self.parts,
        };
        let state = serde_json::to_value(state).map_err(|e| Error::internal("state", e))?;
        Ok((parts, state))
    }

    /// Goes on from a saved state.
    ///
    /// # Errors
    /// [`Error::Train`] where it is of a run with other settings, [`Error::Model`] where it is damaged.
    pub fn restore(&mut self, saved: &Saved) -> Result<()> {
        let damaged = || Error::model(saved.name(), "the checkpoint is not complete");
        let state: State = saved.read("trainer")?;
        if let Some(name) = difference(&state.settings.essence(), &self.config.essence()) {
            return Err(Error::Train(format!(
                "{} is of a run with another {name}; leave that setting as it was, or choose another output",
                saved.name()
            )));
        }
        let part = |name| saved.part(name, &self.device);
        self.generator.params.set(&part("weights")?)?;
        self.mean = part("mean")?;
        let moments = part("moments")?;
        let optimiser = &mut self.generator.optimiser;
        optimiser
            .restore(&moments, state.generator_steps)
            .ok_or_else(damaged)?;
        if let Some(critic) = &mut self.critic {
            let part = |name| saved.part(name, &self.device);
            critic.learner.params.set(&part("critic")?)?;
            let moments = part("critic-moments")?;
            let optimiser = &mut critic.learner.optimiser;
            optimiser
                .restore(&moments, state.critic_steps)
                .ok_or_else(damaged)?;
            critic
                .restore_spectral(&part("critic-spectral")?)
                .ok_or_else(damaged)?;
        }
        (self.step, self.given, self.parts) = (state.step, state.given, state.parts);
        Ok(())
    }
}

/// The first setting in which two runs differ.
fn difference(a: &Config, b: &Config) -> Option<String> {
    let [a, b] = [a, b].map(|c| serde_json::to_value(c).unwrap_or_default());
    let (a, b) = (a.as_object()?, b.as_object()?);
    a.iter()
        .find(|(name, value)| b.get(*name) != Some(value))
        .map(|(name, _)| name.clone())
}
