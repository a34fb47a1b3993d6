//! The second tier: long films and slow faults. Not part of CI; run all of it by
//!
//! ```text
//! cargo test --release --test soak -- --ignored --nocapture --test-threads 1
//! ```

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use autochrome::{
    archive::record::{Outcome, Record},
    net::{ARCHS, DeviceChoice},
    train::{self, Job, config},
};
use common::{archive::*, live::*, *};
use image::{Rgb, RgbImage};

/// Highest resident memory of a run in MiB, by the kernel's own mark.
fn peak(source: &Path, output: &Path, model: &str) -> f64 {
    let mut command = autochrome([
        "colorize", "--force", "--preset", "veryfast", "--model", model, "-o",
    ]);
    command
        .arg(output)
        .arg(source)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("the program");
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0.0f64;
    while child.try_wait().expect("the program's state").is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mark = text.lines().find_map(|l| {
            l.strip_prefix("VmHWM:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse::<f64>()
                .ok()
        });
        most = most.max(mark.unwrap_or(0.0) / 1024.0);
        thread::sleep(Duration::from_millis(5));
    }
    most
}

/// Invariant 4: a film ten times as long needs the same memory within 5 %.
#[test]
#[ignore = "a soak: minutes"]
fn memory_does_not_grow_with_the_film() {
    let lab = Lab::new();
    let make = |name: &str, seconds: u32| {
        let inputs = format!(
            "-f lavfi -i testsrc2=s=1280x720:r=25:d={seconds} -f lavfi -i sine=r=48000:d={seconds}"
        );
        lab.film(
            name,
            &format!("{inputs} -c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac"),
        )
    };
    let (short, long) = (make("short.mp4", 20), make("long.mp4", 200));
    for model in ["gray", "constant"] {
        for container in ["mkv", "mp4"] {
            let output = lab.path(&format!("out.{container}"));
            let (a, b) = (peak(&short, &output, model), peak(&long, &output, model));
            println!(
                "{model} {container}: {a:.0} MiB for 20 s, {b:.0} MiB for 200 s, ratio {:.3}",
                b / a
            );
            assert!(
                b <= a * 1.05,
                "{model} {container}: {a:.0} MiB became {b:.0} MiB"
            );
        }
    }
}

/// Faults strewn over real containers: whatever byte is wrong, the end is a film or a sentence.
#[test]
#[ignore = "a soak: minutes"]
fn damaged_bytes_never_crash() {
    let lab = Lab::new();
    let codecs = [
        ("mp4", "-c:v libx264 -pix_fmt yuv420p -c:a aac"),
        ("mkv", "-c:v mpeg4 -c:a libopus"),
        ("ts", "-c:v mpeg2video -c:a mp2"),
        ("avi", "-c:v ffv1 -c:a pcm_s16le"),
        ("webm", "-c:v libvpx -cpu-used 8 -c:a libopus"),
    ];
    let mut seed = 1u32;
    let mut dice = move |most: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % most
    };
    for (container, codec) in codecs {
        let inputs = "-f lavfi -i testsrc2=s=160x120:r=25:d=1 -f lavfi -i sine=r=48000:d=1";
        let source = lab.film(&format!("source.{container}"), &format!("{inputs} {codec}"));
        let whole = fs::read(source).expect("the film");
        let (mut films, mut sentences) = (0, 0);
        for round in 0..60 {
            let mut bytes = whole.clone();
            if round % 3 == 0 {
                bytes.truncate(dice(whole.len()));
            } else {
                for _ in 0..=dice(12) {
                    let at = dice(bytes.len());
                    bytes[at] = dice(256) as u8;
                }
            }
            let damaged = lab.path(&format!("damaged.{container}"));
            fs::write(&damaged, &bytes).expect("a file");
            let output = lab.path("out.mkv");
            let done = gray(
                &damaged,
                &output,
                "--force --preset ultrafast --drop-unsupported",
            );
            assert!(
                [0, 3, 4].contains(&done.code),
                "{container} {round}: {}: {}",
                done.code,
                done.stderr
            );
            assert!(
                lab.leftovers().is_empty(),
                "{container} {round}: {:?}",
                lab.leftovers()
            );
            if done.code == 0 {
                films += 1
            } else {
                sentences += 1
            }
        }
        println!("{container}: {films} films, {sentences} sentences");
    }
}

