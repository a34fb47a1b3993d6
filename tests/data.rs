//! Data: what is found in folders, films and packs, how it is split, and what is said of what cannot be used.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use autochrome::{
    Error,
    frame::Item,
    media::{InputOptions, Source},
    train::data::{
        Photo, ScanOptions, Split,
        pack::{self, PackOptions},
        stratified,
    },
};
use common::{Lab, autochrome, run};
use image::{Rgb, RgbImage, imageops};

#[path = "common/mod.rs"]
mod common;

/// A picture of coloured waves, each number another.
fn waves(number: u32) -> RgbImage {
    let n = number as f32;
    let value = |at: f32| (127. + 110. * at.sin()) as u8;
    RgbImage::from_fn(160, 120, |x, y| {
        let (x, y) = (x as f32, y as f32);
        Rgb([
            value(x / (9. + n.rem_euclid(13.)) + n),
            value(y / (8. + n.rem_euclid(7.)) + 3. * n),
            value((x - y) / (11. + n.rem_euclid(5.)) + 2. * n),
        ])
    })
}

fn draw(folder: &Path, numbers: std::ops::Range<u32>) {
    fs::create_dir_all(folder).unwrap();
    for number in numbers {
        let name = format!("wave-{number}.png");
        waves(number).save(folder.join(name)).unwrap();
    }
}

fn options(inputs: &[&Path], held_out: f64) -> ScanOptions {
    let inputs: Vec<PathBuf> = inputs.iter().map(|path| path.to_path_buf()).collect();
    ScanOptions {
        memory: None,
        ..ScanOptions::new(&inputs, held_out, 1, 32)
    }
}

fn scan(inputs: &[&Path], held_out: f64) -> Split {
    Split::scan(&options(inputs, held_out), &mut |_, _| ()).unwrap()
}

fn contents(photos: &[Photo]) -> BTreeSet<[u8; 32]> {
    photos.iter().map(Photo::content).collect()
}

/// A film of three scenes in colour, with frames that lean on later ones.
fn film(lab: &Lab) -> PathBuf {
    let sources = "-f lavfi -i testsrc2=s=160x120:r=25:d=4 -f lavfi -t 1 -i mandelbrot=s=160x120:r=25 -f lavfi -i rgbtestsrc=s=160x120:r=25:d=1";
    let coded = "-filter_complex [0][1][2]concat=n=3:v=1 -c:v libx264 -g 60 -bf 3 -pix_fmt yuv420p";
    lab.film("scenes.mp4", &format!("{sources} {coded}"))
}

#[test]
fn folders_of_everything_are_read_and_what_teaches_nothing_is_counted() {
    let lab = Lab::new();
    let folder = lab.path("mixed");
    draw(&folder.join("deep/deeper"), 0..10);
    waves(20).save(folder.join("a.jpg")).unwrap();
    waves(21).save(folder.join("b.webp")).unwrap();
    film(&lab);
    fs::rename(lab.path("scenes.mp4"), folder.join("scenes.mp4")).unwrap();
    // A copy, a smaller copy; grey; too small; damaged, by its first bytes and by its last; no picture at all.
    fs::copy(
        folder.join("deep/deeper/wave-0.png"),
        folder.join("copy.png"),
    )
    .unwrap();
    imageops::thumbnail(&waves(1), 120, 90)
        .save(folder.join("small.jpg"))
        .unwrap();
    imageops::grayscale(&waves(30))
        .save(folder.join("grey.png"))
        .unwrap();
    imageops::thumbnail(&waves(31), 40, 30)
        .save(folder.join("tiny.png"))
        .unwrap();
    fs::write(folder.join("words.jpg"), b"no picture").unwrap();
    let whole = fs::read(folder.join("a.jpg")).unwrap();
    fs::write(folder.join("cut.jpg"), &whole[..whole.len() / 10]).unwrap();
    fs::write(folder.join("broken.mkv"), b"no film").unwrap();
    fs::write(folder.join("notes.txt"), b"not looked at").unwrap();

    let (mut last, mut split) = ((0, 0), Split::default());
    let told = &mut |done, of| last = (done, of);
    split.clone_from(&Split::scan(&options(&[&folder], 0.), told).unwrap());
    assert_eq!(last.0, last.1);
    let skipped: Vec<_> = split
        .skipped
        .iter()
        .map(|(name, why)| (name.rsplit('/').next().unwrap(), why))
        .collect();
    let names: Vec<_> = skipped.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["broken.mkv", "cut.jpg", "tiny.png", "words.jpg"]);
    assert!(skipped[2].1.contains("30 pixels"), "{skipped:?}");
    assert_eq!(split.left_out.grey, 1);
    assert!(split.left_out.duplicates >= 2);
    let frames = split
        .train
        .iter()
        .filter(|p| p.name().contains("scenes.mp4 at "));
    let frames = frames.count();
    assert!(frames >= 3, "every scene gives a frame: {frames}");
    assert_eq!(split.train.len(), 12 + frames);
    assert_eq!(split.digest.len(), 64);
    assert_eq!(scan(&[&folder], 0.3).digest, split.digest);
}

