//! Page: a report for people. One file without anything outside of it; readable on a small screen, in the dark, by
//! keyboard, without script and when printed.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    io::{self, Cursor, Write},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use image::{ImageDecoder, codecs::jpeg::JpegDecoder};

use super::{JSON, Report, Sheets, units};
use crate::archive::record::{Done, Outcome, Record};

const STYLE: &str = include_str!("../report.css");
const SCRIPT: &str = include_str!("../report.js");

/// Nothing is fetched and nothing is sent, whatever stands in a name.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      base-uri 'none'; form-action 'none'";

/// A list longer than this is folded.
const LONG: usize = 12;

type Out<'a> = &'a mut dyn Write;
type Films<'a> = Vec<(&'a Record, &'a Done)>;

/// Writes the page: what needs somebody first, then what is to come, then the films.
pub(super) fn write(out: Out, report: &Report, sheet: &Sheets) -> io::Result<()> {
    head(out, &report.facts.archive)?;
    summary(out, report)?;
    filter(out)?;
    failed(out, report)?;
    waiting(out, &report.facts.waiting)?;
    done(out, report, sheet)?;
    skipped(out, report)?;
    about(out, report)?;
    writeln!(
        out,
        "</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>"
    )
}

fn head(out: Out, archive: &str) -> io::Result<()> {
    let title = Text(archive);
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{title} \u{2013} autochrome</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    )
}

/// How it stands: the states with their numbers, each leading to its part of the page, and the totals in a sentence.
fn summary(out: Out, report: &Report) -> io::Result<()> {
    let totals = &report.totals;
    write!(
        out,
        "<p class=\"note\">{}, as of {}.</p>\n<nav aria-label=\"Parts of this page\">\n",
        match totals.waiting {
            0 => "Nothing is left to do".to_owned(),
            n => format!("Not finished: {} to go", units::many(n, "film")),
        },
        units::date(report.facts.written)
    )?;
    let states = [
        ("failed", totals.failed),
        ("waiting", totals.waiting),
        ("done", totals.done),
        ("skipped", totals.skipped),
    ];
    for (state, number) in states {
        let link = match number {
            0 => String::new(),
            _ => format!(" href=\"#{state}\""),
        };
        let number = units::count(number as u64);
        writeln!(
            out,
            "<a class=\"{state}\"{link}><b>{number}</b> {state}</a>"
        )?;
    }
    out.write_all(b"</nav>\n")?;
    bar(out, &states)?;
    sums(out, report)
}

/// The states as parts of a line.
fn bar(out: Out, states: &[(&str, usize)]) -> io::Result<()> {
    out.write_all(b"<div class=\"bar\" aria-hidden=\"true\">")?;
    for (state, number) in states.iter().filter(|(_, number)| *number > 0) {
        write!(
            out,
            "<i class=\"{state}\" style=\"flex-grow:{number}\"></i>"
        )?;
    }
    out.write_all(b"</div>\n")
}

fn sums(out: Out, report: &Report) -> io::Result<()> {
    let totals = &report.totals;
    if totals.done == 0 {
        return out.write_all(b"<p>No film is in colour yet.</p>\n");
    }
    write!(
        out,
        "<p><b>{}</b> of film in colour, {} frames, in <b>{}</b> of work",
        units::hours(totals.seconds),
        units::count(totals.frames),
        units::hours(totals.worked)
    )?;
    if let Some(speed) = totals.speed {
        let speed = units::figure(speed);
        write!(out, ": <b>{speed}</b> times as fast as the films run")?;
    }
    let (now, before) = (units::size(totals.bytes), units::size(totals.source_bytes));
    write!(out, ". <b>{now}</b> written, from sources of {before}.")?;
    if totals.warnings > 0 {
        let warnings = units::many(totals.warnings, "warning");
        write!(out, " {warnings}.")?;
    }
    out.write_all(b"</p>\n")
}

/// Only the script shows it: without, it would do nothing.
fn filter(out: Out) -> io::Result<()> {
    writeln!(
        out,
        "<div id=\"filter\" role=\"search\" hidden>\
         <input type=\"search\" placeholder=\"Find by name, reason, stream \u{2026}\" aria-label=\"Find\"> \
         <select aria-label=\"State\"><option value=\"\">all states</option><option>failed</option>\
         <option>waiting</option><option>done</option><option>skipped</option></select> <output></output></div>"
    )
}

/// Begins a part of the page.
fn section(out: Out, state: &str, title: &str, number: usize) -> io::Result<()> {
    let number = units::count(number as u64);
    writeln!(
        out,
        "<section id=\"{state}\">\n<h2 class=\"{state}\">{title} <small>{number}</small></h2>"
    )
}

