//! Every setting of a run, its default, and what goes together.
//!
//! A recipe is a file of settings under models/recipes; what it leaves out has the default here.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    data::{Augment, Phase},
    objective::{Adversary, OBJECTIVES},
    store::Keep,
};
use crate::{
    error::{Error, Result, io_sentence},
    net::{params::Draw, patchgan::PatchGanConfig},
};

/// Every setting of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Kind of generator: a name of [`crate::net::ARCHS`].
    pub arch: String,
    /// Its settings; what is left out has its default.
    pub network: Value,
    /// How fresh parameters are drawn.
    pub draw: Draw,
    /// Replacements, one after the other, that turn the names of the weights to start from into ours.
    pub rename: Vec<(String, String)>,

    /// Side of the square crops, and short side of the thumbnails at run time.
    pub size: usize,
    /// Photographs a step.
    pub batch: usize,
    /// Smaller crops (and larger batches) to begin with.
    pub grow: Vec<Grow>,
    /// Parts of a batch that are worked on side by side. Their gradients are summed in order, so a run depends on
    /// this number, not on that of the threads.
    pub shards: usize,
    /// Rounds in which a batch is worked through, to save memory: every shard has so many parts, one after the other.
    pub accumulate: usize,
    /// Steps in all.
    pub steps: u64,
    /// Passes over the photographs to train for, instead of `steps`; becomes `steps` when the run begins.
    pub epochs: Option<f64>,
    /// Minutes to train for, instead of `steps`: becomes `steps` once, by the speed measured when the run begins.
    pub minutes: Option<f64>,
    /// Seed of every choice but the split: the parameters, the order, the crops, dropout.
    pub seed: u64,

    /// Learning rate.
    pub rate: f64,
    /// Factor on the rate for parameters that were given rather than drawn.
    pub given_rate: f64,
    /// Steps in which given parameters stay as they are.
    pub frozen: u64,
    /// Adam's decay of the first and second moment.
    pub betas: (f64, f64),
    /// Decoupled weight decay of AdamW (Loshchilov & Hutter 2019) on everything but biases and norms, a step, times
    /// the rate.
    pub decay: f64,
    /// Largest norm of all gradients together; longer ones are shortened to it. 0 leaves them.
    pub clip: f64,
    /// Steps over which the rate rises from 0.
    pub warmup: u64,
    /// How the rate falls to 0.
    pub schedule: Schedule,
    /// Share of the steps at the full rate before it falls.
    pub constant: f64,

    /// The objectives by their names in [`OBJECTIVES`], each with its weight; what is not named is off.
    pub objectives: BTreeMap<String, Term>,
    /// File of the ImageNet SqueezeNet v1.0 weights, for the objectives that compare features.
    pub features: Option<PathBuf>,
    /// The discriminator, where the objective `gan` has a weight.
    pub critic: Critic,

    /// Decay of the running mean of the parameters, which is the model that is kept. 0 keeps the last ones.
    pub ema: f64,
    /// Share of the steps, the last ones, in which batch norms use their running statistics, so that the network
    /// settles on what it will be in use.
    pub settle: f64,

    /// Share of the photographs held out for validation, and again for test.
    pub held_out: f64,
    /// Seed of the choice of those. It is not [`Self::seed`], so that runs of several seeds can be compared on
    /// photographs that none has learnt from, and a model that is trained on never meets what it was judged by.
    pub split: u64,
    /// How pictures are varied.
    pub augment: Augment,
    /// Steps between two looks at the validation photographs, each with a sheet and a checkpoint.
    pub check_every: u64,
    /// Photographs in such a look.
    pub check_photos: usize,
    /// Steps between two checkpoints; 0 makes one at every look.
    pub checkpoint_every: u64,
    /// Which checkpoints stay.
    pub keep: Keep,
    /// Memory for decoded photographs in MiB: those that find room are read once, the others at every visit. The
    /// result does not depend on it.
    pub cache_mb: usize,
    /// Whether convolutions multiply bf16 numbers; parameters, sums and everything else stay f32. Faster where the
    /// CPU or GPU has them.
    pub bf16: bool,
}

/// Crops of another size for the first part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grow {
    /// Side of the crops.
    pub size: usize,
    /// Photographs a step.
    pub batch: usize,
    /// Share of the steps at which this part ends.
    pub until: f64,
}

/// How the rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// In a straight line.
    Linear,
    /// By half a cosine wave (Loshchilov & Hutter 2017).
    Cosine,
}

/// An objective's weight, and when it counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Term {
    /// Factor on the objective; 0 is off.
    pub weight: f64,
    /// Share of the steps at which it begins to count.
    pub from: f64,
}

