//! `cargo bench --bench archive -- [segments] [plan] [again] [jobs] [ROUNDS] [brief] [film=SECONDS]`: what `batch`
//! costs beside the work itself; all parts where none is named.
//!
//! Two things that are compared take turns. Prints medians, ratios and what is asked of them, and asserts nothing but
//! that the programs did what they were to do. `brief` is for trying it: few and short films. `film=480` is the length
//! that is coloured in segments of two minutes, the default, in a quarter of an hour a round. Films are drawn from
//! samples/ once and kept in the temporary folder. Peak memory is the kernel's own high-water mark of the worker,
//! without its jobs.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use autochrome::archive::{
    FOLDER,
    record::{self, Done, Outcome, Record},
    report,
};

const ROUNDS: usize = 2;
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/village.mp4");
const AUTOCHROME: &str = env!("CARGO_BIN_EXE_autochrome");
const ENCODER: [&str; 4] = ["--preset", "veryfast", "--crf", "18"];
/// The default length of a segment, in seconds.
const SEGMENT: f64 = 120.;
/// As a film of an archive is kept, with a key frame every two seconds.
const H264: [&str; 10] = [
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-crf",
    "18",
    "-force_key_frames",
    "expr:gte(t,n_forced*2)",
    "-c:a",
    "aac",
];
const MPEG4: [&str; 6] = ["-c:v", "mpeg4", "-q:v", "4", "-c:a", "mp2"];
/// Films of which an archive is made up that was done before.
const SEED: usize = 20;

