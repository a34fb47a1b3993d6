//! Location: what the user wrote for an input, checked as far as that goes without FFmpeg, and the sentences for
//! what FFmpeg then refuses.

use super::{InputOptions, ffi, stdin};
use crate::error::{Error, Result, io_sentence};
use ffmpeg_next::{self as ffmpeg, Dictionary};
use std::{
    ffi::{CString, OsStr},
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Options of FFmpeg's for a source that is seen as it comes: short probing, no buffer, no frame kept in a decoder's
/// threads.
const LOW_DELAY: [(&str, &str); 5] = [
    ("fflags", "nobuffer"),
    ("flags", "low_delay"),
    ("thread_type", "slice"),
    ("analyzeduration", "1000000"),
    ("probesize", "1000000"),
];

/// An input that may be worth opening.
pub(super) struct Location {
    /// As the user wrote it, for messages.
    pub name: String,
    /// As FFmpeg wants it.
    url: CString,
    format: Option<String>,
    interrupt: Option<Arc<AtomicBool>>,
    watch: Watch,
}

/// Since when a source has been silent, and how long it may be.
#[derive(Clone)]
struct Watch {
    patience: Option<Duration>,
    /// Milliseconds after `begun` at which it was last heard.
    heard: Arc<AtomicU64>,
    begun: Instant,
}

impl Watch {
    fn new(patience: Option<Duration>) -> Self {
        Self {
            patience,
            heard: Arc::default(),
            begun: Instant::now(),
        }
    }

    fn heard(&self) {
        let now = self.begun.elapsed().as_millis() as u64;
        self.heard.store(now, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        let since = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        let silent = self.begun.elapsed().saturating_sub(since);
        self.patience.is_some_and(|patience| silent > patience)
    }
}

impl Location {
    /// Checks what can be checked before FFmpeg: spelling, existence, kind, permission, size.
    pub(super) fn new(input: &OsStr, options: &InputOptions) -> Result<Self> {
        let Some(name) = input.to_str() else {
            return Err(Error::input(
                input.display(),
                "the name is not valid UTF-8, which FFmpeg's options and metadata need; rename it, make a link with \
                 a plain name, or read it from standard input (autochrome colorize - < FILE)",
            ));
        };
        let demuxer = options.format.as_deref().map(demuxer).transpose()?;
        let device = demuxer.as_ref().is_some_and(ffi::reads_no_file);
        let path = Path::new(name);
        let url = match name {
            "-" => "pipe:0".to_owned(),
            _ if device || is_address(path) => name.to_owned(),
            _ => {
                check_file(name, path)?;
                // A colon in a file's name would be read as a protocol.
                let prefix = if name.contains(':') { "file:" } else { "" };
                format!("{prefix}{name}")
            }
        };
        let url =
            CString::new(url).map_err(|_| Error::input(name, "the name holds a zero byte"))?;
        Ok(Self {
            name: name.to_owned(),
            url,
            format: options.format.clone(),
            interrupt: options.interrupt.clone(),
            watch: Watch::new(options.patience),
        })
    }

    /// Opens and probes it. Returns the options that no reader knew.
    pub(super) fn open(
        &self,
        options: &InputOptions,
    ) -> Result<(ffmpeg::format::context::Input, Dictionary<'static>)> {
        for (key, value) in &options.options {
            if key.contains('\0') || value.contains('\0') {
                return Err(Error::Usage(format!(
                    "input option {key:?} holds a zero byte"
                )));
            }
        }
        // What the user says comes last and so counts.
        let wanted = match options.low_delay {
            true => [
                &LOW_DELAY.map(|(k, v)| (k.into(), v.into())),
                &options.options[..],
            ]
            .concat(),
            false => options.options.clone(),
        };
        let flag = self.interrupt.clone();
        let watch = self.watch.clone();
        let stop = move || is_set(flag.as_ref()) || watch.is_over();
        let demuxer = self.format.as_deref().map(demuxer).transpose()?;
        let stream = (self.name == "-")
            .then(|| stdin::open(self.interrupt.clone()))
            .transpose()
            .map_err(|e| self.error(format!("standard input cannot be read: {e}")))?;
        ffi::open_input(
            &self.url,
            stream,
            demuxer.as_ref(),
            wanted.iter().collect(),
            stop,
        )
        .map_err(|e| self.refused(e))
        .and_then(|opened| match opened.0.format().name() {
            // FFmpeg draws any file called .txt as a terminal's screen: never what was meant here.
            "tty" if self.format.is_none() => Err(self.refused(ffmpeg::Error::InvalidData)),
            _ => Ok(opened),
        })
    }

    /// Something has come.
    pub(super) fn heard(&self) {
        self.watch.heard();
    }

    /// Whether nothing has come for longer than the source may be silent.
    pub(super) fn silent(&self) -> bool {
        self.watch.is_over()
    }

    /// Why FFmpeg was told to stop waiting, where the user has not said so: nothing has come for so long.
    pub(super) fn silence(&self) -> Error {
        match self.watch.patience {
            None => Error::Stopped,
            Some(patience) => self.error(format!(
                "nothing has come from it for {:.0} s; is it switched on, and the address right?",
                patience.as_secs_f64()
            )),
        }
    }

    /// Whether the user asked to stop at once.
    pub(super) fn interrupted(&self) -> bool {
        is_set(self.interrupt.as_ref())
    }

    /// An [`Error::Input`] about this input.
    pub(super) fn error(&self, why: impl ToString) -> Error {
        Error::input(&self.name, why)
    }

    fn refused(&self, e: ffmpeg::Error) -> Error {
        use ffmpeg::Error::*;
        self.error(match e {
            _ if self.interrupted() => return Error::Stopped,
            Exit => return self.silence(),
            _ if self.silent() => return self.silence(),
            InvalidData if self.name == "-" => {
                "standard input is not media that FFmpeg can recognize; name its format with --input-format".into()
            }
            InvalidData => "not a media file that FFmpeg can read, or one whose beginning is damaged; check it with \
                            ffprobe, or name its format with --input-format"
                .into(),
            ProtocolNotFound => "FFmpeg here does not know this kind of address; `ffmpeg -protocols` lists those it \
                                 knows"
                .into(),
            Other { errno } if errno == ffmpeg::error::ENOENT && self.name.starts_with("/dev/") => {
                "there is no such device; `autochrome live --list` tells the cameras of this machine".into()
            }
            Other { errno } if errno == ffmpeg::error::ENOENT => {
                "there is no such file; of a numbered sequence (frame%04d.png), the first number must be below 5, or \
                 be given with --input-option start_number=N"
                    .into()
            }
            HttpNotFound | HttpForbidden | HttpUnauthorized | HttpBadRequest | HttpOther4xx
            | HttpServerError => format!("the server refuses: {e}; check the address in a browser"),
            e => format!("FFmpeg cannot open it: {e}"),
        })
    }
}

fn is_set(flag: Option<&Arc<AtomicBool>>) -> bool {
    flag.is_some_and(|f| f.load(Ordering::Relaxed))
}

fn demuxer(name: &str) -> Result<ffmpeg::format::format::Input> {
    ffi::input_format(name).ok_or_else(|| {
        Error::Usage(format!(
            "--input-format {name}: FFmpeg here reads no format of that name; `ffmpeg -demuxers` lists those it reads"
        ))
    })
}

/// `protocol:rest` that is not the name of a file.
fn is_address(path: &Path) -> bool {
    let name = path.to_str().unwrap_or_default();
    let protocol = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | ',');
    name.split_once(':')
        .is_some_and(|(scheme, _)| scheme.len() > 1 && scheme.chars().all(protocol))
        && !path.exists()
}

fn check_file(name: &str, path: &Path) -> Result<()> {
    let refuse = |why: &str| Err(Error::input(name, why));
    let about = match fs::metadata(path) {
        Ok(about) => about,
        // A sequence: FFmpeg looks for its files.
        Err(_) if name.contains(['%', '*', '?']) => return Ok(()),
        Err(e) => return refuse(&io_sentence(&e)),
    };
    if about.is_dir() {
        return refuse(
            "this is a folder; name a film in it, or a numbered sequence such as FOLDER/frame%04d.png",
        );
    }
    if about.is_file() {
        if let Err(e) = fs::File::open(path) {
            return refuse(&io_sentence(&e));
        }
        if about.len() == 0 {
            return refuse("the file is empty (0 bytes); was its copy or download interrupted?");
        }
    }
    Ok(())
}
