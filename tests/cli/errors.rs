//! Point 10: bad input gets a sentence that says what, which file, why and what to try; a designed exit code; and
//! leaves nothing half-written.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
};

use crate::common::*;

#[test]
fn unreadable_inputs_are_told_apart() {
    let lab = Lab::new();
    lab.film("sound.wav", "-f lavfi -i sine=d=0.3");
    fs::write(lab.path("empty.mp4"), "").expect("a file");
    fs::write(lab.path("words.mp4"), "This is not a film.\n".repeat(50)).expect("a file");
    fs::create_dir(lab.path("folder.mp4")).expect("a folder");
    let whole = lab.clip("whole.mp4", 0.4, "-pix_fmt yuv420p");
    let bytes = fs::read(whole).expect("the film");
    // The index of this film lies at its end: half a file has none.
    fs::write(lab.path("half.mp4"), &bytes[..bytes.len() / 2]).expect("a file");
    let key = "-encryption_scheme cenc-aes-ctr -encryption_key 00112233445566778899aabbccddeeff \
        -encryption_kid 00112233445566778899aabbccddeeff";
    lab.film("locked.mp4", &format!("-i whole.mp4 -c copy {key}"));
    for (name, words) in [
        ("missing.mp4", &["missing.mp4", "no such file"][..]),
        ("empty.mp4", &["empty.mp4", "empty"]),
        ("words.mp4", &["words.mp4"]),
        ("folder.mp4", &["folder.mp4"]),
        ("sound.wav", &["sound.wav", "no video"]),
        ("half.mp4", &["half.mp4"]),
        ("locked.mp4", &["locked.mp4", "encrypted"]),
        ("nothing%03d.png", &["nothing%03d.png"]),
        ("http://127.0.0.1:9/film.mp4", &["127.0.0.1"]),
    ] {
        let input = if name.contains("://") {
            name.into()
        } else {
            lab.path(name)
        };
        let output = lab.path("out.mkv");
        gray(&input, &output, "").fails(3, words);
        assert!(!output.exists() && lab.leftovers().is_empty(), "{name}");
    }
}

/// A truncated film gives the frames that are there; corrupt packets are counted and reported.
#[test]
fn damage_is_survived_and_reported() {
    let lab = Lab::new();
    let whole = lab.clip("whole.ts", 4.0, "-c:v mpeg2video -b:v 2M -g 10");
    let mut bytes = fs::read(whole).expect("the film");
    fs::write(lab.path("half.ts"), &bytes[..bytes.len() / 2]).expect("a file");
    for block in (200_000..bytes.len() - 50_000).step_by(97_000) {
        bytes[block..block + 900]
            .iter_mut()
            .enumerate()
            .for_each(|(i, b)| *b = (i * 37) as u8);
    }
    fs::write(lab.path("corrupt.ts"), bytes).expect("a file");
    for (name, least) in [("half.ts", 40), ("corrupt.ts", 80)] {
        let output = lab.path("out.mkv");
        let done = gray(&lab.path(name), &output, "--force --json").ok();
        let frames = times(&output).len();
        assert!((least..=101).contains(&frames), "{name}: {frames} frames");
        let json = done.json();
        assert_eq!(json["source"]["frames"], frames, "{name}");
        if name == "corrupt.ts" {
            assert!(
                done.stderr.contains("warning") && !json["warnings"].to_string().eq("[]"),
                "{name}: {}",
                done.stderr
            );
        }
    }
}

#[test]
fn outputs_that_cannot_be_are_refused() {
    let lab = Lab::new();
    let source = lab.clip("source.mkv", 0.4, "-pix_fmt yuv420p");
    let before = fs::read(&source).expect("the source");
    fs::write(lab.path("there.mkv"), "precious").expect("a file");
    std::os::unix::fs::symlink(&source, lab.path("link.mkv")).expect("a link");
    for (name, args, words) in [
        ("there.mkv", "", &["there.mkv", "exists", "--force"][..]),
        ("source.mkv", "", &["source.mkv", "input"]),
        ("source.mkv", "--force", &["source.mkv", "input"]),
        ("link.mkv", "--force", &["link.mkv", "input"]),
        ("no/such/folder/out.mkv", "", &["out.mkv", "folder"]),
    ] {
        gray(&source, &lab.path(name), args).fails(4, words);
    }
    assert_eq!(
        fs::read(lab.path("there.mkv")).expect("the file"),
        b"precious"
    );
    assert_eq!(fs::read(&source).expect("the source"), before);
    assert!(lab.leftovers().is_empty());
    gray(&source, &lab.path("there.mkv"), "--force").ok();
    assert_eq!(times(&lab.path("there.mkv")).len(), 10);
}

