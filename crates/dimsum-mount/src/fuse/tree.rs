//! What the tree answers: pure functions from a request to an answer, with the meta as their only source.
//!
//! Nothing here waits or remembers. When a part of the meta is not here the answer is [`TreeFailure::Pending`], and the
//! same question is asked again later.

use std::borrow::Cow;

use dimsum_erofs::{ErofsImage as Erofs, ErofsInode, MetaRead};
use dimsum_fuse::{
    Attr, DirBuffer, DirEntry, DirPlusBuffer, Entry, Errno, FOREVER, ROOT_NODE, StatFs, Timestamp, Whence,
    encode_device,
};
use dimsum_store::{Extent, MetaError};

/// Pieces of a sparse file that are counted for `st_blocks`; what lies behind them counts as data. One step reads 512
/// bytes at most, so this bounds a GETATTR to 2 MiB of block map; an ordinary sparse file has a handful.
const MAX_COUNTED_PIECES: usize = 4096;

/// Sectors, the unit of `st_blocks`.
const SECTOR: u64 = 512;
/// Space is given out in blocks of this size, which is also the best size to read in.
const BLOCK: u64 = 4096;

/// `S_IFMT`, and the types that are spoken of here.
const TYPE_MASK: u16 = 0o170_000;
const CHARACTER_DEVICE: u16 = 0o020_000;
const REGULAR: u16 = 0o100_000;
const DIRECTORY: u16 = 0o040_000;

/// Names that overlayfs gives a meaning to. An image must not have them: as the lower layer of a container it could
/// lead reads to other places of the tree.
const OVERLAY_PREFIXES: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// A request, free of the buffer it came in once it is owned.
#[derive(Clone, Debug)]
pub(super) enum Question<'a> {
    Lookup { name: Cow<'a, [u8]> },
    GetAttr,
    ReadLink,
    Read { offset: u64, size: u32 },
    GetXattr { name: Cow<'a, [u8]> },
    ListXattr,
    ReadDir { offset: u64, size: u32 },
    ReadDirPlus { offset: u64, size: u32 },
    StatFs,
    Lseek { offset: u64, whence: Whence },
}

impl Question<'_> {
    /// Returns the question without borrows, for parking.
    pub(super) fn into_owned(self) -> Question<'static> {
        let own = |name: Cow<'_, [u8]>| Cow::Owned(name.into_owned());
        match self {
            Self::Lookup { name } => Question::Lookup { name: own(name) },
            Self::GetXattr { name } => Question::GetXattr { name: own(name) },
            Self::GetAttr => Question::GetAttr,
            Self::ReadLink => Question::ReadLink,
            Self::Read { offset, size } => Question::Read { offset, size },
            Self::ListXattr => Question::ListXattr,
            Self::ReadDir { offset, size } => Question::ReadDir { offset, size },
            Self::ReadDirPlus { offset, size } => Question::ReadDirPlus { offset, size },
            Self::StatFs => Question::StatFs,
            Self::Lseek { offset, whence } => Question::Lseek { offset, whence },
        }
    }
}

