use std::{
    ffi::OsStr,
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
};

use super::*;

/// An archive with these files, each of as many bytes as its path has.
fn archive(files: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    root
}

fn of(root: &tempfile::TempDir) -> Walk {
    Walk {
        root: root.path().into(),
        output: "out of the way".into(),
        ..Walk::default()
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

fn sources(found: &Found) -> Vec<&str> {
    found
        .items
        .iter()
        .map(|item| item.source.as_str())
        .collect()
}

fn refused(found: &Found) -> Vec<(&str, &str)> {
    found
        .refused
        .iter()
        .map(|r| (r.source.as_str(), r.why.as_str()))
        .collect()
}

fn listed(root: &tempfile::TempDir, list: &[u8]) -> Result<Found> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, list).unwrap();
    walk(&Walk {
        list: Some(file.path().into()),
        ..of(root)
    })
}

#[test]
fn films_are_found_in_the_order_of_their_paths() {
    let root = archive(&[
        "b.avi",
        "B.MP4",
        "a/z.mkv",
        "a.mp4",
        "a/b/c.vob",
        "ä.mov",
        "a-b/x.ts",
    ]);
    let found = walk(&of(&root)).unwrap();
    assert_eq!(
        sources(&found),
        [
            "B.MP4",
            "a-b/x.ts",
            "a.mp4",
            "a/b/c.vob",
            "a/z.mkv",
            "b.avi",
            "ä.mov"
        ]
    );
    let item = &found.items[3];
    assert_eq!(
        (item.bytes, &item.path),
        (9, &root.path().join("a/b/c.vob"))
    );
    assert_eq!(item.output, "a/b/c.vob.mkv");
    assert!(found.refused.is_empty() && found.others.total() == 0);
}

#[test]
fn hidden_and_unfinished_files_are_left_out() {
    let root = archive(&[
        ".a.mp4",
        ".hidden/b.mp4",
        "c.mp4.part",
        "d.part/e.mp4",
        "out/f.mp4",
        "x/out/g.mp4",
    ]);
    let output = root.path().join("out");
    let found = walk(&Walk {
        output,
        ..of(&root)
    })
    .unwrap();
    assert_eq!(sources(&found), ["d.part/e.mp4", "x/out/g.mp4"]);
    assert_eq!(found.others.total(), 0);
}

#[test]
fn an_output_folder_behind_a_link_is_left_out_too() {
    let root = archive(&["out/f.mp4", "a.mp4"]);
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(root.path(), elsewhere.path().join("link")).unwrap();
    let output = elsewhere.path().join("link/out");
    assert_eq!(
        sources(
            &walk(&Walk {
                output,
                ..of(&root)
            })
            .unwrap()
        ),
        ["a.mp4"]
    );
}

#[test]
fn no_result_may_fall_on_a_source() {
    let root = archive(&["films/films/a.mp4", "films/a.mp4"]);
    let films = root.path().join("films");
    let with = |root: PathBuf, output: &Path| {
        walk(&Walk {
            root,
            output: output.into(),
            ..Walk::default()
        })
    };
    for (source, output) in [
        (films.clone(), films.as_path()),
        (films.clone(), root.path()),
        (films.join("a.mp4"), films.as_path()),
    ] {
        let error = with(source, output).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().contains("choose another folder"),
            "{error}"
        );
    }
    assert!(with(films.clone(), &films.join("new")).is_ok());
    assert!(with(films.join("a.mp4"), root.path()).is_ok());
}

#[test]
fn other_files_are_counted() {
    let root = archive(&[
        "a.jpg",
        "b/c.JPG",
        "d.txt",
        "Makefile",
        "e.mp4",
        "f. And so they parted",
    ]);
    let found = walk(&of(&root)).unwrap();
    assert_eq!(found.others.total(), 5);
    assert_eq!(
        found.others.to_string(),
        "5 files that are no films: 2 without an extension, 2 jpg, 1 txt"
    );
    let mut others = Others::default();
    (0..12).for_each(|kind| others.count(&format!("a.{kind:02}")));
    let told = others.to_string();
    assert!(told.ends_with("1 07, 4 of other kinds"), "{told}");
    let found = walk(&of(&archive(&["a.jpg"]))).unwrap();
    assert_eq!(found.others.to_string(), "1 file that is no film: 1 jpg");
    assert_eq!(Others::default().to_string(), "no files but films");
}

