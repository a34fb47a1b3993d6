//! An archive for `autochrome batch`: films in folders, workers on them that can be watched, stopped and killed, and what
//! they leave behind.

use super::*;
use autochrome::archive::record::{Done, Outcome, Record, key, records};
use std::{cell::Cell, fs::File, os::unix::process::ExitStatusExt};

/// `ffmpeg`'s inputs and options for everything but the pictures of a film: a sound, subtitles, two chapters.
pub fn beside(seconds: u32, subtitles: &str) -> String {
    format!(
        "-f lavfi -i sine=r=48000:d={seconds} -i lines.srt -i chapters.txt -map 0:v -map 1:a -map 2:s -map_chapters 3 \
         -c:a aac -c:s {subtitles} -metadata:s:a language=eng"
    )
}

/// Settings with which libx264 gives the same twice: its macroblock tree reads memory that nobody has written, as
/// `MALLOC_PERTURB_=1 ffmpeg` shows, and what is there depends on what the process did before.
pub const EXACT: &str = "--encoder-option x264-params=mbtree=0 --threads 1";

/// Films in `films`, in a laboratory of their own, and as many output folders as a test wants.
pub struct Archive {
    pub lab: Lab,
    started: Cell<u32>,
}

impl Archive {
    pub fn new() -> Self {
        let lab = Lab::new();
        fs::create_dir(lab.path("films")).expect("a folder");
        let lines = "1\n00:00:00,200 --> 00:00:01,900\nGood day!\n\n2\n00:00:03,100 --> 00:00:03,800\nGood night.\n\n";
        fs::write(lab.path("lines.srt"), lines).expect("subtitles");
        let chapter = |from: u32, to: u32, title: &str| {
            format!("[CHAPTER]\nTIMEBASE=1/1000\nSTART={from}\nEND={to}\ntitle={title}\n")
        };
        let chapters = [chapter(0, 2500, "One"), chapter(2500, 5000, "Two")].concat();
        fs::write(
            lab.path("chapters.txt"),
            format!(";FFMETADATA1\n{chapters}"),
        )
        .expect("chapters");
        Self {
            lab,
            started: Cell::new(0),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.lab.path(name)
    }

    /// Draws a film of the archive; `args` are split at spaces.
    pub fn film(&self, name: &str, args: &str) -> PathBuf {
        let name = format!("films/{name}");
        let folder = self.path(&name);
        fs::create_dir_all(folder.parent().expect("a folder")).expect("the folder");
        self.lab.film(&name, args)
    }

    /// `seconds` of moving grey pictures, with `rest` of an `ffmpeg` command line behind.
    pub fn gray(&self, name: &str, size: &str, seconds: u32, rest: &str) -> PathBuf {
        let pictures =
            format!("-f lavfi -i testsrc2=s={size}:r=25:d={seconds},hue=s=0,format=yuv420p");
        self.film(name, &format!("{pictures} {rest}"))
    }

    /// `autochrome batch films -o OUT ARGS` with the quickest model; `args` are split at spaces.
    pub fn command(&self, out: &str, args: &str) -> Command {
        let mut command = autochrome(["batch"]);
        command
            .arg(self.path("films"))
            .arg("-o")
            .arg(self.path(out));
        if !args.contains("--model") {
            command.args(["--model", "constant"]);
        }
        command.args(args.split_whitespace());
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn batch(&self, out: &str, args: &str) -> Run {
        run(&mut self.command(out, args))
    }

    /// Starts it.
    #[track_caller]
    pub fn start(&self, out: &str, args: &str) -> Worker {
        self.started.set(self.started.get() + 1);
        let said = self.path(&format!("said-{}.txt", self.started.get()));
        let child = self
            .command(out, args)
            .stdout(Stdio::null())
            .stderr(File::create(&said).expect("a file"))
            .spawn();
        Worker {
            child: child.expect("the program"),
            said,
        }
    }

    /// Every film of the archive, and none but those, is coloured, verified and reported, and nothing else is left.
    #[track_caller]
    pub fn is_whole(&self, out: &str, films: usize) {
        let all = self.records(out);
        let done = |record: &&Record| matches!(record.outcome, Outcome::Done(_));
        assert_eq!(all.iter().filter(done).count(), films, "{all:#?}");
        assert_eq!(all.len(), films, "{all:#?}");
        assert_eq!(results(&self.path(out)).len(), films);
        self.is_tidy(out);
        let verified = run(autochrome(["verify"]).arg(self.path(out))).ok();
        let words = format!("{films} good, 0 wrong");
        assert!(verified.stderr.contains(&words), "{}", verified.stderr);
    }

    /// Nobody works here, nothing is half done, and the report names every film.
    #[track_caller]
    pub fn is_tidy(&self, out: &str) {
        let folder = self.path(out);
        let half = |file: &String| file.contains(".part") || file.contains(".nut");
        let halves: Vec<_> = tree(&folder).into_iter().filter(half).collect();
        assert!(halves.is_empty(), "{halves:?}");
        assert_eq!(state(&folder, "claims"), [""; 0]);
        assert_eq!(state(&folder, "films"), [""; 0]);
        for name in ["report.html", "report.json"] {
            let report = fs::read_to_string(folder.join(name)).expect("a report");
            for record in self.records(out) {
                assert!(
                    report.contains(&record.source),
                    "{name} lacks {}",
                    record.source
                );
            }
        }
    }

    #[track_caller]
    pub fn records(&self, out: &str) -> Vec<Record> {
        records(&self.path(out)).expect("records")
    }

    #[track_caller]
    pub fn record(&self, out: &str, source: &str) -> Record {
        let mut all = self.records(out).into_iter();
        all.find(|record| record.source == source)
            .unwrap_or_else(|| panic!("no record of {source}"))
    }

    #[track_caller]
    pub fn done(&self, out: &str, source: &str) -> Done {
        match self.record(out, source).outcome {
            Outcome::Done(done) => done,
            outcome => panic!("{source}: {outcome:?}"),
        }
    }

    /// Why a film has failed.
    #[track_caller]
    pub fn failure(&self, out: &str, source: &str) -> String {
        match self.record(out, source).outcome {
            Outcome::Failed { why, .. } => why,
            outcome => panic!("{source}: {outcome:?}"),
        }
    }

    /// Whether somebody has the right to work on a film.
    pub fn is_claimed(&self, out: &str, source: &str) -> bool {
        self.path(out)
            .join(".autochrome/claims")
            .join(key(source))
            .exists()
    }

    /// Whether a film in one piece, or what is joined of one, is being written.
    pub fn is_written(&self, out: &str, source: &str) -> bool {
        let own = format!("{}-", key(source));
        let files = state(&self.path(out), "films");
        files
            .iter()
            .any(|name| name.starts_with(&own) && name.ends_with(".part"))
    }

    /// How many segments of a film are done.
    pub fn segments(&self, out: &str, source: &str) -> usize {
        let folder = self.path(out).join(".autochrome/films").join(key(source));
        let marker = |name: &String| name.len() == "00000.json".len() && name.ends_with(".json");
        listed(&folder)
            .iter()
            .filter(|name| marker(name) && *name != "plan.json")
            .count()
    }

    /// Nobody has heard of a worker for a long time.
    pub fn forget(&self, out: &str, worker: &Worker) {
        let hearts = self.path(out).join(".autochrome/workers");
        let own = format!("-{}-", worker.id());
        for name in listed(&hearts).iter().filter(|name| name.contains(&own)) {
            let heart = File::options().write(true).open(hearts.join(name));
            let then = std::time::SystemTime::now() - Duration::from_secs(1000);
            heart
                .and_then(|heart| heart.set_modified(then))
                .expect("a heart");
        }
    }
}

/// A running `autochrome batch`, ended when it is dropped.
pub struct Worker {
    pub child: Child,
    said: PathBuf,
}

impl Worker {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// The processes of its jobs.
    pub fn jobs(&self) -> Vec<u32> {
        processes()
            .into_iter()
            .filter(|(_, parent)| *parent == self.id())
            .map(|(id, _)| id)
            .collect()
    }

    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_some()
    }

    /// Waits until something is the case, which it must be before the worker ends.
    #[track_caller]
    pub fn until(&mut self, what: &str, fits: impl Fn() -> bool) {
        let since = Instant::now();
        while !fits() {
            assert!(!self.is_over(), "it ended before {what}: {}", self.said());
            assert!(
                since.elapsed() < Duration::from_secs(100),
                "{what}: never: {}",
                self.said()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Run {
        let since = Instant::now();
        while !self.is_over() {
            assert!(
                since.elapsed() < PATIENCE,
                "the worker hangs: {}",
                self.said()
            );
            thread::sleep(Duration::from_millis(2));
        }
        let status = self.child.wait().expect("its end");
        Run {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: Vec::new(),
            stderr: self.said(),
        }
    }

    /// Takes the power from it at this moment; its jobs end with it. Whether it was still at work.
    #[track_caller]
    pub fn kill(&mut self) -> bool {
        if self.is_over() {
            return false;
        }
        // Standing still it starts no more jobs.
        self.signal("STOP");
        let jobs = self.jobs();
        self.child.kill().expect("its end");
        let killed = self.child.wait().expect("its end").signal() == Some(9);
        let since = Instant::now();
        let alive = || {
            let now = processes();
            jobs.iter().any(|job| now.iter().any(|(id, _)| id == job))
        };
        while alive() {
            assert!(since.elapsed() < Duration::from_secs(2), "jobs live on");
            thread::sleep(Duration::from_millis(2));
        }
        killed
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All living processes and their parents.
fn processes() -> Vec<(u32, u32)> {
    let parent = |id: &String| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let is_dead = fields.next()? == "Z";
        (!is_dead).then(|| Some((id.parse().ok()?, fields.next()?.parse().ok()?)))?
    };
    listed(Path::new("/proc"))
        .iter()
        .filter_map(parent)
        .collect()
}

/// Names in a folder, in order; none where there is no folder.
pub fn listed(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// What is in a folder of the state.
pub fn state(out: &Path, part: &str) -> Vec<String> {
    listed(&out.join(".autochrome").join(part))
}

/// All files below a folder, in order.
pub fn tree(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for name in listed(folder) {
        match folder.join(&name) {
            path if path.is_dir() => {
                files.extend(tree(&path).iter().map(|file| format!("{name}/{file}")))
            }
            _ => files.push(name),
        }
    }
    files
}

/// All files below an output folder but state and report.
pub fn results(out: &Path) -> Vec<String> {
    let mut files = tree(out);
    files.retain(|file| !file.starts_with(".autochrome/") && !file.starts_with("report."));
    files
}

/// What a player gets of a film, all that must not depend on how often the work on it was begun.
#[derive(Debug, PartialEq)]
pub struct Played {
    pub frames: Vec<String>,
    pub times: Vec<f64>,
    /// Packets of every other stream.
    pub others: Vec<Vec<String>>,
    pub chapters: Vec<(String, String)>,
}

#[track_caller]
pub fn played(film: &Path) -> Played {
    let name = film.to_string_lossy();
    let probed = probe(film);
    let others = ["audio", "subtitle"]
        .into_iter()
        .filter(|kind| !streams(&probed, kind).is_empty());
    let chapters = probed["chapters"].as_array().expect("chapters").iter();
    Played {
        frames: frame_md5(&["-i", &name], &["-map", "0:V", "-fps_mode", "passthrough"]),
        times: times(film),
        others: others
            .map(|kind| packets(film, &format!("0:{}", &kind[..1])))
            .collect(),
        chapters: chapters
            .map(|chapter| {
                (
                    chapter["start_time"].to_string(),
                    chapter["tags"]["title"].to_string(),
                )
            })
            .collect(),
    }
}

/// Two archives hold the same films.
#[track_caller]
pub fn same(one: &Path, other: &Path) {
    assert_eq!(results(one), results(other));
    for film in results(one) {
        let (a, b) = (played(&one.join(&film)), played(&other.join(&film)));
        assert!(a.frames == b.frames, "{film}: other frames");
        assert_eq!(a, b, "{film}");
    }
}

/// Times of showing and of decoding of the main video's packets, as they lie in the file; Matroska does not say when the
/// first ones are decoded.
#[track_caller]
pub fn stamps(film: &Path) -> Vec<(i64, Option<i64>)> {
    let name = film.to_string_lossy();
    let mut args = vec!["-v", "error", "-select_streams", "V:0"];
    args.extend(["-show_entries", "packet=pts,dts", "-of", "json", &name]);
    let all: Value = serde_json::from_str(&tool("ffprobe", &args)).expect("JSON");
    let packets = all["packets"].as_array().expect("packets").iter();
    packets
        .map(|packet| {
            let pts = packet["pts"].as_i64().expect("a time");
            (pts, packet["dts"].as_i64())
        })
        .collect()
}

/// Numbers that are the same in every run.
pub struct Dice(pub u32);

impl Dice {
    /// Below `most`.
    pub fn roll(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u64::from(self.0 >> 8) % most
    }
}

/// Kills workers on one output folder, each some time after its start, below `most` milliseconds at first and below more
/// and more, so that a busy machine gets on as well, until one comes to its end: how many were killed, and that one.
#[track_caller]
pub fn killed_again_and_again(
    start: impl Fn() -> Worker,
    dice: &mut Dice,
    mut most: u64,
) -> (usize, Run) {
    for kills in 0.. {
        let mut worker = start();
        let (since, time) = (Instant::now(), Duration::from_millis(20 + dice.roll(most)));
        while since.elapsed() < time && !worker.is_over() {
            thread::sleep(Duration::from_millis(2));
        }
        if !worker.kill() {
            return (kills, worker.end());
        }
        most += most / 8;
    }
    unreachable!()
}
