//! Damage to every kind of file, and kill -9, from outside, on a real image.
//!
//! After each kind of damage the whole tree is read through the mount: every file must be equal to the reference or fail. What is counted is what was *read*
//! after the damage: files compared, files refused. `OUT/faults.jsonl` gets one line per case.

pub mod away;
mod damage;
mod kill;

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::corpus::layout::CorpusLayout;
use crate::dimsum::Dimsum;
use crate::tree;

pub fn run(layout: &Path, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    let scratch = tempfile::Builder::new().prefix("dimsum-faults-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let source = CorpusLayout::open(layout, None)?;
    let converted = scratch.path().join("layout");
    dimsum.ok(&["convert", &source.reference(), &format!("oci:{}:image", converted.display())])?;
    let converted = CorpusLayout::open(&converted, Some("image"))?;
    let mut log = CaseLog::create(&out.join("faults.jsonl"))?;
    damage::store(&dimsum, &converted, scratch.path(), &mut log)?;
    damage::layout(&dimsum, &converted, scratch.path(), &mut log)?;
    kill::server(&dimsum, &converted, scratch.path(), &mut log)?;
    ensure!(log.wrong == 0, "{} cases with wrong bytes", log.wrong);
    println!("no wrong byte");
    Ok(())
}

/// Writes one line per case, to the file and to the terminal.
#[derive(Debug)]
pub struct CaseLog {
    file: fs::File,
    wrong: u64,
}

impl CaseLog {
    pub fn create(file: &Path) -> Result<Self> {
        Ok(Self { file: fs::File::create(file)?, wrong: 0 })
    }

    pub fn case(&mut self, line: &Value) -> Result<()> {
        self.wrong += line["wrong"].as_u64().unwrap_or(0);
        println!("{line}");
        Ok(writeln!(self.file, "{line}")?)
    }
}

/// What reading the whole tree after damage gave.
#[derive(Debug, Default)]
pub struct Reading {
    pub right: u64,
    pub refused: u64,
    pub wrong: u64,
}

impl Reading {
    pub fn add_to(&self, mut line: Value) -> Value {
        line["right"] = json!(self.right);
        line["refused"] = json!(self.refused);
        line["wrong"] = json!(self.wrong);
        line
    }
}

/// Reads every regular file of `root` and compares it with `reference`.
pub fn read_all(root: &Path, reference: &[tree::ListedEntry]) -> Reading {
    let mut reading = Reading::default();
    for entry in reference.iter().filter(|entry| entry.kind == 'f') {
        match tree::sha256_of(root, &entry.path) {
            Ok(digest) if digest == entry.sha256 => reading.right += 1,
            Ok(_) => reading.wrong += 1,
            Err(_) => reading.refused += 1,
        }
    }
    reading
}

/// A mount of ours for the time of a value.
#[derive(Debug)]
pub struct FuseMount<'a> {
    dimsum: &'a Dimsum,
    pub path: std::path::PathBuf,
}

impl<'a> FuseMount<'a> {
    pub fn new(dimsum: &'a Dimsum, image: &CorpusLayout, path: &Path) -> Result<Self> {
        Self::by_name(dimsum, &image.reference(), path)
    }

    pub fn by_name(dimsum: &'a Dimsum, image: &str, path: &Path) -> Result<Self> {
        fs::create_dir_all(path)?;
        dimsum.ok(&["mount", image, &path.to_string_lossy()]).context("mount")?;
        Ok(Self { dimsum, path: path.to_owned() })
    }
}

impl Drop for FuseMount<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.dimsum.ok(&["umount", "--lazy", &self.path.to_string_lossy()]) {
            eprintln!("{error:#}");
        }
    }
}