#[test]
fn links_to_files_are_followed_and_links_to_folders_are_not() {
    let root = archive(&["a/b.mp4"]);
    symlink("a/b.mp4", root.path().join("c.mp4")).unwrap();
    symlink("..", root.path().join("a/loop")).unwrap();
    symlink("nowhere.mp4", root.path().join("d.mp4")).unwrap();
    let found = walk(&of(&root)).unwrap();
    assert_eq!(sources(&found), ["a/b.mp4", "c.mp4"]);
    assert_eq!((found.items[1].bytes, found.links), (7, 1));
    assert_eq!(
        refused(&found),
        [(
            "d.mp4",
            "there is no such file; if it is a link, it leads nowhere"
        )]
    );
}

#[test]
fn names_that_cannot_be_written_down_are_refused() {
    let root = archive(&["a.mp4"]);
    let name = |bytes| root.path().join(OsStr::from_bytes(bytes));
    fs::write(name(b"caf\xe9.mp4"), "").unwrap();
    fs::write(name(b"caf\xe9.jpg"), "").unwrap();
    fs::create_dir(name(b"\xe9t\xe9")).unwrap();
    fs::write(name(b"\xe9t\xe9/b.mp4"), "").unwrap();
    let found = walk(&of(&root)).unwrap();
    assert_eq!(sources(&found), ["a.mp4"]);
    assert_eq!(
        refused(&found),
        [("caf\u{fffd}.mp4", NAME), ("\u{fffd}t\u{fffd}", NAME)]
    );
}

#[test]
fn what_is_no_file_is_refused() {
    let root = archive(&[]);
    let _socket = UnixListener::bind(root.path().join("a.mp4")).unwrap();
    let found = walk(&of(&root)).unwrap();
    assert_eq!(
        refused(&found),
        [("a.mp4", "it is a device or a pipe, not a file")]
    );
}

/// A folder that is gone stands for one that cannot be read: permissions do not hold everybody back.
#[test]
fn a_folder_that_cannot_be_read_does_not_end_the_walk() {
    let root = archive(&["a.mp4"]);
    let walk = of(&root);
    let mut walker = Walker::new(&walk).unwrap();
    walker.enter(vec![String::new(), "gone".into()]).unwrap();
    assert_eq!(sources(&walker.found), ["a.mp4"]);
    assert_eq!(refused(&walker.found)[0].0, "gone");
    assert!(
        refused(&walker.found)[0]
            .1
            .starts_with("there is no such file or folder")
    );
}

#[test]
fn a_root_must_be_there() {
    let root = archive(&[]);
    let error = walk(&Walk {
        root: root.path().join("films"),
        ..of(&root)
    })
    .unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(
        error
            .to_string()
            .contains("films: there is no such file or folder"),
        "{error}"
    );
}

#[test]
fn one_film_is_an_archive() {
    let root = archive(&["a/film.dat"]);
    let path = root.path().join("a/film.dat");
    let found = walk(&Walk {
        root: path.clone(),
        ..of(&root)
    })
    .unwrap();
    let (source, output) = ("film.dat".to_owned(), "film.dat.mkv".to_owned());
    assert_eq!(
        found.items,
        [Item {
            source,
            path,
            bytes: 10,
            output
        }]
    );
}

