//! `dimsum ls`.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::Args;
use dimsum_engine::EngineError;
use dimsum_engine::ErofsInode;
use dimsum_engine::FileType;
use dimsum_engine::image;
use dimsum_engine::image::fs::{Found, ImageFs, join};
use dimsum_engine::listing::{Mode, UtcTime, type_name};
use serde::Serialize;

use super::image_arg::ImageArg;
use crate::context::Context;
use crate::error::Error;
use crate::output::{Output, Report, Stop, write_name};
use dimsum_engine::text::hex_unless_utf8;

/// List files of an image, verified, without mounting it
///
/// Needs no privileges. In a pipe, names are written byte by byte. On a terminal, bytes that are not printable are
/// escaped.
#[derive(Debug, Args)]
pub struct Ls {
    #[command(flatten)]
    image: ImageArg,
    /// A directory or file, seen from the image's root
    #[arg(default_value = "/")]
    path: PathBuf,
    /// Show type, mode, links, owner, size, time and target of each
    #[arg(short)]
    long: bool,
    /// Go down into directories and show whole paths
    #[arg(short = 'R')]
    recursive: bool,
}

impl Ls {
    /// Lists.
    ///
    /// # Errors
    /// If there is no such path, or a byte does not prove.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let opened = image::open(&context.engine, &self.image.image)?;
        let name = opened.located.name();
        let fs = ImageFs::open(&opened.image, &name)?;
        let start = fs.find(self.path.as_os_str().as_bytes(), false)?;
        let lister = Lister { fs: &fs, long: self.long, recursive: self.recursive, output: context.output };
        context.output.with_image(|out| lister.list(start, out))
    }
}

struct Lister<'a> {
    fs: &'a ImageFs<'a>,
    long: bool,
    recursive: bool,
    output: Output,
}

impl Lister<'_> {
    fn list(&self, start: Found, out: &mut dyn Write) -> Result<(), Stop> {
        if !start.inode.is_directory() {
            return self.show(&start, &start.path, out);
        }
        // One level per directory on the way down: the cursor says where to go on.
        let mut levels = vec![(start, 0)];
        while let Some((directory, cursor)) = levels.last_mut() {
            let next = self.next(directory, *cursor)?;
            let Some((name, nid, behind)) = next else {
                levels.pop();
                continue;
            };
            *cursor = behind;
            if matches!(&*name, b"." | b"..") {
                continue;
            }
            let path = join(&directory.path, &name);
            let inode = self.fs.erofs().inode(nid).map_err(|source| self.fs.fail(&path, source))?;
            let found = Found { path, inode };
            let shown = if self.recursive { &found.path } else { &name };
            self.show(&found, shown, out)?;
            if self.recursive && found.inode.is_directory() {
                if levels.len() > dimsum_engine::MAX_DEPTH {
                    return Err(
                        EngineError::Path { path: found.path, reason: "directories are nested too deep" }.into()
                    );
                }
                levels.push((found, 0));
            }
        }
        Ok(())
    }

    /// Returns the next name of a directory, its inode and where to go on.
    fn next(&self, directory: &Found, cursor: u64) -> Result<Option<(Vec<u8>, u64, u64)>, Error> {
        let fail = |source| self.fs.fail(&directory.path, source);
        let mut entries = self.fs.erofs().read_dir(&directory.inode, cursor).map_err(fail)?;
        let entry = entries.next_entry().map_err(fail)?;
        Ok(entry.map(|entry| (entry.name.to_vec(), entry.nid, entry.next)))
    }

    fn show(&self, found: &Found, name: &[u8], out: &mut dyn Write) -> Result<(), Stop> {
        let inode = &found.inode;
        let target = match inode.file_type() {
            FileType::Symlink if self.long || self.output.is_json() => {
                Some(self.fs.erofs().read_link(inode).map_err(|source| self.fs.fail(&found.path, source))?)
            }
            _ => None,
        };
        let row = Row::new(name, inode, target.as_deref(), self.long, self.output.is_terminal());
        Ok(self.output.write_to(&row, out)?)
    }
}

/// One line.
#[derive(Serialize)]
struct Row<'a> {
    /// Lossy where the name is not UTF-8.
    path: String,
    /// The exact bytes in hexadecimal digits, where the name is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    #[serde(rename = "type")]
    kind: &'static str,
    mode: String,
    nlink: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: i64,
    mtime_nanoseconds: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    rdev: Option<(u32, u32)>,
    /// Lossy where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// The exact bytes in hexadecimal digits, where the target is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_hex: Option<String>,
    #[serde(skip)]
    raw: Raw<'a>,
}

/// What the text needs and JSON does not.
struct Raw<'a> {
    name: &'a [u8],
    target: Option<&'a [u8]>,
    inode: &'a ErofsInode,
    long: bool,
    terminal: bool,
}

impl<'a> Row<'a> {
    fn new(name: &'a [u8], inode: &'a ErofsInode, target: Option<&'a [u8]>, long: bool, terminal: bool) -> Self {
        let device = matches!(inode.file_type(), FileType::CharDevice | FileType::BlockDevice);
        Self {
            path: String::from_utf8_lossy(name).into_owned(),
            path_hex: hex_unless_utf8(name),
            kind: type_name(inode.file_type()),
            mode: format!("{:04o}", inode.permissions()),
            nlink: inode.nlink(),
            uid: inode.uid(),
            gid: inode.gid(),
            size: inode.size(),
            mtime: inode.mtime().seconds,
            mtime_nanoseconds: inode.mtime().nanoseconds,
            rdev: device.then(|| (inode.rdev().major, inode.rdev().minor)),
            target: target.map(|target| String::from_utf8_lossy(target).into_owned()),
            target_hex: target.and_then(hex_unless_utf8),
            raw: Raw { name, target, inode, long, terminal },
        }
    }
}

impl Report for Row<'_> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Raw { name, target, inode, long, terminal } = self.raw;
        if long {
            let mode = Mode { file_type: inode.file_type(), permissions: inode.permissions() };
            let size = match self.rdev {
                Some((major, minor)) => format!("{major}, {minor}"),
                None => self.size.to_string(),
            };
            let (nlink, uid, gid) = (self.nlink, self.uid, self.gid);
            let time = UtcTime(self.mtime);
            write!(out, "{mode} {nlink:>3} {uid:>5} {gid:>5} {size:>10} {time} ")?;
        }
        write_name(out, name, terminal)?;
        if let Some(target) = target.filter(|_| long) {
            out.write_all(b" -> ")?;
            write_name(out, target, terminal)?;
        }
        out.write_all(b"\n")
    }
}