/// Root may write anywhere, so this needs another user; `setpriv` makes one where it can.
#[test]
fn no_permission_is_said() {
    let lab = Lab::new();
    let source = lab.clip("source.mkv", 0.2, "-pix_fmt yuv420p");
    let closed = lab.path("closed");
    fs::create_dir(&closed).expect("a folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).expect("permissions");
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    let can = command.arg("true").status().is_ok_and(|s| s.success());
    // The program must be where that user can reach it.
    let program = lab.path("autochrome");
    fs::copy(env!("CARGO_BIN_EXE_autochrome"), &program).expect("a copy");
    let mut command = match can {
        true => {
            let mut command = std::process::Command::new("setpriv");
            command
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .arg(&program);
            command
        }
        false => std::process::Command::new(&program),
    };
    command
        .args(["colorize", "--model", "gray", "-o"])
        .arg(closed.join("out.mkv"))
        .arg(&source);
    run(&mut command).fails(4, &["out.mkv", "permission"]);
    fs::set_permissions(&source, fs::Permissions::from_mode(0o000)).expect("permissions");
    if can {
        let mut command = std::process::Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program);
        command
            .args(["colorize", "--model", "gray", "-o", "-", "--format", "nut"])
            .arg(&source);
        run(&mut command).fails(3, &["source.mkv", "permission"]);
    }
}

#[test]
fn names_that_are_not_utf8_are_handled() {
    let lab = Lab::new();
    let source = lab.clip("source.mkv", 0.2, "-pix_fmt yuv420p");
    let strange = lab.dir().join(OsStr::from_bytes(b"fi\xfflm.mkv"));
    fs::copy(&source, &strange).expect("a copy");
    for (input, output, code) in [
        (strange.as_path(), lab.path("out.mkv"), 3),
        (
            source.as_path(),
            lab.dir().join(OsStr::from_bytes(b"o\xff.mkv")),
            4,
        ),
    ] {
        let done = gray(input, &output, "");
        // Either it works, or it says why not.
        if done.code != 0 {
            done.fails(code, &["utf-8"]);
            assert!(!output.exists());
        }
        assert!(lab.leftovers().is_empty());
    }
}

#[test]
fn wrong_models_are_named() {
    let lab = Lab::new();
    let source = lab.clip("source.mkv", 0.2, "-pix_fmt yuv420p");
    let output = lab.path("out.mkv");
    fs::write(lab.path("words.safetensors"), "not a model").expect("a file");
    // A valid file of tensors that is no generator: a header of one tensor of one number.
    let header = br#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let other = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
    fs::write(lab.path("other.safetensors"), other).expect("a file");
    fs::write(lab.path("empty.safetensors"), "").expect("a file");
    for name in [
        "missing.safetensors",
        "words.safetensors",
        "other.safetensors",
        "empty.safetensors",
        "source.mkv",
    ] {
        let model = lab.path(name);
        colorize(&source, &output, &format!("--model {}", model.display())).fails(5, &[name]);
        assert!(!output.exists() && lab.leftovers().is_empty(), "{name}");
    }
    colorize(&source, &output, "--model nonsense").fails(5, &["nonsense", "gray"]);
    if !cfg!(feature = "cuda") {
        colorize(&source, &output, "--device cuda").fails(5, &["cargo", "--features cuda"]);
    }
}

#[test]
fn wrong_use_is_exit_code_2() {
    let lab = Lab::new();
    let source = lab.clip("source.mkv", 0.2, "-pix_fmt yuv420p");
    let name = source.to_string_lossy().into_owned();
    for args in [
        &["colorize"][..],
        &["colorize", &name, "--nonsense"],
        &["colorize", &name, "--start", "yesterday"],
        &["colorize", &name, "--batch", "0"],
        &["colorize", &name, "--threads", "0"],
        &["colorize", &name, "--device", "toaster"],
        &["colorize", &name, "--encoder-option", "novalue"],
        &["colorize", &name, &name, "-o", "one.mkv"],
        &["colorize", &name, "-o", "-", "--json"],
        &["nonsense"],
        &[],
    ] {
        let done = run(autochrome(args).current_dir(lab.dir()));
        assert_eq!(done.code, 2, "{args:?}: {}", done.stderr);
    }
}

/// A full disk: a small one of our own, where we may mount it.
#[test]
fn a_full_disk_leaves_nothing() {
    let lab = Lab::new();
    let source = lab.clip(
        "source.mkv",
        4.0,
        "-vf noise=alls=60:allf=t,hue=s=0 -pix_fmt yuv420p -crf 10",
    );
    let disk = lab.path("disk");
    fs::create_dir(&disk).expect("a folder");
    let mount = ["-t", "tmpfs", "-o", "size=1m", "none"];
    let mounted = std::process::Command::new("mount")
        .args(mount)
        .arg(&disk)
        .output();
    if !mounted.is_ok_and(|m| m.status.success()) {
        eprintln!("skipped: only root can mount a small disk");
        return;
    }
    let _guard = Mounted(&disk);
    for name in ["out.mkv", "out.mp4"] {
        gray(&source, &disk.join(name), "--codec h264 --crf 5").fails(4, &[name, "full"]);
        assert_eq!(
            fs::read_dir(&disk).expect("the disk").count(),
            0,
            "{name}: something was left"
        );
    }
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0).status();
    }
}
