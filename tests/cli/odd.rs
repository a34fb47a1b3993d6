//! Point 10: nothing in ../shared/odd may panic, hang or leave a `.part` file.

use std::fs;

use crate::common::*;

#[test]
fn odd_files_end_in_a_film_or_a_sentence() {
    let Some(folder) = shared("odd") else { return };
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the folder")
        .flatten()
        .map(|e| e.path())
        .collect();
    files.sort();
    for file in files {
        let lab = Lab::new();
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let output = lab.path("out.mkv");
        let done = gray(
            &file,
            &output,
            "--preset ultrafast --drop-unsupported --duration 2",
        );
        assert!(
            [0, 3, 4].contains(&done.code),
            "{name}: exit code {}: {}",
            done.code,
            done.stderr
        );
        assert!(!done.stderr.contains("panicked"), "{name}: {}", done.stderr);
        assert_eq!(done.code == 0, output.exists(), "{name}: {}", done.stderr);
        assert!(
            lab.leftovers().is_empty(),
            "{name} left {:?}",
            lab.leftovers()
        );
        if done.code == 0 {
            assert!(!times(&output).is_empty(), "{name}: no frames");
        } else {
            assert!(
                done.stderr.contains(&name) || done.stderr.contains("out.mkv"),
                "{name}: {}",
                done.stderr
            );
        }
    }
}