/// A part's name, and what it measures.
type Part = (&'static str, fn(&Bench));
const PARTS: [Part; 4] = [
    ("segments", segments),
    ("plan", plan),
    ("again", again),
    ("jobs", jobs),
];

/// How much is measured.
struct Size {
    /// Length of the film in segments, in seconds.
    film: u32,
    /// Films to be looked at.
    plan: usize,
    /// Items of archives that are done.
    again: &'static [usize],
    /// Items of archives that are done afresh.
    fresh: &'static [usize],
    /// Films for two jobs, and their length in seconds.
    jobs: (usize, u32),
}

const FULL: Size = Size {
    film: 60,
    plan: 200,
    again: &[100, 1_000, 10_000],
    fresh: &[20, 100],
    jobs: (6, 8),
};
const BRIEF: Size = Size {
    film: 8,
    plan: 20,
    again: &[100, 500],
    fresh: &[5, 20],
    jobs: (2, 2),
};

struct Bench {
    /// Films that are kept.
    films: PathBuf,
    /// What is made here goes with it.
    scratch: tempfile::TempDir,
    rounds: usize,
    size: Size,
}

/// One finished process.
struct Run {
    seconds: f64,
    peak_mib: f64,
    /// All that it said.
    said: String,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let asked = |name: &str| words.iter().any(|word| word == name);
    let any = PARTS.iter().any(|(name, _)| asked(name));
    let rounds = words.iter().find_map(|word| word.parse().ok());
    let length = words.iter().find_map(|word| word.strip_prefix("film="));
    let mut size = if asked("brief") { BRIEF } else { FULL };
    size.film = length.map_or(size.film, |length| length.parse().expect("seconds"));
    let films = std::env::temp_dir().join("autochrome-bench-archive");
    fs::create_dir_all(&films).expect("a temporary folder");
    let bench = Bench {
        // Beside the films, for there are hard links to them.
        scratch: tempfile::tempdir_in(&films).expect("a temporary folder"),
        films,
        rounds: rounds.unwrap_or(ROUNDS).max(1),
        size,
    };
    println!("{}", machine());
    for (_, measure) in PARTS.iter().filter(|(name, _)| !any || asked(name)) {
        measure(&bench);
    }
}

// -- segments --

/// A film in one go and in pieces.
fn segments(bench: &Bench) {
    let length = bench.size.film;
    let film = bench.film(&format!("480p-{length}s.mp4"), length, &H264);
    let lengths = [length, length / 2, length / 4];
    let (mut plain, mut pieces) = (Vec::new(), lengths.map(|_| Vec::new()));
    for _ in 0..bench.rounds {
        plain.push(colorize(bench, &film));
        for (length, runs) in lengths.iter().zip(&mut pieces) {
            runs.push(in_segments(bench, &film, *length));
        }
    }
    bench.title("segments", &format!("a film of {length} s, 640x480"));
    println!(
        "  {:<34} {:7.2} s  {:8.3} MB",
        "colorize",
        median(plain.iter().map(|(seconds, _)| *seconds)),
        median(plain.iter().map(|(_, bytes)| bytes / 1e6)),
    );
    for (length, runs) in lengths.iter().zip(&pieces) {
        tell_segments(*length, &plain, runs, f64::from(bench.size.film));
    }
}

/// Seconds and bytes of a result.
fn colorize(bench: &Bench, film: &Path) -> (f64, f64) {
    let output = bench.fresh("colorize").join("film.mp4");
    let mut command = Command::new(AUTOCHROME);
    command.arg("colorize").arg(film).arg("-o").arg(&output);
    let run = bench.run(command.args(ENCODER));
    let bytes = fs::metadata(&output).expect("a result").len();
    (run.seconds, bytes as f64)
}

/// Seconds, bytes and number of segments of a result.
fn in_segments(bench: &Bench, film: &Path, length: u32) -> (f64, f64, usize) {
    let output = bench.fresh("batch");
    let mut command = batch(film, &output);
    command.args(["--segment", &length.to_string()]);
    let run = bench.run(command.args(ENCODER));
    let records = record::records(&output).expect("an archive");
    let done = done(&records[0]);
    (run.seconds, done.bytes as f64, done.segments)
}

/// What segments of a length cost beside no segments. At two minutes it is less: as little as the second line says if
/// every segment costs the same, whatever its length.
fn tell_segments(length: u32, plain: &[(f64, f64)], runs: &[(f64, f64, usize)], film: f64) {
    let count = runs[0].2;
    let of_rounds = |figure: &dyn Fn((f64, f64), (f64, f64)) -> f64| {
        let rounds = plain.iter().zip(runs);
        median(rounds.map(|(plain, run)| figure(*plain, (run.0, run.1))))
    };
    println!(
        "  {:<34} {:7.2} s  {:8.3} MB: time {:.3}, size {:.4} of colorize's (asked: at most 1.03, 1.02 at 2 minutes)",
        format!("batch --segment {length}, {count} segments"),
        median(runs.iter().map(|run| run.0)),
        median(runs.iter().map(|run| run.1 / 1e6)),
        of_rounds(&|plain, run| run.0 / plain.0),
        of_rounds(&|plain, run| run.1 / plain.1),
    );
    let share = film / SEGMENT / count as f64;
    println!(
        "    {:+.2} s, {:+.1} kB a segment: of a segment of 2 minutes {:+.2} % of the time, {:+.3} % of the size",
        of_rounds(&|plain, run| run.0 - plain.0) / count as f64,
        of_rounds(&|plain, run| run.1 - plain.1) / count as f64 / 1e3,
        100. * share * of_rounds(&|plain, run| run.0 / plain.0 - 1.),
        100. * share * of_rounds(&|plain, run| run.1 / plain.1 - 1.),
    );
}

// -- plan --

/// Looking at an archive beside `ffprobe` on each of its films.
fn plan(bench: &Bench) {
    let films = varied(bench);
    let root = bench.fresh("films");
    let sources: Vec<PathBuf> = (0..bench.size.plan)
        .map(|number| {
            let film = &films[number % films.len()];
            let end = film.extension().unwrap_or_default().to_string_lossy();
            root.join(format!("{number:04}.{end}"))
        })
        .collect();
    for (source, film) in sources.iter().zip(films.iter().cycle()) {
        link(film, source);
    }
    let (mut probed, mut planned) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        probed.push(probe(&sources));
        let run = bench.run(batch(&root, &bench.path("none")).arg("--dry-run"));
        let looked = format!("{} films to colour", sources.len());
        assert!(run.said.contains(&looked), "{}", run.said);
        planned.push(run.seconds);
    }
    bench.title("plan", &format!("{} films of 2 to 10 s", sources.len()));
    println!(
        "  ffprobe {:.2} s, batch --dry-run {:.2} s: ratio {:.3} (asked: at most 1.2)",
        median(probed.iter().copied()),
        median(planned.iter().copied()),
        median(
            planned
                .iter()
                .zip(&probed)
                .map(|(plan, probe)| plan / probe)
        ),
    );
}

/// Short films in several containers.
fn varied(bench: &Bench) -> Vec<PathBuf> {
    let lengths = [2, 4, 6, 8, 10].into_iter();
    let films = lengths.flat_map(|seconds| {
        ["mp4", "mkv", "ts", "avi"].map(|end| {
            let codecs = if end == "avi" { &MPEG4[..] } else { &H264 };
            bench.film(&format!("480p-{seconds}s.{end}"), seconds, codecs)
        })
    });
    films.collect()
}

