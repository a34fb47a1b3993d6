//! `autochrome pack`: pictures to train on in one small file, for machines to which little can be carried.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::HumanDuration;

use super::Ui;
use crate::{
    error::{Result, shown},
    train::data::pack::{self, PackOptions, Packed, Work},
};

/// Put many pictures into one small file that `train` and `eval` read like a folder.
#[derive(Args)]
pub struct PackArgs {
    /// Folders of photographs and films, searched to any depth; files; other packs
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// File to write, such as all.pack
    #[arg(short, long)]
    output: PathBuf,
    /// Short side to which larger pictures are scaled, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 144, value_parser = clap::value_parser!(u32).range(32..=4096))]
    size: u32,
    /// Most bytes that the file may have: 40M, 1.5G or a number; quality is lowered until all fits, then pictures are
    /// left out
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    fit: Option<u64>,
    /// Split of the runs that will use the pack (their setting `split`): it says which pictures are held out
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    split: u64,
}

impl PackArgs {
    /// Packs, and says what was done.
    ///
    /// # Errors
    /// As [`pack::write`].
    pub fn run(self, ui: &Ui) -> Result<()> {
        let options = PackOptions {
            inputs: self.inputs,
            output: self.output,
            size: self.size,
            fit: self.fit,
            split: self.split,
        };
        let mut progress = Progress::new(*ui);
        let packed = pack::write(&options, &mut |work, done, of| {
            progress.hear(work, done, of)
        })?;
        for (name, why) in &packed.skipped {
            ui.warn(format_args!("skipped {name}: {why}"));
        }
        ui.say(format_args!(
            "{}: {}",
            shown(&options.output),
            words(&packed)
        ));
        Ok(())
    }
}

fn words(packed: &Packed) -> String {
    let Packed {
        pictures,
        usable,
        quality,
        bytes,
        skipped,
        left_out,
    } = packed;
    let megabytes = *bytes as f64 / 1e6;
    let share = match pictures == usable {
        true => "all that can be used".into(),
        false => format!("of {usable} that can be used; more do not fit"),
    };
    format!(
        "{pictures} pictures, {share}, at WebP quality {quality}: {megabytes:.2} MB; left out: {left_out}, {} damaged or too small",
        skipped.len()
    )
}

/// A line now and then with the time that is left.
struct Progress {
    ui: Ui,
    work: Work,
    since: Instant,
    spoken: Instant,
}

impl Progress {
    const EVERY: Duration = Duration::from_secs(5);

    fn new(ui: Ui) -> Self {
        let now = Instant::now();
        Self {
            ui,
            work: Work::Scanning,
            since: now,
            spoken: now,
        }
    }

    fn hear(&mut self, work: Work, done: usize, of: usize) {
        if self.work != work {
            *self = Self {
                work,
                ..Self::new(self.ui)
            };
        }
        if self.spoken.elapsed() < Self::EVERY {
            return;
        }
        self.spoken = Instant::now();
        let left = self
            .since
            .elapsed()
            .mul_f64((of - done) as f64 / done.max(1) as f64);
        let word = match work {
            Work::Scanning => "scanning",
            Work::Packing => "packing",
        };
        let left = HumanDuration(left);
        self.ui
            .say(format_args!("{word}: {done} of {of}, {left} left"));
    }
}

/// A number of bytes: 40M, 1.5G, 300k or 1000000. Powers of 1000, as disks are sold.
fn bytes(text: &str) -> Result<u64, String> {
    let units = [('k', 1e3), ('M', 1e6), ('G', 1e9), ('T', 1e12)];
    let unit = units
        .iter()
        .find(|(letter, _)| text.to_lowercase().ends_with(letter.to_ascii_lowercase()));
    let (number, factor) =
        unit.map_or((text, 1.), |(_, factor)| (&text[..text.len() - 1], *factor));
    match number.parse::<f64>() {
        Ok(number) if number > 0. && number.is_finite() => Ok((number * factor) as u64),
        _ => Err("write a number of bytes above 0, such as 40M, 1.5G or 1000000".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(bytes("40M"), Ok(40_000_000));
        assert_eq!(bytes("1.5G"), Ok(1_500_000_000));
        assert_eq!(bytes("300k"), Ok(300_000));
        assert_eq!(bytes("1234"), Ok(1234));
        for wrong in ["", "M", "-1", "0", "4x", "1e999"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
