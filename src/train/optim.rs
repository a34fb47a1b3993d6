//! Adam (Kingma & Ba 2014), with its state in the open so that a run can be resumed exactly.

use std::collections::BTreeMap;

use candle_core::{Result as Candle, Tensor, Var};

use crate::net::engine::eager::Gradients;

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

    /// One step. `rate` gives the learning rate of a parameter by name. A parameter without a gradient stays.
    ///
    /// # Errors
    /// A gradient of another shape.
    pub fn step(&mut self, gradients: &Gradients, rate: impl Fn(&str) -> f64) -> Candle<()> {
        self.steps += 1;
        let (b1, b2) = self.betas;
        let unbias = |beta: f64| 1. / (1. - beta.powf(self.steps as f64));
        for (name, g) in gradients {
            let (Some(var), Some((m, v))) = (self.vars.get(name), self.moments.get_mut(name))
            else {
                continue;
            };
            *m = (m.affine(b1, 0.)? + g.affine(1. - b1, 0.)?)?;
            *v = (v.affine(b2, 0.)? + g.sqr()?.affine(1. - b2, 0.)?)?;
            let spread = v.affine(unbias(b2), 0.)?.sqrt()?.affine(1., Self::EPS)?;
            let update = (m.affine(rate(name) * unbias(b1), 0.)? / spread)?;
            var.set(&(var.as_tensor() - update)?)?;
        }
        Ok(())
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
