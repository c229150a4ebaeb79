//! From a tree to a tar: the same tree always gives the same bytes.
//!
//! ```text
//!   Tree ─ path order ─▸ extended header (only for what does not fit) │ header │ content ◂─ ContentSource
//! ```
//!
//! Headers are those of POSIX (ustar). Other values stand in a PAX extended header: long names and targets (any bytes),
//! sizes from 8 GiB, ids above 2097151, extended attributes. So do times with nanoseconds or outside of 1970..2242.
//! Hard links name the first path of their file and repeat its attributes. Some tools set those again, and a change of
//! owner takes a capability away. A tar has no name of its writer or of owners, and no present time.
//!
//! Sockets, and xattrs with `=` in their name, cannot be in a tar. They are left out and reported. An xattr with an
//! empty value is there, but tools written in Go lose it: to their `archive/tar` a record without a value says nothing.
//!
//! **Sparse files.** A file whose holes come to at least [`TarOptions::sparse_from`] bytes is written in GNU's PAX
//! sparse format 1.0, else in full. Every reader takes a file in full. GNU tar, libarchive, Python and Go's
//! `archive/tar` know the sparse format; busybox does not. Tools that use Go's reader (umoci, containerd, Docker) write
//! the zeros to disk. GNU's older form (type `S`) would be shorter to write, but umoci refuses it.

mod header;
mod sparse;

use std::collections::HashMap;
use std::io::Write;

use self::header::{BLOCK, EntryType, HeaderEntry, can_be_said};
use self::sparse::Map;
use crate::contents::{ContentCopier, ContentFile, ContentSource};
use crate::error::{EntryFault, PathName, TreeError, WriteError};
use crate::layer::{OPAQUE, WHITEOUT};
use crate::limits::MAX_REPORTED;
use crate::record::Inode;
use crate::tree::{Entries, Tree};
use crate::types::{FileType, InodeId};

/// The purpose of a tar.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TarForm {
    /// A layer of an OCI image. Whiteouts and opaque directories are written as the specification says (`.wh.NAME`,
    /// `.wh..wh..opq`); a file whose name begins like a whiteout's is refused.
    #[default]
    Layer,
    /// An archive for `tar`: names are names, and a tree with whiteouts or opaque directories is refused.
    Archive,
}

/// How a tar is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TarOptions {
    /// Its purpose.
    pub form: TarForm,
    /// From how many bytes of holes on a file is written as a sparse one; `None` never.
    pub sparse_from: Option<u64>,
}

impl TarOptions {
    /// The default of [`sparse_from`](Self::sparse_from): 1 GiB. Below it zeros cost about a second and compress to a
    /// thousandth, and every tool unpacks the file; terabytes of them cannot be written out.
    pub const SPARSE_FROM: u64 = 1 << 30;
}

impl Default for TarOptions {
    fn default() -> Self {
        Self { form: TarForm::Layer, sparse_from: Some(Self::SPARSE_FROM) }
    }
}

/// The entries left out of a tar or directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OmittedEntries {
    /// How many things.
    pub count: u64,
    /// The first [`MAX_REPORTED`] of them: path and type.
    pub first: Vec<(PathName, Omission)>,
}

/// One thing that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Omission {
    /// A socket: a tar has no type for it.
    Socket,
    /// An extended attribute: its name has `=` in it, or (in a directory) may be set by root only.
    Xattr {
        /// Its name.
        name: PathName,
    },
    /// A device node, which may be made by root only.
    Device,
}

impl OmittedEntries {
    /// Adds what else was left out.
    pub fn extend(&mut self, other: Self) {
        self.count += other.count;
        let room = MAX_REPORTED.saturating_sub(self.first.len());
        self.first.extend(other.first.into_iter().take(room));
    }

    pub(crate) fn add(&mut self, path: &[u8], what: Omission) {
        self.count += 1;
        if self.first.len() < MAX_REPORTED {
            self.first.push((path.into(), what));
        }
    }
}

/// Writes a tree as a tar, its end included, and returns the left-out entries.
///
/// The root comes first, as `./`; then names in path order, but whiteouts before everything else of their directory.
/// Memory is a buffer, one path for each hard-linked file, and the map of one sparse file.
///
/// # Errors
///
/// If content cannot be read or has another length than in the tree, `output` fails, or a tar of this form cannot hold
/// the tree.
pub fn to_tar<C: ContentSource>(
    tree: &Tree,
    contents: &mut C,
    output: &mut dyn Write,
    options: TarOptions,
) -> Result<OmittedEntries, WriteError<C::Error>> {
    let mut writer = LayerTarWriter {
        tree,
        contents,
        output,
        options,
        copier: ContentCopier::new(),
        links: HashMap::new(),
        left_out: OmittedEntries::default(),
    };
    writer.entry(InodeId::ROOT, b"./")?;
    writer.marks(InodeId::ROOT, b"")?;
    // Names still to write, and the path they are in, of each directory on the way down.
    let mut levels: Vec<(Entries<'_>, usize)> = vec![(tree.entries(InodeId::ROOT), 0)];
    let mut path = Vec::new();
    while let Some((names, length)) = levels.last_mut() {
        path.truncate(*length);
        let Some(name) = names.next() else {
            levels.pop();
            continue;
        };
        let inode = tree.inode(name.inode);
        if inode.is_whiteout() {
            continue;
        }
        path.extend_from_slice(name.name);
        if inode.is_directory() {
            path.push(b'/');
            writer.entry(name.inode, &path)?;
            writer.marks(name.inode, &path)?;
            levels.push((tree.entries(name.inode), path.len()));
        } else {
            writer.entry(name.inode, &path)?;
        }
    }
    writer.put(b"", &[0; 2 * BLOCK])?;
    Ok(writer.left_out)
}

struct LayerTarWriter<'w, C> {
    tree: &'w Tree,
    contents: &'w mut C,
    output: &'w mut dyn Write,
    options: TarOptions,
    copier: ContentCopier,
    /// First paths of files with more names than one.
    links: HashMap<InodeId, Vec<u8>>,
    left_out: OmittedEntries,
}

