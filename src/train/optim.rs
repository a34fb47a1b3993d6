//! AdamW (Loshchilov & Hutter 2019; Adam of Kingma & Ba 2014 with decoupled weight decay), with its state in the open
//! so that a run can be resumed exactly.

use std::collections::BTreeMap;

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result as Candle, Tensor, Var};
use rayon::prelude::*;

use crate::net::engine::eager::Gradients;

/// A running mean of gradients, or of their squares, moved towards a new one, which is `scale` times as long as given.
struct Decay {
    beta: f64,
    scale: f64,
    squared: bool,
}

/// The contiguous values of a storage, to be changed.
fn values_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Candle<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((from, to))) => Ok(&mut values[from..to]),
        _ => candle_core::bail!("the optimiser needs contiguous f32 values"),
    }
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Candle<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((from, to))) => Ok(&values[from..to]),
        _ => candle_core::bail!("the optimiser needs contiguous f32 values"),
    }
}

impl InplaceOp2 for Decay {
    fn name(&self) -> &'static str {
        "decay"
    }

    fn cpu_fwd(
        &self,
        mean: &mut CpuStorage,
        mean_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> Candle<()> {
        let scale = match self.squared {
            false => self.scale,
            true => self.scale * self.scale,
        };
        let (old, new) = (self.beta as f32, ((1. - self.beta) * scale) as f32);
        let mean = values_mut(mean, mean_layout)?.iter_mut();
        let pairs = mean.zip(values(g, g_layout)?);
        match self.squared {
            false => pairs.for_each(|(m, g)| *m = old * *m + new * g),
            true => pairs.for_each(|(v, g)| *v = old * *v + new * g * g),
        }
        Ok(())
    }
}

/// A parameter times `shrink`, moved by `rate * m / (sqrt(v * unbias) + eps)`.
struct Move {
    rate: f64,
    unbias: f64,
    shrink: f64,
}

impl InplaceOp3 for Move {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(
        &self,
        p: &mut CpuStorage,
        p_layout: &Layout,
        m: &CpuStorage,
        m_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Candle<()> {
        let (rate, unbias, eps) = (self.rate as f32, self.unbias as f32, Adam::EPS as f32);
        let shrink = self.shrink as f32;
        let moments = values(m, m_layout)?.iter().zip(values(v, v_layout)?);
        for (p, (m, v)) in values_mut(p, p_layout)?.iter_mut().zip(moments) {
            *p = shrink * *p - rate * m / ((v * unbias).sqrt() + eps);
        }
        Ok(())
    }
}

/// `mean` moved towards `value`: `beta * mean + (1 - beta) * value`; on the CPU in place, for nobody else to hold.
///
/// # Errors
/// Shapes that do not fit.
pub fn decayed(mean: &Tensor, value: &Tensor, beta: f64) -> Candle<Tensor> {
    let scale = 1.;
    moved_mean(
        mean,
        value,
        &Decay {
            beta,
            scale,
            squared: false,
        },
    )
}

fn moved_mean(mean: &Tensor, value: &Tensor, decay: &Decay) -> Candle<Tensor> {
    if mean.device().is_cpu() {
        mean.inplace_op2(&value.contiguous()?, decay)?;
        return Ok(mean.clone());
    }
    let value = value.affine(decay.scale, 0.)?;
    let value = if decay.squared { value.sqr()? } else { value };
    mean.affine(decay.beta, 0.)? + value.affine(1. - decay.beta, 0.)?
}

fn moved(var: &Var, m: &Tensor, v: &Tensor, by: &Move) -> Candle<()> {
    if var.device().is_cpu() {
        return var.inplace_op3(m, v, by);
    }
    let spread = v.affine(by.unbias, 0.)?.sqrt()?.affine(1., Adam::EPS)?;
    let rest = var.as_detached_tensor().affine(by.shrink, 0.)?;
    var.set(&(rest - (m.affine(by.rate, 0.)? / spread)?)?)
}

/// Length of all gradients together, summed in the order of their names.
///
/// # Errors
/// Out of memory.
pub fn norm(gradients: &Gradients) -> Candle<f64> {
    let all: Vec<&Tensor> = gradients.values().collect();
    let square = |g: &&Tensor| g.sqr()?.sum_all()?.to_scalar::<f32>();
    let squares: Vec<f32> = all.par_iter().map(square).collect::<Candle<_>>()?;
    Ok(squares.into_iter().map(f64::from).sum::<f64>().sqrt())
}

/// What one step of an optimiser is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Largest length of all gradients together; longer ones are shortened to it. 0 leaves them.
    pub clip: f64,
    /// Share, times the rate, by which weights of convolutions shrink.
    pub decay: f64,
}

