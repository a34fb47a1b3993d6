//! The report as one page: figures, pictures sorted by error, films as strips with charts over time. One file without
//! anything outside of it; readable on a small screen and in the dark.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use image::{RgbImage, codecs::jpeg::JpegEncoder};

use super::{
    EvalOptions, Exam,
    chart::{self, Series},
    clip::{ClipReport, ClipRow},
    contest::{Field, Tell, labels},
    enlarged, painted,
    report::{CLIP_COLUMNS, COLUMNS, PictureReport, Report, Row, cells, clip_cells, figure, short},
};
use crate::{
    error::{Error, Result},
    frame::AbMap,
    train::data::Photo,
};

/// Photographs shown, evenly over the range of errors where there are more.
const SHOWN: usize = 120;
/// Photographs in memory at once.
const CHUNK: usize = 24;
/// JPEG quality of the pictures in the page.
const QUALITY: u8 = 82;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Draws the page of a report. The pictures shown are coloured again: none is kept while they are judged.
///
/// # Errors
/// As for [`super::run`].
pub fn page(report: &Report, options: &EvalOptions, tell: &mut Tell) -> Result<String> {
    let mut page = String::new();
    let title = labels(&options.models).join(", ");
    let title = escaped(&title);
    write(
        &mut page,
        format_args!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width,initial-scale=1\"><title>{title} \u{2013} autochrome eval</title>\
             <style>{STYLE}</style></head><body><main><h1>{title}</h1>"
        ),
    );
    if !report.rows.is_empty() {
        photographs(&mut page, report);
        let shown = shown(report);
        let note = match shown.len() < report.pictures.len() {
            true => format!(
                ", {} of {} evenly over the range of errors",
                shown.len(),
                report.pictures.len()
            ),
            false => String::new(),
        };
        write(
            &mut page,
            format_args!(
                "<h2>Pictures</h2><p>Sorted by the error (CIEDE2000) of {}{note}. <button data-sort=\"worst\">worst \
                 first</button> <button data-sort=\"best\">best first</button></p><div id=\"pictures\">",
                escaped(&report.rows[0].name)
            ),
        );
        gallery(&mut page, report, options, &shown, tell)?;
        page.push_str("</div>");
    }
    for clip in &report.clips {
        film(&mut page, clip)?;
    }
    skipped(&mut page, report);
    write(
        &mut page,
        format_args!("</main><script>{SCRIPT}</script></body></html>\n"),
    );
    Ok(page)
}

/// Writes to the page: writing to a string cannot fail.
pub(super) fn write(page: &mut String, words: std::fmt::Arguments) {
    page.write_fmt(words).unwrap_or_default();
}

/// Words as HTML has them.
pub(super) fn escaped(words: &str) -> String {
    let safe = [
        ('&', "&amp;"),
        ('<', "&lt;"),
        ('>', "&gt;"),
        ('"', "&quot;"),
    ];
    let of = |c| safe.iter().find(|(unsafe_, _)| *unsafe_ == c);
    let add = |mut out: String, c: char| {
        match of(c) {
            Some((_, safe)) => out.push_str(safe),
            None => out.push(c),
        }
        out
    };
    words.chars().fold(String::new(), add)
}