/// A [`Term`] as it is written: a number where it counts from the beginning.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Weight(f64),
    Term(WrittenTerm),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTerm {
    weight: f64,
    from: f64,
}

impl From<Written> for Term {
    fn from(written: Written) -> Self {
        match written {
            Written::Weight(weight) => Self { weight, from: 0. },
            Written::Term(WrittenTerm { weight, from }) => Self { weight, from },
        }
    }
}

impl From<Term> for Written {
    fn from(Term { weight, from }: Term) -> Self {
        match from {
            0. => Self::Weight(weight),
            _ => Self::Term(WrittenTerm { weight, from }),
        }
    }
}

impl From<f64> for Term {
    fn from(weight: f64) -> Self {
        Self { weight, from: 0. }
    }
}

/// The discriminator and how it learns. It begins where the objective `gan` does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Critic {
    /// What it and the generator play for.
    pub loss: Adversary,
    /// Its shape.
    pub network: PatchGanConfig,
    /// Factor on the rate.
    pub rate: f64,
    /// Adam's betas; the generator's where not given.
    pub betas: Option<(f64, f64)>,
    /// Steps of the discriminator for each of the generator.
    pub steps: u64,
    /// Share of the steps, after those of the generator alone, in which the discriminator learns alone (NoGAN).
    pub alone: f64,
    /// While its loss is below this, the discriminator does not learn, so that it does not run away.
    pub gate: f64,
}

impl Default for Critic {
    fn default() -> Self {
        Self {
            loss: Adversary::NonSaturating,
            network: PatchGanConfig::default(),
            rate: 1.,
            betas: None,
            steps: 1,
            alone: 0.,
            gate: 0.,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            arch: "lite".into(),
            network: json!({}),
            draw: Draw::default(),
            rename: Vec::new(),
            size: 128,
            batch: 16,
            grow: Vec::new(),
            shards: 2,
            accumulate: 1,
            steps: 20_000,
            epochs: None,
            minutes: None,
            seed: 1,
            rate: 1e-3,
            given_rate: 0.2,
            frozen: 0,
            betas: (0.9, 0.999),
            decay: 1e-2,
            clip: 5.,
            warmup: 200,
            schedule: Schedule::Cosine,
            constant: 0.,
            objectives: BTreeMap::from([
                ("cross-entropy".into(), 1.0.into()),
                ("huber".into(), 0.3.into()),
            ]),
            features: None,
            critic: Critic::default(),
            ema: 0.999,
            settle: 0.1,
            held_out: 0.03,
            split: 1,
            augment: Augment::default(),
            check_every: 1000,
            check_photos: 120,
            checkpoint_every: 0,
            keep: Keep::default(),
            cache_mb: 4096,
            bf16: false,
        }
    }
}

/// Recipes that are part of the program: name and settings.
const RECIPES: &[(&str, &str)] = &[
    ("default", include_str!("../../models/recipes/default.json")),
    ("fast", include_str!("../../models/recipes/fast.json")),
    (
        "finetune",
        include_str!("../../models/recipes/finetune.json"),
    ),
    ("nogan", include_str!("../../models/recipes/nogan.json")),
    ("pix2pix", include_str!("../../models/recipes/pix2pix.json")),
];

/// The names of the recipes that are part of the program.
pub fn recipes() -> impl Iterator<Item = &'static str> {
    RECIPES.iter().map(|(name, _)| *name)
}

/// The settings of the recipe `name`: one of [`recipes`], or a JSON file.
///
/// # Errors
/// [`Error::Usage`] where there is no such recipe; [`Error::Input`] where the file is no JSON object.
pub fn recipe(name: &str) -> Result<Map<String, Value>> {
    let file = |e: &dyn std::fmt::Display| Error::input(name, format!("this is no recipe: {e}"));
    let text = match RECIPES.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => (*text).to_owned(),
        None if name.ends_with(".json") => {
            std::fs::read_to_string(name).map_err(|e| file(&io_sentence(&e)))?
        }
        None => {
            let known: Vec<_> = recipes().collect();
            return Err(Error::Usage(format!(
                "no recipe is called {name}; there are {}, or write the name of a .json file",
                known.join(", ")
            )));
        }
    };
    serde_json::from_str(&text).map_err(|e| file(&e))
}

/// Whether `value` is within `range`, or else a sentence that names the setting.
fn within(
    name: &str,
    value: f64,
    range: impl std::ops::RangeBounds<f64> + std::fmt::Debug,
) -> Result<()> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(Error::Usage(format!(
            "{name} {value} is not within {range:?}"
        ))),
    }
}

