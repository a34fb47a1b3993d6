//! Shard: where in the archive's list a worker begins to look, so that many rarely want the same item.
//!
//! Nothing depends on it but time: a worker that comes to the end of the list goes on from its beginning, and what
//! another one has claimed is passed by.

use std::{env, str::FromStr};

use crate::error::{Error, Result};

/// 2^64 by the golden ratio: its multiples, modulo 2^64, lie apart however many they are.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which of the workers one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shard {
    /// One of so many.
    Of {
        /// From 0, below `count`.
        index: u64,
        /// At least 1.
        count: u64,
    },
    /// One of nobody knows how many.
    Numbered(u64),
}

impl Shard {
    /// From `auto` or `I/N`, where `lookup` knows the environment: `auto` is the place in Slurm's job array or Kubernetes'
    /// indexed job, else 0 of 1.
    ///
    /// # Errors
    /// [`Error::Usage`] where it is neither, I is not below N, or the environment has no number where it should.
    pub fn parse(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        if text == "auto" {
            return Self::auto(lookup);
        }
        let wrong = |why: &str| Error::Usage(format!("shard '{text}': {why}"));
        let (index, count) = text
            .split_once('/')
            .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)))
            .ok_or_else(|| {
                wrong("say auto, or I/N with whole numbers, as 0/4 for the first of four")
            })?;
        match index < count {
            true => Ok(Self::Of { index, count }),
            false => Err(wrong(
                "shards are counted from 0, so the last of four is 3/4",
            )),
        }
    }

    fn auto(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let number = |name: &str| {
            let wrong = |text| {
                Error::Usage(format!(
                    "shard auto: {name} is '{text}', which is no whole number; say I/N"
                ))
            };
            lookup(name)
                .map(|text| text.parse::<u64>().map_err(|_| wrong(text)))
                .transpose()
        };
        if let Some(task) = number("SLURM_ARRAY_TASK_ID")? {
            let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
            let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
            let index = task.saturating_sub(first) / step;
            return Ok(match number("SLURM_ARRAY_TASK_COUNT")? {
                // An array may be a list with gaps (--array=1,5,9).
                Some(count) if index < count => Self::Of { index, count },
                _ => Self::Numbered(index),
            });
        }
        Ok(match number("JOB_COMPLETION_INDEX")? {
            Some(index) => Self::Numbered(index),
            None => Self::Of { index: 0, count: 1 },
        })
    }

    /// Where in a list of `items` it begins to look: below `items`, or 0.
    pub fn start(&self, items: usize) -> usize {
        let items = items as u128;
        let start = match *self {
            Self::Of { index, count } => u128::from(index) * items / u128::from(count.max(1)),
            Self::Numbered(index) => (u128::from(index.wrapping_mul(GOLDEN)) * items) >> u64::BITS,
        };
        start as usize
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text, |name| env::var(name).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(environment: &[(&str, &str)]) -> Result<Shard> {
        let value = |name: &str| environment.iter().find(|(key, _)| *key == name);
        Shard::parse("auto", |name| {
            value(name).map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn numbers_are_read_and_checked() {
        let parse = |text: &str| text.parse::<Shard>();
        assert_eq!(parse("0/1").unwrap(), Shard::Of { index: 0, count: 1 });
        assert_eq!(parse("3/4").unwrap(), Shard::Of { index: 3, count: 4 });
        for (text, why) in [
            ("4/4", "counted from 0"),
            ("0/0", "counted from 0"),
            ("4", "say auto, or I/N"),
            ("-1/4", "say auto, or I/N"),
            ("1/x", "say auto, or I/N"),
            ("1/2/3", "say auto, or I/N"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let told = error.to_string();
            assert!(told.contains(why) && told.contains(text), "{told}");
        }
    }

    #[test]
    fn job_arrays_say_who_one_is() {
        let slurm = |id, min, step| {
            auto(&[
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_STEP", step),
                ("SLURM_ARRAY_TASK_COUNT", "4"),
                ("JOB_COMPLETION_INDEX", "9"),
            ])
            .unwrap()
        };
        assert_eq!(slurm("3", "0", "1"), Shard::Of { index: 3, count: 4 });
        assert_eq!(slurm("4", "1", "1"), Shard::Of { index: 3, count: 4 });
        assert_eq!(slurm("12", "0", "4"), Shard::Of { index: 3, count: 4 });
        assert_eq!(slurm("90", "1", "1"), Shard::Numbered(89));
        let bare = [
            ("SLURM_ARRAY_TASK_ID", "2"),
            ("SLURM_ARRAY_TASK_COUNT", "8"),
        ];
        assert_eq!(auto(&bare).unwrap(), Shard::Of { index: 2, count: 8 });
        assert_eq!(auto(&bare[..1]).unwrap(), Shard::Numbered(2));
        assert_eq!(
            auto(&[("JOB_COMPLETION_INDEX", "5")]).unwrap(),
            Shard::Numbered(5)
        );
        assert_eq!(auto(&[]).unwrap(), Shard::Of { index: 0, count: 1 });
        let told = auto(&[("JOB_COMPLETION_INDEX", "five")])
            .unwrap_err()
            .to_string();
        assert!(told.contains("JOB_COMPLETION_INDEX is 'five'"), "{told}");
    }

    #[test]
    fn shards_share_the_list_evenly() {
        for (items, count) in [(0, 3), (1, 3), (10, 3), (100_000, 7), (5, 5)] {
            let starts: Vec<_> = (0..count)
                .map(|index| Shard::Of { index, count }.start(items))
                .collect();
            let ends = starts[1..].iter().chain([&items]);
            let share = items / count as usize;
            for (start, end) in starts.iter().zip(ends) {
                assert!(
                    (share..=share + 1).contains(&(end - start)),
                    "{items} by {count}: {starts:?}"
                );
            }
        }
        let last = Shard::Of {
            index: u64::MAX - 1,
            count: u64::MAX,
        };
        assert!(last.start(1000) < 1000);
    }

    /// However many there are, no two of them begin much closer than they need to.
    #[test]
    fn workers_of_unknown_number_lie_apart() {
        const ITEMS: usize = 10_000;
        assert_eq!(Shard::Numbered(0).start(ITEMS), 0);
        assert_eq!(Shard::Numbered(7).start(0), 0);
        for workers in 1..100 {
            let mut starts: Vec<_> = (0..workers)
                .map(|index| Shard::Numbered(index).start(ITEMS))
                .collect();
            starts.sort_unstable();
            starts.push(ITEMS);
            let least = starts
                .windows(2)
                .map(|pair| pair[1] - pair[0])
                .min()
                .unwrap();
            assert!(least * 3 >= ITEMS / workers as usize, "{workers}: {least}");
        }
    }
}