/// A table with a name in the first column and figures in the others.
fn table<const N: usize>(
    page: &mut String,
    heads: [&str; N],
    rows: impl Iterator<Item = (String, [String; N])>,
) {
    page.push_str("<div class=\"wide\"><table><thead><tr><th></th>");
    for head in heads {
        write(page, format_args!("<th>{}</th>", escaped(head)));
    }
    page.push_str("</tr></thead><tbody>");
    for (name, cells) in rows {
        write(page, format_args!("<tr><th>{}</th>", escaped(&name)));
        for cell in cells {
            write(page, format_args!("<td>{cell}</td>"));
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
}

fn named(row: &Row) -> (String, [String; 10]) {
    (row.name.clone(), cells(row))
}

/// The figures, over all photographs and by source.
fn photographs(page: &mut String, report: &Report) {
    write(
        page,
        format_args!("<h2>{} photographs</h2>", report.pictures.len()),
    );
    table(page, COLUMNS, report.rows.iter().map(named));
    page.push_str("<p class=\"note\">CIEDE2000: mean colour error, smaller is better; PSNR of a and b \
     and of R, G and B in dB, and SSIM: larger is better; CF: colourfulness (Hasler &amp; S\u{fc}sstrunk), \
     dCF: how far it is from the truth\u{2019}s; chroma: mean, as a part of the truth\u{2019}s; SFD: \
     Fr\u{e9}chet distance of SqueezeNet features, not comparable with FID, to be read as a part of grey\u{2019}s \
     on the same pictures.</p>");
    if report.sources.len() > 1 {
        page.push_str("<details><summary>By source</summary>");
        for source in &report.sources {
            write(
                page,
                format_args!(
                    "<h3>{} <small>{} photographs</small></h3>",
                    escaped(&source.source),
                    source.photographs
                ),
            );
            table(page, COLUMNS, source.rows.iter().map(named));
        }
        page.push_str("</details>");
    }
}

/// Numbers of the photographs that are shown, the worst of the first model's first.
fn shown(report: &Report) -> Vec<usize> {
    let error = |i: &usize| report.pictures[*i].ciede2000.first().copied().unwrap_or(0.);
    let mut order: Vec<usize> = (0..report.pictures.len()).collect();
    order.sort_by(|a, b| error(b).total_cmp(&error(a)));
    if order.len() <= SHOWN {
        return order;
    }
    (0..SHOWN)
        .map(|i| order[i * (order.len() - 1) / (SHOWN - 1)])
        .collect()
}

/// The pictures, each with grey, every model's result and the truth.
fn gallery(
    page: &mut String,
    report: &Report,
    options: &EvalOptions,
    shown: &[usize],
    tell: &mut Tell,
) -> Result<()> {
    let mut field = Field::new(options)?;
    let models = field.models().filter(|model| *model).count();
    // As shown: grey, the models, the truth. A report's rows have the constant colour before the truth.
    let order: Vec<usize> = [models]
        .into_iter()
        .chain(0..models)
        .chain([models + 1])
        .collect();
    for (done, chunk) in shown.chunks(CHUNK).enumerate() {
        let photos: Vec<Photo> = chunk
            .iter()
            .map(|i| report.pictures[*i].photo.clone())
            .collect();
        let (opened, pictures): (Vec<_>, Vec<_>) =
            field.open(&photos, &mut Vec::new()).into_iter().unzip();
        let maps = field.colour(&pictures)?;
        let names: Vec<&str> = field.names().collect();
        for (i, (_, exam)) in pictures.iter().enumerate() {
            let Some(known) = report
                .pictures
                .iter()
                .find(|p| p.photo.content() == opened[i].content())
            else {
                continue;
            };
            let error = |at: usize| known.ciede2000.get(at).copied();
            let shots = order
                .iter()
                .map(|at| (names[*at], error(*at), &maps[*at][i]));
            picture(page, known, exam, shots)?;
        }
        tell("report", done * CHUNK + chunk.len(), shown.len());
    }
    Ok(())
}

fn picture<'a>(
    page: &mut String,
    known: &PictureReport,
    exam: &Exam,
    shots: impl Iterator<Item = (&'a str, Option<f64>, &'a AbMap)>,
) -> Result<()> {
    let error = known.ciede2000.first().copied().unwrap_or(0.);
    write(
        page,
        format_args!("<section data-error=\"{error:.3}\"><div class=\"row\">"),
    );
    for (name, error, map) in shots {
        let map = enlarged(map, exam.thumb.width, exam.thumb.height);
        let caption = match name {
            "truth" => name.to_owned(),
            _ => format!("{name} {}", figure(error, 2)),
        };
        shot(page, &painted(&exam.thumb, &map), &caption)?;
    }
    write(
        page,
        format_args!(
            "</div><p class=\"note\">{} \u{b7} {}</p></section>",
            escaped(&known.source),
            escaped(&known.name)
        ),
    );
    Ok(())
}

fn shot(page: &mut String, picture: &RgbImage, caption: &str) -> Result<()> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode_image(picture)
        .map_err(|e| Error::internal("report", e))?;
    let (width, height) = picture.dimensions();
    let caption = escaped(caption);
    write(
        page,
        format_args!(
            "<figure><img loading=\"lazy\" width=\"{width}\" height=\"{height}\" alt=\"{caption}\" src=\"data:image/jpeg;base64,{}\">\
             <figcaption>{caption}</figcaption></figure>",
            STANDARD.encode(jpeg)
        ),
    );
    Ok(())
}