impl Config {
    /// # Errors
    /// [`Error::Usage`] naming the setting, its allowed range, and what to change.
    pub fn validate(&self) -> Result<()> {
        self.validate_objectives()?;
        self.validate_critic()?;
        self.augment.validate()?;
        within("held_out", self.held_out, 0.0..0.5)?;
        within("ema", self.ema, 0.0..1.0)?;
        within("constant", self.constant, 0.0..=1.0)?;
        within("settle", self.settle, 0.0..=1.0)?;
        within("rate", self.rate, 0.0..=1.0)?;
        within("given_rate", self.given_rate, 0.0..)?;
        within("decay", self.decay, 0.0..1.0)?;
        within("clip", self.clip, 0.0..)?;
        within("betas", self.betas.0, 0.0..1.0)?;
        within("betas", self.betas.1, 0.0..1.0)?;
        within(
            "cache_mb",
            self.cache_mb as f64,
            0.0..=(usize::MAX >> 20) as f64,
        )?;
        if self.steps == 0 || self.check_every == 0 {
            return Err(Error::Usage(
                "steps and check_every must be at least 1".into(),
            ));
        }
        if self.epochs.is_some() && self.minutes.is_some() {
            return Err(Error::Usage("give epochs or minutes, not both".into()));
        }
        within("epochs", self.epochs.unwrap_or(1.), 0.01..=1e6)?;
        within("minutes", self.minutes.unwrap_or(1.), 0.1..=1e6)?;
        self.validate_phases()
    }

    fn validate_objectives(&self) -> Result<()> {
        for (name, term) in &self.objectives {
            if !OBJECTIVES.iter().any(|o| o.name == name) {
                let names: Vec<_> = OBJECTIVES.iter().map(|o| o.name).collect();
                return Err(Error::Usage(format!(
                    "no objective is called {name}; there are: {}",
                    names.join(", ")
                )));
            }
            within(&format!("the weight of {name}"), term.weight, 0.0..)?;
            within(&format!("the beginning of {name}"), term.from, 0.0..1.0)?;
        }
        match self.objectives.values().any(|term| term.weight > 0.) {
            true => Ok(()),
            false => Err(Error::Usage(
                "every objective is off: give one a weight, such as --set objectives.huber=1"
                    .into(),
            )),
        }
    }

    fn validate_critic(&self) -> Result<()> {
        let Critic { network, loss, .. } = &self.critic;
        network.validate()?;
        self.draw.validate()?;
        if self.weight("gan") > 0. && loss.game().penalised && network.norm.is_step() {
            return Err(Error::Usage(format!(
                "wgan-gp penalises the gradient at each picture alone, which a {:?} norm in the discriminator mixes with others: --set critic.network.norm=none (or spectral), or another --set critic.loss",
                network.norm
            )));
        }
        within("critic.rate", self.critic.rate, 0.0..)?;
        within("critic.alone", self.critic.alone, 0.0..1.0)?;
        within("critic.gate", self.critic.gate, 0.0..)?;
        match self.critic.steps {
            0 => Err(Error::Usage("critic.steps must be at least 1".into())),
            _ => Ok(()),
        }
    }

    fn validate_phases(&self) -> Result<()> {
        let parts = self.shards * self.accumulate;
        let ends = self.grow.iter().map(|grow| grow.until);
        if !ends.is_sorted() || self.grow.iter().any(|g| !(0.0..1.0).contains(&g.until)) {
            return Err(Error::Usage(
                "grow: every part ends (until) after the one before and before 1".into(),
            ));
        }
        for (size, batch) in self.sizes() {
            if parts == 0 || batch == 0 || size == 0 || !batch.is_multiple_of(parts) {
                return Err(Error::Usage(format!(
                    "batch {batch} at size {size} must be a multiple of shards {} times accumulate {}",
                    self.shards, self.accumulate
                )));
            }
        }
        Ok(())
    }

    /// Every crop size of the run with its batch, in order.
    pub fn sizes(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let grow = self.grow.iter().map(|grow| (grow.size, grow.batch));
        grow.chain([(self.size, self.batch)])
    }

    /// The step that begins after this share of all steps.
    fn at(&self, share: f64) -> u64 {
        (share * self.steps as f64).round() as u64
    }

    /// Sizes and batches by the step at which they begin.
    pub fn phases(&self) -> Vec<Phase> {
        let ends = self.grow.iter().map(|grow| self.at(grow.until));
        let begins = std::iter::once(0).chain(ends);
        let phase = |(from, (size, batch))| Phase { from, size, batch };
        let mut phases: Vec<_> = begins.zip(self.sizes()).map(phase).collect();
        // In a short run a part may have no step of its own.
        phases.reverse();
        phases.dedup_by_key(|phase| phase.from);
        phases.reverse();
        phases
    }

