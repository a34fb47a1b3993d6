//! Scan: what is found in the inputs, judged and split.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{
    Photo,
    facts::{Facts, hex},
    film,
    filter::{self, Seen},
    index::{self, Findings, Index, Stamp},
    pack::Pack,
    photo::{Place, decode, reason},
    source,
};
use crate::error::{Error, Result, io_sentence, shown};

/// Files that are read side by side between two words about progress.
const A_GO: usize = 64;

/// What to scan and how to split it.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// Folders, searched to any depth, and files: pictures (JPEG, PNG, WebP), films, packs.
    pub inputs: Vec<PathBuf>,
    /// Share of the pictures for validation, and again for test: 0 to 0.5.
    pub held_out: f64,
    /// Seed of the split.
    pub seed: u64,
    /// Pictures with a shorter side than this are too small, in pixels.
    pub least_side: u32,
    /// Folder in which facts are remembered between scans; none to read everything anew.
    pub memory: Option<PathBuf>,
}

impl ScanOptions {
    /// Of these inputs, remembered in the user's cache folder.
    pub fn new(inputs: &[PathBuf], held_out: f64, seed: u64, least_side: u32) -> Self {
        Self {
            inputs: inputs.to_vec(),
            held_out,
            seed,
            least_side,
            memory: index::folder(),
        }
    }
}

/// Pictures that can be read but teach nothing new, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Grey, or so nearly that they teach no colour.
    pub grey: usize,
    /// The same as another one, perhaps scaled or compressed again.
    pub duplicates: usize,
}

/// Pictures, each in exactly one part, in the order of their hashes.
#[derive(Clone, Debug, Default)]
pub struct Split {
    /// To learn from.
    pub train: Vec<Photo>,
    /// To watch the training and to choose the chroma gain by.
    pub validation: Vec<Photo>,
    /// To report figures on, once.
    pub test: Vec<Photo>,
    /// Names of what cannot be used, with the reason: damaged, too small.
    pub skipped: Vec<(String, String)>,
    /// What was left out.
    pub left_out: LeftOut,
    /// SHA-256 over the hashes of all pictures in all parts, in their order: says which data a run saw.
    pub digest: String,
}

impl Split {
    /// Finds, judges and splits. `tell` hears how many files of how many are done.
    ///
    /// # Errors
    /// [`Error::Input`] where an input cannot be read or a pack is damaged or was made for another split;
    /// [`Error::Train`] where there is nothing to learn from.
    pub fn scan(options: &ScanOptions, tell: &mut dyn FnMut(usize, usize)) -> Result<Self> {
        let mut split = Self::default();
        let mut found = Vec::new();
        for (place, findings) in Scanner::new(options)?.run(tell) {
            match findings.and_then(|facts| large_enough(facts, options.least_side)) {
                Ok(facts) => found.push((place, facts)),
                Err(why) => split.skipped.push((place.name(), why)),
            }
        }
        split.skipped.sort();
        found.sort_by_key(|(_, facts)| facts.content);
        let mut digest = Sha256::new();
        for (photo, facts) in split.leave_out(found) {
            digest.update(facts.content);
            let part = match facts.share() {
                u if u < options.held_out => &mut split.test,
                u if u < 2. * options.held_out => &mut split.validation,
                _ => &mut split.train,
            };
            part.push(photo);
        }
        split.digest = hex::digits(&digest.finalize());
        match split.train.is_empty() {
            true => Err(split.nothing(options)),
            false => Ok(split),
        }
    }

    /// Photos without those that are grey or there already; of duplicates the first stays. Sources are told by all.
    fn leave_out(&mut self, found: Vec<(Place, Facts)>) -> Vec<(Photo, Facts)> {
        let sources = source::sources(found.iter().map(|(place, _)| place));
        let mut seen = Seen::default();
        let mut kept = Vec::new();
        for ((place, facts), source) in found.into_iter().zip(sources) {
            if filter::is_grey(&facts) {
                self.left_out.grey += 1;
            } else if !seen.insert(&facts) {
                self.left_out.duplicates += 1;
            } else {
                kept.push((Photo::new(place, source, &facts), facts));
            }
        }
        kept
    }

    fn nothing(&self, options: &ScanOptions) -> Error {
        let inputs: Vec<_> = options.inputs.iter().map(shown).collect();
        let inputs = inputs.join(", ");
        let held = self.validation.len() + self.test.len();
        let why = match (self.skipped.first(), self.left_out) {
            (None, LeftOut { grey: 0, duplicates: 0 }) if held == 0 => {
                "there are no photographs (JPEG, PNG or WebP), films or packs in it; name the folder that holds them"
                    .into()
            }
            (first, left_out) => {
                let first = first.map_or(String::new(), |(name, why)| format!(" ({name}: {why})"));
                format!(
                    "{held} held out for validation and test, {left_out}, {} damaged or too small{first}; give more or \
                     other pictures in colour",
                    self.skipped.len()
                )
            }
        };
        Error::Train(format!("no photographs to learn from in {inputs}: {why}"))
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} grey, {} duplicates", self.grey, self.duplicates)
    }
}

fn large_enough(facts: Facts, least: u32) -> std::result::Result<Facts, String> {
    match facts.short_side() {
        side if side < least => Err(format!(
            "its short side of {side} pixels is below the {least} that are needed"
        )),
        _ => Ok(facts),
    }
}

/// Something that may hold pictures.
#[derive(Clone, Debug)]
enum Item {
    Photo(PathBuf),
    Film(PathBuf),
    Entry(Arc<Pack>, usize),
}