/// A signal at any moment of a run: a playable film, or nothing at all.
#[test]
#[ignore = "a soak: a minute"]
fn signals_at_any_moment() {
    let lab = Lab::new();
    let inputs = "-f lavfi -i testsrc2=s=640x360:r=25:d=20 -f lavfi -i sine=r=48000:d=20";
    let source = lab.film(
        "source.mp4",
        &format!("{inputs} -c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac"),
    );
    for step in 0..24 {
        let output = lab.path("out.mp4");
        let _ = fs::remove_file(&output);
        let mut command = autochrome(["colorize", "--model", "constant", "-o"]);
        let child = command
            .arg(&output)
            .arg(&source)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let twice = step % 2 == 1;
        thread::sleep(Duration::from_millis(20 + 60 * step));
        signal(child.id(), "INT");
        if twice {
            thread::sleep(Duration::from_millis(15));
            signal(child.id(), "INT");
        }
        let since = Instant::now();
        let done = finish(child);
        println!(
            "{} ms, {}: exit code {} after {:.2} s",
            20 + 60 * step,
            if twice { "twice" } else { "once" },
            done.code,
            since.elapsed().as_secs_f64()
        );
        // Before the handler stands, a signal simply ends the program (130 by the shell's count); nothing is left then.
        assert!(lab.leftovers().is_empty(), "{:?}", lab.leftovers());
        match done.code {
            0 => assert!(!times(&output).is_empty()),
            130 | 3 => assert!(!output.exists()),
            code => panic!("exit code {code}: {}", done.stderr),
        }
    }
}

/// The whole sample, by the bundled model, to every default container.
#[test]
#[ignore = "a soak: minutes"]
fn the_whole_sample_in_colour() {
    let lab = Lab::new();
    for container in ["mp4", "mkv", "mov", "webm"] {
        let output = lab.path(&format!("village.{container}"));
        let since = Instant::now();
        colorize(SAMPLE.as_ref(), &output, "--drop-unsupported").ok();
        assert_eq!(times(&output).len(), 240, "{container}");
        println!("{container}: {:.1} s", since.elapsed().as_secs_f64());
    }
}

/// Pictures whose colours no rule tells from their lightness, so that they must be learnt by heart.
fn paint_pictures(folder: &Path, count: u32, side: u32) {
    for i in 0..count {
        let picture = RgbImage::from_fn(side, side, |x, y| {
            let (u, v) = (x as f32 / side as f32, y as f32 / side as f32);
            let wave = |f: f32, phase: f32| {
                let turn = f * u * 5. + (f + 1.) * v * 4. + phase + i as f32;
                (127.5 + 100. * turn.sin()) as u8
            };
            let k = (i % 4) as f32;
            Rgb([wave(1. + k, 0.), wave(2., 2. + k), wave(0.5 + k, 4.)])
        });
        picture.save(folder.join(format!("w_{i}.png"))).unwrap();
    }
}