/// The optimiser of one network.
pub struct Adam {
    vars: BTreeMap<String, Var>,
    /// First and second moment of each parameter's gradient.
    moments: BTreeMap<String, (Tensor, Tensor)>,
    betas: (f64, f64),
    steps: u64,
}

impl Adam {
    const EPS: f64 = 1e-8;

    /// An optimiser of `vars` that has not stepped yet.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(vars: BTreeMap<String, Var>, betas: (f64, f64)) -> Candle<Self> {
        let zeros = |(name, var): (&String, &Var)| {
            Ok((name.clone(), (var.zeros_like()?, var.zeros_like()?)))
        };
        let moments = vars.iter().map(zeros).collect::<Candle<_>>()?;
        Ok(Self {
            vars,
            moments,
            betas,
            steps: 0,
        })
    }

    /// One step; gives the length of the gradients. `rate` gives the learning rate of a parameter by name: one with
    /// rate 0 stays as it is, but its moments move. A parameter without a gradient stays.
    ///
    /// # Errors
    /// A gradient of another shape.
    pub fn step(
        &mut self,
        gradients: &Gradients,
        step: Step,
        rate: impl Fn(&str) -> f64 + Sync,
    ) -> Candle<f64> {
        self.steps += 1;
        let unbias = |beta: f64| 1. / (1. - beta.powf(self.steps as f64));
        let (b1, b2) = self.betas;
        let unbias = (unbias(b1), unbias(b2));
        let length = norm(gradients)?;
        let scale = match step.clip > 0. && length > step.clip {
            true => step.clip / length,
            false => 1.,
        };
        let vars = &self.vars;
        let moments: Vec<_> = self.moments.iter_mut().collect();
        moments.into_par_iter().try_for_each(|(name, (m, v))| {
            let (Some(var), Some(g)) = (vars.get(name), gradients.get(name)) else {
                return Ok(());
            };
            let towards = |beta, squared| Decay {
                beta,
                scale,
                squared,
            };
            *m = moved_mean(m, g, &towards(b1, false))?;
            *v = moved_mean(v, g, &towards(b2, true))?;
            let rate = rate(name);
            // Norms and biases have one side.
            let decay = if var.rank() > 1 { step.decay } else { 0. };
            let by = Move {
                rate: rate * unbias.0,
                unbias: unbias.1,
                shrink: 1. - rate * decay,
            };
            moved(var, m, v, &by)
        })?;
        Ok(length)
    }

    /// The state, for a checkpoint: tensors named `PARAMETER.m` and `PARAMETER.v`, and the number of steps.
    pub fn state(&self) -> (BTreeMap<String, Tensor>, u64) {
        let pair = |(name, (m, v)): (&String, &(Tensor, Tensor))| {
            [
                (format!("{name}.m"), m.clone()),
                (format!("{name}.v"), v.clone()),
            ]
        };
        (self.moments.iter().flat_map(pair).collect(), self.steps)
    }

    /// Takes up a state saved by [`Adam::state`]. `None` where a tensor is missing.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>, steps: u64) -> Option<()> {
        for (name, (m, v)) in &mut self.moments {
            *m = state.get(&format!("{name}.m"))?.clone();
            *v = state.get(&format!("{name}.v"))?.clone();
        }
        self.steps = steps;
        Some(())
    }
}
