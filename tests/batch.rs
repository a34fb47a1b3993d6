//! `autochrome batch` from end to end: what an archive becomes, and that it becomes the same whatever happens to the
//! processes that work on it.

mod common;

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use autochrome::archive::record::Outcome;
use common::{archive::*, *};

/// What a result is on the disk: whoever writes it again changes it.
fn marks(out: &Path) -> Vec<(String, u64, i64, i64)> {
    let mark = |name: String| {
        let facts = fs::metadata(out.join(&name)).expect("a result");
        (name, facts.ino(), facts.mtime(), facts.mtime_nsec())
    };
    results(out).into_iter().map(mark).collect()
}

/// How many of `before` are as they were.
fn kept(before: &[(String, u64, i64, i64)], out: &Path) -> usize {
    let now = marks(out);
    before.iter().filter(|mark| now.contains(mark)).count()
}

#[test]
fn a_tree_is_mirrored_and_only_what_changes_is_done_again() {
    let archive = Archive::new();
    let sound = "-f lavfi -i sine=r=48000 -shortest";
    archive.gray(
        "a.mkv",
        "160x120",
        1,
        &format!("{sound} -c:v libx264 -c:a aac"),
    );
    archive.gray(
        "b.mp4",
        "160x120",
        1,
        &format!("{sound} -c:v libx264 -c:a aac"),
    );
    archive.gray(
        "1950s/c.avi",
        "160x120",
        1,
        &format!("{sound} -c:v mpeg4 -c:a mp2"),
    );
    archive.gray(
        "1950s/reel 2/ö d.MOV",
        "160x120",
        1,
        "-c:v mjpeg -pix_fmt yuvj420p",
    );
    let films = archive.path("films");
    fs::create_dir(films.join(".trash")).expect("a folder");
    for copy in [".trash/e.mkv", ".f.mkv", "g.mkv.part"] {
        fs::copy(films.join("a.mkv"), films.join(copy)).expect("a copy");
    }
    for other in ["notes.txt", "1950s/poster.jpg"] {
        fs::write(films.join(other), "no film").expect("a file");
    }
    let all = ["1950s/c.avi.mkv", "1950s/reel 2/ö d.MOV", "a.mkv", "b.mp4"];

    let dry = |args: &str| {
        let run = archive.batch("out", &format!("--dry-run {args}")).ok();
        String::from_utf8(run.stdout).expect("text")
    };
    let said = dry("");
    for word in [
        "4 films to colour",
        "4 seconds of film",
        " frames, ",
        "with 1 at once",
        "on the disk",
        "are free",
    ] {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    archive
        .batch("out", "--codec nonsense")
        .fails(2, &["nonsense", "h264"]);
    let nothing = !archive.path("out").exists();
    assert!(nothing, "a dry run and a wrong codec write nothing");
    fs::write(archive.path("list.txt"), "# mine\nb.mp4\n1950s/c.avi\n").expect("a list");
    let list = format!("--list {}", archive.path("list.txt").display());
    for (args, count) in [
        ("--include 1950s/**", "2 films"),
        ("--include *.mkv", "1 film"),
        ("--exclude 1950s/**", "2 films"),
        ("--include 1950s/** --exclude *.avi", "1 film"),
        (&list, "2 films"),
    ] {
        let said = dry(args);
        assert!(
            said.contains(&format!("{count} to colour")),
            "{args}: {said}"
        );
    }

    let run = archive.batch("out", "").ok();
    assert!(
        run.stderr.contains("2 files that are no films"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.contains("4 films coloured; see"),
        "{}",
        run.stderr
    );
    let out = archive.path("out");
    assert_eq!(results(&out), all);
    archive.is_whole("out", 4);
    for name in all {
        assert_eq!(times(&out.join(name)).len(), 25, "{name}");
    }

    let before = marks(&out);
    let again = |args: &str, words: &str, same: usize| {
        let run = archive.batch("out", args).ok();
        assert!(
            run.stderr.contains(&format!("{words}; see")),
            "{args}: {}",
            run.stderr
        );
        assert_eq!(kept(&before, &out), same, "{args}");
        assert_eq!(results(&out), all);
    };
    again("", "0 films coloured, 4 done before", 4);
    let said = dry("");
    assert!(
        said.contains("0 films to colour") && said.contains("4 are done and unchanged"),
        "{said}"
    );
    let touched = File::options()
        .write(true)
        .open(films.join("a.mkv"))
        .expect("a film");
    touched
        .set_modified(SystemTime::now() - Duration::from_secs(99))
        .expect("another time");
    again("", "1 film coloured, 3 done before", 3);
    archive.gray("b.mp4", "160x120", 1, "-c:v libx264 -crf 35");
    again("", "1 film coloured, 3 done before", 2);
    fs::remove_file(out.join("1950s/c.avi.mkv")).expect("a result");
    again("", "1 film coloured, 3 done before", 1);
    again("--crf 30", "4 films coloured", 0);
    archive.is_whole("out", 4);

    archive.batch("listed", &list).ok();
    assert_eq!(
        results(&archive.path("listed")),
        ["1950s/c.avi.mkv", "b.mp4"]
    );
    let mut one = autochrome(["batch", "--model", "gray", "-o"]);
    run_ok(one.arg(archive.path("one")).arg(films.join("a.mkv")));
    assert_eq!(results(&archive.path("one")), ["a.mkv"]);
    archive.is_whole("one", 1);
}

#[track_caller]
fn run_ok(command: &mut Command) -> Run {
    run(command).ok()
}

#[test]
fn a_film_in_colour_is_left_out_unless_asked_for() {
    let archive = Archive::new();
    archive.film(
        "colour.mkv",
        "-f lavfi -i testsrc2=s=160x120:r=25:d=2 -c:v libx264 -pix_fmt yuv420p",
    );
    archive.gray("gray.mkv", "160x120", 2, "-c:v libx264");
    let run = archive.batch("out", "").ok();
    for words in [
        "1 film coloured, 1 left out",
        "colour.mkv: left out: it is in colour already",
    ] {
        assert!(run.stderr.contains(words), "no {words:?} in {}", run.stderr);
    }
    assert_eq!(results(&archive.path("out")), ["gray.mkv"]);
    archive.is_tidy("out");
    let run = archive.batch("out", "").ok();
    assert!(
        run.stderr
            .contains("0 films coloured, 1 done before, 1 left out"),
        "{}",
        run.stderr
    );
    archive.batch("out", "--keep-color never").ok();
    archive.is_whole("out", 2);
}

/// The films that tests of segments work on: frames in another order than they are shown, frames that are missing, other
/// containers.
fn reels(archive: &Archive) {
    let x264 = "-c:v libx264 -preset veryfast -g 20";
    let vfr = "-vf select=not(eq(mod(n\\,7)\\,3)) -fps_mode vfr";
    let (nine, eight) = (beside(9, "srt"), beside(8, "mov_text"));
    archive.gray(
        "vfr.mkv",
        "160x120",
        9,
        &format!("{nine} {vfr} {x264} -bf 3"),
    );
    archive.gray(
        "reel/bframes.mp4",
        "160x120",
        8,
        &format!("{eight} {x264} -bf 2"),
    );
    let tape = "-f lavfi -i sine=r=48000:d=7 -c:v mpeg2video -g 12 -bf 2 -c:a mp2";
    archive.gray("reel/tape.ts", "160x120", 7, tape);
    archive.gray("short.avi", "160x120", 2, "-c:v mpeg4 -bf 1");
}

const REELS: [(&str, &str); 4] = [
    ("vfr.mkv", "vfr.mkv"),
    ("reel/bframes.mp4", "reel/bframes.mp4"),
    ("reel/tape.ts", "reel/tape.ts.mkv"),
    ("short.avi", "short.avi.mkv"),
];

#[test]
fn a_film_of_segments_is_what_colorize_makes_of_it() {
    let archive = Archive::new();
    reels(&archive);
    let run = archive.batch("out", "--segment 2 --jobs 2").ok();
    assert!(
        run.stderr.contains("4 films coloured; see"),
        "each once: {}",
        run.stderr
    );
    archive.is_whole("out", 4);
    for (source, output) in REELS {
        let whole = archive.path(&format!("whole.{}", output.rsplit('.').next().unwrap()));
        let film = archive.path("films").join(source);
        colorize(&film, &whole, "--model constant --force").ok();
        let result = archive.path("out").join(output);
        let (expected, found) = (played(&whole), played(&result));
        assert_eq!(found.frames.len(), expected.frames.len(), "{source}");
        assert_eq!(found.times, expected.times, "{source}");
        assert_eq!(found.others, expected.others, "{source}");
        assert_eq!(found.chapters, expected.chapters, "{source}");
        let stamps = stamps(&result);
        let decoded: Vec<i64> = stamps.iter().filter_map(|(_, dts)| *dts).collect();
        assert!(
            decoded.windows(2).all(|two| two[0] < two[1]),
            "{source}: {stamps:?}"
        );
        assert!(decoded.len() + 3 >= stamps.len(), "{source}: {stamps:?}");
        let early = |(pts, dts): &(i64, Option<i64>)| dts.is_none_or(|dts| dts <= *pts);
        assert!(stamps.iter().all(early), "{source}: {stamps:?}");
        let done = archive.done("out", source);
        println!(
            "{source}: {} frames in {} segments",
            done.frames, done.segments
        );
        let least = match source {
            "short.avi" => 1,
            "reel/tape.ts" => 2,
            _ => 3,
        };
        assert!(
            done.segments >= least,
            "{source}: {} segments",
            done.segments
        );
    }
}

/// Real motion, a network, colour that is carried over frames, and a cut from one scene to another.
#[test]
fn every_frame_of_a_film_of_segments_is_the_whole_films() {
    let archive = Archive::new();
    let graph = "[0:v]trim=duration=6,scale=160:120,hue=s=0,format=yuv420p,setpts=PTS-STARTPTS[a];\
        [1:v]scale=160:120,hue=s=0,format=yuv420p[b];[a][b]concat=n=2:v=1:a=0";
    let film = archive.film(
        "village.mkv",
        &format!(
            "-i {SAMPLE} -f lavfi -i mandelbrot=s=160x120:r=24:start_scale=0.4:end_pts=100,trim=duration=4 \
             -filter_complex {graph} -c:v libx264 -preset veryfast -g 16 -bf 2"
        ),
    );
    let args = "--model fast --codec ffv1 --temporal motion";
    archive.batch("out", &format!("{args} --segment 2")).ok();
    archive.is_whole("out", 1);
    let segments = archive.done("out", "village.mkv").segments;
    assert!(segments >= 4, "{segments} segments");
    let whole = archive.path("whole.mkv");
    colorize(&film, &whole, args).ok();
    let (expected, found) = (played(&whole), played(&archive.path("out/village.mkv")));
    let other: Vec<_> = (0..expected.frames.len())
        .filter(|&at| expected.frames.get(at) != found.frames.get(at))
        .collect();
    assert!(other.is_empty(), "other frames: {other:?}");
    assert_eq!(found, expected);
    assert!(found.frames.len() > 200);
}

#[test]
fn a_worker_that_is_killed_at_any_moment_loses_no_more_than_a_segment() {
    const KILLS: usize = 12;
    let archive = Archive::new();
    reels(&archive);
    let args = &format!("--segment 2 --jobs 2 {EXACT}");
    archive.batch("whole", args).ok();
    let (mut dice, mut kills, mut round) = (Dice(7), 0, 0);
    while kills < KILLS {
        let out = format!("killed-{round}");
        let (killed, last) = killed_again_and_again(|| archive.start(&out, args), &mut dice, 600);
        last.ok();
        (kills, round) = (kills + killed, round + 1);
        archive.is_whole(&out, REELS.len());
        same(&archive.path("whole"), &archive.path(&out));
    }
    println!("{kills} kills in {round} rounds");
}

/// What a worker had begun that was believed dead is done by another one; when it comes to itself it harms nothing.
#[test]
fn who_is_taken_for_dead_does_nothing_twice() {
    let archive = Archive::new();
    reels(&archive);
    archive.batch("whole", &format!("--segment 2 {EXACT}")).ok();
    for (round, (with_jobs, source)) in [
        (true, "vfr.mkv"),
        (false, "vfr.mkv"),
        (true, "reel/tape.ts"),
        (false, "short.avi"),
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("out-{round}");
        // The film whose turn it is comes first.
        let shard = REELS_SORTED
            .iter()
            .position(|name| *name == source)
            .expect("a reel");
        let args = format!("--segment 2 {EXACT} --lease 1 --shard {shard}/4");
        let mut paused = archive.start(&out, &args);
        match round % 2 {
            0 => paused.until("a claim", || archive.is_claimed(&out, source)),
            _ => paused.until("work", || {
                archive.is_written(&out, source) || archive.segments(&out, source) > 1
            }),
        }
        paused.signal("STOP");
        let jobs = if with_jobs { paused.jobs() } else { Vec::new() };
        jobs.iter().for_each(|job| signal(*job, "STOP"));
        archive.forget(&out, &paused);
        let run = archive.batch(&out, &args).ok();
        assert!(
            run.stderr.contains("4 films coloured") || !with_jobs || round > 0,
            "{}",
            run.stderr
        );
        let before = marks(&archive.path(&out));
        assert_eq!(before.len(), 4, "{}", run.stderr);
        jobs.iter().for_each(|job| signal(*job, "CONT"));
        paused.signal("CONT");
        let run = paused.end().ok();
        assert_eq!(
            kept(&before, &archive.path(&out)),
            4,
            "{source}: written again: {}",
            run.stderr
        );
        archive.is_whole(&out, 4);
        same(&archive.path("whole"), &archive.path(&out));
    }
}

const REELS_SORTED: [&str; 4] = ["reel/bframes.mp4", "reel/tape.ts", "short.avi", "vfr.mkv"];

#[test]
fn many_workers_do_an_archive_together() {
    let archive = Archive::new();
    reels(&archive);
    for copy in 0..3 {
        let film = archive.path(&format!("films/copy-{copy}.mkv"));
        fs::copy(archive.path("films/vfr.mkv"), film).expect("a copy");
    }
    let args = &format!("--segment 2 {EXACT} --lease 1");
    archive.batch("whole", args).ok();
    let mut dice = Dice(11);
    for count in [2, 4] {
        let out = format!("out-{count}");
        let start = |at: u32| archive.start(&out, &format!("{args} --shard {at}/{count}"));
        let mut workers: Vec<Worker> = (0..count).map(start).collect();
        // Some stand still now and then, and some of those are believed dead.
        for round in 0..4 {
            thread::sleep(Duration::from_millis(200 + dice.roll(300)));
            let paused = &mut workers[dice.roll(u64::from(count)) as usize];
            if paused.is_over() {
                continue;
            }
            paused.signal("STOP");
            if round % 2 == 0 {
                archive.forget(&out, paused);
            }
            thread::sleep(Duration::from_millis(200 + dice.roll(1000)));
            paused.signal("CONT");
        }
        let runs: Vec<Run> = workers.into_iter().map(Worker::end).collect();
        for run in runs {
            run.ok();
        }
        // Whoever ends first leaves the others what they have begun, and the last report may be older than the last film.
        let run = archive.batch(&out, args).ok();
        assert!(
            run.stderr.contains("0 films coloured, 7 done before; see"),
            "{}",
            run.stderr
        );
        archive.is_whole(&out, 7);
        same(&archive.path("whole"), &archive.path(&out));
    }
}

/// A film of some seconds of work, in one piece.
fn reel(archive: &Archive, name: &str) {
    archive.gray(name, "320x240", 30, "-c:v libx264 -preset ultrafast");
}

#[test]
fn a_job_that_dies_costs_its_film_only() {
    let archive = Archive::new();
    let faults = [
        ("segv.mkv", "SEGV", "crashed (signal 11)"),
        ("abrt.mkv", "ABRT", "crashed (signal 6)"),
        ("kill.mkv", "KILL", "killed (signal 9)"),
    ];
    for (name, ..) in faults {
        reel(&archive, name);
    }
    archive.gray("good.mkv", "160x120", 2, "-c:v libx264");
    archive.gray("long.mkv", "160x120", 9, "-c:v libx264 -g 20");
    // In segments, of which one is tried twice.
    let mut worker = archive.start("out", "--segment 0:30");
    let mut hit = Vec::new();
    while hit.len() < 6 {
        let due = || {
            faults
                .iter()
                .find(|(name, ..)| archive.is_written("out", name))
        };
        worker.until("all faults", || due().is_some());
        // In this order: what is written now is not what a job has left that died before.
        let jobs = worker.jobs();
        let Some((name, what, _)) = due() else {
            continue;
        };
        for job in jobs {
            if hit.iter().any(|(_, before)| *before == job) {
                continue;
            }
            hit.push((*name, job));
            // Rust's own handler lets the first one pass.
            while worker.jobs().contains(&job) && !worker.is_over() {
                let kill = format!("kill -{what} {job} 2> /dev/null");
                let _ = Command::new("sh").args(["-c", &kill]).status();
                thread::sleep(Duration::from_millis(30));
            }
        }
    }
    let run = worker.end();
    println!("{}", run.stderr);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(
        run.stderr.contains("2 films coloured, 3 failed; see"),
        "{}",
        run.stderr
    );
    assert_eq!(
        run.stderr.matches("it is tried once more").count(),
        3,
        "{}",
        run.stderr
    );
    for (name, _, why) in faults {
        assert_eq!(hit.iter().filter(|(film, _)| *film == name).count(), 2);
        let failure = archive.failure("out", name);
        assert!(failure.contains(why), "{name}: {failure}");
        assert!(
            run.stderr.contains(&format!("{name}: {failure}")),
            "{}",
            run.stderr
        );
    }
    assert_eq!(results(&archive.path("out")), ["good.mkv", "long.mkv"]);
    archive.is_tidy("out");

    let before = marks(&archive.path("out"));
    let again = archive.batch("out", "--segment 0:30");
    assert_ne!(again.code, 0);
    for words in [
        "0 films coloured, 2 done before, 3 failed",
        "--retry-failed",
        "signal 11",
    ] {
        assert!(
            again.stderr.contains(words),
            "no {words:?} in {}",
            again.stderr
        );
    }
    let run = archive.batch("out", "--segment 0:30 --retry-failed").ok();
    assert!(
        run.stderr.contains("3 films coloured, 2 done before; see"),
        "{}",
        run.stderr
    );
    assert_eq!(kept(&before, &archive.path("out")), 2);
    archive.is_whole("out", 5);
}

/// Once it is only tried again, and nobody counts the film twice.
#[test]
fn a_segment_whose_job_dies_is_tried_once_more() {
    let archive = Archive::new();
    archive.gray(
        "film.mkv",
        "320x240",
        16,
        "-c:v libx264 -preset ultrafast -g 25",
    );
    for jobs in [1, 2] {
        let out = format!("out-{jobs}");
        let mut worker = archive.start(&out, &format!("--segment 4 --jobs {jobs}"));
        worker.until("a segment", || archive.segments(&out, "film.mkv") == 1);
        let victims = worker.jobs();
        signal(victims[0], "KILL");
        let run = worker.end().ok();
        let words = ["it is tried once more", "1 film coloured; see"];
        assert!(
            words.iter().all(|words| run.stderr.contains(words)),
            "{}",
            run.stderr
        );
        archive.is_whole(&out, 1);
        let waiting =
            fs::read_to_string(archive.path(&format!("{out}/report.json"))).expect("a report");
        let report: serde_json::Value = serde_json::from_str(&waiting).expect("JSON");
        assert_eq!(report["facts"]["waiting"], serde_json::json!([]));
    }
}

#[test]
fn a_job_that_stands_still_is_ended() {
    let archive = Archive::new();
    reel(&archive, "stuck.mkv");
    archive.gray("good.mkv", "160x120", 2, "-c:v libx264");
    let mut worker = archive.start("out", "--patience 3");
    let mut stopped: Vec<u32> = Vec::new();
    while stopped.len() < 2 {
        let jobs = worker.jobs();
        worker.until("the film", || archive.is_written("out", "stuck.mkv"));
        for job in jobs {
            if !stopped.contains(&job) {
                signal(job, "STOP");
                stopped.push(job);
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    let run = worker.end();
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(
        run.stderr.contains("1 film coloured, 1 failed; see"),
        "{}",
        run.stderr
    );
    let why = archive.failure("out", "stuck.mkv");
    assert!(why.contains("it made no progress for 3 s"), "{why}");
    archive.is_tidy("out");
}

#[test]
fn a_job_that_wants_more_than_its_share_of_memory_is_ended() {
    let archive = Archive::new();
    archive.gray(
        "large.mkv",
        "2560x1440",
        3,
        "-c:v libx264 -preset ultrafast",
    );
    archive.gray("small.mkv", "160x120", 2, "-c:v libx264");
    archive
        .batch("out", "--memory 255M")
        .fails(2, &["at least 256 MiB", "--memory"]);
    archive
        .batch("out", "--memory 511M --jobs 2")
        .fails(2, &["2 jobs in 511 MiB"]);
    let run = archive.batch("out", "--memory 257M");
    assert_ne!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("1 film coloured, 1 failed; see"),
        "{}",
        run.stderr
    );
    let why = archive.failure("out", "large.mkv");
    assert!(
        why.contains("it needed more than 257 MiB of memory"),
        "{why}"
    );
    archive.is_tidy("out");
    archive.batch("out", "--memory 4G --retry-failed").ok();
    archive.is_whole("out", 2);
}

#[test]
fn one_signal_keeps_what_ends_soon_and_two_keep_what_is_done() {
    let archive = Archive::new();
    archive.gray(
        "film.mkv",
        "640x360",
        32,
        "-c:v libx264 -preset ultrafast -g 25",
    );
    let done = || archive.segments("out", "film.mkv");
    let mut before = 0;
    for (grace, signals, more) in [("0", 1, 0), ("1:40", 1, 1), ("1:40", 2, 0)] {
        let mut worker = archive.start("out", &format!("--segment 6 --grace {grace}"));
        let waited = before;
        worker.until("a segment", || done() > waited);
        // Long enough for it to know its pace, and not so long that it ends.
        thread::sleep(Duration::from_millis(600));
        let (then, since) = (done(), Instant::now());
        for _ in 0..signals {
            worker.signal("TERM");
            thread::sleep(Duration::from_millis(100));
        }
        let run = worker.end();
        let took = since.elapsed().as_secs_f64();
        println!(
            "--grace {grace}, {signals} signals: {took:.2} s\n{}",
            run.stderr
        );
        assert_eq!(run.code, 75, "{}", run.stderr);
        for words in [
            "it was asked to stop: 1 film left",
            "the same command goes on",
            "1 still to be done",
        ] {
            assert!(run.stderr.contains(words), "no {words:?} in {}", run.stderr);
        }
        assert_eq!(
            done(),
            then + more,
            "--grace {grace}, {signals} signals: {}",
            run.stderr
        );
        assert!(more > 0 || took < 3., "it took {took} s");
        assert_eq!(state(&archive.path("out"), "claims"), [""; 0]);
        assert_eq!(results(&archive.path("out")), [""; 0]);
        let half = |file: &String| file.contains(".part");
        assert!(!tree(&archive.path("out")).iter().any(half));
        before = done();
    }
    archive.batch("out", "--segment 6").ok();
    archive.is_whole("out", 1);
    assert_eq!(archive.done("out", "film.mkv").frames, 32 * 25);
}

#[test]
fn odd_and_broken_files_end_in_a_film_or_a_sentence() {
    let Some(odd) = shared("odd") else { return };
    let archive = Archive::new();
    for entry in fs::read_dir(odd).expect("the folder").flatten() {
        fs::copy(entry.path(), archive.path("films").join(entry.file_name())).expect("a copy");
    }
    let good = archive.gray("good.mkv", "160x120", 2, "-c:v libx264 -c:a aac");
    let bytes = fs::read(good).expect("a film");
    fs::write(archive.path("films/cut.mkv"), &bytes[..bytes.len() / 3]).expect("a film");
    fs::write(archive.path("films/empty.mp4"), "").expect("a film");
    fs::write(archive.path("films/text.avi"), "no film at all").expect("a film");
    let args = "--include *.* --keep-color never --drop-unsupported --segment 2 --jobs 2";
    let run = archive.batch("out", args);
    println!("{}", run.stderr);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(
        !run.stderr.contains("defect") && !run.stderr.contains("panicked"),
        "{}",
        run.stderr
    );
    archive.is_tidy("out");
    let (mut films, mut sentences) = (0, 0);
    for record in archive.records("out") {
        match &record.outcome {
            Outcome::Done(_) => films += 1,
            Outcome::Failed { why, .. } => {
                sentences += 1;
                assert!(
                    why.len() > 20 && why.contains(' '),
                    "{}: {why}",
                    record.source
                );
                assert!(
                    !why.contains("signal") && !why.contains("code "),
                    "{}: {why}",
                    record.source
                );
            }
            outcome => panic!("{}: {outcome:?}", record.source),
        }
    }
    assert_eq!(films, results(&archive.path("out")).len());
    println!("{films} films, {sentences} sentences");
    for broken in ["empty.mp4", "text.avi"] {
        archive.failure("out", broken);
    }
    archive.done("out", "good.mkv");
    // Of those that could be coloured none is wrong.
    let verified = run_of_verify(&archive.path("out"));
    assert!(verified.stderr.contains("0 wrong"), "{}", verified.stderr);
}

fn run_of_verify(out: &Path) -> Run {
    run(autochrome(["verify"]).arg(out))
}

/// A disk of its own, gone with the test.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir_all(&at).expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&at)
            .output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            eprintln!("skipped: no disk can be mounted here");
            return None;
        }
        Some(Self(at))
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        let mounted = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status();
        assert!(mounted.is_ok_and(|status| status.success()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_it_and_costs_nothing() {
    let archive = Archive::new();
    let Some(disk) = Disk::mount(archive.path("out"), "size=68m") else {
        return;
    };
    // Noise takes room.
    for name in ["a.mkv", "b.mkv", "c.mkv", "d.mkv"] {
        archive.gray(
            name,
            "160x120",
            4,
            "-vf noise=c0s=60:c0f=t -c:v libx264 -preset ultrafast -qp 4",
        );
    }
    let run = archive.batch("out", "--codec ffv1");
    let words = [
        "the disk is full, or will soon be",
        "the same command goes on",
        "still to be done",
    ];
    let run = run.fails(75, &words);
    let before = marks(&archive.path("out"));
    println!("{} films, then: {}", before.len(), run.stderr);
    assert!((1..4).contains(&before.len()), "{}", run.stderr);
    archive.is_tidy("out");
    run_of_verify(&archive.path("out")).ok();
    disk.resize("300m");
    archive.batch("out", "--codec ffv1").ok();
    archive.is_whole("out", 4);
    assert_eq!(kept(&before, &archive.path("out")), before.len());

    // Now the last byte is gone in the midst of a film, and of a segment.
    archive.gray(
        "long.mkv",
        "320x240",
        24,
        "-vf noise=c0s=60:c0f=t -c:v libx264 -preset ultrafast -qp 10 -g 25",
    );
    let before = marks(&archive.path("out"));
    for segment in ["1:00", "4"] {
        let args = format!("--codec ffv1 --segment {segment}");
        let mut worker = archive.start("out", &args);
        worker.until("work", || {
            archive.is_written("out", "long.mkv") || archive.segments("out", "long.mkv") > 0
        });
        let ballast = archive.path("out/ballast");
        let mut file = File::create(&ballast).expect("ballast");
        while file.write_all(&[0; 4096]).is_ok() {}
        let run = worker.end();
        println!("{}", run.stderr);
        let run = run.fails(75, &["the disk is full", "the same command goes on"]);
        fs::remove_file(ballast).expect("ballast");
        assert_eq!(kept(&before, &archive.path("out")), 4, "{}", run.stderr);
        assert_eq!(marks(&archive.path("out")).len(), 4);
        assert_eq!(state(&archive.path("out"), "claims"), [""; 0]);
        assert!(
            !tree(&archive.path("out"))
                .iter()
                .any(|file| file.contains(".part"))
        );
    }
    archive.batch("out", "--codec ffv1 --segment 4").ok();
    archive.is_whole("out", 5);
}

#[test]
fn a_strangers_file_is_never_overwritten() {
    let archive = Archive::new();
    archive.gray("a.mkv", "160x120", 1, "-c:v libx264");
    archive.gray("b.mkv", "160x120", 1, "-c:v libx264");
    fs::create_dir(archive.path("out")).expect("a folder");
    let mine = archive.path("out/a.mkv");
    fs::write(&mine, "mine").expect("a file");
    for args in [
        "",
        "",
        "--retry-failed",
        "--crf 30",
        "--crf 30 --retry-failed",
    ] {
        let run = archive.batch("out", args);
        assert_ne!(run.code, 0, "{args}: {}", run.stderr);
        assert_eq!(
            fs::read(&mine).expect("my file"),
            b"mine",
            "{args}: {}",
            run.stderr
        );
        let words = format!("{} exists already", mine.display());
        assert!(
            run.stderr.contains(&words),
            "{args}: no {words:?} in {}",
            run.stderr
        );
        archive.failure("out", "a.mkv");
        archive.done("out", "b.mkv");
        archive.is_tidy("out");
    }
    fs::remove_file(&mine).expect("my file");
    archive.batch("out", "--retry-failed").ok();
    archive.is_whole("out", 2);
    // Nor one that has come in place of a result that could not be made before.
    archive.film(
        "colour.mkv",
        "-f lavfi -i testsrc2=s=160x120:r=25:d=1 -c:v libx264 -pix_fmt yuv420p",
    );
    archive.batch("out", "").ok();
    let mine = archive.path("out/colour.mkv");
    fs::write(&mine, "mine").expect("a file");
    let run = archive.batch("out", "--keep-color never");
    assert_ne!(run.code, 0, "{}", run.stderr);
    assert_eq!(fs::read(&mine).expect("my file"), b"mine");
}