/// Trains by a recipe with nothing held out; gives PSNR_ab on the pictures that it learnt from.
fn learnt_by_heart(folder: &Path, arch: &str, settings: &[&str]) -> f64 {
    let mut all = config::recipe("pix2pix").unwrap();
    // The recipe's depth is that of a U-Net at 256 px, two less at 64, and dropout is there against learning by heart; L1 is for heads that regress; the way in which
    // the recipe draws weights is for networks whose every layer has a norm.
    // Heads at a quarter of the size need twice as much of it for the discriminator's 70 px.
    let (network, draw, size) = match arch {
        "unet" | "encoder-decoder" => (r#"{"depth":6,"dropout":0}"#, "normal", 64),
        "squeeze" | "lite" => (r#"{"head":"regression"}"#, "own", 128),
        _ => ("{}", "normal", 64),
    };
    let ours = [
        format!("arch={arch}"),
        format!("network={network}"),
        format!("draw.kind={draw}"),
        "augment.crop=1".into(),
        "augment.mirror=false".into(),
        "augment.stocks=0".into(),
        format!("size={size}"),
        "held_out=0".into(),
        "check_every=1000000".into(),
        "epochs=null".into(),
    ];
    for setting in ours
        .iter()
        .map(String::as_str)
        .chain(settings.iter().copied())
    {
        config::set(&mut all, setting).unwrap();
    }
    let config = config::parsed(all).unwrap();
    let job = Job {
        photos: vec![folder.join("photos")],
        output: folder.join(format!("{arch}.safetensors")),
        init: None,
        device: DeviceChoice::Cpu,
        resume: false,
    };
    let trained = train::run(&config, &job, &AtomicBool::new(false), &mut |_| ()).unwrap();
    trained.validation.psnr_ab
}

/// The recipe pix2pix learns eight pictures by heart, whatever the generator, where they are always shown alike.
#[test]
#[ignore = "a soak: most of an hour"]
fn every_generator_learns_eight_pictures_by_heart() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("photos")).unwrap();
    paint_pictures(&folder.path().join("photos"), 8, 160);
    let mut short = Vec::new();
    for arch in ARCHS {
        let since = Instant::now();
        let steps = steps_by_heart(arch.name);
        let psnr = learnt_by_heart(folder.path(), arch.name, &[&format!("steps={steps}")]);
        println!(
            "{}: PSNR_ab {psnr:.2} dB after {steps} steps, {:.0} s",
            arch.name,
            since.elapsed().as_secs_f64()
        );
        if psnr <= 35. {
            short.push(arch.name);
        }
    }
    assert!(short.is_empty(), "{short:?}");
}

/// Steps of the recipe pix2pix, one picture each, in which eight pictures are learnt by heart.
fn steps_by_heart(arch: &str) -> u64 {
    match arch {
        // From nothing, where it is made to begin with ImageNet weights.
        "lite" => 4000,
        _ => 1500,
    }
}

/// Memory of a run does not grow with its length.
#[test]
#[ignore = "a soak: minutes"]
fn training_takes_no_more_memory_after_ten_thousand_steps() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("photos")).unwrap();
    paint_pictures(&folder.path().join("photos"), 8, 64);
    let mut child = autochrome(["train", "--recipe", "fast", "--size", "32", "--batch", "2"])
        .arg(folder.path().join("photos"))
        .arg("-o")
        .arg(folder.path().join("m.safetensors"))
        .args([
            "--steps",
            "10000",
            "--set",
            "held_out=0.2",
            "--set",
            "check_every=1000",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let peaks: Vec<(u64, u64)> = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| {
            let step = line.strip_prefix("step ")?.split(['/', ':']).next()?;
            Some((step.parse().ok()?, resident(child.id())?))
        })
        .collect();
    assert!(child.wait().unwrap().success());
    let at = |step: u64| peaks.iter().find(|(s, _)| *s >= step).unwrap().1;
    println!("resident MiB by step: {peaks:?}");
    let (early, late) = (at(1500), peaks.last().unwrap().1);
    assert!(
        late as f64 <= 1.05 * early as f64,
        "{early} MiB, then {late} MiB"
    );
}