fn failed(out: Out, report: &Report) -> io::Result<()> {
    if report.totals.failed == 0 {
        return Ok(());
    }
    section(out, "failed", "Failed", report.totals.failed)?;
    for record in &report.records {
        if let Outcome::Failed { why, attempts } = &record.outcome {
            failure(out, record, why, *attempts)?;
        }
    }
    out.write_all(b"</section>\n")
}

fn failure(out: Out, record: &Record, why: &str, attempts: u32) -> io::Result<()> {
    writeln!(
        out,
        "<article class=\"item\"><h3>{}</h3><p class=\"why\">{}</p>\
         <p class=\"note\">Tried {}, last on {} by {}</p></article>",
        Text(&record.source),
        Text(why),
        units::many(attempts as usize, "time"),
        units::date(record.finished),
        Text(&record.worker)
    )
}

fn waiting(out: Out, sources: &[String]) -> io::Result<()> {
    if sources.is_empty() {
        return Ok(());
    }
    section(out, "waiting", "Waiting", sources.len())?;
    let title = "To be done, or being worked on";
    folded(out, title, sources.iter().map(String::as_str))?;
    out.write_all(b"</section>\n")
}

/// Names under a title, folded where they are many.
fn folded<'a>(
    out: Out,
    title: &str,
    names: impl ExactSizeIterator<Item = &'a str>,
) -> io::Result<()> {
    let open = if names.len() > LONG { "" } else { " open" };
    let number = units::count(names.len() as u64);
    writeln!(
        out,
        "<details class=\"group\"{open}><summary>{} <small>{number}</small></summary><ul>",
        Text(title)
    )?;
    for name in names {
        writeln!(out, "<li class=\"item\">{}</li>", Text(name))?;
    }
    out.write_all(b"</ul></details>\n")
}

/// The films in colour, by folder.
fn done(out: Out, report: &Report, sheet: &Sheets) -> io::Result<()> {
    if report.totals.done == 0 {
        return Ok(());
    }
    let mut folders: BTreeMap<&str, Films> = BTreeMap::new();
    for record in &report.records {
        if let Outcome::Done(film) = &record.outcome {
            let (folder, _) = place(&record.source);
            folders.entry(folder).or_default().push((record, film));
        }
    }
    section(out, "done", "In colour", report.totals.done)?;
    for (folder, films) in &folders {
        shelf(out, folder, films, sheet)?;
    }
    out.write_all(b"</section>\n")
}

/// Folder and name of a path below the archive's root.
fn place(source: &str) -> (&str, &str) {
    source.rsplit_once('/').unwrap_or(("", source))
}

/// The films of one folder.
fn shelf(out: Out, folder: &str, films: &Films, sheet: &Sheets) -> io::Result<()> {
    let seconds = films.iter().map(|(_, film)| film.seconds).sum();
    let name = match folder {
        "" => "In the archive\u{2019}s own folder",
        folder => folder,
    };
    writeln!(
        out,
        "<div class=\"folder\">\n<h3>{} <small>{}, {}</small></h3>\n<div class=\"films\">",
        Text(name),
        units::many(films.len(), "film"),
        units::clock(seconds)
    )?;
    for (record, film) in films {
        card(out, record, film, sheet)?;
    }
    out.write_all(b"</div>\n</div>\n")
}

fn card(out: Out, record: &Record, film: &Done, sheet: &Sheets) -> io::Result<()> {
    let (_, name) = place(&record.source);
    let source = Text(&record.source);
    write!(
        out,
        "<article class=\"item film\" data-source=\"{source}\">"
    )?;
    if let Some(jpeg) = sheet(record) {
        picture(out, name, &jpeg)?;
    }
    write!(
        out,
        "<h4><a href=\"{}\">{}</a></h4>",
        Link(&film.output),
        Text(name)
    )?;
    figures(out, film)?;
    if !film.warnings.is_empty() {
        write!(out, "<ul class=\"warnings\">")?;
        lines(out, &film.warnings)?;
    }
    details(out, record, film)?;
    out.write_all(b"</article>\n")
}

/// The contact sheet; it takes the whole width while its box is ticked. What is not a JPEG is left out.
fn picture(out: Out, name: &str, jpeg: &[u8]) -> io::Result<()> {
    let Ok(decoder) = JpegDecoder::new(Cursor::new(jpeg)) else {
        return Ok(());
    };
    let (width, height) = decoder.dimensions();
    write!(
        out,
        "<label><input type=\"checkbox\" aria-label=\"Enlarge the pictures\"><img loading=\"lazy\" width=\"{width}\" \
         height=\"{height}\" alt=\"Pictures of {}, before and after\" src=\"data:image/jpeg;base64,{}\"></label>",
        Text(name),
        STANDARD.encode(jpeg)
    )
}

