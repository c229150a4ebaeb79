//! Extended attributes: chooses the shared ones and writes the body of one inode.

use std::collections::HashMap;
use std::sync::LazyLock;

use dimsum_tree::{InodeId, PathName, Tree, Xattr};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use crate::error::PlanError;
use crate::limits::MAX_SHARED_XATTRS;
use crate::ondisk::{XattrEntry, XattrHeader};
use crate::prefix::{self, OPAQUE_NAME, OPAQUE_VALUE};

/// The alignment of entries, and the unit of ids.
const WORD: usize = size_of::<XattrEntry>();

/// A shared attribute that no inode has asked for yet.
const UNPLACED: u32 = u32::MAX;

/// The mark of an opaque directory.
static OPAQUE: LazyLock<Xattr> = LazyLock::new(|| Xattr { name: OPAQUE_NAME.into(), value: OPAQUE_VALUE.into() });

/// Returns the attributes of an inode as they are stored, ordered by name.
fn of(tree: &Tree, id: InodeId) -> impl Iterator<Item = &Xattr> {
    let all = tree.xattrs(id);
    let opaque = tree.inode(id).is_opaque();
    let place = if opaque { all.partition_point(|xattr| *xattr.name < *OPAQUE_NAME) } else { all.len() };
    let (before, behind) = all.split_at(place);
    before.iter().chain(opaque.then(|| &*OPAQUE)).chain(behind)
}

/// The shared attributes in the order of first use.
#[derive(Debug)]
pub(super) struct SharedXattrs<'t> {
    /// Ids of all attributes that two inodes or more have.
    ids: HashMap<&'t Xattr, u32>,
    area: Vec<&'t Xattr>,
    /// Length of the area in words.
    words: u64,
}

impl<'t> SharedXattrs<'t> {
    /// Finds out which attributes are shared; refuses those that EROFS cannot hold or that belong to overlayfs.
    pub(super) fn find(tree: &'t Tree) -> Result<Self, PlanError> {
        let mut ids: HashMap<&Xattr, u32> = HashMap::new();
        for inode in tree.ids() {
            for xattr in tree.xattrs(inode) {
                if prefix::split(&xattr.name).is_none() {
                    return Err(PlanError::XattrName { inode, name: PathName::from(&*xattr.name) });
                }
                if prefix::is_overlay(&xattr.name) {
                    return Err(PlanError::Overlay { inode });
                }
            }
            for xattr in of(tree, inode) {
                ids.entry(xattr).and_modify(|id| *id = UNPLACED).or_insert(0);
            }
        }
        ids.retain(|_, id| *id == UNPLACED);
        ids.shrink_to_fit();
        Ok(Self { ids, area: Vec::new(), words: 0 })
    }

    /// Returns the body of an inode; what it shares and is not in the area yet is put there.
    pub(super) fn place(&mut self, tree: &'t Tree, id: InodeId) -> XattrBody<'t> {
        let body = self.body(tree, id);
        for xattr in &body.shared {
            if let Some(id) = self.ids.get_mut(xattr)
                && *id == UNPLACED
            {
                // Beyond 2^32 words the image is refused as too large.
                *id = u32::try_from(self.words).unwrap_or(UNPLACED);
                self.words += (entry_len(xattr) / WORD) as u64;
                self.area.push(xattr);
            }
        }
        body
    }

    /// Returns the body of an inode.
    pub(super) fn body(&self, tree: &'t Tree, id: InodeId) -> XattrBody<'t> {
        let mut body = XattrBody::default();
        for xattr in of(tree, id) {
            if body.shared.len() < MAX_SHARED_XATTRS && self.ids.contains_key(xattr) {
                body.shared.push(xattr);
            } else {
                body.inline.push(xattr);
            }
        }
        body
    }

    /// Returns the length of the area in bytes.
    pub(super) fn area_len(&self) -> u64 {
        self.words * WORD as u64
    }

    /// Returns the bytes of the area.
    pub(super) fn area(&self) -> &[&'t Xattr] {
        &self.area
    }
}

/// The attributes of one inode.
#[derive(Debug, Default)]
pub(super) struct XattrBody<'t> {
    shared: Vec<&'t Xattr>,
    inline: Vec<&'t Xattr>,
}

impl XattrBody<'_> {
    /// Returns its length in bytes.
    pub(super) fn len(&self) -> usize {
        if self.shared.is_empty() && self.inline.is_empty() {
            return 0;
        }
        let inline: usize = self.inline.iter().map(|xattr| entry_len(xattr)).sum();
        size_of::<XattrHeader>() + self.shared.len() * WORD + inline
    }

    /// Returns `i_xattr_icount`.
    pub(super) fn count(&self) -> u16 {
        match self.len().checked_sub(size_of::<XattrHeader>()) {
            None => 0,
            Some(behind) => u16::try_from(behind / WORD + 1).expect("dimsum-tree bounds the attributes of an inode"),
        }
    }

    /// Appends the bytes.
    pub(super) fn write(&self, shared: &SharedXattrs<'_>, bytes: &mut Vec<u8>) {
        if self.len() == 0 {
            return;
        }
        let shared_count = u8::try_from(self.shared.len()).expect("MAX_SHARED_XATTRS fits a byte");
        bytes.extend_from_slice(XattrHeader { name_filter: U32::ZERO, shared_count, reserved: [0; 7] }.as_bytes());
        for xattr in &self.shared {
            let id = shared.ids.get(xattr).copied().expect("a body's shared attributes have been placed");
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        for xattr in &self.inline {
            write_entry(xattr, bytes);
        }
    }
}

/// Returns the length of an entry with its padding.
fn entry_len(xattr: &Xattr) -> usize {
    let rest = prefix::split(&xattr.name).map_or(0, |(_, rest)| rest.len());
    (WORD + rest + xattr.value.len()).next_multiple_of(WORD)
}

/// Appends an entry with its padding.
pub(super) fn write_entry(xattr: &Xattr, bytes: &mut Vec<u8>) {
    let (name_index, rest) = prefix::split(&xattr.name).expect("names are checked when sharing is found");
    let entry = XattrEntry {
        name_len: u8::try_from(rest.len()).expect("dimsum-tree bounds names"),
        name_index,
        value_size: U16::new(u16::try_from(xattr.value.len()).expect("dimsum-tree bounds values")),
    };
    let end = bytes.len() + entry_len(xattr);
    bytes.extend_from_slice(entry.as_bytes());
    bytes.extend_from_slice(rest);
    bytes.extend_from_slice(&xattr.value);
    bytes.resize(end, 0);
}