impl Item {
    fn path(&self) -> &Path {
        match self {
            Self::Photo(path) | Self::Film(path) => path,
            Self::Entry(pack, _) => pack.path(),
        }
    }

    /// What the index calls it.
    fn name(&self) -> String {
        match self {
            Self::Entry(_, number) => format!("{}#{number}", shown(self.path())),
            _ => shown(self.path()),
        }
    }

    fn place(self, moment: Option<film::Moment>) -> Place {
        match (self, moment) {
            (Self::Photo(path) | Self::Film(path), None) => Place::File(path),
            (Self::Photo(path) | Self::Film(path), Some(moment)) => Place::Frame(path, moment),
            (Self::Entry(pack, number), _) => Place::Entry(pack, number),
        }
    }

    /// Reads it whole.
    fn study(&self, seed: u64) -> Findings {
        match self {
            Self::Photo(path) => {
                let bytes = std::fs::read(path).map_err(|e| io_sentence(&e))?;
                Ok(vec![(None, Facts::of(&decode(&bytes)?, &bytes, seed))])
            }
            Self::Film(path) => {
                let moments = film::moments(path, seed).map_err(reason)?;
                let known = |(moment, facts)| (Some(moment), facts);
                Ok(moments.into_iter().map(known).collect())
            }
            Self::Entry(pack, number) => {
                let bytes = pack.bytes(*number).map_err(reason)?;
                let own = Facts::of(&decode(&bytes)?, &bytes, seed);
                let (content, ticket) = pack.identity(*number);
                Ok(vec![(
                    None,
                    Facts {
                        content,
                        ticket,
                        ..own
                    },
                )])
            }
        }
    }
}

/// A scan under way: every input's items.
struct Scanner<'a> {
    options: &'a ScanOptions,
    items: Vec<(PathBuf, Vec<Item>)>,
}

impl<'a> Scanner<'a> {
    fn new(options: &'a ScanOptions) -> Result<Self> {
        let items = |input: &PathBuf| {
            let mut items = Vec::new();
            walk(input, options.seed, true, &mut items)?;
            Ok((input.clone(), items))
        };
        Ok(Self {
            options,
            items: options.inputs.iter().map(items).collect::<Result<_>>()?,
        })
    }

    /// Every place where there should be a picture: its facts, or why there is none.
    fn run(
        self,
        tell: &mut dyn FnMut(usize, usize),
    ) -> Vec<(Place, std::result::Result<Facts, String>)> {
        let of = self.items.iter().map(|(_, items)| items.len()).sum();
        let (mut done, mut found) = (0, Vec::new());
        for (input, items) in self.items {
            let since = Instant::now();
            let seed = self.options.seed;
            let mut index = Index::load(self.options.memory.as_deref(), &input, seed);
            for go in goes(items) {
                let studied: Vec<_> = go
                    .into_par_iter()
                    .map(|item| study(item, &index, seed))
                    .collect();
                done += studied.len();
                tell(done, of);
                for (item, stamp, findings) in studied {
                    index.note(item.name(), stamp, findings.clone());
                    match findings {
                        Ok(all) => found.extend(
                            all.into_iter()
                                .map(|(moment, facts)| (item.clone().place(moment), Ok(facts))),
                        ),
                        Err(why) => found.push((item.place(None), Err(why))),
                    }
                }
            }
            index.save(since.elapsed());
        }
        found
    }
}

/// The items in goes: small ones many at a time; films one by one, for their decoders have threads of their own.
fn goes(items: Vec<Item>) -> Vec<Vec<Item>> {
    let is_film = |item: &Item| matches!(item, Item::Film(_));
    let (films, small): (Vec<_>, Vec<_>) = items.into_iter().partition(is_film);
    let small = small.chunks(A_GO).map(<[_]>::to_vec);
    small
        .chain(films.into_iter().map(|film| vec![film]))
        .collect()
}

/// What is remembered of an item, else what reading it tells.
fn study(item: Item, index: &Index, seed: u64) -> (Item, Option<Stamp>, Findings) {
    let stamp = Stamp::of(item.path());
    let known = index.recall(&item.name(), stamp.as_ref());
    let findings = known.unwrap_or_else(|| item.study(seed));
    (item, stamp, findings)
}

const PICTURES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
const FILMS: [&str; 21] = [
    "mp4", "m4v", "mkv", "mov", "webm", "avi", "mpg", "mpeg", "m2v", "ts", "mts", "m2ts", "vob",
    "wmv", "flv", "ogv", "mxf", "3gp", "dv", "y4m", "qt",
];

/// Adds what lies below `path`, hidden files left out; `path` itself if it is a file, which is taken for a film where
/// its name says nothing and it was `asked` for.
fn walk(path: &Path, seed: u64, asked: bool, items: &mut Vec<Item>) -> Result<()> {
    let unreadable = |e: std::io::Error| Error::input(shown(path), io_sentence(&e));
    if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if !entry.file_name().to_string_lossy().starts_with('.') {
                walk(&entry.path(), seed, false, items)?;
            }
        }
        return Ok(());
    }
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let extension = extension.to_ascii_lowercase();
    if PICTURES.contains(&&*extension) {
        items.push(Item::Photo(path.to_owned()));
    } else if extension == "pack" || (asked && Pack::is_one(path)) {
        let pack = Arc::new(Pack::open(path, seed)?);
        items.extend((0..pack.len()).map(|number| Item::Entry(Arc::clone(&pack), number)));
    } else if asked || FILMS.contains(&&*extension) {
        items.push(Item::Film(path.to_owned()));
    }
    Ok(())
}
