//! A cluster makes what one machine makes: Slurm's tasks, then a Kubernetes Job's pods, on one archive, some of them
//! ended midway and begun again.

mod common;

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use autochrome::archive;
use common::*;

/// Paths and seconds. The first is coloured in twenty pieces.
const FILMS: [(&str, u32); 4] = [
    ("long.mp4", 40),
    ("one.mkv", 3),
    ("reels/two.mp4", 4),
    ("reels/three.mkv", 2),
];

/// How every machine here colours: without a network, in pieces of two seconds.
const SETTINGS: [&str; 4] = ["--model", "gray", "--segment", "2"];

const JOB: &str = include_str!("../samples/cluster/kubernetes.yaml");

/// The exit code of tests/cluster/slurm.sh where there can be no Slurm.
const NO_SLURM: i32 = 77;

/// The exit code of a worker that was told to stop while work was left.
const AGAIN: i32 = 75;

#[test]
fn a_cluster_makes_what_one_machine_makes() {
    let lab = Lab::new();
    let films = draw(&lab);
    let (alone, together) = (lab.path("alone"), lab.path("together"));
    let cluster = run(&mut slurm(&lab, &films, &together));
    if cluster.code == NO_SLURM {
        eprintln!("skipped: {}", cluster.stderr.trim());
        return;
    }
    let tasks = String::from_utf8_lossy(&cluster.ok().stdout).into_owned();
    for task in [
        "task 0: JobState=COMPLETED, Restarts=1",
        "task 1: JobState=COMPLETED, Restarts=1",
        "task 2: JobState=COMPLETED, Restarts=0",
    ] {
        assert!(tasks.contains(task), "not {task}, but: {tasks}");
    }
    let log = fs::read_to_string(lab.path("logs/task-0.log")).expect("the first task's log");
    assert!(
        log.contains("work is left, it goes to the queue again"),
        "{log}"
    );
    // The tasks had one core each.
    run(batch(&films, &alone).args(["--threads", "1"])).ok();
    are_the_same(&alone, &together);
}

#[test]
fn pods_make_what_one_machine_makes() {
    let lab = Lab::new();
    let films = draw(&lab);
    let (alone, together) = (lab.path("alone"), lab.path("together"));
    run(&mut pod(&films, &alone, "0")).ok();
    let [first, second] = ["0", "1"].map(|index| start(pod(&films, &together, index)));
    wait_for(&together.join(archive::FOLDER));
    signal(first.id(), "TERM");
    let ended = finish(first);
    assert_eq!(ended.code, AGAIN, "{}", ended.stderr);
    assert_eq!(action_on(AGAIN), Some("Ignore"));
    run(&mut pod(&films, &together, "0")).ok();
    finish(second).ok();
    are_the_same(&alone, &together);
}

#[test]
fn a_job_begins_again_only_what_may_do_better() {
    for (code, action) in [
        (2, Some("FailJob")),
        (3, Some("FailIndex")),
        (4, Some("FailIndex")),
        (5, Some("FailJob")),
        (70, None),
        (AGAIN, Some("Ignore")),
    ] {
        assert_eq!(action_on(code), action, "exit code {code}");
    }
}

/// An archive of small grey films with sound, which can be cut at every second.
fn draw(lab: &Lab) -> PathBuf {
    let folder = lab.path("films");
    fs::create_dir_all(folder.join("reels")).expect("a folder");
    for (name, seconds) in FILMS {
        let pictures = format!("-f lavfi -i testsrc2=s=160x120:r=25:d={seconds}");
        let sound = format!("-f lavfi -i sine=r=48000:d={seconds}");
        let coded = "-vf hue=s=0 -c:v libx264 -preset ultrafast -g 25 -pix_fmt yuv420p -c:a aac";
        lab.film(
            &format!("films/{name}"),
            &format!("{pictures} {sound} {coded}"),
        );
    }
    folder
}

/// One worker, as a person begins it.
fn batch(films: &Path, out: &Path) -> Command {
    let mut command = autochrome([
        OsStr::new("batch"),
        films.as_os_str(),
        OsStr::new("-o"),
        out.as_os_str(),
    ]);
    command.args(SETTINGS);
    command
}

