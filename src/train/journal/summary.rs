//! `summary.md`: what came of the run, for people.

use std::fmt::Write as _;

use serde_json::Value;

use super::table::Table;

/// The caller's summary as a list, and what each figure was at first, at its extremes and at last.
pub(super) fn markdown(summary: &Value, table: &Table) -> String {
    let mut text = String::from("# Summary of the run\n\n");
    list(&mut text, 0, summary);
    text += "\n| figure | first | least | at step | greatest | at step | last |\n";
    text += "|---|---:|---:|---:|---:|---:|---:|\n";
    for column in table.columns() {
        let points = table.points(column);
        let (Some((_, first)), Some((_, last))) = (points.first(), points.last()) else {
            continue;
        };
        let by = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (Some(least), Some(most)) = (points.iter().min_by(by), points.iter().max_by(by)) else {
            continue;
        };
        // As they stand in the table.
        let n = |v: f64| v as f32;
        let _ = writeln!(
            text,
            "| {column} | {} | {} | {} | {} | {} | {} |",
            n(*first),
            n(least.1),
            least.0,
            n(most.1),
            most.0,
            n(*last)
        );
    }
    text
}

fn list(text: &mut String, depth: usize, value: &Value) {
    let indent = "  ".repeat(depth);
    let mut item = |name: String, value: &Value| match value {
        Value::Object(_) | Value::Array(_) => {
            let _ = writeln!(text, "{indent}- {name}");
            list(text, depth + 1, value);
        }
        Value::String(words) => {
            let _ = writeln!(text, "{indent}- {name}{words}");
        }
        other => {
            let _ = writeln!(text, "{indent}- {name}{other}");
        }
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| item(format!("{k}: "), v)),
        Value::Array(all) => all.iter().for_each(|v| item(String::new(), v)),
        other => item(String::new(), other),
    }
}