/// Seconds that `ffprobe` takes for all of them, one after the other.
fn probe(films: &[PathBuf]) -> f64 {
    let since = Instant::now();
    for film in films {
        let mut command = Command::new("ffprobe");
        command.args(["-v", "error", "-show_format", "-show_streams"]);
        let status = command.arg(film).stdout(Stdio::null()).status();
        assert!(status.expect("ffprobe runs").success(), "{film:?}");
    }
    since.elapsed().as_secs_f64()
}

// -- again --

/// Archives with nothing left to do, and what was done to the state to do one.
fn again(bench: &Bench) {
    bench.title("again", "films of two frames, 32x32, --model gray");
    for count in bench.size.fresh {
        let (_, run) = tiny(bench, *count);
        println!(
            "  {count} afresh: {:.2} s, {:.1} operations on the state an item (asked: under 10)",
            run.seconds,
            operations(&run) / *count as f64
        );
    }
    let (seed, _) = tiny(bench, SEED);
    for count in bench.size.again {
        done_before(bench, &seed, *count);
    }
}

/// Archive and output.
type Folders = (PathBuf, PathBuf);

/// An archive of so many films that are hardly any work, and how it was done.
fn tiny(bench: &Bench, count: usize) -> (Folders, Run) {
    let film = bench.tiny();
    let folders = (bench.fresh("films"), bench.fresh("colored"));
    for number in 0..count {
        link(&film, &folders.0.join(format!("{number:03}.mkv")));
    }
    let run = gray(bench, &folders);
    assert!(
        run.said.contains(&format!("{count} films coloured")),
        "{}",
        run.said
    );
    (folders, run)
}

fn gray(bench: &Bench, (root, output): &Folders) -> Run {
    let mut command = batch(root, output);
    bench.run(command.args(["--model", "gray", "-v"]))
}

fn operations(run: &Run) -> f64 {
    let mut lines = run.said.lines();
    let told = lines.find_map(|line| line.strip_suffix(" operations on the state"));
    told.and_then(|count| count.parse().ok())
        .expect("a number of operations")
}

/// An archive of `count` films, all as those of `seed`, run once more.
fn done_before(bench: &Bench, seed: &Folders, count: usize) {
    let folders = (bench.fresh("many"), bench.fresh("many-colored"));
    let records = record::records(&seed.1).expect("an archive");
    for (number, record) in records.iter().cycle().take(count).enumerate() {
        multiply(record, seed, &folders, number);
    }
    let runs: Vec<Run> = (0..bench.rounds).map(|_| gray(bench, &folders)).collect();
    for run in &runs {
        let words = format!("{count} done before");
        assert!(run.said.contains(&words), "{}", run.said);
    }
    let page = fs::metadata(folders.1.join(report::PAGE)).expect("a report");
    println!(
        "  {count} done before: {:.2} s, peak {:.0} MiB (asked: 10,000 under 60 s and 200 MiB), {:.2} operations on \
         the state an item (asked: under 10), a report of {:.1} MB",
        median(runs.iter().map(|run| run.seconds)),
        median(runs.iter().map(|run| run.peak_mib)),
        median(runs.iter().map(operations)) / count as f64,
        page.len() as f64 / 1e6,
    );
}

/// Another film like that of `record`, with all that there would be if it had been coloured too.
fn multiply(record: &Record, seed: &Folders, many: &Folders, number: usize) {
    let source = format!("{:03}/{number:05}.mkv", number / 100);
    link(&seed.0.join(&record.source), &many.0.join(&source));
    let mut done = done(record).clone();
    link(&seed.1.join(&done.output), &many.1.join(&source));
    link(&sheet(&seed.1, &record.source), &sheet(&many.1, &source));
    done.output = source.clone();
    let record = Record {
        root: many.0.display().to_string(),
        source,
        outcome: Outcome::Done(done),
        ..record.clone()
    };
    let path = Record::path(&many.1, &record.source);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, serde_json::to_vec(&record).expect("JSON")).expect("a record");
}

/// Where an item's pictures lie.
fn sheet(output: &Path, source: &str) -> PathBuf {
    let key = record::key(source);
    let folder = output.join(FOLDER).join("sheets").join(&key[..2]);
    folder.join(format!("{key}.jpg"))
}

fn done(record: &Record) -> &Done {
    match &record.outcome {
        Outcome::Done(done) => done,
        other => panic!("{}: {other:?}", record.source),
    }
}

// -- jobs --