/// samples/cluster/slurm.sh as an array, on a Slurm of its own.
fn slurm(lab: &Lab, films: &Path, out: &Path) -> Command {
    let logs = lab.path("logs");
    fs::create_dir(&logs).expect("a folder");
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster");
    let mut command = Command::new("sh");
    command
        .arg(scripts.join("slurm.sh"))
        .arg(lab.path("slurm"))
        .arg("sh")
        .arg(scripts.join("array.sh"))
        .arg(logs)
        .args(SETTINGS)
        .env("ARCHIVE", films)
        .env("OUT", out)
        .env("AUTOCHROME", env!("CARGO_BIN_EXE_autochrome"))
        .stdin(Stdio::null());
    command
}

/// What a pod of the Job runs, with this machine's folders for its volume's.
fn pod(films: &Path, out: &Path, index: &str) -> Command {
    let here = |argument: &str| -> OsString {
        match argument {
            "/archive" => films.into(),
            "/out" => out.into(),
            other => other.into(),
        }
    };
    let mut command = autochrome(arguments().into_iter().map(here));
    command.args(SETTINGS).env("JOB_COMPLETION_INDEX", index);
    command
}

/// The arguments in the Job, which stand one a line.
fn arguments() -> Vec<&'static str> {
    let lines = JOB.lines().map(str::trim);
    lines
        .skip_while(|line| *line != "args:")
        .skip(1)
        .map_while(|line| line.strip_prefix("- "))
        .map(|argument| argument.trim_matches('"'))
        .collect()
}

/// What the Job does about a pod that ended with this exit code; `None`: it begins again, a few times.
fn action_on(code: i32) -> Option<&'static str> {
    let (mut action, code) = (None, code.to_string());
    for line in JOB.lines().map(str::trim) {
        action = line.strip_prefix("- action: ").or(action);
        let list = line.strip_prefix("values: [");
        let values = list.and_then(|list| list.strip_suffix(']'));
        if values.is_some_and(|values| values.split(", ").any(|value| value == code)) {
            return action;
        }
    }
    None
}

fn start(mut command: Command) -> Child {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    child.expect("the program starts")
}

/// Waits until work has begun there.
#[track_caller]
fn wait_for(folder: &Path) {
    let since = Instant::now();
    while !folder.exists() {
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "no work was begun for a minute"
        );
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(300));
}

/// Fails the test unless both folders have the same files, and the same pictures, times and sound in every film.
#[track_caller]
fn are_the_same(alone: &Path, together: &Path) {
    let names = results(alone);
    assert_eq!(names, results(together));
    let is_film = |name: &&PathBuf| name.extension().is_some_and(|e| e == "mp4" || e == "mkv");
    let films: Vec<&PathBuf> = names.iter().filter(is_film).collect();
    assert_eq!(films.len(), FILMS.len(), "{names:?}");
    for name in films {
        let (one, other) = (alone.join(name), together.join(name));
        let shown = name.display();
        assert!(!times(&one).is_empty(), "{shown}: no pictures");
        assert!(times(&one) == times(&other), "{shown}: other times");
        assert!(
            pictures(&one) == pictures(&other),
            "{shown}: other pictures"
        );
        assert!(
            packets(&one, "0:a") == packets(&other, "0:a"),
            "{shown}: other sound"
        );
    }
}

/// MD5 of every picture.
#[track_caller]
fn pictures(path: &Path) -> Vec<String> {
    let name = path.to_string_lossy();
    let whole = ["-map", "0:V", "-fps_mode", "passthrough"];
    frame_md5(&["-i", &name], &whole)
}

/// Every file below `folder`, from there, in order, without what is known of the archive.
fn results(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder of results").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true if path.ends_with(archive::FOLDER) => {}
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    let relative = |path: PathBuf| path.strip_prefix(folder).map(Path::to_path_buf);
    let mut names: Vec<PathBuf> = found.into_iter().flat_map(relative).collect();
    names.sort();
    names
}
