//! The one error type. Every message says what failed, on which file or frame, why, and what to try.
//!
//! A variant exists per *exit code*, not per place: a script that calls autochrome branches on the code, a
//! person reads the sentence.

use std::path::PathBuf;

/// Shorthand for `std::result::Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, grouped by what the caller can do about it (see [`Error::exit_code`]).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line, or a combination of options, cannot be carried out. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// An input cannot be read: missing, empty, encrypted, no video, not media. Exit code 3.
    #[error("{input}: {why}")]
    Input {
        /// The input as the user wrote it.
        input: String,
        /// What is wrong and what to try.
        why: String,
    },
    /// An output cannot be written: exists, no permission, disk full, stream or format refused. Exit code 4.
    #[error("{output}: {why}")]
    Output {
        /// The output as the user wrote it.
        output: String,
        /// What is wrong and what to try.
        why: String,
    },
    /// A model file is missing, damaged or of another kind, or its device cannot be had. Exit code 5.
    #[error("model {model}: {why}")]
    Model {
        /// Name or path of the model.
        model: String,
        /// What is wrong and what to try.
        why: String,
    },
    /// Training cannot go on: no usable photographs, diverged, checkpoint of another run. Exit code 6.
    #[error("training: {0}")]
    Train(String),
    /// Work was left because it was asked to stop, or had to; what is done is kept. Exit code 75: the same command goes on.
    #[error("{0}")]
    Unfinished(String),
    /// The user asked twice to stop. Exit code 130.
    #[error("stopped at once, as asked, before the output was finished")]
    Stopped,
    /// Some of several inputs failed; each was told when it happened. Exit code: the first failure's.
    #[error("not every input could be done")]
    Several(#[source] Box<Error>),
    /// A stage's neighbour is gone. Never shown: the neighbour's own error is the cause.
    #[error("the next stage is gone")]
    Disconnected,
    /// A defect of the program: a stage panicked or a library broke its contract. Exit code 70.
    #[error("{stage}: {why} (this is a defect of autochrome: please report it)")]
    Internal {
        /// The stage or part where it happened.
        stage: String,
        /// The panic message or the library's error.
        why: String,
    },
}

impl Error {
    /// An [`Error::Input`] from anything printable.
    pub fn input(input: impl ToString, why: impl ToString) -> Self {
        Self::Input {
            input: discreet(&input.to_string()),
            why: why.to_string(),
        }
    }

    /// An [`Error::Output`] from anything printable.
    pub fn output(output: impl ToString, why: impl ToString) -> Self {
        Self::Output {
            output: discreet(&output.to_string()),
            why: why.to_string(),
        }
    }

    /// An [`Error::Model`] from anything printable.
    pub fn model(model: impl ToString, why: impl ToString) -> Self {
        Self::Model {
            model: model.to_string(),
            why: why.to_string(),
        }
    }

    /// An [`Error::Internal`] from anything printable.
    pub fn internal(stage: impl ToString, why: impl ToString) -> Self {
        Self::Internal {
            stage: stage.to_string(),
            why: why.to_string(),
        }
    }

    /// The process exit code of this error, as documented in `autochrome --help`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Input { .. } => 3,
            Self::Output { .. } => 4,
            Self::Model { .. } => 5,
            Self::Train(_) => 6,
            Self::Unfinished(_) => 75,
            Self::Stopped => 130,
            Self::Several(first) => first.exit_code(),
            Self::Disconnected | Self::Internal { .. } => 70,
        }
    }
}

/// candle's errors reach here only from shapes and kernels that our own code chose: a defect, not bad input.
impl From<candle_core::Error> for Error {
    fn from(e: candle_core::Error) -> Self {
        Self::internal("network", e)
    }
}

/// What an I/O error means and what to try.
pub fn io_sentence(e: &std::io::Error) -> String {
    use std::io::ErrorKind::*;
    match e.kind() {
        NotFound => "there is no such file or folder; check the spelling".into(),
        PermissionDenied => "permission denied; check who owns it, or choose another place".into(),
        StorageFull => "the disk is full; free some space or choose another place".into(),
        _ => e.to_string(),
    }
}

/// The name of `path` for messages; non-UTF-8 parts are shown with replacement characters, passwords are not.
pub fn shown(path: impl Into<PathBuf>) -> String {
    discreet(&path.into().display().to_string())
}

/// What the name of a secret in an address's query has in it.
const SECRETS: [&str; 6] = ["pass", "pwd", "token", "secret", "key", "auth"];

/// An address without the user, the password and the keys that may stand in it: those are for the server, not for a log.
pub fn discreet(name: &str) -> String {
    let Some((scheme, rest)) = name.split_once("://") else {
        return name.to_owned();
    };
    let host = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (user, rest) = match rest[..host].rfind('@') {
        Some(at) => ("***", &rest[at..]),
        None => ("", rest),
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let hidden = |pair: &str| match pair.split_once('=') {
        Some((key, _)) if SECRETS.iter().any(|s| key.to_lowercase().contains(s)) => {
            format!("{key}=***")
        }
        _ => pair.to_owned(),
    };
    let query: Vec<String> = query.split('&').map(hidden).collect();
    let mark = if rest.contains('?') { "?" } else { "" };
    format!("{scheme}://{user}{path}{mark}{}", query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (name, shown) in [
            (
                "rtsp://me:p@ss@camera/live?a=b@c",
                "rtsp://***@camera/live?a=b@c",
            ),
            ("http://host/a@b", "http://host/a@b"),
            ("film@home.mp4", "film@home.mp4"),
            ("srt://key@host", "srt://***@host"),
            (
                "srt://host:9?mode=caller&passphrase=sesame&latency=2",
                "srt://host:9?mode=caller&passphrase=***&latency=2",
            ),
        ] {
            assert_eq!(discreet(name), shown);
            assert!(Error::input(name, "why").to_string().contains(shown));
        }
    }
}
