//! `dimsum diff`.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use dimsum_engine::analysis::diff::{Aspect, Counts};
use dimsum_engine::diff::{ChangeRow, DiffRequest, DiffSummary, FileFacts};
use serde::Serialize;

use crate::context::Context;
use crate::error::Error;
use crate::output::{Name, Report, Size, Stop};
use crate::views::count::Count;

/// Show the differences between two images: files, chunks, bytes
///
/// The trees are compared name by name: type, mode, owner, mtime, xattrs, number of links, device number, link target,
/// content. Contents are compared by the digests in the images' maps wherever that is possible. Only small files that
/// have moved to another chunk are read, in both images. Then the chunks of both are compared by digest, which gives
/// the bytes that a node with the first image fetches for the second.
///
/// An ordinary image is converted into the store first, once. Needs no privileges. The exit status is 0 also if the
/// images differ; 1 means that the command failed. For scripts, the JSON output has one object for each name listed,
/// then one with the summary. In the text, bytes of names that are not printable are escaped, also in a pipe.
#[derive(Debug, Args)]
pub struct Diff {
    /// The first image, as in other commands
    a: String,
    /// The second image
    b: String,
    /// Never read file data: a file that only its data could compare is "unknown"
    #[arg(long)]
    no_data: bool,
    /// List so many names and count the others; a directory that only one image has is one name
    #[arg(long, value_name = "N", default_value_t = 40)]
    list: u64,
    /// List all names that differ; without it, a directory that only one image has stands for all names below it
    #[arg(long, conflicts_with = "list")]
    all: bool,
    /// Ignore these differences: rebuilt images often differ in mtime alone
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    ignore: Vec<IgnoredAspect>,
}

/// What is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IgnoredAspect {
    /// Type: all else follows from that.
    Type,
    /// Bytes of a file.
    Content,
    /// Bytes of a file that would have to be read to know.
    Unknown,
    /// Permissions.
    Mode,
    /// User or group.
    Owner,
    /// Time of the last change.
    Mtime,
    /// Extended attributes.
    Xattrs,
    /// Number of names, of anything but a directory.
    Links,
    /// Device number.
    Device,
    /// Target of a symbolic link.
    Target,
}

impl From<IgnoredAspect> for Aspect {
    fn from(ignored: IgnoredAspect) -> Self {
        match ignored {
            IgnoredAspect::Type => Self::Type,
            IgnoredAspect::Content => Self::Content,
            IgnoredAspect::Unknown => Self::Unknown,
            IgnoredAspect::Mode => Self::Mode,
            IgnoredAspect::Owner => Self::Owner,
            IgnoredAspect::Mtime => Self::Mtime,
            IgnoredAspect::Xattrs => Self::Xattrs,
            IgnoredAspect::Links => Self::Links,
            IgnoredAspect::Device => Self::Device,
            IgnoredAspect::Target => Self::Target,
        }
    }
}

impl Diff {
    /// Compares and prints.
    ///
    /// # Errors
    /// If an image cannot be read.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let request = DiffRequest {
            a: self.a,
            b: self.b,
            no_data: self.no_data,
            ignore: self.ignore.into_iter().map(Aspect::from).collect(),
            fold: !self.all,
            list: if self.all { u64::MAX } else { self.list },
        };
        let output = context.output;
        output.with_image(|out| {
            let summary = context.engine.diff(&request, |row| output.write_to(row, out).map_err(Stop::from))?;
            Ok(output.write_to(&Told { summary }, out)?)
        })
    }
}

/// Size of a file, else what it is.
fn short(facts: &FileFacts) -> String {
    if facts.is_file { Size(facts.size).to_string() } else { facts.kind.to_owned() }
}

impl Report for ChangeRow<'_> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let sign = match self.change {
            "added" => '+',
            "removed" => '-',
            "unknown" => '?',
            _ => 'M',
        };
        write!(out, "{sign} /{}", Name(self.raw))?;
        match (&self.a, &self.b) {
            (Some(a), Some(b)) => {
                let words: Vec<&str> = self.aspects.iter().map(|aspect| aspect.word()).collect();
                write!(out, " | {}", words.join(", "))?;
                let (before, after) = (short(a), short(b));
                if a.kind != b.kind || (a.is_file && a.size != b.size) {
                    write!(out, " | {before} -> {after}")?;
                }
            }
            (Some(only), None) | (None, Some(only)) => write!(out, " | {}", short(only))?,
            (None, None) => {}
        }
        if self.names_below > 0 {
            write!(out, " with {}, {}", Count(self.names_below, "name"), Size(self.bytes_below))?;
        }
        out.write_all(b"\n")
    }
}

/// The object that comes last.
#[derive(Serialize)]
struct Told {
    summary: DiffSummary,
}

impl Report for Told {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let DiffSummary { a, b, files, not_listed, chunks } = &self.summary;
        if *not_listed > 0 {
            writeln!(out, "… {not_listed} more; --all lists them")?;
        }
        writeln!(out, "A          {} {}, stored {}", a.image, a.manifest, Size(a.stored_bytes))?;
        writeln!(out, "B          {} {}, stored {}", b.image, b.manifest, Size(b.stored_bytes))?;
        let Counts { added, removed, changed, content_changed, same, unknown, .. } = files;
        write!(
            out,
            "names      {added} added, {removed} removed, {changed} changed ({content_changed} in content), {same} the same"
        )?;
        if *unknown > 0 {
            write!(out, ", {unknown} unknown")?;
        }
        let (plus, minus, other) = (Size(files.added_bytes), Size(files.removed_bytes), Size(files.changed_bytes));
        writeln!(out, "\nfiles      {plus} added, {minus} removed, {other} in files with other content")?;
        if files.files_read > 0 {
            writeln!(
                out,
                "read       {} files, {} of each image, to compare them",
                files.files_read,
                Size(files.bytes_read)
            )?;
        }
        for (name, sum) in [
            ("only A", &chunks.only_a),
            ("only B", &chunks.only_b),
            ("same packs", &chunks.same_pack),
            ("other pack", &chunks.other_pack),
        ] {
            writeln!(out, "{name:<10} {} chunks, {}, stored {}", sum.chunks, Size(sum.bytes), Size(sum.stored))?;
        }
        // Who has all of an image has its meta.
        let meta = if a.manifest == b.manifest { 0 } else { b.meta_stored_bytes };
        let fetch = Size(chunks.only_b.stored.saturating_add(meta));
        let again = Size(chunks.other_pack.stored);
        writeln!(
            out,
            "A to B     a node that has all of A has to fetch at most {fetch} for all of B, of this meta {}",
            Size(meta)
        )?;
        if chunks.other_pack.chunks > 0 {
            writeln!(out, "           {again} more are in other packs of A, and are copied from there")?;
        }
        Ok(())
    }
}
