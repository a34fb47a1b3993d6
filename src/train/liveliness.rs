//! How lively a finished network's colours are made: the first choice, by the validation photographs. `autochrome eval
//! --calibrate` makes a better one.

use super::Trainer;
use crate::{
    error::Result,
    eval::{self, Exam, Figures},
    frame::AbMap,
    net::{Decoding, Looks, Setting},
};

/// The settings of every look.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The least error is the lowest rung, vivid is the one that was climbed to.
    pub looks: Looks,
    /// The vivid look's figures on the validation photographs.
    pub figures: Figures,
}

/// Rungs of the ladder from the least error to the liveliest colours.
const RUNGS: u8 = 10;

/// A regression is made livelier by its gain, 1 to 2; a classification by the prior's share k, 0 to 0.6 (at T = 0.38,
/// Zhang 2016).
fn rung(number: u8, classes: bool) -> Setting {
    let share = f32::from(number) / f32::from(RUNGS);
    let still = Setting::default();
    match classes {
        true => Setting {
            decoding: Decoding {
                k: 0.6 * share,
                temperature: 0.38,
                ..still.decoding
            },
            ..still
        },
        false => Setting {
            gain: 1. + share,
            ..still
        },
    }
}

/// Climbs until the mean chroma is [`ENOUGH`] of the truth's, but only while at least half of the lead over grey, in
/// CIEDE2000 and in PSNR_ab, is kept. Least error leans to grey; this gives some of it back for colour.
///
/// # Errors
/// Out of memory.
pub fn choose(trainer: &Trainer, prior: Option<&[f32]>, exams: &[Exam]) -> Result<Chosen> {
    const ENOUGH: f64 = 0.7;
    let figures = |setting: &Setting| -> Result<Figures> {
        let mut model = trainer.model(&setting.decoding, setting.gain, prior)?;
        Ok(eval::judge(exams, &eval::colour(&mut model, exams)?))
    };
    let grey = eval::judge(exams, &vec![AbMap::constant(0., 0.); exams.len()]);
    let lead = |f: &Figures| (grey.ciede2000 - f.ciede2000, f.psnr_ab - grey.psnr_ab);
    let faithful = rung(0, prior.is_some());
    let mut chosen = Chosen {
        looks: Looks::both(faithful),
        figures: figures(&faithful)?,
    };
    let first = lead(&chosen.figures);
    for number in 1..=RUNGS {
        if chosen.figures.chroma_ratio >= ENOUGH {
            break;
        }
        let vivid = rung(number, prior.is_some());
        let figures = figures(&vivid)?;
        let lead = lead(&figures);
        if lead.0 < 0.5 * first.0 || lead.1 < 0.5 * first.1 {
            break;
        }
        let looks = Looks { faithful, vivid };
        chosen = Chosen { looks, figures };
    }
    Ok(chosen)
}