/// What a question is answered.
#[derive(Debug)]
pub(super) enum TreeAnswer {
    Entry(Entry),
    /// There is no such name, and never will be.
    NoEntry,
    Attr(Attr),
    Link(Vec<u8>),
    Xattr(Vec<u8>),
    Directory(DirBuffer),
    DirectoryPlus(DirPlusBuffer),
    StatFs(StatFs),
    Offset(u64),
    /// Bytes that are still to be read.
    Data {
        /// Where they are.
        extents: Vec<Extent>,
        /// How many they are.
        length: usize,
    },
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum TreeFailure {
    /// A group of the meta is not here.
    Pending { group: u64 },
    /// The file system's ordinary "no".
    Errno(Errno),
    /// The image is not what it should be.
    Image(dimsum_erofs::ErofsError<MetaError>),
    /// The image holds what no image may hold.
    Forbidden(&'static str),
}

impl From<dimsum_erofs::ErofsError<MetaError>> for TreeFailure {
    fn from(error: dimsum_erofs::ErofsError<MetaError>) -> Self {
        match error {
            dimsum_erofs::ErofsError::Read { source: MetaError::Pending { group }, .. } => Self::Pending { group },
            other => Self::Image(other),
        }
    }
}

type Result<T> = std::result::Result<T, TreeFailure>;

/// The file tree of an image.
#[derive(Debug)]
pub(super) struct ImageTree<M> {
    pub(super) erofs: Erofs<M>,
    /// Where file data starts in the flat image.
    data_start: u64,
}

impl<M: MetaRead<Error = MetaError>> ImageTree<M> {
    /// `data_start` is the length of the meta.
    pub(super) fn new(erofs: Erofs<M>, data_start: u64) -> Self {
        Self { erofs, data_start }
    }

    /// Answers a question about a node.
    pub(super) fn answer(&self, node: u64, question: &Question<'_>) -> Result<TreeAnswer> {
        match question {
            Question::Lookup { name } => self.lookup(node, name),
            Question::GetAttr => Ok(TreeAnswer::Attr(self.attr(&self.inode(node)?)?)),
            Question::ReadLink => Ok(TreeAnswer::Link(self.erofs.read_link(&self.inode(node)?)?)),
            Question::Read { offset, size } => self.read(&self.inode(node)?, *offset, *size),
            Question::GetXattr { name } => self.xattr(node, name),
            Question::ListXattr => self.xattr_names(node),
            Question::ReadDir { offset, size } => self.read_dir(node, *offset, *size),
            Question::ReadDirPlus { offset, size } => self.read_dir_plus(node, *offset, *size),
            Question::StatFs => Ok(TreeAnswer::StatFs(StatFs {
                block_size: u32::try_from(BLOCK).unwrap_or_default(),
                blocks: self.erofs.flat_blocks(),
                files: self.erofs.inode_count(),
            })),
            Question::Lseek { offset, whence } => self.seek(&self.inode(node)?, *offset, *whence),
        }
    }

    /// Returns the node id of an inode: its nid, which names it for ever, so nothing has to be remembered. Only the
    /// root has the number that FUSE gives it; position 32 lies in front of the superblock and is no inode's.
    fn node(&self, nid: u64) -> Result<u64> {
        match nid {
            root if root == self.erofs.root_nid() => Ok(ROOT_NODE),
            0 | ROOT_NODE => Err(TreeFailure::Forbidden("an inode in front of the superblock")),
            other => Ok(other),
        }
    }

    fn inode(&self, node: u64) -> Result<ErofsInode> {
        let nid = if node == ROOT_NODE { self.erofs.root_nid() } else { node };
        let inode = self.erofs.inode(nid)?;
        let rdev = inode.rdev();
        if inode.mode() & TYPE_MASK == CHARACTER_DEVICE && rdev.major == 0 && rdev.minor == 0 {
            // To overlayfs this is a deleted file.
            return Err(TreeFailure::Forbidden("a character device 0:0"));
        }
        Ok(inode)
    }

    fn lookup(&self, node: u64, name: &[u8]) -> Result<TreeAnswer> {
        let inode = self.inode(node)?;
        // Comes for file handles, and then for files too.
        if name == b"." {
            return Ok(TreeAnswer::Entry(self.entry(&inode)?));
        }
        if inode.mode() & TYPE_MASK != DIRECTORY {
            return Err(TreeFailure::Errno(Errno::NOTDIR));
        }
        match self.erofs.lookup(&inode, name)? {
            Some(nid) => {
                let node = self.node(nid)?;
                Ok(TreeAnswer::Entry(self.entry(&self.inode(node)?)?))
            }
            None => Ok(TreeAnswer::NoEntry),
        }
    }

    fn entry(&self, inode: &ErofsInode) -> Result<Entry> {
        Ok(Entry {
            node: self.node(inode.nid())?,
            generation: 0,
            entry_validity: FOREVER,
            attr_validity: FOREVER,
            attr: self.attr(inode)?,
        })
    }

    fn attr(&self, inode: &ErofsInode) -> Result<Attr> {
        let mtime = Timestamp { seconds: inode.mtime().seconds, nanoseconds: inode.mtime().nanoseconds };
        let rdev = inode.rdev();
        Ok(Attr {
            // The nid, as the kernel's EROFS shows it too. Hard links share it, and a directory entry holds it, so
            // READDIR says the same as stat without reading inodes.
            ino: inode.nid(),
            size: inode.size(),
            blocks: self.sectors(inode)?,
            // An image has one time per file.
            atime: mtime,
            mtime,
            ctime: mtime,
            mode: inode.mode().into(),
            nlink: inode.nlink(),
            uid: inode.uid(),
            gid: inode.gid(),
            rdev: encode_device(rdev.major, rdev.minor),
            block_size: u32::try_from(BLOCK).unwrap_or_default(),
        })
    }

    fn sectors(&self, inode: &ErofsInode) -> Result<u64> {
        let whole = |length: u64| length.div_ceil(BLOCK).saturating_mul(BLOCK / SECTOR);
        let sparse = matches!(inode.data(), dimsum_erofs::Data::Map { .. } | dimsum_erofs::Data::Plain { block: None });
        if inode.mode() & TYPE_MASK != REGULAR || !sparse {
            return Ok(whole(inode.size()));
        }
        let mut holes = 0_u64;
        let mut offset = 0_u64;
        for _ in 0..MAX_COUNTED_PIECES {
            let Some(extent) = self.erofs.map(inode, offset)? else {
                break;
            };
            if extent.flat.is_none() {
                holes = holes.saturating_add(whole(extent.len));
            }
            offset = offset.saturating_add(extent.len);
        }
        Ok(whole(inode.size()).saturating_sub(holes))
    }

    fn read(&self, inode: &ErofsInode, offset: u64, size: u32) -> Result<TreeAnswer> {
        let left = inode.size().saturating_sub(offset);
        let length = left.min(size.into());
        let mut extents = Vec::new();
        let mut done = 0;
        while done < length {
            let Some(extent) = self.erofs.map(inode, offset.saturating_add(done))? else {
                return Err(TreeFailure::Forbidden("a file that ends before its size"));
            };
            // `map` never gives an empty piece, so each step comes nearer to the end.
            let piece = extent.len.min(length - done);
            extents.push(match extent.flat {
                None => Extent::Hole { length: piece },
                Some(start) if start >= self.data_start => Extent::Flat { range: start..start.saturating_add(piece) },
                Some(_) => return Err(TreeFailure::Forbidden("file data in the metadata")),
            });
            done += piece;
        }
        // At most `size`, which has 32 bits.
        Ok(TreeAnswer::Data { extents, length: usize::try_from(length).unwrap_or_default() })
    }

    fn xattr(&self, node: u64, name: &[u8]) -> Result<TreeAnswer> {
        if OVERLAY_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            // No image has them: overlayfs is told so without looking, at each of its lookups.
            return Err(TreeFailure::Errno(Errno::NODATA));
        }
        let inode = self.inode(node)?;
        match self.erofs.xattr(&inode, name)? {
            Some(value) => Ok(TreeAnswer::Xattr(value)),
            None => Err(TreeFailure::Errno(Errno::NODATA)),
        }
    }

    fn xattr_names(&self, node: u64) -> Result<TreeAnswer> {
        let mut list = Vec::new();
        for name in self.erofs.xattr_names(&self.inode(node)?)? {
            if OVERLAY_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                return Err(TreeFailure::Forbidden("an extended attribute of overlayfs"));
            }
            list.extend_from_slice(&name);
            list.push(0);
        }
        Ok(TreeAnswer::Xattr(list))
    }