#[test]
fn a_frame_of_a_film_is_opened_again_as_the_film_shows_it() {
    let lab = Lab::new();
    let path = film(&lab);
    let split = scan(&[&path], 0.);
    let mut checked = 0;
    let mut source = Source::open(path.as_os_str(), &InputOptions::default()).unwrap();
    while let Some(item) = source.next().unwrap() {
        let Item::Frame(frame) = item else { continue };
        let (num, den) = source.info().video.time_base;
        let seconds = frame.pts as f64 * f64::from(num) / f64::from(den);
        let name = format!("at {seconds:.3} s");
        if let Some(photo) = split.train.iter().find(|p| p.name().ends_with(&name)) {
            let shown = frame.picture.to_rgb(160, 120).unwrap();
            assert!(photo.open().unwrap().into_raw() == shown, "{name}");
            checked += 1;
        }
    }
    assert_eq!(checked, split.train.len());
    assert!(checked >= 3);
    // Scenes begin at 0, 4 and 5 s: each has a frame, and the longest one the most.
    let within = |from: f64, to: f64| {
        let time = |p: &&Photo| -> f64 {
            let name = p.name();
            name.split(" at ")
                .nth(1)
                .unwrap()
                .trim_end_matches(" s")
                .parse()
                .unwrap()
        };
        split
            .train
            .iter()
            .filter(|p| (from..to).contains(&time(p)))
            .count()
    };
    assert!(within(0., 4.) >= 1 && within(4., 5.) >= 1 && within(5., 6.) >= 1);
}

#[test]
fn other_pictures_never_move_one_between_the_parts() {
    let lab = Lab::new();
    let (few, more) = (lab.path("few"), lab.path("more"));
    draw(&few, 0..40);
    draw(&more, 40..80);
    let alone = scan(&[&few], 0.2);
    let together = scan(&[&more, &few], 0.2);
    assert!(!alone.test.is_empty() && !alone.validation.is_empty());
    assert!(contents(&together.test).is_superset(&contents(&alone.test)));
    assert!(contents(&together.validation).is_superset(&contents(&alone.validation)));
    assert!(contents(&together.train).is_superset(&contents(&alone.train)));
    assert_ne!(alone.digest, together.digest);
}

fn packed(inputs: &[&Path], output: &Path, size: u32, fit: Option<u64>) -> pack::Packed {
    let options = PackOptions {
        inputs: inputs.iter().map(|path| path.to_path_buf()).collect(),
        output: output.to_path_buf(),
        size,
        fit,
        split: 1,
    };
    pack::write(&options, &mut |_, _, _| ()).unwrap()
}

#[test]
fn a_pack_is_the_folder_in_small() {
    let lab = Lab::new();
    let folder = lab.path("photos");
    draw(&folder, 0..60);
    let film = film(&lab);
    let (pack, again) = (lab.path("all.pack"), lab.path("again.pack"));
    let made = packed(&[&folder, &film], &pack, 48, None);
    packed(&[&folder, &film], &again, 48, None);
    assert!(fs::read(&pack).unwrap() == fs::read(&again).unwrap());
    assert_eq!(made.pictures, made.usable);
    assert_eq!(made.bytes, fs::metadata(&pack).unwrap().len());

    let (whole, small) = (scan(&[&folder, &film], 0.2), scan(&[&pack], 0.2));
    assert!(!whole.test.is_empty() && !whole.validation.is_empty());
    for (whole, small) in [
        (&whole.train, &small.train),
        (&whole.validation, &small.validation),
        (&whole.test, &small.test),
    ] {
        assert_eq!(contents(small), contents(whole));
        for (whole, small) in whole.iter().zip(small) {
            assert_eq!(small.source(), whole.source());
            let name = whole.name();
            assert!(small.name().ends_with(name.rsplit('/').next().unwrap()));
            let (whole, small) = (whole.open().unwrap(), small.open().unwrap());
            assert_eq!(small.dimensions(), (64, 48));
            let shrunk = imageops::resize(&whole, 64, 48, imageops::FilterType::Triangle);
            let pairs = shrunk.as_raw().iter().zip(small.as_raw());
            let sum: u32 = pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
            let mean = f64::from(sum) / (64. * 48. * 3.);
            assert!(mean < 12., "{name}: {mean}");
        }
    }
    assert_eq!(small.digest, whole.digest);
    // Packed beside its folder nothing is there twice.
    let both = scan(&[&pack, &folder, &film], 0.2);
    assert_eq!(both.digest, whole.digest);
    assert_eq!(
        contents(&stratified(&small.train, 9)),
        contents(&stratified(&whole.train, 9))
    );
}

