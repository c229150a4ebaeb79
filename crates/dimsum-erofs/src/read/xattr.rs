//! Extended attributes: a body behind the inode, with ids of shared ones and the rest in place.

use std::ops::ControlFlow;

use dimsum_tree::Xattr;
use zerocopy::FromBytes;

use super::{ErofsImage, ErofsInode, MetaRead, ReadResult};
use crate::error::{ErofsError, ErofsFault};
use crate::ondisk::{BLOCK, XattrEntry, XattrHeader};
use crate::prefix;

/// Bytes of an entry's head, and what entries are aligned to.
const WORD: usize = size_of::<XattrEntry>();

/// One attribute as it is found.
#[derive(Debug)]
pub(crate) enum FoundXattr<'a> {
    /// In the body.
    Inline {
        /// The first part of the name.
        prefix: &'static [u8],
        /// The rest of the name.
        rest: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// In the shared area.
    Shared {
        /// The first part of the name.
        prefix: &'static [u8],
        /// The rest of the name.
        rest: &'a [u8],
        /// Where the value lies in the image.
        value_start: u64,
        /// Bytes of the value.
        value_len: u16,
    },
}

impl FoundXattr<'_> {
    /// Returns the full name.
    pub(crate) fn name(&self) -> Vec<u8> {
        let (Self::Inline { prefix, rest, .. } | Self::Shared { prefix, rest, .. }) = self;
        [prefix, *rest].concat()
    }

    fn has_name(&self, name: &[u8]) -> bool {
        let (Self::Inline { prefix, rest, .. } | Self::Shared { prefix, rest, .. }) = self;
        name.strip_prefix(*prefix) == Some(*rest)
    }
}

impl<M: MetaRead> ErofsImage<M> {
    /// Returns all extended attributes of an inode, in the order they are stored: shared ones first.
    ///
    /// # Errors
    ///
    /// If they cannot be read or are not well-formed.
    pub fn xattrs(&self, inode: &ErofsInode) -> ReadResult<Vec<Xattr>, M> {
        let mut all = Vec::new();
        self.visit_xattrs(inode, |found| {
            let name = found.name().into();
            let value = self.xattr_value(inode, &found)?.into();
            all.push(Xattr { name, value });
            Ok(ControlFlow::<()>::Continue(()))
        })?;
        Ok(all)
    }

    /// Returns the full names of all extended attributes of an inode.
    ///
    /// # Errors
    ///
    /// If they cannot be read or are not well-formed.
    pub fn xattr_names(&self, inode: &ErofsInode) -> ReadResult<Vec<Vec<u8>>, M> {
        let mut names = Vec::new();
        self.visit_xattrs(inode, |found| {
            names.push(found.name());
            Ok(ControlFlow::<()>::Continue(()))
        })?;
        Ok(names)
    }

    /// Returns the value of one extended attribute by its full name; `None` if the inode does not have it.
    ///
    /// # Errors
    ///
    /// If they cannot be read or are not well-formed.
    pub fn xattr(&self, inode: &ErofsInode, name: &[u8]) -> ReadResult<Option<Vec<u8>>, M> {
        self.visit_xattrs(inode, |found| {
            if !found.has_name(name) {
                return Ok(ControlFlow::Continue(()));
            }
            self.xattr_value(inode, &found).map(ControlFlow::Break)
        })
    }

    fn xattr_value(&self, inode: &ErofsInode, found: &FoundXattr<'_>) -> ReadResult<Vec<u8>, M> {
        match *found {
            FoundXattr::Inline { value, .. } => Ok(value.to_vec()),
            FoundXattr::Shared { value_start, value_len, .. } => {
                let mut value = vec![0; value_len.into()];
                self.read(inode.nid(), value_start, &mut value)?;
                Ok(value)
            }
        }
    }

    /// Shows all attributes until the visitor breaks. The body is one read, each shared one another.
    pub(crate) fn visit_xattrs<B>(
        &self,
        inode: &ErofsInode,
        mut visit: impl FnMut(FoundXattr<'_>) -> ReadResult<ControlFlow<B>, M>,
    ) -> ReadResult<Option<B>, M> {
        let (start, length) = inode.xattr_body();
        if length == 0 {
            return Ok(None);
        }
        // At most 262,148 bytes: the count has 16 bits.
        let mut body = vec![0; length as usize];
        self.read(inode.nid(), start, &mut body)?;
        let malformed = || ErofsError::inode(inode.nid(), ErofsFault::Xattrs);
        let (header, rest) = XattrHeader::read_from_prefix(&body).map_err(|_| malformed())?;
        let ids = usize::from(header.shared_count) * WORD;
        let (ids, mut inline) = rest.split_at_checked(ids).ok_or_else(malformed)?;
        for id in ids.as_chunks::<WORD>().0 {
            if let ControlFlow::Break(found) = self.visit_shared(inode, u32::from_le_bytes(*id), &mut visit)? {
                return Ok(Some(found));
            }
        }
        while !inline.is_empty() {
            let (entry, rest) = XattrEntry::read_from_prefix(inline).map_err(|_| malformed())?;
            let (name, rest) = rest.split_at_checked(entry.name_len.into()).ok_or_else(malformed)?;
            let value = rest.get(..entry.value_size.get().into()).ok_or_else(malformed)?;
            let prefix = prefix_of(inode, entry.name_index)?;
            if let ControlFlow::Break(found) = visit(FoundXattr::Inline { prefix, rest: name, value })? {
                return Ok(Some(found));
            }
            inline = inline.get((WORD + name.len() + value.len()).next_multiple_of(WORD)..).unwrap_or_default();
        }
        Ok(None)
    }

    fn visit_shared<B>(
        &self,
        inode: &ErofsInode,
        id: u32,
        visit: &mut impl FnMut(FoundXattr<'_>) -> ReadResult<ControlFlow<B>, M>,
    ) -> ReadResult<ControlFlow<B>, M> {
        let area = u64::from(self.superblock().xattr_blkaddr.get()) * BLOCK;
        let start = area + u64::from(id) * WORD as u64;
        let mut buf = [0; WORD + u8::MAX as usize];
        let readable = self.meta().len().saturating_sub(start).min(buf.len() as u64) as usize;
        let bytes = buf.get_mut(..readable).unwrap_or_default();
        self.read(inode.nid(), start, bytes)?;
        let malformed = || ErofsError::inode(inode.nid(), ErofsFault::Xattrs);
        let (entry, rest) = XattrEntry::read_from_prefix(bytes).map_err(|_| malformed())?;
        let rest = rest.get(..entry.name_len.into()).ok_or_else(malformed)?;
        let prefix = prefix_of(inode, entry.name_index)?;
        let value_start = start + (WORD + rest.len()) as u64;
        visit(FoundXattr::Shared { prefix, rest, value_start, value_len: entry.value_size.get() })
    }
}

fn prefix_of<E: std::error::Error + 'static>(
    inode: &ErofsInode,
    index: u8,
) -> std::result::Result<&'static [u8], ErofsError<E>> {
    match prefix::of(index) {
        Some((prefix, _)) => Ok(prefix),
        None => Err(ErofsError::inode(inode.nid(), ErofsFault::XattrPrefix { index })),
    }
}
