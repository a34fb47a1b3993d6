//! Points 6 and 9: what a person and a script are told; the preview; and the default model on the sample.

use crate::common::*;

#[test]
fn json_agrees_with_the_film() {
    let lab = Lab::new();
    let source = lab.clip("source.mp4", 1.0, "-pix_fmt yuv420p");
    let output = lab.path("out.mp4");
    let json = gray(&source, &output, "--json").ok().json();
    assert_eq!(json["source"]["frames"], 25);
    assert_eq!(json["written"][0]["frames"], times(&output).len());
    assert_eq!(
        json["written"][0]["bytes"],
        std::fs::metadata(&output).expect("the film").len()
    );
    assert!(json["fps"].as_f64().is_some_and(|fps| fps > 0.0));
    let stages = json["stages"].as_array().expect("stages");
    assert_eq!(stages.len(), 6);
    assert!(
        stages
            .iter()
            .all(|s| s["busy"].is_f64() && s["starved"].is_f64() && s["blocked"].is_f64())
    );
    // Several films: one object a line.
    let two = run(
        autochrome(["colorize", "--json", "--model", "gray", "--force"])
            .arg(&source)
            .arg(&source),
    )
    .ok();
    let lines = String::from_utf8_lossy(&two.stdout).into_owned();
    assert_eq!(
        lines
            .lines()
            .filter(|l| serde_json::from_str::<serde_json::Value>(l).is_ok())
            .count(),
        2
    );
}

#[test]
fn the_summary_says_what_was_done() {
    let lab = Lab::new();
    let source = lab.film(
        "source.mp4",
        "-f lavfi -i testsrc2=s=160x120:r=25:d=1 -f lavfi -i sine=d=1 -c:v libx264 -pix_fmt yuv420p -c:a aac",
    );
    let output = lab.path("out.mkv");
    let done = gray(&source, &output, "").ok();
    for word in [
        "25 frames in",
        "25 out",
        "fps",
        "aac",
        "copied",
        "starved",
        "decode",
        "encode",
    ] {
        assert!(done.stderr.contains(word), "no {word:?} in {}", done.stderr);
    }
    let quiet = gray(&source, &output, "--force -q").ok();
    assert!(
        quiet.stderr.is_empty() && quiet.stdout.is_empty(),
        "{}",
        quiet.stderr
    );
}

#[test]
fn preview_draws_before_and_after() {
    let lab = Lab::new();
    let source = lab.clip("source.mp4", 2.0, "-pix_fmt yuv420p");
    let sheet = lab.path("sheet.png");
    let flag = format!("--model constant --preview {}", sheet.display());
    colorize(&source, &lab.path("out.mp4"), &flag).ok();
    let picture = image::open(&sheet).expect("a PNG").to_rgb8();
    let coloured = picture
        .pixels()
        .filter(|p| p[0].abs_diff(p[2]) > 10)
        .count();
    let grey = picture
        .pixels()
        .filter(|p| p[0].abs_diff(p[1]) < 3 && p[1].abs_diff(p[2]) < 3)
        .count();
    assert!(
        coloured > 1000 && grey > 1000,
        "{coloured} coloured pixels, {grey} grey ones"
    );
}

#[test]
fn info_tells_what_the_machine_offers_a_network() {
    let text = run(&mut autochrome(["info", "--device"])).ok().stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    for word in ["CPU", "oneDNN", "CUDA", "chosen", "threads"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    let json = run(&mut autochrome(["info", "--device", "--json"]))
        .ok()
        .stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert!(json["cores"].as_u64() > Some(0) && json["chosen"].is_string());
    let mut without = autochrome(["info", "--device"]);
    let without = run(without.env("AUTOCHROME_ONEDNN", "off")).ok().stdout;
    let without = String::from_utf8_lossy(&without).into_owned();
    assert!(without.contains("install libdnnl"), "{without}");
}

#[test]
fn a_film_is_coloured_alike_without_onednn_and_the_user_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let colours = |name: &str, onednn: Option<&str>| {
        let output = dir.path().join(name);
        let mut command = autochrome([
            "colorize",
            SAMPLE,
            "--duration",
            "0.2",
            "--codec",
            "ffv1",
            // candle has no bf16 on the CPU.
            "--precision",
            "f32",
            "-o",
        ]);
        command.arg(&output);
        if let Some(value) = onednn {
            command.env("AUTOCHROME_ONEDNN", value);
        }
        let told = run(&mut command).ok().stderr.clone();
        (output, told)
    };
    let (with, _) = colours("with.mkv", None);
    let (without, told) = colours("without.mkv", Some("off"));
    assert!(told.contains("install libdnnl"), "{told}");
    let psnr = std::process::Command::new("ffmpeg")
        .args(["-v", "info", "-i"])
        .arg(&with)
        .arg("-i")
        .arg(&without)
        .args(["-lavfi", "psnr", "-f", "null", "-"])
        .output()
        .unwrap();
    let psnr = String::from_utf8_lossy(&psnr.stderr).into_owned();
    let least = psnr
        .split("min:")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    let least: f64 = least.parse().unwrap();
    assert!(least > 60., "the pictures differ: {psnr}");
}