    fn read_dir(&self, node: u64, offset: u64, size: u32) -> Result<TreeAnswer> {
        let inode = self.directory(node)?;
        let mut buffer = DirBuffer::new(size);
        let mut entries = self.erofs.read_dir(&inode, offset)?;
        loop {
            let entry = match entries.next_entry() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) => return or_part(error.into(), TreeAnswer::Directory(buffer)),
            };
            let mode = entry.file_type.map_or(0, |file_type| file_type.mode_bits().into());
            let entry = DirEntry { ino: entry.nid, next: entry.next, mode, name: entry.name };
            if !push(buffer.push(&entry))? {
                break;
            }
        }
        Ok(TreeAnswer::Directory(buffer))
    }

    fn read_dir_plus(&self, node: u64, offset: u64, size: u32) -> Result<TreeAnswer> {
        let inode = self.directory(node)?;
        let mut buffer = DirPlusBuffer::new(size);
        let mut entries = self.erofs.read_dir(&inode, offset)?;
        loop {
            let entry = match entries.next_entry() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) => return or_part(error.into(), TreeAnswer::DirectoryPlus(buffer)),
            };
            let lookup = match self.plus(&entry) {
                Ok(lookup) => lookup,
                Err(error) => return or_part(error, TreeAnswer::DirectoryPlus(buffer)),
            };
            let mode = entry.file_type.map_or(0, |file_type| file_type.mode_bits().into());
            let entry = DirEntry { ino: entry.nid, next: entry.next, mode, name: entry.name };
            if !push(buffer.push(&entry, lookup.as_ref()))? {
                break;
            }
        }
        Ok(TreeAnswer::DirectoryPlus(buffer))
    }

    /// Returns what a lookup of a directory's entry would answer; nothing for `.` and `..`, which the kernel knows.
    fn plus(&self, entry: &dimsum_erofs::ErofsDirEntry<'_>) -> Result<Option<Entry>> {
        if matches!(entry.name, b"." | b"..") {
            return Ok(None);
        }
        let node = self.node(entry.nid)?;
        self.entry(&self.inode(node)?).map(Some)
    }

    fn directory(&self, node: u64) -> Result<ErofsInode> {
        let inode = self.inode(node)?;
        if inode.mode() & TYPE_MASK == DIRECTORY { Ok(inode) } else { Err(TreeFailure::Errno(Errno::NOTDIR)) }
    }

    fn seek(&self, inode: &ErofsInode, offset: u64, whence: Whence) -> Result<TreeAnswer> {
        let found = match whence {
            Whence::Data => self.erofs.next_data(inode, offset)?,
            Whence::Hole => self.erofs.next_hole(inode, offset)?,
        };
        found.map(TreeAnswer::Offset).ok_or(TreeFailure::Errno(Errno::NXIO))
    }
}

/// Answers a listing with what it has so far; the kernel asks for the rest. With nothing yet, it is a failure.
fn or_part(error: TreeFailure, part: TreeAnswer) -> Result<TreeAnswer> {
    let is_empty = match &part {
        TreeAnswer::Directory(buffer) => buffer.as_bytes().is_empty(),
        TreeAnswer::DirectoryPlus(buffer) => buffer.as_bytes().is_empty(),
        _ => true,
    };
    if is_empty { Err(error) } else { Ok(part) }
}

fn push(pushed: std::result::Result<bool, dimsum_fuse::Error>) -> Result<bool> {
    pushed.map_err(|_| TreeFailure::Forbidden("a name that is none"))
}
