//! `dimsum diff`.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use dimsum_engine::analysis::content::DiffSide;
use dimsum_engine::analysis::diff::{Aspect, Change, Comparer, Counts};
use dimsum_engine::analysis::sharing::{CommonChunks, common};
use dimsum_engine::image::fs::{Found, ImageFs};
use dimsum_engine::image::{self, Opened};
use dimsum_engine::listing::type_name;
use dimsum_format::Digest;
use dimsum_tree::FileType;
use serde::Serialize;

use crate::context::Context;
use crate::error::Error;
use crate::output::{Name, Output, Report, Size, Stop, hex_unless_utf8, total};
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
        let (a, b) = (image::open(&context.engine, &self.a)?, image::open(&context.engine, &self.b)?);
        // A walk of a validated tree comes to its end.
        image::validate(&a)?;
        image::validate(&b)?;
        let (name_a, name_b) = (a.located.name(), b.located.name());
        let (fs_a, fs_b) = (ImageFs::open(&a.image, &name_a)?, ImageFs::open(&b.image, &name_b)?);
        let (side_a, side_b) = (DiffSide { opened: &a, fs: &fs_a }, DiffSide { opened: &b, fs: &fs_b });
        let ignore: Vec<Aspect> = self.ignore.into_iter().map(Aspect::from).collect();
        let comparer = Comparer { a: side_a, b: side_b, read: !self.no_data, ignore: &ignore, fold: !self.all };
        let list = if self.all { u64::MAX } else { self.list };
        context.output.with_image(|out| write(&comparer, list, context.output, out))
    }
}

fn write(comparer: &Comparer<'_>, list: u64, output: Output, out: &mut dyn Write) -> Result<(), Stop> {
    let (mut listed, mut not_listed) = (0_u64, 0_u64);
    let files = comparer.run(|change| {
        if listed < list {
            listed += 1;
            output.write_to(&Row::new(&change), out)?;
        } else {
            not_listed += 1;
        }
        Ok::<_, Stop>(())
    })?;
    let (a, b) = (comparer.a.opened, comparer.b.opened);
    let chunks = common(a.image.maps(), b.image.maps());
    let summary = Summary { a: Named::new(a), b: Named::new(b), files, not_listed, chunks };
    Ok(output.write_to(&Told { summary }, out)?)
}

/// One name.
#[derive(Serialize)]
struct Row<'a> {
    /// Lossy where the name is not UTF-8.
    path: String,
    /// The exact bytes in hexadecimal digits, where the name is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    change: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    aspects: &'a [Aspect],
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<Facts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<Facts>,
    /// Names in a directory that only one image has, which are not listed.
    #[serde(skip_serializing_if = "is_zero")]
    names_below: u64,
    /// Bytes of the files among these.
    #[serde(skip_serializing_if = "is_zero")]
    bytes_below: u64,
    #[serde(skip)]
    raw: &'a [u8],
}

/// What a name is in one image.
#[derive(Serialize)]
struct Facts {
    #[serde(rename = "type")]
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: i64,
    mtime_nanoseconds: u32,
    #[serde(skip)]
    file: bool,
}

impl Facts {
    fn new(found: &Found) -> Self {
        let inode = &found.inode;
        Self {
            kind: type_name(inode.file_type()),
            mode: format!("{:04o}", inode.permissions()),
            uid: inode.uid(),
            gid: inode.gid(),
            size: inode.size(),
            mtime: inode.mtime().seconds,
            mtime_nanoseconds: inode.mtime().nanoseconds,
            file: inode.file_type() == FileType::Regular,
        }
    }

    /// Size of a file, else what it is.
    fn short(&self) -> String {
        if self.file { Size(self.size).to_string() } else { self.kind.to_owned() }
    }
}

impl<'a> Row<'a> {
    fn new(change: &'a Change) -> Self {
        let raw = change.path();
        Self {
            path: String::from_utf8_lossy(raw).into_owned(),
            path_hex: hex_unless_utf8(raw),
            change: match (&change.a, &change.b) {
                (None, _) => "added",
                (_, None) => "removed",
                _ if change.aspects == [Aspect::Unknown] => "unknown",
                _ => "changed",
            },
            aspects: &change.aspects,
            a: change.a.as_ref().map(Facts::new),
            b: change.b.as_ref().map(Facts::new),
            names_below: change.names_below,
            bytes_below: change.bytes_below,
            raw,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Report for Row<'_> {
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
                let (before, after) = (a.short(), b.short());
                if a.kind != b.kind || (a.file && a.size != b.size) {
                    write!(out, " | {before} -> {after}")?;
                }
            }
            (Some(only), None) | (None, Some(only)) => write!(out, " | {}", only.short())?,
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
    summary: Summary,
}

#[derive(Serialize)]
struct Summary {
    a: Named,
    b: Named,
    files: Counts,
    /// Names that differ and were not listed.
    not_listed: u64,
    chunks: CommonChunks,
}

/// An image in the summary.
#[derive(Serialize)]
struct Named {
    image: String,
    manifest: Digest,
    stored_bytes: u64,
    meta_stored_bytes: u64,
}

impl Named {
    fn new(opened: &Opened) -> Self {
        let manifest = opened.image.manifest();
        let sizes = manifest.packs.iter().chain([&manifest.meta]).map(|blob| blob.size);
        Self {
            image: opened.located.name(),
            manifest: opened.located.digest,
            stored_bytes: total(sizes),
            meta_stored_bytes: manifest.meta.size,
        }
    }
}

impl Report for Told {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Summary { a, b, files, not_listed, chunks } = &self.summary;
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
