//! Turns a builder into a tree: drops unreachable inodes and numbers the rest in path order, in the same
//! memory.
//!
//! Nothing is copied to a second tree. Names are sorted in place, and inodes are moved by swaps along the
//! cycles of the permutation. The only extra memory is the map from old to new numbers, 4 bytes per inode.

use std::ops::Range;

use crate::builder::REMOVED;
use crate::error::{EntryFault, TreeError};
use crate::limits::{MAX_DEPTH, MAX_PATH};
use crate::record::{Inode, RecordSlot};
use crate::text::Text;
use crate::tree::Tree;
use crate::xattrs::XattrInterner;

/// In the map from old to new numbers: not reached (yet).
const UNREACHED: u32 = u32::MAX;

/// A builder's memory with the names in order: directories know their ranges, nothing is numbered yet.
#[derive(Debug)]
pub(crate) struct Sorted {
    pub(crate) inodes: Vec<Inode>,
    pub(crate) slots: Vec<RecordSlot>,
    pub(crate) text: Text,
    pub(crate) xattrs: XattrInterner,
}

impl Sorted {
    /// Puts the names in order.
    pub(crate) fn new(mut inodes: Vec<Inode>, mut slots: Vec<RecordSlot>, text: Text, xattrs: XattrInterner) -> Self {
        slots.retain(|slot| slot.inode != REMOVED);
        sort(&mut slots, &text);
        set_ranges(&mut inodes, &slots);
        Self { inodes, slots, text, xattrs }
    }

    /// Returns the rows of a directory's names.
    pub(crate) fn range(&self, directory: u32) -> Range<usize> {
        range(&self.inodes, directory)
    }

    /// Makes the tree of what can be reached from inode 0; names marked as removed are left out.
    pub(crate) fn finish(self) -> Result<Tree, TreeError> {
        let Self { mut inodes, mut slots, mut text, xattrs } = self;
        let (mut numbers, live) = number(&inodes, &slots, &text)?;
        slots.retain(|slot| slot.inode != REMOVED && new_number(&numbers, slot.parent) != UNREACHED);
        for slot in &mut slots {
            slot.parent = new_number(&numbers, slot.parent);
            slot.inode = new_number(&numbers, slot.inode);
        }
        permute(&mut inodes, &mut numbers);
        drop(numbers);
        inodes.truncate(live);
        set_ranges(&mut inodes, &slots);
        count_links(&mut inodes, &slots);

        inodes.shrink_to_fit();
        slots.shrink_to_fit();
        text.shrink();
        Ok(Tree::from_parts(inodes, slots, text, xattrs.into_sets()))
    }
}

/// Returns the rows of a directory's names; none for other types.
fn range(inodes: &[Inode], directory: u32) -> Range<usize> {
    let inode = inodes.get(directory as usize).expect("slots name inodes of this tree");
    if !inode.is_directory() {
        return 0..0;
    }
    let first = inode.reference as usize;
    first..first + inode.data as usize
}

/// Sorts by directory, then bytewise by name.
fn sort(slots: &mut [RecordSlot], text: &Text) {
    let name = |slot: &RecordSlot| text.get(slot.name, usize::from(slot.name_length));
    slots.sort_unstable_by(|a, b| a.parent.cmp(&b.parent).then_with(|| name(a).cmp(name(b))));
}

/// Tells each directory where its names are, in slots grouped by directory.
fn set_ranges(inodes: &mut [Inode], slots: &[RecordSlot]) {
    for inode in inodes.iter_mut().filter(|inode| inode.is_directory()) {
        inode.data = 0;
        inode.reference = 0;
    }
    let mut first = 0u32;
    for group in slots.chunk_by(|a, b| a.parent == b.parent) {
        let count = u32::try_from(group.len()).expect("MAX_ENTRIES fits 32 bits");
        if let Some(inode) = group.first().and_then(|slot| inodes.get_mut(slot.parent as usize)) {
            inode.reference = first;
            inode.data = u64::from(count);
        }
        first += count;
    }
}

/// Walks in path order and returns the new number of each inode that is reached, and how many there are.
fn number(inodes: &[Inode], slots: &[RecordSlot], text: &Text) -> Result<(Vec<u32>, usize), TreeError> {
    let mut numbers = vec![UNREACHED; inodes.len()];
    let mut next = 0u32;
    let mut assign = |old: u32| {
        let number = numbers.get_mut(old as usize).expect("slots name inodes of this tree");
        if *number == UNREACHED {
            *number = next;
            next += 1;
        }
    };
    let children = |inode: u32| slots.get(range(inodes, inode)).expect("ranges cover the slots").iter();
    assign(0);
    // One level of the path: the names still to visit, and the path's length up to there.
    let mut levels = vec![(children(0), 0usize)];
    let mut path = Vec::new();
    while let Some((names, length)) = levels.last_mut() {
        path.truncate(*length);
        let Some(slot) = names.next() else {
            levels.pop();
            continue;
        };
        if slot.inode == REMOVED {
            continue;
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(text.get(slot.name, usize::from(slot.name_length)));
        if path.len() > MAX_PATH {
            let length = path.len();
            return Err(TreeError::entry(path, EntryFault::PathTooLong { length }));
        }
        if levels.len() > MAX_DEPTH {
            return Err(TreeError::entry(path, EntryFault::TooDeep));
        }
        assign(slot.inode);
        let below = children(slot.inode);
        if below.len() > 0 {
            levels.push((below, path.len()));
        }
    }
    Ok((numbers, next as usize))
}

fn new_number(numbers: &[u32], old: u32) -> u32 {
    *numbers.get(old as usize).expect("slots name inodes of this tree")
}

/// Moves each inode to its new number; those without one end up behind the others. Uses up `numbers`.
fn permute(inodes: &mut [Inode], numbers: &mut [u32]) {
    for row in 0..inodes.len() {
        // Each swap puts one inode where it belongs for good, so this is linear over all rows.
        while let Some(&target) = numbers.get(row)
            && target != UNREACHED
            && target as usize != row
        {
            inodes.swap(row, target as usize);
            numbers.swap(row, target as usize);
        }
    }
}

/// Counts names; a directory has two and one for each subdirectory.
fn count_links(inodes: &mut [Inode], slots: &[RecordSlot]) {
    for inode in inodes.iter_mut() {
        inode.nlink = if inode.is_directory() { 2 } else { 0 };
    }
    for slot in slots {
        let directory = inodes.get(slot.inode as usize).is_some_and(Inode::is_directory);
        let counted = if directory { slot.parent } else { slot.inode };
        if let Some(inode) = inodes.get_mut(counted as usize) {
            inode.nlink += 1;
        }
    }
}
