//! Standard input as FFmpeg reads it. FFmpeg's own `pipe:0` waits inside a system call, where no second Ctrl-C can
//! reach it, and cannot seek in a redirected file (`autochrome colorize - < film.mp4` with its index at the end).

use super::ffi;
use ffmpeg_next::{self as ffmpeg, format::context::StreamIo};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// How long a read waits before it looks whether it shall stop, in ms.
const PATIENCE: i32 = 100;

struct Stdin {
    file: File,
    interrupt: Option<Arc<AtomicBool>>,
}

/// A reader of standard input that stops when `interrupt` is set.
pub(super) fn open(interrupt: Option<Arc<AtomicBool>>) -> io::Result<StreamIo> {
    let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let seekable = file.metadata()?.is_file();
    let stdin = Stdin { file, interrupt };
    let stream = if seekable {
        StreamIo::from_read_seek(stdin)
    } else {
        StreamIo::from_read(stdin)
    };
    stream.map_err(ffmpeg_error)
}

fn ffmpeg_error(e: ffmpeg::Error) -> io::Error {
    io::Error::other(e.to_string())
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !ffi::readable(self.file.as_fd(), PATIENCE)? {
            if self
                .interrupt
                .as_ref()
                .is_some_and(|f| f.load(Ordering::Relaxed))
            {
                return Err(io::Error::other("stopped"));
            }
        }
        self.file.read(buffer)
    }
}

impl Seek for Stdin {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