impl<C: ContentSource> LayerTarWriter<'_, C> {
    /// Writes one name; a directory's ends with a slash.
    fn entry(&mut self, id: InodeId, path: &[u8]) -> Result<(), WriteError<C::Error>> {
        let tree = self.tree;
        let inode = tree.inode(id);
        if self.options.form == TarForm::Layer && last_name(path).starts_with(WHITEOUT) {
            return Err(TreeError::entry(path, EntryFault::NamedLikeWhiteout).into());
        }
        let xattrs = tree.xattrs(id);
        let file_type = inode.file_type();
        let (entry_type, link) = match self.links.get(&id) {
            Some(first) => (EntryType::HardLink, first.clone()),
            None if file_type == FileType::Socket => {
                self.left_out.add(path, Omission::Socket);
                return Ok(());
            }
            None => (EntryType::File(file_type), tree.symlink_target(id).to_vec()),
        };
        for xattr in xattrs.iter().filter(|xattr| !can_be_said(xattr)) {
            self.left_out.add(path, Omission::Xattr { name: PathName::from(&*xattr.name) });
        }
        let mut entry = HeaderEntry { entry_type, path, link: &link, inode, xattrs, size: 0, sparse: None };
        match inode.content() {
            Some(content) if entry_type != EntryType::HardLink => {
                self.file(&mut entry, &ContentFile { path, content, size: inode.size() })?;
            }
            _ => self.put(path, &entry.to_bytes())?,
        }
        if !inode.is_directory() && inode.nlink() > 1 && entry_type != EntryType::HardLink {
            self.links.insert(id, path.to_vec());
        }
        Ok(())
    }

    /// Writes a regular file with its content.
    fn file(&mut self, entry: &mut HeaderEntry<'_>, file: &ContentFile<'_>) -> Result<(), WriteError<C::Error>> {
        let map = match self.options.sparse_from {
            Some(holes) => Map::of(self.contents, file, holes.max(1))?,
            None => None,
        };
        let whole = 0..file.size;
        let segments = match &map {
            None => {
                entry.size = file.size;
                self.put(file.path, &entry.to_bytes())?;
                std::slice::from_ref(&whole)
            }
            Some(map) => {
                let bytes = map.to_bytes();
                entry.size = map.data() + bytes.len() as u64;
                entry.sparse = Some(file.size);
                self.put(file.path, &entry.to_bytes())?;
                self.put(file.path, &bytes)?;
                map.segments()
            }
        };
        let Self { contents, output, copier, .. } = self;
        for segment in segments {
            copier.copy(*contents, file, segment.clone(), |bytes| {
                output.write_all(bytes).map_err(|source| WriteError::Output { path: file.path.into(), source })
            })?;
        }
        copier.end(*contents, file)?;
        let over = usize::try_from(entry.size % BLOCK as u64).unwrap_or(0);
        if over > 0 {
            self.put(file.path, [0; BLOCK].get(over..).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Writes what a directory of a layer hides of the layers below; `path` ends with a slash, or is empty for
    /// the root.
    fn marks(&mut self, directory: InodeId, path: &[u8]) -> Result<(), WriteError<C::Error>> {
        let tree = self.tree;
        if tree.inode(directory).is_opaque() {
            self.mark(&[path, OPAQUE].concat())?;
        }
        for name in tree.entries(directory).filter(|name| tree.inode(name.inode).is_whiteout()) {
            self.mark(&[path, WHITEOUT, name.name].concat())?;
        }
        Ok(())
    }

    fn mark(&mut self, path: &[u8]) -> Result<(), WriteError<C::Error>> {
        if self.options.form == TarForm::Archive {
            return Err(TreeError::entry(path, EntryFault::NotMerged).into());
        }
        let inode = Inode::mark();
        let entry_type = EntryType::File(FileType::Regular);
        let entry = HeaderEntry { entry_type, path, link: b"", inode, xattrs: &[], size: 0, sparse: None };
        self.put(path, &entry.to_bytes())
    }

    fn put(&mut self, path: &[u8], bytes: &[u8]) -> Result<(), WriteError<C::Error>> {
        self.output.write_all(bytes).map_err(|source| WriteError::Output { path: path.into(), source })
    }
}

/// Returns the last name of a path, which may end with a slash.
fn last_name(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}
