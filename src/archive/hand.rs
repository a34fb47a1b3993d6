//! Hand: a job's process, from outside. It takes one task at a time; its end is noticed, whatever it came by.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde::Serialize;

use super::{
    settings::Settings,
    task::{Task, Told},
};
use crate::{
    error::{Error, Result},
    stage::{Apart, Post},
};

/// What comes of a hand: of which one, and what it tells; `None`: it has ended.
pub type Letter = ((usize, u64), Option<Told>);

/// The allocator hands out memory that is 0, all of it. x264 looks at memory that nobody has written to: at small sizes what
/// it makes depends on what was there before, and a segment is to be the same whoever makes it, and after whatever.
const CLEARED: &str = "glibc.malloc.perturb=255:glibc.malloc.tcache_count=0";

/// How long a process may take to end after its last word.
const LINGER: Duration = Duration::from_secs(1);

/// A job's process.
pub struct Hand {
    child: Child,
    orders: ChildStdin,
    /// Why it was ended from here.
    pub ended: Option<String>,
}

impl Hand {
    /// Starts one, whose letters come under `name`.
    ///
    /// # Errors
    /// The system refuses a process.
    pub fn start(
        program: &Path,
        settings: &Settings,
        (name, post): ((usize, u64), Post<Letter>),
    ) -> Result<Self> {
        let refused =
            |e: std::io::Error| Error::internal("job", format!("cannot start a process: {e}"));
        let threads = settings.threads.to_string();
        let mut child = Command::new(program)
            .arg0("autochrome")
            .args(["job", "--threads", &threads])
            .env("GLIBC_TUNABLES", CLEARED)
            // Ctrl-C on the terminal is for the worker, which decides what becomes of its jobs.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(refused)?;
        let (Some(orders), Some(words)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::internal("job", "a process without ends"));
        };
        Apart::start("job", move || {
            let lines = BufReader::new(words).lines().map_while(std::io::Result::ok);
            // A line that is cut off is that of a process which has died over it.
            let told = lines.map_while(|line| serde_json::from_str(&line).ok());
            for told in told {
                post.post((name, Some(told)));
            }
            post.post((name, None));
        })?;
        let mut hand = Self {
            child,
            orders,
            ended: None,
        };
        hand.say(settings);
        Ok(hand)
    }

    /// Gives it something to do.
    pub fn give(&mut self, task: &Task) {
        self.say(task);
    }

    fn say(&mut self, words: &impl Serialize) {
        // One that takes nothing has died, which its letters tell.
        let line = serde_json::to_vec(words).unwrap_or_default();
        let _ = self.orders.write_all(&[&line[..], b"\n"].concat());
    }

    /// Ends it at once, for a reason that is given for its end.
    pub fn end(&mut self, why: impl Into<String>) {
        self.ended.get_or_insert(why.into());
        // It has ended by itself, then.
        let _ = self.child.kill();
    }

    /// Why it has ended.
    pub fn cause(&mut self) -> String {
        // One that tells what nobody understands would wait for ever.
        let alive = self.child.try_wait().is_ok_and(|status| status.is_none());
        if alive && self.ended.is_none() {
            std::thread::sleep(LINGER);
            if self.child.try_wait().is_ok_and(|status| status.is_none()) {
                self.end("its process tells what nobody understands");
            }
        }
        let status = self.child.wait();
        match (self.ended.take(), status) {
            (Some(why), _) => why,
            (None, Ok(status)) => told(status),
            (None, Err(e)) => format!("its process is gone: {e}"),
        }
    }

    /// Memory that it has, in bytes.
    pub fn memory(&self) -> u64 {
        const PAGE: u64 = 4096;
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id()));
        let pages = statm
            .ok()
            .and_then(|s| s.split_whitespace().nth(1)?.parse::<u64>().ok());
        pages.unwrap_or(0) * PAGE
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn told(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(9), _) => "its process was killed (signal 9), as the system does when memory runs out: try fewer --jobs".into(),
        (Some(signal), _) => format!("its process crashed (signal {signal}); is the file damaged?"),
        (_, Some(code)) => format!("its process ended by itself (code {code})"),
        _ => "its process ended".into(),
    }
}
