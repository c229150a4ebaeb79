//! The raw figures of a measurement, written as they come.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

#[derive(Debug)]
pub struct FigureLog(File);

impl FigureLog {
    /// Starts a file anew; with `names`, rows of other images stay, so that a measurement can be made in parts.
    pub fn open(path: &Path, names: &[&str]) -> Result<Self> {
        let names: Vec<_> = names.iter().map(|name| name.replacen(':', "-", 1)).collect();
        let old = if names.is_empty() { String::new() } else { fs::read_to_string(path).unwrap_or_default() };
        let mut log = Self(File::create(path)?);
        for line in old.lines() {
            let row: Value = serde_json::from_str(line)?;
            let image = row["image"].as_str();
            if !image.is_some_and(|image| names.iter().any(|name| name == image)) {
                log.row(&row)?;
            }
        }
        Ok(log)
    }

    pub fn row(&mut self, row: &Value) -> Result<()> {
        Ok(writeln!(self.0, "{row}")?)
    }

    /// Writes a row and shows it.
    pub fn shown(&mut self, row: &Value) -> Result<()> {
        println!("{row}");
        self.row(row)
    }
}
