//! The rules of the house, kept by reading the source: who may know what, and what may not be written at all.
//!
//! A failure names file, line and rule. A rule that has become wrong is changed here, with the reason.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Words that may only be written in some places.
struct Rule {
    why: &'static str,
    words: &'static [&'static str],
    /// Files or folders of src/.
    only_in: &'static [&'static str],
    /// Whether unit tests must keep it too.
    in_tests: bool,
}

const RULES: &[Rule] = &[
    Rule {
        why: "only media knows ffmpeg",
        words: &["ffmpeg_next", "ffmpeg_sys", "ffmpeg::"],
        only_in: &["media"],
        in_tests: true,
    },
    // error.rs turns candle's error into ours, or every `?` in the networks would need a word.
    Rule {
        why: "only net, train and eval know tensors",
        words: &["candle_core", "candle_nn", "candle::", "safetensors::"],
        only_in: &["net", "train", "eval", "error.rs"],
        in_tests: true,
    },
    Rule {
        why: "only cli knows flags and terminals",
        words: &["clap::", "clap_complete", "indicatif", "ctrlc"],
        only_in: &["cli", "main.rs"],
        in_tests: true,
    },
    Rule {
        why: "nothing uses cli",
        words: &["crate::cli", "autochrome::cli", "super::cli"],
        only_in: &["cli", "main.rs"],
        in_tests: true,
    },
    Rule {
        why: "threads and channels are made in stage only",
        words: &[
            "crossbeam",
            "mpsc",
            "thread::spawn",
            "thread::Builder",
            "JoinHandle",
        ],
        only_in: &["stage.rs"],
        in_tests: false,
    },
    Rule {
        why: "unsafe stays where C is called, in media/ffi and for oneDNN and cuDNN, and in main.rs's one set-up",
        words: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"],
        only_in: &[
            "media/ffi",
            "net/engine/onednn",
            "net/engine/cudnn",
            "main.rs",
        ],
        in_tests: true,
    },
    Rule {
        why: "only cli and main print: everything else returns or reports",
        words: &["println!", "eprintln!", "print!(", "eprint!("],
        only_in: &["cli", "main.rs"],
        in_tests: false,
    },
    Rule {
        why: "an error is returned, never a panic; unfinished code is not committed",
        words: &[
            ".unwrap()",
            ".expect(",
            "panic!(",
            "todo!(",
            "unimplemented!(",
            "dbg!(",
        ],
        only_in: &[],
        in_tests: false,
    },
    Rule {
        why: "a test that does not run belongs to tests/soak.rs",
        words: &["#[ignore"],
        only_in: &[],
        in_tests: true,
    },
];

/// Which other modules of the crate a module may use: the table in lib.rs. Unit tests are free.
const MAY_USE: &[(&str, &[&str])] = &[
    ("color.rs", &["frame"]),
    // What travels names the types of those who made it.
    ("frame.rs", &["media", "temporal"]),
    ("stage.rs", &["error", "frame"]),
    ("temporal", &["error", "frame"]),
    ("media", &["error", "frame", "color"]),
    ("net", &["error", "frame", "color"]),
    (
        "archive",
        &[
            "color", "colorize", "controls", "error", "frame", "media", "net", "stage",
        ],
    ),
    (
        "live",
        &["controls", "error", "frame", "media", "net", "stage"],
    ),
    ("error.rs", &[]),
];

const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "models",
    "samples",
    "src",
    "tests",
];

const LARGEST_FILE: u64 = 16 << 20;

/// Lines of code, without comments, that the wiring may have.
const WIRING: usize = 300;