#[test]
fn patterns_choose() {
    let root = archive(&[
        "a.mp4",
        "a.dat",
        "a.jpg",
        "1950s/b.mp4",
        "1950s/b.jpg",
        "1950s/x/c.dat",
        "1950s/x/c.mp4",
    ]);
    let chosen = |include: &[&str], exclude: &[&str]| {
        let (include, exclude) = (strings(include), strings(exclude));
        walk(&Walk {
            include,
            exclude,
            ..of(&root)
        })
        .unwrap()
    };
    for (include, exclude, films) in [
        (&["*.dat"][..], &[][..], &["1950s/x/c.dat", "a.dat"][..]),
        (&["**/*.dat"], &[], &["1950s/x/c.dat", "a.dat"]),
        (&["1950s/**"], &[], &["1950s/b.mp4", "1950s/x/c.mp4"]),
        (&["1950s/*"], &[], &["1950s/b.mp4"]),
        (
            &["1950s/**", "a.{mp4,dat}"],
            &[],
            &["1950s/b.mp4", "1950s/x/c.mp4", "a.dat", "a.mp4"],
        ),
        (&[], &["1950s/**"], &["a.mp4"]),
        (&[], &["1950s/*"], &["1950s/x/c.mp4", "a.mp4"]),
        (&[], &["**/x/**"], &["1950s/b.mp4", "a.mp4"]),
        (&["*.dat"], &["a.*"], &["1950s/x/c.dat"]),
        (&[], &["[ab].mp4"], &["1950s/x/c.mp4"]),
    ] {
        assert_eq!(
            sources(&chosen(include, exclude)),
            films,
            "{include:?} without {exclude:?}"
        );
    }
    let others = |include: &[&str], exclude: &[&str]| chosen(include, exclude).others.total();
    assert_eq!(
        (
            others(&[], &[]),
            others(&["1950s/**"], &[]),
            others(&[], &["*.jpg"])
        ),
        (4, 2, 2)
    );
}

#[test]
fn excluded_folders_are_not_entered() {
    let filter = Filter::new(&[], &strings(&["lost+found/**", "**/tests/**", "a/*"])).unwrap();
    let entered = [
        "lost+found",
        "tests",
        "a/tests",
        "a",
        "b/lost+found",
        "testsuite",
    ]
    .map(|f| filter.enters(f));
    assert_eq!(entered, [false, false, false, true, true, true]);
}

#[test]
fn bad_patterns_are_named() {
    let root = archive(&["a.mp4"]);
    for (pattern, why) in [
        ("a[b", "unclosed character class"),
        ("{a,b", "unclosed alternate group"),
        ("", "it matches no file"),
        ("/a", "it matches no file"),
        ("1950s/", "it matches no file"),
    ] {
        let exclude = strings(&[pattern]);
        let error = walk(&Walk {
            exclude,
            ..of(&root)
        })
        .unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let told = error.to_string();
        assert!(
            told.starts_with(&format!("--exclude '{pattern}': ")) && told.contains(why),
            "{told}"
        );
    }
    let include = strings(&["a["]);
    assert!(
        walk(&Walk {
            include,
            ..of(&root)
        })
        .unwrap_err()
        .to_string()
        .starts_with("--include 'a['")
    );
}

#[test]
fn a_list_names_the_sources_in_its_order() {
    let root = archive(&["b.mp4", "a/c.bin", ".hidden/d.mp4", "e.mp4", "f\r.mp4"]);
    let absolute = root.path().join("e.mp4");
    let list = format!(
        "# films\n\n  \n./b.mp4\r\na/../a/c.bin\n{}\n.hidden/d.mp4\nb.mp4\nf\r.mp4",
        shown(absolute)
    );
    let found = listed(&root, list.as_bytes()).unwrap();
    assert_eq!(
        sources(&found),
        ["b.mp4", "a/c.bin", "e.mp4", ".hidden/d.mp4", "f\r.mp4"]
    );
    assert_eq!(found.items[1].output, "a/c.bin.mkv");
    assert!(found.refused.is_empty());
}

