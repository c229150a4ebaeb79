//! Sets of extended attributes, each kept once: in an image most files have none and the rest share a few.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::error::{EntryFault, PathName};
use crate::limits::{MAX_XATTR_BYTES, MAX_XATTR_LIST, MAX_XATTR_NAME, MAX_XATTR_SETS, MAX_XATTR_VALUE};
use crate::types::Xattr;

/// The sets of a finished tree; row 0 is the empty set.
#[derive(Clone, Debug)]
pub(crate) struct XattrSets {
    rows: Vec<Box<[Xattr]>>,
}

impl XattrSets {
    /// Returns the set of a row given out by the interner.
    pub(crate) fn get(&self, row: u32) -> &[Xattr] {
        self.rows.get(row as usize).expect("rows come from the interner")
    }
}

/// Finds the row of a set, or makes one.
#[derive(Debug)]
pub(crate) struct XattrInterner {
    sets: XattrSets,
    index: HashTable<u32>,
    hasher: RandomState,
}

impl XattrInterner {
    /// Starts with the empty set only.
    pub(crate) fn new() -> Self {
        Self::from_sets(XattrSets { rows: vec![Box::default()] })
    }

    /// Goes on with the sets of a finished tree.
    pub(crate) fn from_sets(sets: XattrSets) -> Self {
        let hasher = RandomState::new();
        let mut index = HashTable::new();
        for (row, set) in (0u32..).zip(&sets.rows) {
            index.insert_unique(hasher.hash_one(set), row, |&row| hasher.hash_one(sets.get(row)));
        }
        Self { sets, index, hasher }
    }

    /// Returns the row of this set, whatever its order. Refuses attributes beyond the limits.
    pub(crate) fn intern(&mut self, xattrs: &[Xattr]) -> Result<u32, EntryFault> {
        if xattrs.is_empty() {
            return Ok(0);
        }
        let sorted = checked(xattrs)?;
        let hash = self.hasher.hash_one(&sorted);
        if let Some(&row) = self.index.find(hash, |&row| *self.sets.get(row) == *sorted) {
            return Ok(row);
        }
        if self.sets.rows.len() >= MAX_XATTR_SETS {
            return Err(EntryFault::TreeTooLarge { what: "sets of extended attributes", limit: MAX_XATTR_SETS });
        }
        let row = u32::try_from(self.sets.rows.len()).expect("MAX_XATTR_SETS fits 32 bits");
        self.sets.rows.push(sorted);
        let Self { sets, index, hasher } = self;
        index.insert_unique(hash, row, |&row| hasher.hash_one(sets.get(row)));
        Ok(row)
    }

    /// Returns the set of a row.
    pub(crate) fn get(&self, row: u32) -> &[Xattr] {
        self.sets.get(row)
    }

    /// Gives up the index.
    pub(crate) fn into_sets(self) -> XattrSets {
        self.sets
    }
}

/// Returns whether Linux keeps an extended attribute of this name with a file: what file systems hold, and
/// EROFS has prefixes for.
pub(crate) fn is_file_xattr(name: &[u8]) -> bool {
    let named = |prefix: &[u8]| name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty());
    named(b"user.")
        || named(b"trusted.")
        || named(b"security.")
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
}

/// Returns the set sorted by name, or its fault.
fn checked(xattrs: &[Xattr]) -> Result<Box<[Xattr]>, EntryFault> {
    let mut bytes = 0usize;
    let mut list = 0usize;
    for Xattr { name, value } in xattrs {
        if !is_file_xattr(name) || name.len() > MAX_XATTR_NAME || name.contains(&0) {
            return Err(EntryFault::XattrName { name: PathName::from(&**name) });
        }
        if value.len() > MAX_XATTR_VALUE {
            return Err(EntryFault::XattrValue { name: PathName::from(&**name), length: value.len() });
        }
        bytes = bytes.saturating_add(4 + name.len() + value.len());
        list = list.saturating_add(name.len() + 1);
    }
    if bytes > MAX_XATTR_BYTES || list > MAX_XATTR_LIST {
        return Err(EntryFault::XattrBytes { bytes });
    }
    let mut sorted: Box<[Xattr]> = xattrs.into();
    sorted.sort_unstable();
    for pair in sorted.windows(2) {
        if let [first, second] = pair
            && first.name == second.name
        {
            return Err(EntryFault::XattrTwice { name: PathName::from(&*first.name) });
        }
    }
    Ok(sorted)
}
