//! Pictures for people: results beside the truth, and how the same pictures came to their colour.

use std::{
    fs,
    path::{Path, PathBuf},
};

use image::{GenericImage, GenericImageView, Rgb, RgbImage};

use super::{
    canvas::{self, Anchor, TEXT},
    entries,
};
use crate::{
    eval::{self, Exam},
    frame::AbMap,
};

/// Exams in a row of a sheet; each is grey, result and truth.
const ACROSS: usize = 3;

/// Width and height of the largest exam.
fn largest(exams: &[Exam]) -> (usize, usize) {
    let most = |f: fn(&Exam) -> usize| exams.iter().map(f).max().unwrap_or(1);
    (most(|e| e.thumb.width), most(|e| e.thumb.height))
}

/// Grey, result and truth of each exam, three exams a row.
pub fn sheet(exams: &[Exam], maps: &[AbMap]) -> RgbImage {
    let (w, h) = largest(exams);
    let rows = exams.len().div_ceil(ACROSS);
    let mut sheet = RgbImage::new((ACROSS * 3 * w) as u32, (rows * h) as u32);
    for (i, (exam, map)) in exams.iter().zip(maps).enumerate() {
        let (width, height) = (exam.thumb.width, exam.thumb.height);
        let columns = [&AbMap::constant(0., 0.), map, &exam.truth];
        for (j, map) in columns.into_iter().enumerate() {
            let (left, top) = ((i % ACROSS * 3 + j) * w, i / ACROSS * h);
            for (p, rgb) in eval::srgb(&exam.thumb, &eval::enlarged(map, width, height)).enumerate()
            {
                let (x, y) = (left + p % width, top + p / width);
                sheet.put_pixel(x as u32, y as u32, Rgb(rgb.map(|v| v as u8)));
            }
        }
    }
    sheet
}

/// Where the sheet of a step lies.
pub(super) fn path(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("sheet-{step:06}.png"))
}

/// The sheets in a folder by step.
fn sheets(folder: &Path) -> Vec<(u64, PathBuf)> {
    let step = |path: PathBuf| {
        let name = path.file_name()?.to_str()?;
        let step = name.strip_prefix("sheet-")?.strip_suffix(".png")?;
        Some((step.parse().ok()?, path))
    };
    let mut sheets: Vec<_> = entries(folder).into_iter().filter_map(step).collect();
    sheets.sort();
    sheets
}

/// Removes the sheets of steps after `until`, which an earlier part of the run drew and lost.
pub(super) fn forget(folder: &Path, until: u64) {
    for (_, path) in sheets(folder).into_iter().filter(|(step, _)| *step > until) {
        // One that stays is drawn over when the run comes there again.
        let _ = fs::remove_file(path);
    }
}

/// The first few exams as the sheets in `folder` show them: grey, a column a sheet, evenly chosen where they are many,
/// and the truth.
pub(super) fn progress(folder: &Path, exams: &[Exam]) -> RgbImage {
    const ROWS: usize = 6;
    const COLUMNS: usize = 10;
    let (w, h) = largest(exams);
    let (w, h) = (w as u32, h as u32);
    let rows = exams.len().min(ROWS);
    let sheets = chosen(sheets(folder), COLUMNS);
    let mut columns: Vec<(String, RgbImage, u32)> = Vec::new();
    for (step, path) in sheets {
        let size = (
            ACROSS as u32 * 3 * w,
            exams.len().div_ceil(ACROSS) as u32 * h,
        );
        // Sheets of other photographs, or damaged ones, are left out.
        let Some(sheet) = image::open(path).ok().filter(|s| s.dimensions() == size) else {
            continue;
        };
        columns.push((step.to_string(), sheet.into_rgb8(), 1));
    }
    if let Some((_, sheet, _)) = columns.last().cloned() {
        columns.insert(0, ("grey".into(), sheet.clone(), 0));
        columns.push(("truth".into(), sheet, 2));
    }
    let mut progress = RgbImage::from_pixel(
        columns.len() as u32 * w,
        rows as u32 * h + HEAD,
        Rgb([255; 3]),
    );
    for (x, (name, sheet, which)) in (0..).map(|i| i * w).zip(&columns) {
        let middle = ((x + w / 2) as i32, (HEAD as i32 - TEXT) / 2);
        canvas::text(&mut progress, middle, Anchor::Middle, [40; 3], name);
        for row in 0..rows as u32 {
            let across = ACROSS as u32;
            let tile = sheet.view((row % across * 3 + which) * w, row / across * h, w, h);
            // The room is there: the size was computed from the number of tiles.
            let _ = progress.copy_from(&tile.to_image(), x, HEAD + row * h);
        }
    }
    progress
}

/// Room above the columns for their steps.
const HEAD: u32 = 22;

/// At most `count` of all, the first and the last among them.
fn chosen<T>(all: Vec<T>, count: usize) -> Vec<T> {
    let last = all.len().saturating_sub(1);
    let steps = count.min(all.len()).saturating_sub(1).max(1);
    let wanted: Vec<_> = (0..=steps).map(|i| i * last / steps).collect();
    let all = all.into_iter().enumerate();
    all.filter(|(i, _)| wanted.contains(i))
        .map(|(_, t)| t)
        .collect()
}
