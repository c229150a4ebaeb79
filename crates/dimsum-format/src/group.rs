//! Proofs by groups of 16 KiB.
//!
//! BLAKE3 is a tree. A *group* is the subtree over 16 KiB. Its *chaining value* proves these bytes once all
//! chaining values of the object have been combined to the object's digest. So a 4 KiB read hashes 16 KiB, not
//! the whole chunk.

use blake3::hazmat::{self, HasherExt as _, Mode};

use crate::digest::Blake3;

/// Bytes of a group.
pub const GROUP: usize = 16 << 10;
/// [`GROUP`] for 64-bit arithmetic.
pub const GROUP_U64: u64 = GROUP as u64;

/// The chaining value of one group.
pub type ChainingValue = [u8; 32];

/// Returns how many groups an object of `length` bytes has; an empty object has one.
#[must_use]
pub const fn count(length: u64) -> u64 {
    if length == 0 { 1 } else { length.div_ceil(GROUP_U64) }
}

/// Hashes group `number` of an object of `length` bytes.
///
/// `bytes` are those of the group, at most [`GROUP`]; more or fewer give a value that proves nothing, not a panic.
#[must_use]
pub fn chaining_value(bytes: &[u8], number: u64, length: u64) -> ChainingValue {
    if length <= GROUP_U64 {
        return *blake3::hash(bytes).as_bytes();
    }
    if bytes.is_empty() || bytes.len() > GROUP {
        return [0; 32];
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(number.saturating_mul(GROUP_U64));
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// Hashes all groups of an object that is in memory.
#[must_use]
pub fn chaining_values(object: &[u8]) -> Vec<ChainingValue> {
    let length = object.len() as u64;
    if object.is_empty() {
        return vec![chaining_value(object, 0, 0)];
    }
    object.chunks(GROUP).zip(0..).map(|(bytes, number)| chaining_value(bytes, number, length)).collect()
}

/// Combines the chaining values of an object of `length` bytes to its digest; `None` if their number is not [`count`].
#[must_use]
pub fn combine(values: &[ChainingValue], length: u64) -> Option<Blake3> {
    if values.len() as u64 != count(length) {
        return None;
    }
    if let [only] = values {
        return Some(Blake3::new(*only));
    }
    let (left, right) = split(values, length)?;
    let root = hazmat::merge_subtrees_root(&left, &right, Mode::Hash);
    Some(Blake3::new(*root.as_bytes()))
}

/// Chaining values of the two halves of a subtree of more than one group.
fn split(values: &[ChainingValue], length: u64) -> Option<(ChainingValue, ChainingValue)> {
    let left_length = hazmat::left_subtree_len(length);
    let groups = usize::try_from(left_length / GROUP_U64).ok()?;
    let (left, right) = values.split_at_checked(groups)?;
    Some((subtree(left, left_length)?, subtree(right, length.checked_sub(left_length)?)?))
}

/// Depth is at most 64: each step halves `length`.
fn subtree(values: &[ChainingValue], length: u64) -> Option<ChainingValue> {
    if let [only] = values {
        return Some(*only);
    }
    let (left, right) = split(values, length)?;
    Some(hazmat::merge_subtrees_non_root(&left, &right, Mode::Hash))
}

/// All chaining values of one object, already combined to a pinned digest: from here on they are trusted memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Groups {
    values: Box<[ChainingValue]>,
    length: u64,
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Groups").field("groups", &self.values.len()).field("length", &self.length).finish()
    }
}

impl Groups {
    /// Accepts `values` if they combine to `digest`.
    #[must_use]
    pub fn prove(values: Box<[ChainingValue]>, length: u64, digest: Blake3) -> Option<Self> {
        (combine(&values, length)? == digest).then_some(Self { values, length })
    }

    /// Length of the object in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Number of groups.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.values.len()
    }

    /// Says whether there are no groups; never so, an empty object has one.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Byte range of group `number` in the object.
    #[must_use]
    pub fn range(&self, number: u64) -> std::ops::Range<u64> {
        let start = number.saturating_mul(GROUP_U64).min(self.length);
        start..start.saturating_add(GROUP_U64).min(self.length)
    }

    /// Says whether `bytes` are group `number`.
    #[must_use]
    pub fn verify(&self, number: u64, bytes: &[u8]) -> bool {
        let range = self.range(number);
        let value = usize::try_from(number).ok().and_then(|n| self.values.get(n));
        bytes.len() as u64 == range.end - range.start
            && value.is_some_and(|value| *value == chaining_value(bytes, number, self.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    #[test]
    fn groups_combine_to_the_plain_hash() {
        for length in
            [0, 1, 4096, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP, 3 * GROUP, 5 * GROUP + 17, 33 * GROUP, 1 << 20]
        {
            let object = bytes(length);
            assert_eq!(combine(&chaining_values(&object), length as u64), Some(Blake3::of(&object)), "{length}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_flipped_bit_is_always_seen(length in 1usize..200_000, at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut object = bytes(length);
            let values = chaining_values(&object).into_boxed_slice();
            let groups = Groups::prove(values, length as u64, Blake3::of(&object)).unwrap();
            let position = at.index(length);
            object[position] ^= 1 << bit;
            let number = (position / GROUP) as u64;
            let range = groups.range(number);
            prop_assert!(!groups.verify(number, &object[range.start as usize..range.end as usize]));
        }

        #[test]
        fn false_chaining_values_are_not_accepted(length in 1usize..200_000, at in any::<prop::sample::Index>()) {
            let object = bytes(length);
            let mut values = chaining_values(&object);
            let which = at.index(values.len());
            values[which][3] ^= 1;
            prop_assert_eq!(Groups::prove(values.into_boxed_slice(), length as u64, Blake3::of(&object)), None);
        }
    }
}
