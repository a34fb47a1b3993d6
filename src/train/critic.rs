//! The discriminator (a critic, where it plays for a distance) in training: what it learns from true and made-up
//! colours, and how wrong it makes the generator feel.

use std::{collections::BTreeMap, sync::Arc};

use candle_core::{Device, Tensor, Var};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    Config,
    learner::{Learner, Learnt, add, leaf, slope},
    objective::gradient_penalty,
    optim::Step,
};
use crate::{
    error::Result,
    net::{
        engine::{
            eager::{Gradients, Norms, Pass, Wanted},
            onednn::Packs,
            ops::{self, Cat, Slice},
        },
        params::Params,
        patchgan::{self, Norm},
        spectral::Spectral,
    },
};

/// The discriminator and how it learns.
pub struct Critic {
    settings: super::config::Critic,
    /// The network.
    pub learner: Learner,
    /// Keeps its layers' gains at 1, where it is so normalised.
    spectral: Option<Spectral>,
}

/// The discriminator's numbers as they are used: at one moment of a step.
pub struct Judge<'a> {
    critic: &'a Critic,
    params: Option<Params>,
    packs: Arc<Packs>,
}

impl Critic {
    /// A fresh one.
    pub fn new(config: &Config, device: &Device) -> Result<Self> {
        let settings = config.critic.clone();
        let graph = patchgan::graph(&settings.network);
        let seed = config.seed.wrapping_add(1);
        let spectral = match settings.network.norm {
            Norm::Spectral => Some(Spectral::new(&graph, seed, device)?),
            _ => None,
        };
        let betas = settings.betas.unwrap_or(config.betas);
        Ok(Self {
            learner: Learner::new(graph, seed, betas, config, device)?,
            settings,
            spectral,
        })
    }

    /// Brings the spectral norms up to date with the weights: one power iteration.
    pub fn iterate(&mut self) -> Result<()> {
        match &mut self.spectral {
            Some(spectral) => spectral.iterate(&self.learner.params),
            None => Ok(()),
        }
    }

    /// The discriminator as it is now, for passes that share what can be shared.
    pub fn judge(&self) -> Result<Judge<'_>> {
        let normalised = |spectral: &Spectral| spectral.normalised(&self.learner.params);
        Ok(Judge {
            critic: self,
            params: self.spectral.as_ref().map(normalised).transpose()?,
            packs: Arc::default(),
        })
    }

    /// Moves the parameters; not while the loss is below the gate.
    pub fn step(&mut self, loss: f32, mut gradients: Gradients, rate: f64) -> Result<()> {
        if f64::from(loss) < self.settings.gate {
            return Ok(());
        }
        if let Some(spectral) = &self.spectral {
            spectral.pull_back(&self.learner.params, &mut gradients)?;
        }
        let plain = Step {
            clip: 0.,
            decay: 0.,
        };
        let rate = rate * self.settings.rate;
        self.learner.optimiser.step(&gradients, plain, |_| rate)?;
        Ok(())
    }

    /// The vectors of the spectral norms, for a checkpoint.
    pub fn spectral_state(&self) -> BTreeMap<String, Tensor> {
        self.spectral
            .as_ref()
            .map(Spectral::state)
            .unwrap_or_default()
    }

    /// Takes up [`Critic::spectral_state`]. `None` where a tensor is missing.
    pub fn restore_spectral(&mut self, state: &BTreeMap<String, Tensor>) -> Option<()> {
        match &mut self.spectral {
            Some(spectral) => spectral.restore(state),
            None => Some(()),
        }
    }
}

impl Judge<'_> {
    /// What the discriminator is shown: lightness and chroma, or chroma alone.
    fn shown(&self, l: &Tensor, ab: &Tensor) -> Result<Tensor> {
        match self.critic.settings.network.conditional {
            true => Ok(ops::evaluate(&Cat, &[l, ab])?),
            false => Ok(ab.clone()),
        }
    }

    fn pass(&self, shown: &Tensor, noise: &mut ChaCha8Rng) -> Result<Pass> {
        let learner = &self.critic.learner;
        let params = self.params.as_ref().unwrap_or(&learner.params);
        let eager = learner.eager(params);
        Ok(eager.learn_sharing(shown, noise, &self.packs, Norms::Batch)?)
    }

    /// Loss and gradients of the discriminator itself, on chroma `[N, h, w, 2]` that is true and that is made up.
    pub fn lesson(
        &self,
        l: &Tensor,
        truth: &Tensor,
        made: &Tensor,
        noise: &mut ChaCha8Rng,
    ) -> Result<Learnt> {
        let (real, fake) = (self.shown(l, truth)?, self.shown(l, made)?);
        let (on_real, on_fake) = (self.pass(&real, noise)?, self.pass(&fake, noise)?);
        let (r, f) = (leaf(on_real.output())?, leaf(on_fake.output())?);
        let game = self.critic.settings.loss.game();
        let loss = (game.discriminator)(r.as_tensor(), f.as_tensor())?;
        let slopes = loss.backward()?;
        let mut gradients = on_real.backward(&slope(&slopes, &r)?, Wanted::Parameters)?;
        add(
            &mut gradients,
            on_fake.backward(&slope(&slopes, &f)?, Wanted::Parameters)?,
        )?;
        let mut losses = vec![("d", loss.to_scalar()?)];
        if self.critic.settings.loss.game().penalised {
            let (loss, penalty) = self.penalty(l, (truth, made), noise)?;
            losses.push(("penalty", loss));
            add(&mut gradients, penalty)?;
        }
        Ok((losses, gradients))
    }

    /// The gradient penalty of WGAN-GP, and its gradients.
    fn penalty(
        &self,
        l: &Tensor,
        pair: (&Tensor, &Tensor),
        noise: &mut ChaCha8Rng,
    ) -> Result<(f32, Gradients)> {
        let learner = &self.critic.learner;
        let params = self.params.as_ref().unwrap_or(&learner.params);
        let count = l.dim(0)?;
        let eps: Vec<f32> = (0..count).map(|_| noise.random()).collect();
        let eps = Tensor::from_vec(eps, (count, 1, 1, 1), l.device())?;
        let l = Some(l).filter(|_| self.critic.settings.network.conditional);
        let penalty = gradient_penalty(&learner.eager(params), l, pair, &eps)?;
        let slopes = penalty.backward()?;
        let of = |(name, var): (&String, &Var)| Ok((name.clone(), slope(&slopes, var)?));
        let gradients: Result<_> = params.trained().iter().map(of).collect();
        Ok((penalty.to_scalar()?, gradients?))
    }

    /// How wrong made-up chroma feels, and the gradient of that with respect to it.
    pub fn verdict(
        &self,
        l: &Tensor,
        ab: &Tensor,
        noise: &mut ChaCha8Rng,
    ) -> Result<(f32, Tensor)> {
        let pass = self.pass(&self.shown(l, ab)?, noise)?;
        let logits = leaf(pass.output())?;
        let loss = (self.critic.settings.loss.game().generator)(logits.as_tensor())?;
        let slopes = loss.backward()?;
        let first = usize::from(self.critic.settings.network.conditional);
        let slice = Slice { first, count: 2 };
        let mut of_input = pass
            .backward(&slope(&slopes, &logits)?, Wanted::Input)?
            .into_values();
        let of_ab = match of_input.next() {
            Some(gradient) => ops::evaluate(&slice, &[&gradient])?,
            None => ab.zeros_like()?,
        };
        Ok((loss.to_scalar()?, of_ab))
    }
}