/// Resident memory of a process in MiB.
fn resident(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

/// A sender that dies and comes back ten times in ten minutes: the source is back within two seconds, memory stays, no
/// thread is left behind, and the recording, in files of a minute, plays.
#[test]
#[ignore = "a soak: ten minutes"]
fn a_stream_that_comes_and_goes_all_day() {
    const ROUNDS: usize = 10;
    let lab = Lab::new();
    let (port, film) = (free_port(), lab.path("film.mkv"));
    let url = format!("udp://127.0.0.1:{port}");
    let mut sending = Some(sender(port, "640x480"));
    let args = ["--rotate", "60", "-o", film.to_str().unwrap(), &url];
    let mut live = Live::start(&args);
    let mut viewer = Pictures::of(&live);
    let (stop_reading, reading) = (Arc::new(AtomicBool::new(false)), live.child.id());
    let ended = stop_reading.clone();
    let reader = thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            viewer.next();
        }
    });
    let status = |what: &str| -> f64 {
        let text = fs::read_to_string(format!("/proc/{reading}/status")).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(what)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (mut rounds, mut longest) = (Vec::new(), 0f64);
    for round in 0..ROUNDS {
        thread::sleep(Duration::from_secs(50));
        rounds.push((status("VmRSS:") / 1024., status("Threads:")));
        sending.take().into_iter().for_each(stop);
        live.hears("the source is gone");
        thread::sleep(Duration::from_secs(2));
        let (frames, since) = (live.figures()["frames"].as_u64(), Instant::now());
        sending = Some(sender(port, "640x480"));
        live.until("frames", |f| f["frames"].as_u64() > frames);
        longest = longest.max(since.elapsed().as_secs_f64());
        println!(
            "round {round}: {:?}, back {longest:.2} s at most",
            rounds[round]
        );
    }
    sending.take().into_iter().for_each(stop);
    let figures = live.figures();
    println!("{figures}");
    stop_reading.store(true, Ordering::Relaxed);
    let (code, said) = live.end();
    let _ = reader.join();
    assert_eq!(code, 0, "{said}");
    assert_eq!(figures["reconnects"], ROUNDS, "{said}");
    let files = fs::read_dir(lab.dir()).unwrap().flatten();
    let files: Vec<_> = files.map(|file| file.path()).collect();
    assert!(files.len() >= 9, "{files:?}");
    for file in &files {
        assert!(!times(file).is_empty(), "{}", file.display());
    }
    // The first two minutes fill caches and pools.
    let (early, late) = (rounds[2], rounds[ROUNDS - 1]);
    assert!(late.0 < early.0 * 1.05, "memory: {rounds:?}");
    assert!(late.1 <= early.1, "threads: {rounds:?}");
    assert!(longest < 2., "the source was back after {longest} s");
}

/// Fifty times the power goes, at any moment, over real films and over odd and broken ones: what comes of it is what an
/// undisturbed run makes.
#[test]
#[ignore = "a soak: many minutes"]
fn fifty_kills_change_nothing() {
    const KILLS: usize = 50;
    let (Some(clips), Some(odd)) = (shared("clips"), shared("odd")) else {
        return;
    };
    let archive = Archive::new();
    for (folder, name) in [(clips, "clips"), (odd, "odd")] {
        fs::create_dir(archive.path("films").join(name)).expect("a folder");
        for entry in fs::read_dir(folder).expect("films").flatten() {
            let copy = archive.path("films").join(name).join(entry.file_name());
            fs::copy(entry.path(), copy).expect("a copy");
        }
    }
    // libx264 gives the same twice without its macroblock tree, which this preset leaves out.
    let encoder = "--format mkv --codec h264 --preset ultrafast --threads 1";
    let films = "--include *.* --keep-color never --drop-unsupported";
    let args = &format!("{films} {encoder} --segment 3 --jobs 2");
    let whole = archive.batch("whole", args);
    assert_eq!(whole.code, 3, "{}", whole.stderr);
    let outcomes = |out: &str| -> Vec<String> {
        let record = |record: Record| match record.outcome {
            Outcome::Failed { why, .. } => format!("{}: {why}", record.source),
            Outcome::Done(done) => format!("{}: {} frames", record.source, done.frames),
            outcome => panic!("{}: {outcome:?}", record.source),
        };
        let folder = archive.path(out).to_string_lossy().into_owned();
        let all = archive.records(out).into_iter().map(record);
        all.map(|line| line.replace(&folder, "OUT")).collect()
    };
    let (mut dice, mut kills, mut round) = (Dice(3), 0, 0);
    while kills < KILLS {
        let out = format!("killed-{round}");
        let since = Instant::now();
        let (killed, last) = killed_again_and_again(|| archive.start(&out, args), &mut dice, 6000);
        println!(
            "{killed} kills in {:.0} s: {}",
            since.elapsed().as_secs_f64(),
            last.stderr
        );
        assert_eq!(last.code, 3, "{}", last.stderr);
        (kills, round) = (kills + killed, round + 1);
        archive.is_tidy(&out);
        assert_eq!(outcomes(&out), outcomes("whole"));
        same(&archive.path("whole"), &archive.path(&out));
    }
    let verified = run(autochrome(["verify"]).arg(archive.path("killed-0")));
    assert!(verified.stderr.contains("0 wrong"), "{}", verified.stderr);
}