#[test]
fn words_stay_where_they_belong() {
    let mut complaints = String::new();
    for file in sources("src") {
        for line in file.code() {
            for rule in RULES.iter().filter(|r| r.in_tests || !line.in_tests) {
                let word = rule.words.iter().find(|word| line.text.contains(**word));
                if let Some(word) = word.filter(|_| !file.is_in(rule.only_in)) {
                    complain(&mut complaints, &file, line.number, rule.why, word);
                }
            }
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}");
}

#[test]
fn modules_use_only_their_neighbours() {
    let mut complaints = String::new();
    for file in sources("src") {
        let Some((_, allowed)) = MAY_USE.iter().find(|(module, _)| file.is_in(&[module])) else {
            continue;
        };
        let own = file.name.split(['/', '.']).next().unwrap_or_default();
        for (number, used) in file.modules_used() {
            if used != own
                && !allowed.contains(&used.as_str())
                && used.chars().all(|c| !c.is_uppercase())
            {
                complain(
                    &mut complaints,
                    &file,
                    number,
                    "lib.rs says whom a module may use",
                    &used,
                );
            }
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}");
}

#[test]
fn main_has_one_unsafe_block_only() {
    let main = Source::read(&root().join("src/main.rs"), "main.rs".into());
    assert!(
        main.code()
            .iter()
            .filter(|l| l.text.contains("unsafe {"))
            .count()
            <= 1
    );
}

#[test]
fn the_wiring_fits_in_a_head() {
    let wiring = Source::read(&root().join("src/colorize.rs"), "colorize.rs".into());
    let lines = wiring
        .code()
        .iter()
        .filter(|l| !l.in_tests && !l.text.trim().is_empty())
        .count();
    assert!(
        lines < WIRING,
        "src/colorize.rs has {lines} lines of code: move what is not wiring to its own module"
    );
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut files: Vec<Source> = ["src", "tests", "samples"]
        .into_iter()
        .flat_map(sources)
        .collect();
    // A module's unit tests, in a file of that name, are for what their module is for.
    files.retain(|file| !file.text.starts_with("//!") && !file.name.ends_with("/tests.rs"));
    let names: Vec<&str> = files.iter().map(|f| f.name.as_str()).collect();
    assert!(names.is_empty(), "no //! at the top of {names:?}");
}

#[test]
fn the_top_level_is_fixed() {
    let top: BTreeSet<String> = tracked()
        .iter()
        .filter_map(|f| f.split('/').next().map(str::to_string))
        .collect();
    let strangers: Vec<_> = top
        .iter()
        .filter(|name| !TOP_LEVEL.contains(&name.as_str()))
        .collect();
    assert!(
        strangers.is_empty(),
        "not in the top folder, please: {strangers:?}"
    );
}

#[test]
fn no_tracked_file_is_huge() {
    for file in tracked() {
        let size = fs::metadata(root().join(&file)).map_or(0, |m| m.len());
        assert!(
            size <= LARGEST_FILE,
            "{file} has {size} bytes; {LARGEST_FILE} is the most"
        );
    }
}

fn complain(to: &mut String, file: &Source, line: usize, why: &str, word: &str) {
    let _ = writeln!(to, "src/{}:{line}: {why} (`{word}`)", file.name);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What git tracks, or, where there is no git, what lies there.
fn tracked() -> Vec<String> {
    let git = Command::new("git")
        .arg("-C")
        .arg(root())
        .args(["ls-files"])
        .output();
    if let Some(list) = git.ok().filter(|git| git.status.success()) {
        return String::from_utf8_lossy(&list.stdout)
            .lines()
            .map(str::to_string)
            .collect();
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(root()).expect("the top folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !["target", ".git"].contains(&name.as_str()) {
            walk(&entry.path(), &mut |path| {
                files.push(relative(path, root()))
            });
        } else if entry.path().is_file() {
            files.push(name);
        }
    }
    files
}

fn relative(path: &Path, to: &Path) -> String {
    path.strip_prefix(to)
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned()
}

fn walk(folder: &Path, found: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder)
        .expect("a folder of the project")
        .flatten()
    {
        match entry.path() {
            path if path.is_dir() => walk(&path, found),
            path => found(&path),
        }
    }
}

/// Every Rust file under a top folder, named from there.
fn sources(folder: &str) -> Vec<Source> {
    let top = root().join(folder);
    let mut paths: Vec<PathBuf> = Vec::new();
    walk(&top, &mut |path| {
        paths.extend(
            path.extension()
                .is_some_and(|e| e == "rs")
                .then(|| path.to_path_buf()),
        )
    });
    paths
        .iter()
        .map(|path| Source::read(path, relative(path, &top)))
        .collect()
}

/// A file of Rust, named relative to its top folder.
struct Source {
    name: String,
    text: String,
}

/// One line without its comment and without what stands in quotes.
struct Line {
    number: usize,
    text: String,
    in_tests: bool,
}

impl Source {
    fn read(path: &Path, name: String) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { name, text }
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            let rest = self.name.strip_prefix(place);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".rs")
        })
    }

    fn code(&self) -> Vec<Line> {
        // Unit tests stand at the end of a file, or in a file of their own.
        let mut in_tests = self.name.ends_with("tests.rs");
        let number_and_text = self.text.lines().enumerate();
        number_and_text
            .map(|(index, line)| {
                in_tests |= line.trim() == "#[cfg(test)]";
                Line {
                    number: index + 1,
                    text: without_words(line),
                    in_tests,
                }
            })
            .collect()
    }

    /// First segments of every path that begins with `crate::`, with their lines.
    fn modules_used(&self) -> Vec<(usize, String)> {
        let mut used = Vec::new();
        let mut inside: Option<usize> = None; // depth of braces in a `use crate::{...}`
        for line in self.code().into_iter().take_while(|line| !line.in_tests) {
            let mut names = Vec::new();
            for (_, after) in line
                .text
                .match_indices("crate::")
                .map(|(at, word)| (at, &line.text[at + word.len()..]))
            {
                match after.strip_prefix('{') {
                    Some(list) => inside = first_names(list, 1, &mut names),
                    None => names.push(after),
                }
            }
            if !line.text.contains("crate::")
                && let Some(depth) = inside
            {
                inside = first_names(&line.text, depth, &mut names);
            }
            let first = |name: &str| {
                name.split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .map(str::to_string)
            };
            used.extend(
                names
                    .iter()
                    .filter_map(|name| first(name))
                    .filter(|n| !n.is_empty())
                    .map(|n| (line.number, n)),
            );
        }
        used
    }
}

/// Collects the names at depth 1 of a braced list; answers the depth where the text ends, `None` once it is closed.
fn first_names<'a>(text: &'a str, mut depth: usize, names: &mut Vec<&'a str>) -> Option<usize> {
    let mut begin = 0;
    for (at, c) in text.char_indices().chain([(text.len(), ',')]) {
        if depth == 1 && matches!(c, ',' | '}' | '{') {
            names.push(text[begin..at].trim());
        }
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return None;
        }
        if matches!(c, ',' | '}' | '{') {
            begin = (at + 1).min(text.len());
        }
    }
    Some(depth)
}

/// The line without its comment and with its quoted strings emptied. Strings over several lines stay: none of the
/// words above is likely in one.
fn without_words(line: &str) -> String {
    let (mut out, mut quoted, mut escaped, mut last) = (String::new(), false, false, ' ');
    for c in line.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if last != '\'' => quoted = !quoted,
            '/' if !quoted && last == '/' => {
                out.pop();
                break;
            }
            _ if !quoted => out.push(c),
            _ => {}
        }
        last = c;
    }
    out
}
