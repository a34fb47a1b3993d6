use std::{fs, time::Duration};

use super::*;

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, bytes).unwrap();
    file
}

fn blocks_of(bytes: &[u8]) -> String {
    Digest::of(file(bytes).path()).unwrap().blocks
}

fn noise(bytes: usize) -> Vec<u8> {
    let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
    (0..bytes).map(byte).collect()
}

#[test]
fn a_short_file_is_read_whole() {
    for length in [0, 1, 16 << 10, (48 << 10) - 1, 48 << 10] {
        let bytes = noise(length);
        assert_eq!(blocks_of(&bytes), checkpoint::digest(&bytes), "{length}");
    }
    assert!(blocks_of(b"").starts_with("e3b0c44298fc1c14"));
}

#[test]
fn of_a_long_file_three_blocks_count() {
    let bytes = noise(1 << 20);
    let (block, middle, last) = (
        16 << 10,
        ((1 << 20) - (16 << 10)) / 2,
        (1 << 20) - (16 << 10),
    );
    let three = [
        &bytes[..block],
        &bytes[middle..middle + block],
        &bytes[last..],
    ]
    .concat();
    assert_eq!(blocks_of(&bytes), checkpoint::digest(&three));
    let changed = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        blocks_of(&bytes) != checkpoint::digest(&three)
    };
    for at in [
        0,
        block - 1,
        middle,
        middle + block - 1,
        last,
        bytes.len() - 1,
    ] {
        assert!(changed(at), "byte {at} does not count");
    }
    for at in [block, middle - 1, middle + block, last - 1] {
        assert!(!changed(at), "byte {at} counts");
    }
}

#[test]
fn size_and_time_are_the_files_own() {
    let file = file(b"film");
    let time = std::time::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(time)
        .unwrap();
    let digest = Digest::of(file.path()).unwrap();
    assert_eq!(
        (digest.bytes, digest.modified),
        (4, 1_700_000_000_123_456_789)
    );
    let early = std::time::UNIX_EPOCH - Duration::from_nanos(1);
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(early)
        .unwrap();
    assert_eq!(Digest::of(file.path()).unwrap().modified, -1);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Digest::of(Path::new("no/such.mp4")).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(
        error
            .to_string()
            .starts_with("no/such.mp4: there is no such file"),
        "{error}"
    );
}

#[test]
fn a_file_that_shrinks_is_told() {
    let file = file(&noise(100));
    let error = blocks(&File::open(&file).unwrap(), 101).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_key_is_the_same_for_ever() {
    // printf 1950s/film.mp4 | sha256sum
    assert_eq!(key("1950s/film.mp4"), "3bdd2e4378e4a097");
    assert_ne!(key("1950s/film.mp4"), key("1950s/Film.mp4"));
}

fn record(source: &str) -> Record {
    Record {
        source: source.into(),
        root: "/films".into(),
        digest: Digest {
            bytes: 1,
            modified: 2,
            blocks: "3".into(),
        },
        settings: String::new(),
        outcome: Outcome::Skipped {
            why: "in colour".into(),
        },
        published: false,
        finished: 0,
        worker: "host 1".into(),
    }
}

fn put(output: &Path, record: &Record) -> PathBuf {
    let path = Record::path(output, &record.source);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, serde_json::to_vec(record).unwrap()).unwrap();
    path
}

#[test]
fn records_come_back_in_order_of_source() {
    let dir = tempfile::tempdir().unwrap();
    let sources = ["c.mkv", "a/z.mkv", "b.mkv"];
    for source in sources {
        put(dir.path(), &record(source));
    }
    let unfinished = Record::path(dir.path(), "b.mkv").with_extension("json.part");
    fs::write(unfinished, "{").unwrap();
    let found = records(dir.path()).unwrap();
    assert_eq!(found, ["a/z.mkv", "b.mkv", "c.mkv"].map(record));
}

#[test]
fn a_record_that_is_damaged_or_misplaced_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let said = |path: &Path| {
        let said = records(dir.path()).unwrap_err().to_string();
        assert!(
            said.contains(&shown(path)) && said.contains("remove it"),
            "{said}"
        );
    };
    assert!(
        records(dir.path())
            .unwrap_err()
            .to_string()
            .contains("no archive")
    );
    let path = put(dir.path(), &record("a.mkv"));
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    said(&path);
    fs::write(&path, whole).unwrap();
    let stray = path.with_file_name("0000000000000000.json");
    fs::rename(&path, &stray).unwrap();
    said(&stray);
}