/// A film: its figures, charts over time, a few frames.
fn film(page: &mut String, clip: &ClipReport) -> Result<()> {
    write(
        page,
        format_args!(
            "<h2>{}</h2><p>{} frames at {} \u{d7} {}, scenes cut {} times.</p>",
            escaped(short(&clip.name)),
            clip.frames,
            clip.size.0,
            clip.size.1,
            clip.cuts
        ),
    );
    let row = |row: &ClipRow| (row.row.name.clone(), clip_cells(row));
    table(page, CLIP_COLUMNS, clip.rows.iter().map(row));
    page.push_str("<p class=\"note\">Flicker: mean change of colour along the motion of the picture, \
     divided by the mean chroma; the next column is what it has over the truth\u{2019}s, less is better, \
     but only at equal CF. CDC likewise: it rewards grey, so never aim at it. The stillest patch is where lightness \
     changes least over the longest scene, and colour should not either; residual is the share of the picture whose \
     motion from the last frame that the network saw cannot be trusted.</p>");
    charts(page, clip);
    for (number, pictures) in &clip.strip {
        page.push_str("<section><div class=\"row\">");
        for (picture, row) in pictures.iter().zip(&clip.rows) {
            shot(page, picture, &row.row.name)?;
        }
        write(
            page,
            format_args!("</div><p class=\"note\">frame {}</p></section>", number + 1),
        );
    }
    Ok(())
}

/// What every contestant had and did over time.
fn charts(page: &mut String, clip: &ClipReport) {
    let flicker = of_rows(clip, |row| row.flicker_of_frames.clone());
    chart::curves(page, "flicker of each frame", &flicker);
    if let Some((left, top, side)) = clip.still_patch {
        let what = format!("chroma of the stillest patch, {side} \u{d7} {side} at {left}, {top}");
        chart::curves(page, &what, &of_rows(clip, chroma_of_patch));
    }
    let residual = of_rows(clip, |row| row.residual_of_frames.clone());
    chart::curves(page, "residual of each frame", &residual);
    let runs = of_rows(clip, |row| row.network_ran.clone());
    chart::strokes(page, "frames that the network saw", &runs);
}

fn of_rows<T>(clip: &ClipReport, series: impl Fn(&ClipRow) -> Vec<T>) -> Vec<Series<'_, T>> {
    let rows = clip.rows.iter();
    rows.map(|row| (row.row.name.as_str(), series(row)))
        .collect()
}

fn chroma_of_patch(row: &ClipRow) -> Vec<Option<f64>> {
    let chroma = |[a, b]: &[f32; 2]| Some(f64::from(a.hypot(*b)));
    row.still_patch.iter().map(chroma).collect()
}

fn skipped(page: &mut String, report: &Report) {
    if report.skipped.is_empty() {
        return;
    }
    write(
        page,
        format_args!(
            "<h2>Not judged</h2><details><summary>{} files</summary><ul>",
            report.skipped.len()
        ),
    );
    for (name, why) in &report.skipped {
        write(
            page,
            format_args!("<li>{}: {}</li>", escaped(name), escaped(why)),
        );
    }
    page.push_str("</ul></details>");
}