#[test]
fn a_list_may_go_wrong() {
    let root = archive(&["a.mp4", "b/c.mp4"]);
    let found = listed(&root, b"a.mp4\nz.mp4\nb\ncaf\xe9.mp4\n").unwrap();
    assert_eq!(sources(&found), ["a.mp4"]);
    let (folder, gone) = (
        "it is a folder; list the films in it",
        "there is no such file; if it is a link, it leads nowhere",
    );
    assert_eq!(
        refused(&found),
        [("b", folder), ("caf\u{fffd}.mp4", NAME), ("z.mp4", gone)]
    );
    for line in ["../a.mp4", "/etc/passwd", "b/../../a.mp4", "."] {
        let error = listed(&root, format!("a.mp4\n{line}\n").as_bytes()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error
                .to_string()
                .contains(&format!("line 2: {line} is no path below")),
            "{error}"
        );
    }
    let with = |root: &str, list: &str| Walk {
        list: Some(list.into()),
        root: root.into(),
        ..Walk::default()
    };
    let path = |name: &str| shown(root.path().join(name));
    let output = path("out");
    let error = walk(&Walk {
        output: output.clone().into(),
        ..with(&path(""), "no list")
    })
    .unwrap_err();
    assert_eq!(
        (
            error.exit_code(),
            error.to_string().starts_with("no list: ")
        ),
        (3, true)
    );
    let error = walk(&Walk {
        output: output.into(),
        ..with(&path("a.mp4"), "no list")
    })
    .unwrap_err();
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn patterns_and_the_output_folder_hold_for_a_list_too() {
    let root = archive(&["a.bin", "b.bin", "out/c.bin", "d.txt"]);
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(&list, "a.bin\nb.bin\nout/c.bin\nd.txt\n").unwrap();
    let (include, exclude) = (strings(&["*.bin"]), strings(&["b.*"]));
    let output = root.path().join("out");
    let found = walk(&Walk {
        list: Some(list.path().into()),
        include,
        exclude,
        output,
        ..of(&root)
    })
    .unwrap();
    assert_eq!(sources(&found), ["a.bin"]);
    assert_eq!(
        refused(&found),
        [(
            "out/c.bin",
            "it lies in the output folder; take it off the list"
        )]
    );
}

#[test]
fn results_are_called_as_their_sources() {
    for (source, container, output) in [
        ("a/b.mp4", None, "a/b.mp4"),
        ("a/b.MOV", None, "a/b.MOV"),
        ("b.mkv", None, "b.mkv"),
        ("b.webm", None, "b.webm"),
        ("b.m4v", None, "b.m4v.mp4"),
        ("a.b/film.avi", None, "a.b/film.avi.mkv"),
        ("a.mkv/film", None, "a.mkv/film.mkv"),
        ("b.mp4", Some("mkv"), "b.mp4.mkv"),
        ("b.MKV", Some("mkv"), "b.MKV"),
        ("b.ts", Some("ts"), "b.ts"),
        ("b.mkv", Some("mov"), "b.mkv.mov"),
    ] {
        assert_eq!(name::output(source, container), output);
    }
}

#[test]
fn two_results_never_have_one_name() {
    let root = archive(&[
        "a.avi",
        "a.avi.mkv",
        "B.mp4",
        "b.MP4",
        "c.AVI",
        "c.avi",
        "d.avi",
        "d.mkv",
    ]);
    let found = walk(&of(&root)).unwrap();
    assert_eq!(
        sources(&found),
        ["B.mp4", "a.avi.mkv", "c.AVI", "d.avi", "d.mkv"]
    );
    let whys = refused(&found);
    assert_eq!(
        whys.iter().map(|(source, _)| *source).collect::<Vec<_>>(),
        ["a.avi", "b.MP4", "c.avi"]
    );
    assert_eq!(
        whys[0].1,
        "a result of the same name: a.avi would become a.avi.mkv, and a.avi.mkv becomes a.avi.mkv; rename one of them"
    );
    assert!(
        whys[2]
            .1
            .contains("c.avi would become c.avi.mkv, and c.AVI becomes c.AVI.mkv")
    );
}
