//! `metrics.csv`: a row a step that was noted, a column a number; a cell that has no number yet is empty.
//!
//! One wide row a step is what a spreadsheet draws without being asked twice. The table is kept in memory as well, for
//! the curves and because a new column means a new file.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::publish;
use crate::error::{Error, Result, io_sentence, shown};

/// The numbers of a run over its steps.
pub(super) struct Table {
    path: PathBuf,
    columns: Vec<String>,
    rows: Vec<Row>,
    /// The file differs from the table by more than a row at its end.
    stale: bool,
}

struct Row {
    step: u64,
    /// Beside the columns; rows of before a column came are shorter.
    cells: Vec<Option<f32>>,
}

const STEP: &str = "step";

impl Table {
    /// Opens the table at `path`, new or without the rows after the step `until`: what an earlier part of the run wrote
    /// and lost.
    ///
    /// # Errors
    /// [`Error::Output`] where the file cannot be written, [`Error::Input`] where it is not this table's.
    pub fn open(path: &Path, until: u64) -> Result<Self> {
        let mut table = Self {
            path: path.to_owned(),
            columns: Vec::new(),
            rows: Vec::new(),
            stale: true,
        };
        match fs::read_to_string(path) {
            Ok(text) => table.read(&text, until)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::input(shown(path), io_sentence(&e))),
        }
        table.drop_empty_columns();
        table.save()?;
        Ok(table)
    }

    fn read(&mut self, text: &str, until: u64) -> Result<()> {
        // A run that was killed may have left half a row.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut lines = whole.lines();
        let mut names = lines.next().unwrap_or(STEP).split(',');
        let rows: Option<Vec<Row>> = lines.map(Row::parse).collect();
        match (names.next(), rows) {
            (Some(STEP), Some(rows)) => {
                self.columns = names.map(str::to_owned).collect();
                self.rows = rows;
                self.rows.retain(|row| row.step <= until);
                Ok(())
            }
            _ => Err(Error::input(
                shown(&self.path),
                "this is not the table of a run; move it away",
            )),
        }
    }

    fn drop_empty_columns(&mut self) {
        let used = |column: &usize| self.rows.iter().any(|row| row.cell(*column).is_some());
        let used: Vec<usize> = (0..self.columns.len()).filter(used).collect();
        self.columns = used.iter().map(|i| self.columns[*i].clone()).collect();
        for row in &mut self.rows {
            row.cells = used.iter().map(|i| row.cell(*i)).collect();
        }
    }

    /// Notes numbers of a step, not earlier than the last one, by the names of their columns.
    ///
    /// # Errors
    /// [`Error::Output`] where the file cannot be written; the numbers are kept, and written when it can be.
    pub fn put(&mut self, step: u64, cells: &[(String, f32)]) -> Result<()> {
        if self.rows.last().is_none_or(|row| row.step != step) {
            self.rows.push(Row {
                step,
                cells: Vec::new(),
            });
        } else {
            self.stale = true;
        }
        for (name, value) in cells {
            let column = self.columns.iter().position(|c| c == name);
            let column = column.unwrap_or_else(|| {
                self.columns.push(name.clone());
                self.stale = true;
                self.columns.len() - 1
            });
            if let Some(row) = self.rows.last_mut() {
                row.set(column, *value);
            }
        }
        match self.stale {
            true => self.save(),
            false => self.append(),
        }
    }

    fn append(&mut self) -> Result<()> {
        let mut line = String::new();
        if let Some(row) = self.rows.last() {
            row.print(self.columns.len(), &mut line);
        }
        let file = OpenOptions::new().append(true).open(&self.path);
        let written = file.and_then(|mut file: File| file.write_all(line.as_bytes()));
        self.stale = written.is_err();
        written.map_err(|e| Error::output(shown(&self.path), io_sentence(&e)))
    }

    fn save(&mut self) -> Result<()> {
        let mut text = STEP.to_owned();
        for name in &self.columns {
            let _ = write!(text, ",{name}");
        }
        text.push('\n');
        for row in &self.rows {
            row.print(self.columns.len(), &mut text);
        }
        publish(&self.path, text.as_bytes())?;
        self.stale = false;
        Ok(())
    }

    /// Names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The finite numbers of a column with their steps.
    pub fn points(&self, column: &str) -> Vec<(f64, f64)> {
        let Some(column) = self.columns.iter().position(|c| c == column) else {
            return Vec::new();
        };
        let point = |row: &Row| Some((row.step as f64, f64::from(row.cell(column)?)));
        let points = self.rows.iter().filter_map(point);
        points.filter(|(_, y)| y.is_finite()).collect()
    }
}

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let mut cells = line.split(',');
        let step = cells.next()?.parse().ok()?;
        let cell = |text: &str| match text {
            "" => Some(None),
            number => number.parse().ok().map(Some),
        };
        let cells = cells.map(cell).collect::<Option<_>>()?;
        Some(Self { step, cells })
    }

    fn cell(&self, column: usize) -> Option<f32> {
        self.cells.get(column).copied().flatten()
    }

    fn set(&mut self, column: usize, value: f32) {
        if self.cells.len() <= column {
            self.cells.resize(column + 1, None);
        }
        self.cells[column] = Some(value);
    }

    fn print(&self, columns: usize, text: &mut String) {
        let _ = write!(text, "{}", self.step);
        for column in 0..columns {
            let _ = match self.cell(column) {
                Some(value) => write!(text, ",{value}"),
                None => write!(text, ","),
            };
        }
        text.push('\n');
    }
}
