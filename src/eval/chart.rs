//! Charts of a film: what each contestant had at every frame, drawn as SVG over one axis of time.

use super::page::{escaped, write};

/// Width and height of what is drawn in, in the units of the picture.
const SIZE: (f64, f64) = (720., 180.);
/// Height of a contestant's row of strokes.
const ROW: f64 = 16.;
/// Colours in the page's style; from there on they repeat.
const COLOURS: usize = 9;

/// What a contestant is called, and what it has of every frame.
pub type Series<'a, T> = (&'a str, Vec<T>);

/// A contestant's part of a chart: its number, its name, its path.
type Part<'a> = (usize, &'a str, String);

/// Writes a chart of values from 0 to their largest, a line for each contestant that has any above 0; lines break where
/// there is none.
pub fn curves(page: &mut String, what: &str, all: &[Series<Option<f64>>]) {
    let values = |series: &[Option<f64>]| series.iter().flatten().copied().fold(0., f64::max);
    let most = all
        .iter()
        .map(|(_, series)| values(series))
        .fold(0., f64::max);
    let drawn = all.iter().enumerate();
    let drawn = drawn.filter(|(_, (_, series))| values(series) > 0.);
    let parts: Vec<Part> = drawn
        .map(|(number, (name, series))| (number, *name, curve(series, most)))
        .collect();
    let scale = format!(
        "<text x=\"-6\" y=\"4\">{most:.3}</text><text x=\"-6\" y=\"{}\">0</text>",
        SIZE.1
    );
    chart(page, what, frames(all), SIZE.1, &scale, &parts);
}

/// Writes a chart of the frames at which something happened, a row of strokes for each contestant to which it did.
pub fn strokes(page: &mut String, what: &str, all: &[Series<bool>]) {
    let drawn = all.iter().enumerate();
    let drawn: Vec<_> = drawn
        .filter(|(_, (_, series))| series.contains(&true))
        .collect();
    let rows = drawn.iter().enumerate();
    let parts: Vec<Part> = rows
        .map(|(row, (number, (name, series)))| (*number, *name, ticks(series, row)))
        .collect();
    chart(
        page,
        what,
        frames(all),
        ROW * parts.len() as f64,
        "",
        &parts,
    );
}

fn frames<T>(all: &[Series<T>]) -> usize {
    all.iter()
        .map(|(_, series)| series.len())
        .max()
        .unwrap_or(0)
}

/// Where a frame lies on the axis.
fn x(frame: usize, frames: usize) -> f64 {
    frame as f64 / (frames.max(2) - 1) as f64 * SIZE.0
}

fn curve(series: &[Option<f64>], most: f64) -> String {
    let (mut path, mut pen) = (String::new(), 'M');
    for (i, value) in series.iter().enumerate() {
        let Some(value) = value else {
            pen = 'M';
            continue;
        };
        let y = SIZE.1 * (1. - value / most);
        write(
            &mut path,
            format_args!("{pen}{:.1} {y:.1}", x(i, series.len())),
        );
        pen = 'L';
    }
    path
}

fn ticks(series: &[bool], row: usize) -> String {
    let (top, length) = (ROW * (row as f64 + 0.2), ROW * 0.6);
    let happened = series.iter().enumerate().filter(|(_, here)| **here);
    happened.fold(String::new(), |mut path, (i, _)| {
        let x = x(i, series.len());
        write(&mut path, format_args!("M{x:.1} {top:.1}v{length:.1}"));
        path
    })
}

/// A chart of these parts, `height` high, with `scale` beside its axis; nothing without parts.
fn chart(page: &mut String, what: &str, frames: usize, height: f64, scale: &str, parts: &[Part]) {
    if parts.is_empty() {
        return;
    }
    let (width, what) = (SIZE.0, escaped(what));
    write(
        page,
        format_args!(
            "<figure class=\"chart\"><svg viewBox=\"-44 -8 {} {}\" role=\"img\" aria-label=\"{what}\">\
             <path class=\"axis\" d=\"M0 0V{height}H{width}\"/>{scale}<text x=\"{width}\" y=\"{}\">frame {frames}</text>",
            width + 52.,
            height + 32.,
            height + 16.,
        ),
    );
    let mut legend = String::new();
    for (number, name, path) in parts {
        let colour = number % COLOURS;
        write(
            page,
            format_args!("<path class=\"line c{colour}\" d=\"{path}\"/>"),
        );
        write(
            &mut legend,
            format_args!(
                "<span class=\"c{colour}\">\u{25a0}</span> {} ",
                escaped(name)
            ),
        );
    }
    write(
        page,
        format_args!("</svg><figcaption>{what}: {legend}</figcaption></figure>"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_where_there_is_no_value_and_contestants_keep_their_colour() {
        let mut page = String::new();
        let all = [
            ("grey", vec![Some(0.); 5]),
            ("a & b", vec![None, Some(2.), Some(1.), None, Some(0.)]),
        ];
        curves(&mut page, "flicker", &all);
        assert!(
            page.contains("class=\"line c1\" d=\"M180.0 0.0L360.0 90.0M720.0 180.0\""),
            "{page}"
        );
        assert!(
            page.contains(">2.000</text>") && page.contains("frame 5<"),
            "{page}"
        );
        assert!(
            page.contains("a &amp; b") && !page.contains("grey"),
            "{page}"
        );
    }

    #[test]
    fn what_happens_is_a_stroke() {
        let mut page = String::new();
        let all = [("grey", vec![]), ("net", vec![true, false, true])];
        strokes(&mut page, "runs", &all);
        assert!(
            page.contains("class=\"line c1\" d=\"M0.0 3.2v9.6M720.0 3.2v9.6\""),
            "{page}"
        );
        assert!(page.contains("viewBox=\"-44 -8 772 48\""), "{page}");
    }

    #[test]
    fn of_nothing_there_is_no_chart() {
        let mut page = String::new();
        curves(&mut page, "flicker", &[("grey", vec![None, Some(0.)])]);
        strokes(&mut page, "runs", &[("grey", vec![])]);
        assert_eq!(page, "");
    }
}
