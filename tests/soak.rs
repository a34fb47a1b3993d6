//! The second tier: long films and slow faults. Not part of CI; run all of it by
//!
//! ```text
//! cargo test --release --test soak -- --ignored --nocapture --test-threads 1
//! ```

mod common;

use std::{
    fs,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use common::*;

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