/// Two films at once beside one after the other.
fn jobs(bench: &Bench) {
    let (count, length) = bench.size.jobs;
    let film = bench.film(&format!("480p-{length}s.mp4"), length, &H264);
    let root = bench.fresh("films");
    (0..count).for_each(|number| link(&film, &root.join(format!("{number}.mp4"))));
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        for (jobs, runs) in [("1", &mut one), ("2", &mut two)] {
            let mut command = batch(&root, &bench.fresh("colored"));
            let run = bench.run(command.args(["--jobs", jobs]).args(ENCODER));
            let words = format!("{count} films coloured");
            assert!(run.said.contains(&words), "{}", run.said);
            runs.push(run.seconds);
        }
    }
    bench.title("jobs", &format!("{count} films of {length} s, 640x480"));
    println!(
        "  --jobs 1 {:.2} s, --jobs 2 {:.2} s: ratio {:.3} (asked: at most 1 on two cores)",
        median(one.iter().copied()),
        median(two.iter().copied()),
        median(two.iter().zip(&one).map(|(two, one)| two / one)),
    );
}

// -- films, folders and processes --

impl Bench {
    /// Some seconds of the film in samples/, which goes round and round.
    fn film(&self, name: &str, seconds: u32, codecs: &[&str]) -> PathBuf {
        self.drawn(name, |command| {
            command.args(["-stream_loop", "-1", "-i", SAMPLE]);
            command.args(["-map", "0:v", "-map", "0:a", "-map_chapters", "-1"]);
            command.args(["-t", &seconds.to_string()]).args(codecs);
        })
    }

    /// Two frames.
    fn tiny(&self) -> PathBuf {
        self.drawn("tiny.mkv", |command| {
            let picture = "testsrc2=size=32x32:rate=25,hue=s=0";
            command.args(["-f", "lavfi", "-i", picture, "-frames:v", "2"]);
            command.args(["-c:v", "libx264", "-pix_fmt", "yuv420p"]);
        })
    }

    /// What `ffmpeg` draws as it is told, unless it has done so before.
    fn drawn(&self, name: &str, tell: impl FnOnce(&mut Command)) -> PathBuf {
        let path = self.films.join(name);
        if !path.exists() {
            let begun = self.path(name);
            let mut command = Command::new("ffmpeg");
            command.args(["-v", "error", "-nostdin", "-y"]);
            tell(&mut command);
            let status = command.arg(&begun).status().expect("ffmpeg runs");
            assert!(status.success(), "cannot draw {name}");
            fs::rename(begun, &path).expect("a name for a film");
        }
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// An empty folder.
    fn fresh(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        if path.exists() {
            fs::remove_dir_all(&path).expect("a folder that can be removed");
        }
        fs::create_dir_all(&path).expect("a folder");
        path
    }

    fn title(&self, part: &str, what: &str) {
        println!("\n{part}: {what}; median of {} in turn", self.rounds);
    }

    fn run(&self, command: &mut Command) -> Run {
        let path = self.path("said.txt");
        let said = File::create(&path).expect("a file");
        command.stdout(said.try_clone().expect("a file"));
        command.stdin(Stdio::null()).stderr(said);
        let since = Instant::now();
        let mut child = command.spawn().expect("the program starts");
        let peak_mib = watch(&child);
        let status = child.wait().expect("the program ends");
        let seconds = since.elapsed().as_secs_f64();
        let said = fs::read_to_string(path).expect("what it said");
        assert!(status.success(), "{command:?} failed: {said}");
        Run {
            seconds,
            peak_mib,
            said,
        }
    }
}

fn batch(archive: &Path, output: &Path) -> Command {
    let mut command = Command::new(AUTOCHROME);
    command.arg("batch").arg(archive).arg("-o").arg(output);
    command
}

/// The same file under another name.
fn link(file: &Path, name: &Path) {
    let folder = name.parent().expect("a folder");
    fs::create_dir_all(folder).expect("a folder");
    fs::hard_link(file, name).expect("a link");
}

/// The process's high-water mark of resident memory in MiB, read until it has none any more.
fn watch(child: &Child) -> f64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.;
    while let Some(kib) = fs::read_to_string(&status).ok().and_then(|s| peak_kib(&s)) {
        peak = kib / 1024.;
        thread::sleep(Duration::from_millis(5));
    }
    peak
}

fn peak_kib(status: &str) -> Option<f64> {
    let value = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    value.split_whitespace().next()?.parse().ok()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.,
        _ => values[middle],
    }
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map_or("unknown CPU", |l| l.trim_start_matches([' ', '\t', ':']));
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    format!("machine: {name}, {cores} cores")
}