#[test]
fn info_tells_what_a_file_is() {
    let film = run(autochrome(["info", SAMPLE]).args(["--json"]))
        .ok()
        .json();
    assert_eq!(
        (film["width"].as_u64(), film["height"].as_u64()),
        (Some(640), Some(480))
    );
    assert_eq!(film["codec"], "h264");
    let text =
        String::from_utf8_lossy(&run(&mut autochrome(["info", SAMPLE])).ok().stdout).into_owned();
    assert!(text.contains("640") && text.contains("mp4"), "{text}");
    let model = run(&mut autochrome(["info", "gray"]));
    assert_eq!(model.code, 0, "{}", model.stderr);
    run(&mut autochrome(["info", "missing.mp4"])).fails(3, &["missing.mp4"]);
    run(&mut autochrome(["info"])).fails(2, &["FILE"]);
}

#[test]
fn help_and_completions() {
    let help = String::from_utf8_lossy(&run(&mut autochrome(["--help"])).ok().stdout).into_owned();
    for word in [
        "colorize",
        "train",
        "info",
        "completions",
        "Examples",
        "Exit codes",
        "130",
    ] {
        assert!(help.contains(word), "no {word:?} in {help}");
    }
    let flags = String::from_utf8_lossy(&run(&mut autochrome(["colorize", "--help"])).ok().stdout)
        .into_owned();
    for flag in [
        "--output",
        "--format",
        "--input-format",
        "--input-option",
        "--codec",
        "--crf",
        "--preset",
        "--encoder-option",
        "--pixel-format",
        "--model",
        "--batch",
        "--device",
        "--threads",
        "--force",
        "--drop-unsupported",
        "--start",
        "--duration",
        "--preview",
        "--json",
    ] {
        assert!(flags.contains(flag), "no {flag} in {flags}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&mut autochrome(["completions", shell])).ok().stdout;
        assert!(
            String::from_utf8_lossy(&script).contains("drop-unsupported"),
            "{shell}"
        );
    }
}

/// Point 8: the bundled model colours the sample; the luma stays, the colour is not one colour.
#[test]
fn the_default_model_colours_the_sample() {
    let lab = Lab::new();
    let output = lab.path("village.mkv");
    let source: &std::path::Path = SAMPLE.as_ref();
    colorize(source, &output, "--codec ffv1 --duration 0.5").ok();
    let before = luma(&["-i", SAMPLE], None);
    assert_eq!(luma(&["-i", &output.to_string_lossy()], None), before[..12]);
    for which in ["u", "v"] {
        let samples = plane(&output, which);
        let (least, most) = (
            samples.iter().min().copied().unwrap_or(0),
            samples.iter().max().copied().unwrap_or(0),
        );
        assert!(most - least > 8, "{which} is flat: {least} to {most}");
    }
}

/// Invariant 7: on the CPU the colours are the same for any batch and number of threads.
#[test]
fn batch_and_threads_do_not_change_the_colours() {
    let lab = Lab::new();
    let source: &std::path::Path = SAMPLE.as_ref();
    let mut first = None;
    for args in [
        "--batch 1 --threads 1",
        "--batch 3 --threads 2",
        "--batch 4",
    ] {
        let output = lab.path("out.mkv");
        colorize(
            source,
            &output,
            &format!("--force --codec ffv1 --duration 0.3 {args}"),
        )
        .ok();
        let frames = frame_md5(&["-i", &output.to_string_lossy()], &["-map", "0:V"]);
        assert_eq!(
            first.get_or_insert_with(|| frames.clone()),
            &frames,
            "{args}"
        );
    }
}
