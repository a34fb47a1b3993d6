use std::{env, process::Command};

use candle_core::DType;

use super::*;

/// A folder of its own for each test, and a store in it whose files have at most `limit` bytes.
fn store(limit: usize, keep: Keep) -> (tempfile::TempDir, Store) {
    let run = tempfile::tempdir().unwrap();
    let store = Store::with_limit(run.path(), keep, limit).unwrap();
    (run, store)
}

fn ramp(from: f32, shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let values: Vec<_> = (0..count).map(|i| from + (i as f32).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Parts of a little network at a step.
fn parts(step: u64) -> BTreeMap<&'static str, Named> {
    let of = |from: f32| {
        Named::from([
            ("conv.weight".to_owned(), ramp(from, &[4, 3, 3, 3])),
            ("conv.bias".to_owned(), ramp(from + 0.5, &[4])),
        ])
    };
    BTreeMap::from([
        ("weights", of(step as f32)),
        ("weights-mean", of(-(step as f32))),
    ])
}

fn save(store: &mut Store, step: u64, metric: Option<f64>) {
    let state = json!({ "step": step });
    store.save(step, &parts(step), &state, metric).unwrap();
}

fn bits(part: &Named) -> Vec<(&String, &[usize], Vec<u8>)> {
    let bits = |t: &Tensor| safetensors::View::data(&t).into_owned();
    part.iter()
        .map(|(name, t)| (name, t.dims(), bits(t)))
        .collect()
}

fn assert_holds(saved: &Saved, parts: &BTreeMap<&str, Named>) {
    for (name, part) in parts {
        let loaded = saved.part(name, &Device::Cpu).unwrap();
        assert!(bits(&loaded) == bits(part), "{name} differs");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<_> = entries(folder).unwrap().into_iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_checkpoint_comes_back_bit_for_bit() {
    let (run, mut store) = store(Store::LIMIT, Keep::default());
    let odd = |t: Tensor, dtype| t.to_dtype(dtype).unwrap();
    let mut parts = parts(7);
    parts.insert("nothing", Named::new());
    parts.insert(
        "odd",
        Named::from([
            ("scalar".into(), Tensor::new(-0.1f32, &Device::Cpu).unwrap()),
            ("half".into(), odd(ramp(1., &[5]), DType::BF16)),
            ("double".into(), odd(ramp(1., &[2, 2]), DType::F64)),
            ("whole".into(), odd(ramp(9., &[3]), DType::U32)),
            ("turned".into(), ramp(3., &[2, 5]).t().unwrap()),
            (
                "nan".into(),
                Tensor::new(&[f32::NAN], &Device::Cpu).unwrap(),
            ),
        ]),
    );
    // Neighbours in f64, of which a sloppy reader makes one number.
    let state = json!({ "rate": 0.1 + 0.2, "phase": ["g", 0.3], "seed": u64::MAX, "v": 1e-310 });
    store.save(7, &parts, &state, Some(1.5)).unwrap();
    let mut again = Store::open(run.path(), Keep::default()).unwrap();
    let saved = again.newest().unwrap().unwrap();
    assert_eq!((saved.step, &saved.state), (7, &state));
    assert_holds(&saved, &parts);
    let missing = saved.part("critic", &Device::Cpu).unwrap_err().to_string();
    assert!(
        missing.contains("no part critic, only nothing, odd"),
        "{missing}"
    );
    assert!(again.take_warnings().is_empty());
}

#[test]
fn every_number_of_the_state_comes_back_exactly() {
    let (_run, mut store) = store(Store::LIMIT, Keep::default());
    // Arbitrary bits as f64: a reader that rounds is found out within a few hundred of them.
    let mut x = 1u64;
    let mut next = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        f64::from_bits(x)
    };
    let values: Vec<f64> = (0..5000)
        .map(|_| next())
        .filter(|v| v.is_finite())
        .collect();
    let state = json!(values);
    store.save(1, &parts(1), &state, None).unwrap();
    let read: Vec<f64> = serde_json::from_value(store.load(1).unwrap().state).unwrap();
    let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert!(bits(&read) == bits(&values));
}

#[test]
fn files_stay_under_the_limit_and_large_tensors_are_joined_again() {
    const LIMIT: usize = 4000;
    let (run, mut store) = store(LIMIT, Keep::default());
    let many = (0..40).map(|i| (format!("layer{i:02}.weight"), ramp(i as f32, &[10, 7])));
    let parts = BTreeMap::from([
        ("many", many.collect()),
        (
            "large",
            Named::from([
                ("a".into(), ramp(0., &[3])),
                ("b.weight".into(), ramp(1., &[64, 5, 3, 3])),
                // One row alone is larger than a file.
                ("b.weight.moment".into(), ramp(2., &[1, 3001])),
                ("c".into(), ramp(3., &[2])),
            ]),
        ),
    ]);
    store.save(1, &parts, &Value::Null, None).unwrap();
    let mut files = 0;
    for path in entries(&store.path(1)).unwrap() {
        if path.extension().is_some_and(|e| e == "safetensors") {
            let size = fs::metadata(&path).unwrap().len();
            assert!(size <= LIMIT as u64, "{}: {size}", path.display());
            files += 1;
        }
    }
    assert!(files > 10, "{files} files only");
    let mut again = Store::with_limit(run.path(), Keep::default(), 999_999).unwrap();
    assert_holds(&again.newest().unwrap().unwrap(), &parts);
}

#[test]
fn parts_of_real_size_lie_in_files_under_16_mb() {
    let (_run, mut store) = store(Store::LIMIT, Keep::default());
    let of = |count: usize| {
        let zeros = |i| (format!("{i:02}"), ramp(i as f32, &[1024, 1024]));
        (0..count).map(zeros).collect::<Named>()
    };
    let mut weights = of(5);
    weights.insert("large".into(), ramp(0., &[4500, 1000]));
    let parts = BTreeMap::from([("weights", weights), ("mean", of(5))]);
    store.save(1, &parts, &Value::Null, None).unwrap();
    let sizes = entries(&store.path(1)).unwrap().into_iter();
    let largest = sizes.map(|path| fs::metadata(path).unwrap().len()).max();
    assert!(
        largest.is_some_and(|size| (12 << 20..16_000_000).contains(&size)),
        "{largest:?}"
    );
    assert_holds(&store.newest().unwrap().unwrap(), &parts);
}

#[test]
fn the_policy_keeps_the_last_the_best_and_every_nth() {
    let keep = Keep {
        last: 2,
        best: 1,
        every: 40,
    };
    let (run, mut store) = store(Store::LIMIT, keep);
    let metrics = [5., 1., f64::NAN, 4., 3., 2., 6., 7.];
    for (step, metric) in (10..).step_by(10).zip(metrics) {
        save(&mut store, step, Some(metric));
    }
    let left = [
        "step-00000020",
        "step-00000040",
        "step-00000070",
        "step-00000080",
    ];
    assert_eq!(names(&run.path().join("checkpoints")), left);
    assert_eq!(store.best(), Some(20));
    // Another part of the run knows the same, and thins out as it is told.
    let mut again = Store::open(
        run.path(),
        Keep {
            last: 1,
            best: 0,
            every: 0,
        },
    )
    .unwrap();
    assert_eq!(again.best(), Some(20));
    save(&mut again, 90, None);
    assert_eq!(names(&run.path().join("checkpoints")), ["step-00000090"]);
    assert_eq!(again.best(), None);
    assert!(again.take_warnings().is_empty());
}

/// Each kind of damage, and a word of the warning about it.
#[test]
fn a_damaged_checkpoint_is_passed_over_with_a_warning() {
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let truncate = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    };
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    type Damage<'a> = &'a dyn Fn(&Path);
    let damages: [(&str, Damage, &str); 7] = [
        ("weights-00.safetensors", &flip, "SHA-256"),
        ("weights-mean-00.safetensors", &truncate, "bytes, not"),
        ("weights-00.safetensors", &remove, "no such file"),
        (STATE, &flip, "SHA-256"),
        (STATE, &truncate, "SHA-256"),
        (STATE, &remove, "no such file"),
        (SUM, &remove, "no such file"),
    ];
    for (file, damage, word) in damages {
        let (run, mut store) = store(Store::LIMIT, Keep::default());
        save(&mut store, 1, None);
        save(&mut store, 2, Some(0.1));
        damage(&store.path(2).join(file));
        let mut again = Store::open(run.path(), Keep::default()).unwrap();
        let saved = again.newest().unwrap().unwrap();
        assert_eq!(saved.step, 1, "{file} {word}");
        assert_holds(&saved, &parts(1));
        let warnings = again.take_warnings();
        let named =
            |w: &String| w.contains("step-00000002") && w.contains(file) && w.contains(word);
        assert!(
            warnings.len() == 1 && warnings.iter().all(named),
            "{warnings:?}"
        );
        assert_eq!(again.best(), None, "a damaged one is not the best");
        // The damaged one is in nobody's way, under another step or the same.
        save(&mut again, 3, None);
        assert_eq!(names(&again.folder), ["step-00000001", "step-00000003"]);
    }
}

#[test]
fn where_no_checkpoint_is_intact_that_is_an_error() {
    let (_run, mut store) = store(Store::LIMIT, Keep::default());
    assert!(store.newest().unwrap().is_none(), "a new run");
    save(&mut store, 1, None);
    fs::remove_file(store.path(1).join("weights-00.safetensors")).unwrap();
    let e = store.newest().unwrap_err().to_string();
    assert!(e.contains("none of the run's checkpoints is intact"), "{e}");
}

/// What `kill -9` leaves at each moment of a save.
#[test]
fn a_killed_run_leaves_the_checkpoint_of_before_or_the_new_one() {
    let (run, mut store) = store(Store::LIMIT, Keep::default());
    save(&mut store, 1, None);
    save(&mut store, 2, None);
    let newest = |words: &str| {
        let mut store = Store::open(run.path(), Keep::default()).unwrap();
        let saved = store.newest().unwrap().unwrap();
        assert!(store.take_warnings().is_empty(), "{words}");
        assert_holds(&saved, &parts(saved.step));
        let here = names(&store.folder);
        assert!(here.iter().all(|n| !n.contains('.')), "{words}: {here:?}");
        saved.step
    };
    // Between files, for every number of files that were written.
    let whole = store.path(2);
    let (part, old) = (
        store.path(3).with_extension(PART),
        whole.with_extension(OLD),
    );
    let files = names(&whole);
    for written in 0..=files.len() {
        fs::create_dir(&part).unwrap();
        for file in &files[..written] {
            fs::copy(whole.join(file), part.join(file)).unwrap();
        }
        assert_eq!(newest("while writing"), 2);
    }
    // A checkpoint is replaced by one of the same step: before its successor is there, and after.
    fs::rename(&whole, &old).unwrap();
    assert_eq!(newest("while replacing"), 2);
    fs::create_dir(&old).unwrap();
    assert_eq!(newest("after replacing"), 2);
    // While an old one is removed.
    fs::rename(&whole, whole.with_extension(PART)).unwrap();
    assert_eq!(newest("while removing"), 1);
}

#[test]
fn a_checkpoint_of_the_same_step_is_replaced() {
    let (_run, mut store) = store(Store::LIMIT, Keep::default());
    save(&mut store, 5, Some(1.));
    store.save(5, &parts(6), &json!("new"), Some(2.)).unwrap();
    let saved = store.newest().unwrap().unwrap();
    assert_eq!(saved.state, json!("new"));
    assert_holds(&saved, &parts(6));
    assert_eq!(names(&store.folder), ["step-00000005"]);
}

/// The test runs itself once more where no file may grow beyond 64 KiB, as on a disk that is full.
#[test]
fn a_write_that_fails_leaves_the_last_good_checkpoint() {
    const FOLDER: &str = "AUTOCHROME_TEST_STORE";
    if let Some(run) = env::var_os(FOLDER) {
        let mut store = Store::open(Path::new(&run), Keep::default()).unwrap();
        save(&mut store, 1, None);
        let large = Named::from([("large".to_owned(), ramp(0., &[100_000]))]);
        let mut too_much = parts(2);
        too_much.insert("weights-z", large);
        let e = store.save(2, &too_much, &Value::Null, None).unwrap_err();
        let words = e.to_string();
        assert_eq!(e.exit_code(), 4);
        let expected = ["weights-z-00.safetensors", "step 1 is intact", "--resume"];
        assert!(expected.iter().all(|w| words.contains(w)), "{words}");
        assert_eq!(names(&store.folder), ["step-00000001"]);
        // The run that goes on, and the next one, find what there was.
        assert_holds(&store.newest().unwrap().unwrap(), &parts(1));
        save(&mut store, 3, None);
        return;
    }
    let run = tempfile::tempdir().unwrap();
    let child = Command::new("bash")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact --nocapture \"$1\"",
        ])
        .arg(env::current_exe().unwrap())
        .arg("train::store::tests::a_write_that_fails_leaves_the_last_good_checkpoint")
        .env(FOLDER, run.path())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(
        child.status.success() && words.contains("1 passed"),
        "{words}"
    );
    let mut store = Store::open(run.path(), Keep::default()).unwrap();
    assert_eq!(store.newest().unwrap().unwrap().step, 3);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let run = tempfile::tempdir().unwrap();
    fs::write(run.path().join("checkpoints"), "a file").unwrap();
    let e = Store::open(run.path(), Keep::default()).err().unwrap();
    assert!(
        e.exit_code() == 4 && e.to_string().contains("checkpoints"),
        "{e}"
    );
    // A folder that vanishes under the run, as when a disk is pulled out.
    let (run, mut store) = store(Store::LIMIT, Keep::default());
    fs::remove_dir_all(run.path()).unwrap();
    let e = store.save(1, &parts(1), &Value::Null, None).unwrap_err();
    assert!(e.to_string().contains("no earlier checkpoint"), "{e}");
}