    /// Learning rate at a step (from 0), before the factors of given parameters and of the discriminator.
    pub fn rate_at(&self, step: u64) -> f64 {
        let rise = ((step + 1) as f64 / self.warmup.max(1) as f64).min(1.);
        let done = step as f64 / self.steps as f64;
        let fallen = ((done - self.constant) / (1. - self.constant).max(1e-9)).clamp(0., 1.);
        let fall = match self.schedule {
            Schedule::Linear => 1. - fallen,
            Schedule::Cosine => 0.5 * (1. + (std::f64::consts::PI * fallen).cos()),
        };
        self.rate * rise * fall
    }

    /// The weight of an objective once it counts.
    pub fn weight(&self, name: &str) -> f64 {
        self.objectives.get(name).map_or(0., |term| term.weight)
    }

    /// The weight of an objective at a step (from 0).
    pub fn weight_at(&self, name: &str, step: u64) -> f64 {
        match self.objectives.get(name) {
            Some(term) if step >= self.at(term.from) => term.weight,
            _ => 0.,
        }
    }

    /// Who learns at a step.
    pub fn turn(&self, step: u64) -> Turn {
        let from = self.objectives.get("gan").map_or(0., |term| term.from);
        let begun = self.weight_at("gan", step) > 0.;
        let both = self.at(from + self.critic.alone);
        match (begun, step.checked_sub(both)) {
            (false, _) => Turn::Generator,
            (true, None) => Turn::Critic,
            (true, Some(done)) if (done + 1).is_multiple_of(self.critic.steps) => Turn::Both,
            (true, Some(_)) => Turn::Critic,
        }
    }

    /// Whether batch norms use their running statistics at a step.
    pub fn settled(&self, step: u64) -> bool {
        step >= self.at(1. - self.settle)
    }

    /// The number of parts of a batch that would keep more of `threads` busy than [`Config::shards`] does, if any.
    pub fn better_shards(&self, threads: usize) -> Option<usize> {
        let mut more = (self.shards + 1..=threads).rev();
        more.find(|n| {
            self.sizes()
                .all(|(_, batch)| batch.is_multiple_of(n * self.accumulate))
        })
    }

    /// What must not differ between the parts of a run: everything but how long it is, how often it is looked at and
    /// how much memory it takes.
    pub fn essence(&self) -> Self {
        Self {
            steps: 0,
            epochs: None,
            minutes: None,
            check_every: 0,
            check_photos: 0,
            checkpoint_every: 0,
            keep: Keep::default(),
            cache_mb: 0,
            ..self.clone()
        }
    }
}

impl Config {
    /// Takes over how long a run is from its earlier part, where it was asked for in epochs or minutes: that was
    /// decided when it began.
    pub fn resume(&mut self, earlier: &Value) {
        let decided = self.epochs.take().is_some() | self.minutes.take().is_some();
        let number = |name: &str| earlier[name].as_u64().filter(|_| decided);
        self.steps = number("steps").unwrap_or(self.steps);
        self.warmup = number("warmup").unwrap_or(self.warmup);
    }
}

/// Who learns at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The generator, without a discriminator.
    Generator,
    /// The discriminator.
    Critic,
    /// The discriminator, then the generator.
    Both,
}

impl Turn {
    /// Whether the generator learns.
    pub fn generator(self) -> bool {
        self != Self::Critic
    }

    /// Whether the discriminator learns.
    pub fn critic(self) -> bool {
        self != Self::Generator
    }
}

impl std::fmt::Display for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Generator => "generator",
            Self::Critic => "discriminator",
            Self::Both => "both",
        })
    }
}

/// Settings from a recipe, the same fields of the later ones winning over the earlier.
///
/// # Errors
/// [`Error::Usage`] for a setting that is unknown or of the wrong type.
pub fn parsed(settings: Map<String, Value>) -> Result<Config> {
    serde_json::from_value(Value::Object(settings))
        .map_err(|e| Error::Usage(format!("training settings: {e}")))
}

