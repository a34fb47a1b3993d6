//! `cargo bench --bench data`: pictures a second that one loader thread makes from its cache, plain and with each part
//! of the look of old film.
//!
//! Draws its own photographs. Prints figures and asserts nothing: they are for people.

use std::{path::Path, thread, time::Instant};

use autochrome::{
    stage::Stages,
    train::data::{Augment, Loader, LoaderOptions, Phase, Photo, ScanOptions, Split},
};
use image::{Rgb, RgbImage};
use serde_json::json;

const SIZE: usize = 128;
const BATCH: usize = 16;
const STEPS: u32 = 60;
const PHOTOS: u32 = 64;

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    (0..PHOTOS).for_each(|number| draw(folder.path(), number));
    let scan = ScanOptions::new(&[folder.path().to_owned()], 0., 1, 1);
    let photos = Split::scan(&scan, &mut |_, _| ())
        .expect("photographs")
        .train;
    println!(
        "{SIZE} px, one thread, {} photographs of 300x208 kept in memory",
        photos.len()
    );
    let off = json!({
        "stocks": 0, "gamma": 0, "contrast": 0, "fade": 0, "grain": 0, "blur": 0, "flicker": 0,
        "scratches": 0, "jpeg": 0, "interlace": 0,
    });
    show(
        "plain",
        &photos,
        serde_json::from_value(off.clone()).expect("settings"),
    );
    for name in off.as_object().expect("an object").keys() {
        let mut one = off.clone();
        one[name] = json!(1);
        show(
            name,
            &photos,
            serde_json::from_value(one).expect("settings"),
        );
    }
    show("the defaults", &photos, Augment::default());
}

/// A photograph of coloured waves, each number another.
fn draw(folder: &Path, number: u32) {
    let phase = number as f32;
    let value = |at: f32| (127. + 120. * at.sin()) as u8;
    let picture = RgbImage::from_fn(300, 208, |x, y| {
        let (x, y) = (x as f32, y as f32);
        Rgb([
            value(x / (15. + phase) + phase),
            value(y / (40. - phase / 2.)),
            value((x + y) / 30. * phase.cos() + 2. * phase),
        ])
    });
    picture
        .save(folder.join(format!("{number}.jpg")))
        .expect("a file");
}

fn show(name: &str, photos: &[Photo], augment: Augment) {
    let options = LoaderOptions {
        phases: vec![Phase {
            from: 0,
            size: SIZE,
            batch: BATCH,
        }],
        augment,
        seed: 1,
        cache: usize::MAX,
    };
    let seconds = thread::scope(|scope| {
        let stages = Stages::new(scope);
        let started = Loader::start(&stages, photos, &options, 0, 1);
        let mut loader = started.expect("a loader").0;
        let mut take = |steps| (0..steps).for_each(|_| drop(loader.next_batch().expect("a batch")));
        // Every photograph is decoded on its first visit.
        take(2 * PHOTOS.div_ceil(BATCH as u32));
        let since = Instant::now();
        take(STEPS);
        since.elapsed().as_secs_f64()
    });
    let pictures = f64::from(STEPS) * BATCH as f64;
    println!(
        "{name:<14} {:6.0} pictures/s, {:.3} ms a picture",
        pictures / seconds,
        1e3 * seconds / pictures
    );
}
