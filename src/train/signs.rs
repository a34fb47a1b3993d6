//! Signs that a training fails: a discriminator that has won or lost, swings between the two networks, one colour for
//! everything, chroma that dies or explodes, numbers that are none.
//!
//! Numbers go in, words come out. A sign is judged on means over blocks of steps, so that the noise of single batches
//! is none; it is told once, when it begins, and again only after it was gone.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
};

use serde::{Deserialize, Serialize};

use super::journal::Losses;

/// What the user is told of a sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The run may go on; what to change if it does not recover.
    Warn(String),
    /// Going on is of no use; what to change.
    Stop(String),
}

/// What the signs must know of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// The discriminator's loss when it cannot tell results from the truth; `None` where its loss has no floor at 0
    /// (Wasserstein).
    pub chance: Option<f32>,
    /// The setting `rate`.
    pub rate: f64,
    /// The weight of the adversarial objective.
    pub gan: f64,
}

/// Watches a run.
pub struct Signs {
    known: Known,
    state: State,
}

/// What was seen so far; part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Steps of the block under way.
    steps: u32,
    /// Sums and numbers of terms of the block under way.
    sums: BTreeMap<String, (f64, u32)>,
    /// Means of the last blocks.
    blocks: BTreeMap<String, VecDeque<f32>>,
    told: BTreeSet<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Won,
    Lost,
    Swings,
    Collapse,
    Pale,
    Grey,
    Vivid,
    Exploded,
}

const KINDS: [Kind; 8] = [
    Kind::Won,
    Kind::Lost,
    Kind::Swings,
    Kind::Collapse,
    Kind::Pale,
    Kind::Grey,
    Kind::Vivid,
    Kind::Exploded,
];

/// Steps of a block.
const BLOCK: u32 = 20;
/// Blocks after which a state of things is no accident.
const LONG: usize = 10;
/// Blocks that are remembered; what is natural at the beginning of a run is no sign before there are so many.
const HISTORY: usize = 50;

const D: &str = "d";
const GAN: &str = "gan";
const CHROMA: &str = "chroma";
const SPREAD: &str = "spread";

impl Signs {
    /// Signs of a run at its beginning.
    pub fn new(known: Known) -> Self {
        Self {
            known,
            state: State::default(),
        }
    }

    /// What was seen so far.
    pub fn state(&self) -> State {
        self.state.clone()
    }

    /// Goes on from what a checkpoint had seen.
    pub fn restore(&mut self, state: State) {
        self.state = state;
    }

    /// Looks at a finished step: its losses, among them `d`, the discriminator's, and `gan`, the generator's part of
    /// it, where there are these; the mean |ab| of the batch's results over the truth's; and the standard deviation
    /// over the batch of its results' chroma over the truth's.
    pub fn step(&mut self, step: u64, losses: &Losses, chroma: f32, spread: f32) -> Vec<Sign> {
        if let Some((name, _)) = losses.iter().find(|(_, loss)| !loss.is_finite()) {
            return vec![self.not_finite(step, name)];
        }
        let watched = losses.iter().filter(|(name, _)| [D, GAN].contains(name));
        for (name, value) in watched.chain(&[(CHROMA, chroma), (SPREAD, spread)]) {
            // A batch of grey truths has no ratio.
            if value.is_finite() {
                let (sum, count) = self.state.sums.entry((*name).to_owned()).or_default();
                *sum += f64::from(*value);
                *count += 1;
            }
        }
        self.state.steps += 1;
        match self.state.steps {
            BLOCK => self.end_block(step),
            _ => Vec::new(),
        }
    }

    fn end_block(&mut self, step: u64) -> Vec<Sign> {
        let State { sums, blocks, .. } = &mut self.state;
        // What was not seen in a whole block is of another phase.
        blocks.retain(|name, _| sums.contains_key(name));
        for (name, (sum, count)) in mem::take(sums) {
            let history = blocks.entry(name).or_default();
            history.push_back((sum / f64::from(count)) as f32);
            if history.len() > HISTORY {
                history.pop_front();
            }
        }
        self.state.steps = 0;
        let mut signs = Vec::new();
        for kind in KINDS {
            match self.shows(kind) {
                Some(true) if self.state.told.insert(kind) => signs.push(self.words(kind, step)),
                Some(false) => _ = self.state.told.remove(&kind),
                _ => {}
            }
        }
        signs
    }