/// Sets `NAME=VALUE` in settings, where NAME may be a path with dots (`objectives.gan`) and VALUE is JSON, or a word.
///
/// # Errors
/// [`Error::Usage`] where it is not of that form.
pub fn set(settings: &mut Map<String, Value>, setting: &str) -> Result<()> {
    let usage = || Error::Usage(format!("--set {setting}: write NAME=VALUE"));
    let (path, value) = setting.split_once('=').ok_or_else(usage)?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    // A part of what is not written is a part of its default, of which the other parts stay.
    let usual = serde_json::to_value(Config::default()).unwrap_or_default();
    let (mut place, mut rest, mut usual) = (settings, path, &usual);
    while let Some((head, tail)) = rest.split_once('.') {
        usual = &usual[head];
        let begin = || usual.as_object().cloned().unwrap_or_default().into();
        let inner = place.entry(head).or_insert_with(begin);
        place = inner.as_object_mut().ok_or_else(|| {
            Error::Usage(format!(
                "--set {setting}: {head} holds no settings of its own"
            ))
        })?;
        rest = tail;
    }
    place.insert(rest.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(settings: &[&str]) -> Result<Config> {
        let mut map = Map::new();
        for setting in settings {
            set(&mut map, setting)?;
        }
        let config = parsed(map)?;
        config.validate().map(|()| config)
    }

    #[test]
    fn every_recipe_is_valid() {
        for name in recipes() {
            parsed(recipe(name).unwrap()).unwrap().validate().unwrap();
        }
        assert!(recipe("none").unwrap_err().to_string().contains("pix2pix"));
    }

    #[test]
    fn a_setting_may_be_a_path_and_a_word() {
        let config = with(&["objectives.gan=0.5", "critic.loss=hinge", "seed=7"]).unwrap();
        assert_eq!(config.weight("gan"), 0.5);
        assert_eq!(config.weight("huber"), 0.3, "the other objectives stay");
        assert_eq!(config.critic.loss, Adversary::Hinge);
        assert_eq!(config.seed, 7);
    }

    #[test]
    fn impossible_settings_say_what_to_change() {
        for (settings, word) in [
            (&["objectives.l3=1"][..], "l1"),
            (
                &[
                    "objectives.gan=1",
                    "critic.loss=wgan-gp",
                    "critic.network.norm=batch",
                ],
                "critic.network.norm=none",
            ),
            (&["batch=3"], "multiple of shards"),
            (&["epochs=2", "minutes=3"], "not both"),
            (
                &["grow=[{\"size\":96,\"batch\":3,\"until\":0.5}]"],
                "at size 96",
            ),
            (
                &["grow=[{\"size\":96,\"batch\":4,\"until\":1.5}]"],
                "before 1",
            ),
            (&["ema=1"], "0.0..1.0"),
            (&["objectives={}"], "every objective is off"),
            (&["critic=3"], "training settings"),
            (&["seed.x=3", "seed"], "NAME=VALUE"),
        ] {
            let error = with(settings).unwrap_err().to_string();
            assert!(error.contains(word), "{settings:?}: {error}");
        }
    }

    #[test]
    fn rates_rise_stay_and_fall() {
        let config = with(&[
            "steps=100",
            "warmup=10",
            "rate=1",
            "constant=0.5",
            "schedule=linear",
        ]);
        let config = config.unwrap();
        let rates = [0, 9, 49, 75, 99].map(|step| config.rate_at(step));
        for (rate, expected) in rates.into_iter().zip([0.1, 1., 1., 0.5, 0.02]) {
            assert!((rate - expected).abs() < 1e-9, "{rates:?}");
        }
        let cosine = with(&[
            "steps=100",
            "warmup=0",
            "rate=1",
            "constant=0",
            "schedule=cosine",
        ]);
        let cosine = cosine.unwrap();
        let rates = [0, 50, 99].map(|step| cosine.rate_at(step));
        for (rate, expected) in rates.into_iter().zip([1., 0.5, 0.000_246_7]) {
            assert!((rate - expected).abs() < 1e-6, "{rates:?}");
        }
    }

    #[test]
    fn phases_and_turns_follow_the_shares() {
        let config = with(&[
            "steps=100",
            "size=160",
            "batch=8",
            r#"grow=[{"size":96,"batch":32,"until":0.2},{"size":128,"batch":16,"until":0.6}]"#,
            r#"objectives.gan={"weight":0.1,"from":0.5}"#,
            "critic.alone=0.1",
            "critic.steps=2",
        ])
        .unwrap();
        let phases = config.phases().into_iter();
        let phases: Vec<_> = phases.map(|p| (p.from, p.size, p.batch)).collect();
        assert_eq!(phases, [(0, 96, 32), (20, 128, 16), (60, 160, 8)]);
        let turns = [0, 49, 50, 59, 60, 61, 62, 63].map(|step| config.turn(step));
        use Turn::{Both, Critic, Generator};
        assert_eq!(
            turns,
            [
                Generator, Generator, Critic, Critic, Critic, Both, Critic, Both
            ]
        );
        assert!(!config.settled(89) && config.settled(90));
    }
}