fn figures(out: Out, film: &Done) -> io::Result<()> {
    let (width, height) = film.size;
    write!(
        out,
        "<p>{width} \u{d7} {height} \u{b7} {} \u{b7} {} frames \u{b7} {}{}</p><p class=\"note\">Coloured in {}",
        units::clock(film.seconds),
        units::count(film.frames),
        units::size(film.bytes),
        if film.lossless { ", lossless" } else { "" },
        units::clock(film.worked)
    )?;
    if film.worked > 0. {
        let speed = units::figure(film.frames as f64 / film.worked);
        write!(out, " at {speed} fps")?;
    }
    if film.segments > 1 {
        write!(out, " in {} segments", units::count(film.segments as u64))?;
    }
    if film.kept > 0 {
        let kept = units::many(film.kept as usize, "frame");
        write!(out, "; own colours kept in {kept}")?;
    }
    out.write_all(b"</p>")
}

/// What few ask for: the streams, and where the film came from.
fn details(out: Out, record: &Record, film: &Done) -> io::Result<()> {
    let streams = units::many(film.streams.len(), "stream");
    write!(out, "<details><summary>{streams}, origin</summary><ul>")?;
    lines(out, &film.streams)?;
    write!(
        out,
        "<p class=\"note\">From {}, {}, by {}, {}. Model: {}. SHA-256 of the film: <code>{}</code></p></details>",
        Text(&record.source),
        units::size(record.digest.bytes),
        Text(&record.worker),
        units::date(record.finished),
        Text(&film.model),
        Text(&film.sha256)
    )
}

/// The lines of a list, and its end.
fn lines(out: Out, lines: &[String]) -> io::Result<()> {
    for line in lines {
        write!(out, "<li>{}</li>", Text(line))?;
    }
    out.write_all(b"</ul>")
}

/// What is not to be coloured, by reason, the most frequent first.
fn skipped(out: Out, report: &Report) -> io::Result<()> {
    if report.totals.skipped == 0 {
        return Ok(());
    }
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for record in &report.records {
        if let Outcome::Skipped { why } = &record.outcome {
            reasons.entry(why).or_default().push(&record.source);
        }
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    section(out, "skipped", "Skipped", report.totals.skipped)?;
    for (why, names) in reasons {
        folded(out, why, names.into_iter())?;
    }
    out.write_all(b"</section>\n")
}

/// How it was done.
fn about(out: Out, report: &Report) -> io::Result<()> {
    let facts = report.facts;
    out.write_all(b"<footer>\n<h2>How it was done</h2>\n<dl>\n")?;
    row(out, "model", &facts.model)?;
    for (name, value) in &facts.settings {
        row(out, name, value)?;
    }
    row(out, "autochrome", &facts.version)?;
    writeln!(
        out,
        "</dl>\n<p class=\"note\">The same for programs: <a href=\"{JSON}\">{JSON}</a></p>\n</footer>"
    )
}

fn row(out: Out, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "<dt>{}</dt><dd>{}</dd>", Text(name), Text(value))
}

/// Words as HTML has them, in text and in quotes.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A path below the page's folder as an address that leads there, whatever is in its name.
struct Link<'a>(&'a str);

impl fmt::Display for Link<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // Before anything else: a name that begins as another address does stays a name.
        f.write_str("./")?;
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                    write!(f, "{}", byte as char)?;
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_escaped_in_text_and_in_quotes() {
        let words = Text("<b>\"Tom\" & 'Jerry' &amp;</b>");
        let safe = "&lt;b&gt;&quot;Tom&quot; &amp; &#39;Jerry&#39; &amp;amp;&lt;/b&gt;";
        assert_eq!(words.to_string(), safe);
        assert_eq!(Text("<<>>&&").to_string(), "&lt;&lt;&gt;&gt;&amp;&amp;");
        assert_eq!(
            Text("K\u{f6}nig, 1912.mkv").to_string(),
            "K\u{f6}nig, 1912.mkv"
        );
    }

    #[test]
    fn links_stay_below_the_folder() {
        assert_eq!(
            Link("a b/100% #1?.mkv").to_string(),
            "./a%20b/100%25%20%231%3F.mkv"
        );
        assert_eq!(Link("javascript:x").to_string(), "./javascript%3Ax");
        assert_eq!(Link("//host/x").to_string(), ".///host/x");
        assert_eq!(Link("K\u{f6}nig").to_string(), "./K%C3%B6nig");
    }
}
