//! How lively a finished network's colours are made: the first choice, by the validation photographs. `autochrome eval
//! --calibrate` makes a better one.

use super::Trainer;
use crate::{
    error::Result,
    eval::{self, Exam, Figures},
    frame::AbMap,
    net::Decoding,
};

/// Settings of a network's last step.
#[derive(Clone, Debug)]
pub struct Look {
    /// How classes become a colour.
    pub decoding: Decoding,
    /// Factor on chroma.
    pub gain: f32,
    /// Its figures on the validation photographs.
    pub figures: Figures,
}

/// Rungs of the ladder from the least error to the liveliest colours.
const RUNGS: u8 = 10;

/// A regression is made livelier by its gain, 1 to 2; a classification by the prior's share k, 0 to 0.6 (at T = 0.38,
/// Zhang 2016).
fn rung(number: u8, classes: bool) -> (Decoding, f32) {
    let share = f32::from(number) / f32::from(RUNGS);
    match classes {
        true => (
            Decoding {
                k: 0.6 * share,
                temperature: 0.38,
            },
            1.,
        ),
        false => (Decoding::default(), 1. + share),
    }
}

/// Climbs until the mean chroma is [`ENOUGH`] of the truth's, but only while at least half of the lead over grey, in
/// CIEDE2000 and in PSNR_ab, is kept. Least error leans to grey; this gives some of it back for colour.
///
/// # Errors
/// Out of memory.
pub fn choose(trainer: &Trainer, prior: Option<&[f32]>, exams: &[Exam]) -> Result<Look> {
    const ENOUGH: f64 = 0.7;
    let at = |number: u8| -> Result<Look> {
        let (decoding, gain) = rung(number, prior.is_some());
        let mut model = trainer.model(&decoding, gain, prior)?;
        let figures = eval::judge(exams, &eval::colour(&mut model, exams)?);
        Ok(Look {
            decoding,
            gain,
            figures,
        })
    };
    let grey = eval::judge(exams, &vec![AbMap::constant(0., 0.); exams.len()]);
    let lead = |f: &Figures| (grey.ciede2000 - f.ciede2000, f.psnr_ab - grey.psnr_ab);
    let mut chosen = at(0)?;
    let first = lead(&chosen.figures);
    for number in 1..=RUNGS {
        if chosen.figures.chroma_ratio >= ENOUGH {
            break;
        }
        let next = at(number)?;
        let lead = lead(&next.figures);
        if lead.0 < 0.5 * first.0 || lead.1 < 0.5 * first.1 {
            break;
        }
        chosen = next;
    }
    Ok(chosen)
}
