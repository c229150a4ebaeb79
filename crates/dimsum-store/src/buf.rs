//! What a read gives: bytes that were verified in memory, as they lie.

use bytes::Bytes;

use crate::limits::MAX_READ;

/// Length of [`ZEROS`].
const ZEROS_LENGTH: usize = 64 << 10;
/// What holes are read from.
static ZEROS: [u8; ZEROS_LENGTH] = [0; ZEROS_LENGTH];

/// A run of a [`ReadBuf`].
#[derive(Debug, Clone)]
pub(crate) enum ReadRun {
    /// Verified bytes.
    Bytes(Bytes),
    /// That many zeros.
    Zeros(u64),
}

impl ReadRun {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(length) => *length,
        }
    }
}

/// The bytes of one read, in order, in as many pieces as they lie in memory. Nothing was copied.
#[derive(Debug, Clone, Default)]
pub struct ReadBuf {
    runs: Vec<ReadRun>,
}

impl ReadBuf {
    pub(crate) const fn new(runs: Vec<ReadRun>) -> Self {
        Self { runs }
    }

    /// Length in bytes, that of the extents asked for.
    #[must_use]
    pub fn len(&self) -> usize {
        let length: u64 = self.runs.iter().map(ReadRun::len).sum();
        debug_assert!(length <= MAX_READ, "a read is bounded before it starts");
        usize::try_from(length).unwrap_or(usize::MAX)
    }

    /// Says whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the pieces in order, for a vectored write; at most a few per extent.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.runs.iter().flat_map(|run| {
            let (bytes, zeros) = match run {
                ReadRun::Bytes(bytes) => (bytes.as_ref(), 0),
                ReadRun::Zeros(length) => (&[][..], *length),
            };
            let zeros = std::iter::successors((zeros > 0).then_some(zeros), |left| {
                left.checked_sub(ZEROS_LENGTH as u64).filter(|left| *left > 0)
            });
            let zeros = zeros.map(|left| {
                let length = usize::try_from(left).unwrap_or(ZEROS_LENGTH).min(ZEROS_LENGTH);
                ZEROS.get(..length).unwrap_or(&ZEROS)
            });
            (!bytes.is_empty()).then_some(bytes).into_iter().chain(zeros)
        })
    }

    /// Copies everything into one vector.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        for slice in self.slices() {
            bytes.extend_from_slice(slice);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_zeros_of_their_length() {
        for zeros in [0, 1, ZEROS_LENGTH as u64 - 1, ZEROS_LENGTH as u64, 3 * ZEROS_LENGTH as u64 + 5] {
            let data = ReadRun::Bytes(Bytes::from_static(b"abc"));
            let buf = ReadBuf::new(vec![data.clone(), ReadRun::Zeros(zeros), data]);
            let mut must = b"abc".to_vec();
            must.resize(3 + zeros as usize, 0);
            must.extend_from_slice(b"abc");
            assert_eq!((buf.len(), buf.to_vec()), (must.len(), must));
        }
    }
}