#[test]
fn a_pack_fits_by_quality_and_then_by_fewer_pictures_of_every_source() {
    let lab = Lab::new();
    let folder = lab.path("photos");
    draw(&folder, 0..60);
    for number in 100..109 {
        waves(number)
            .save(folder.join(format!("few-{number}.png")))
            .unwrap();
    }
    let pack = lab.path("all.pack");
    let free = packed(&[&folder], &pack, 96, None);
    assert_eq!((free.pictures, free.quality), (69, 90));
    let tighter = packed(&[&folder], &pack, 96, Some(free.bytes * 8 / 10));
    assert_eq!(tighter.pictures, 69);
    assert!(
        tighter.quality < 90 && tighter.bytes <= free.bytes * 8 / 10,
        "{tighter:?}"
    );
    let tight = packed(&[&folder], &pack, 96, Some(free.bytes / 5));
    assert!(
        tight.pictures < 69 && tight.bytes <= free.bytes / 5,
        "{tight:?}"
    );
    assert!(tight.bytes > free.bytes / 7, "room is used: {tight:?}");
    // 60 and 9 pictures are 7.7 and 3 in square roots.
    let split = scan(&[&pack], 0.);
    let few = split.train.iter().filter(|p| p.source() == "few").count();
    let wanted = tight.pictures as f64 * 3. / (3. + 60f64.sqrt());
    assert!(
        (few as f64 - wanted.min(9.)).abs() <= 1.,
        "{few} for {wanted}"
    );

    let none = PackOptions {
        inputs: vec![folder],
        output: lab.path("none.pack"),
        size: 96,
        fit: Some(100),
        split: 1,
    };
    let error = pack::write(&none, &mut |_, _, _| ()).unwrap_err();
    assert!(matches!(error, Error::Usage(_)), "{error}");
    assert!(!none.output.exists() && lab.leftovers().is_empty());
}

#[test]
fn a_damaged_pack_and_one_for_another_split_are_refused() {
    let lab = Lab::new();
    let folder = lab.path("photos");
    draw(&folder, 0..12);
    let pack = lab.path("all.pack");
    packed(&[&folder], &pack, 64, None);
    let whole = fs::read(&pack).unwrap();
    let refused = |bytes: &[u8], seed, word: &str| {
        fs::write(&pack, bytes).unwrap();
        let options = ScanOptions {
            seed,
            ..options(&[&pack], 0.)
        };
        let error = Split::scan(&options, &mut |_, _| ())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("all.pack") && error.contains(word),
            "{error}"
        );
    };
    for length in [4, 30, 60, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..length], 1, "damaged or cut short");
    }
    for place in [20, 45, 70, whole.len() / 2] {
        let mut broken = whole.clone();
        broken[place] ^= 1;
        refused(&broken, 1, "damaged or cut short");
    }
    refused(
        b"PK\x03\x04, a file of another kind that is long enough to look at",
        1,
        "no pack",
    );
    refused(&whole, 2, "split=1");
}

#[test]
fn what_holds_nothing_to_learn_from_is_told_with_the_reasons() {
    let lab = Lab::new();
    let folder = lab.path("useless");
    fs::create_dir(&folder).unwrap();
    let message = || {
        let error = Split::scan(&options(&[&folder], 0.), &mut |_, _| ()).unwrap_err();
        assert!(matches!(error, Error::Train(_)));
        error.to_string()
    };
    assert!(
        message().contains("there are no photographs"),
        "{}",
        message()
    );
    imageops::grayscale(&waves(1))
        .save(folder.join("1.png"))
        .unwrap();
    imageops::grayscale(&waves(2))
        .save(folder.join("2.png"))
        .unwrap();
    imageops::thumbnail(&waves(3), 16, 12)
        .save(folder.join("3.png"))
        .unwrap();
    fs::write(folder.join("4.jpg"), b"no picture").unwrap();
    for word in ["2 grey", "2 damaged or too small", "3.png", "in colour"] {
        assert!(message().contains(word), "no {word} in: {}", message());
    }
    let error = Split::scan(&options(&[&lab.path("missing")], 0.), &mut |_, _| ());
    assert!(matches!(error, Err(Error::Input { .. })));
}

#[test]
fn the_program_packs_trains_on_the_pack_and_judges_on_it() {
    let lab = Lab::new();
    draw(&lab.path("photos"), 0..60);
    let (pack, model) = (lab.path("all.pack"), lab.path("m.safetensors"));
    let here = |args: &str| {
        let mut command = autochrome(args.split_whitespace());
        run(command
            .current_dir(lab.dir())
            .env("XDG_CACHE_HOME", lab.path("cache")))
    };
    let said = here("pack photos -o all.pack --size 64 --fit 1M")
        .ok()
        .stderr;
    assert!(said.contains("60 pictures, all that can be used"), "{said}");
    assert!(pack.exists() && lab.leftovers().is_empty());
    let small = r#"--arch unet --set network={"channels":4,"depth":3} --set objectives={"l1":1} --set held_out=0.2"#;
    here(&format!(
        "train all.pack -o m.safetensors --size 32 --steps 2 --batch 2 {small}"
    ))
    .ok();
    assert!(model.exists());
    let judged = here("eval all.pack --model m.safetensors --device cpu --json")
        .ok()
        .json();
    let pictures = judged["pictures"].as_array().map(Vec::len);
    assert_eq!(pictures, Some(scan(&[&pack], 0.2).test.len()));
    here("pack photos -o x.pack --fit nothing").fails(2, &["40M"]);
    here("pack empty -o x.pack").fails(3, &["empty", "no such file"]);
}