    /// Whether the sign is there; `None` between the two.
    fn shows(&self, kind: Kind) -> Option<bool> {
        let ratio = |name| self.blocks(name, HISTORY).and(self.blocks(name, LONG));
        let d = |blocks| Some((self.blocks(D, blocks)?, self.known.chance?));
        match kind {
            Kind::Won => d(LONG).and_then(|(d, chance)| all(&d, |v| v < 0.05 * chance)),
            Kind::Lost => d(HISTORY).and_then(|(d, chance)| all(&d, |v| v > 0.98 * chance)),
            Kind::Swings => match [D, GAN].map(|name| swings(&self.blocks(name, HISTORY)?)) {
                [Some(true), _] | [_, Some(true)] => Some(true),
                [Some(false), Some(false)] => Some(false),
                _ => None,
            },
            Kind::Collapse => match all(&ratio(CHROMA)?, |v| v > 0.15)? {
                true => all(&ratio(SPREAD)?, |v| v < 0.1),
                false => Some(false),
            },
            Kind::Pale => all(&ratio(CHROMA)?, |v| v < 0.15),
            Kind::Grey => all(&self.blocks(CHROMA, HISTORY)?, |v| v < 0.02),
            Kind::Vivid => all(&self.blocks(CHROMA, LONG)?, |v| v > 2.5),
            Kind::Exploded => all(&self.blocks(CHROMA, LONG)?, |v| v > 5.),
        }
    }

    /// The last `count` blocks, where there are so many.
    fn blocks(&self, name: &str, count: usize) -> Option<Vec<f32>> {
        let blocks = self.state.blocks.get(name)?;
        let first = blocks.len().checked_sub(count)?;
        Some(blocks.range(first..).copied().collect())
    }

    fn not_finite(&self, step: u64, name: &str) -> Sign {
        Sign::Stop(format!(
            "the {name} loss is not finite at step {step}: train again from the last good checkpoint's model with {}",
            self.slower()
        ))
    }

    fn words(&self, kind: Kind, step: u64) -> Sign {
        let (slower, softer) = (self.slower(), self.weaker());
        let since = format!("step {step}: for {} steps", LONG as u32 * BLOCK);
        let whole = format!("step {step}: for {} steps", HISTORY as u32 * BLOCK);
        match kind {
            Kind::Won => Sign::Warn(format!(
                "{since} the discriminator has hardly been wrong, the generator learns little from it: {softer}, or let the generator learn alone for longer (a later \"from\" of objectives.gan), or hold it back (critic.gate)"
            )),
            Kind::Lost => Sign::Warn(format!(
                "{whole} the discriminator has not told results from the truth, it teaches nothing: let it see more (critic.network.receptive) or learn faster (critic.rate), or leave it out (objectives without gan) if the results are good"
            )),
            Kind::Swings => Sign::Warn(format!(
                "step {step}: generator and discriminator chase each other, their losses swing: {slower}, or {softer}"
            )),
            Kind::Collapse => Sign::Warn(format!(
                "{since} all pictures of a batch have had about the same colour (mode collapse): {softer}, or raise the weights of the other objectives"
            )),
            Kind::Pale => Sign::Warn(format!(
                "{since} the results have had less than 15 % of the truth's chroma, the colours are dying: give objectives.colourfulness a weight, raise that of gan, or take {slower}"
            )),
            Kind::Grey => Sign::Stop(format!(
                "{whole} the results have been grey: train again with {slower}, other weights in objectives, or from a model that knows colours"
            )),
            Kind::Vivid => Sign::Warn(format!(
                "{since} the results have had more than 2.5 times the truth's chroma: {slower}, or {softer}"
            )),
            Kind::Exploded => Sign::Stop(format!(
                "{since} the results have had more than 5 times the truth's chroma, the training has diverged: train again from the last good checkpoint's model with {slower}"
            )),
        }
    }

    fn slower(&self) -> String {
        let rate = self.known.rate;
        format!("a lower rate (--set rate={:e}, now {rate:e})", rate / 2.)
    }

    fn weaker(&self) -> String {
        match self.known.gan {
            0. => "smaller weights in objectives".into(),
            gan => format!("--set objectives.gan={}, now {gan}", gan / 2.),
        }
    }
}

/// True where all values pass, false where none does.
fn all(values: &[f32], passes: impl Fn(f32) -> bool) -> Option<bool> {
    match values.iter().filter(|v| passes(**v)).count() {
        0 => Some(false),
        n => (n == values.len()).then_some(true),
    }
}

/// Whether a loss goes up and down by a large part of its size, again and again.
fn swings(values: &[f32]) -> Option<bool> {
    const PART: f32 = 0.4;
    let count = values.len() as f32;
    let mean = values.iter().sum::<f32>() / count;
    let size = values.iter().map(|v| v.abs()).sum::<f32>() / count;
    let (mut turns, mut high) = (0, None);
    for value in values {
        let now = match value - mean {
            d if d > PART * size => Some(true),
            d if d < -PART * size => Some(false),
            _ => high,
        };
        turns += i32::from(high.is_some() && now != high);
        high = now;
    }
    match turns {
        0..3 => Some(false),
        3..6 => None,
        _ => Some(true),
    }
}

#[cfg(test)]
mod tests;
