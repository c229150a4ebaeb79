//! Decides by content where a bundle of small files ends, so that independent conversions make equal bundles.

/// Cuts the sequence of new small files (`docs/format.md`, section 7).
#[derive(Debug)]
pub(crate) struct BundleCutter {
    /// Half the blocks of an average bundle, a power of two.
    half: u64,
    /// Blocks of the open bundle.
    open: u64,
}

/// The effect of a file on the bundles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) before: bool,
    pub(crate) after: bool,
}

impl BundleCutter {
    pub(crate) const fn new(half: u64) -> Self {
        Self { half, open: 0 }
    }

    /// Takes a file of so many blocks; `fragment` are the first four bytes of its digest. (The rule says eight,
    /// but `half` is a power of two of at most seven bits.)
    pub(crate) fn file(&mut self, blocks: u64, fragment: u32) -> Cut {
        let before = self.open > 0 && self.open + blocks > 3 * self.half;
        if before {
            self.open = 0;
        }
        self.open += blocks;
        let after = self.open >= self.half && u64::from(fragment) % self.half < blocks;
        if after {
            self.open = 0;
        }
        Cut { before, after }
    }
}

#[cfg(test)]
mod tests {
    use dimsum_format::Blake3;
    use proptest::prelude::*;

    use super::*;

    /// The rule as the document words it, over whole digests, with a list of bundles.
    fn model(files: &[(u64, Blake3)], m: u64) -> Vec<Vec<usize>> {
        let mut bundles = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        let blocks_of = |bundle: &[usize]| bundle.iter().map(|&i| files[i].0).sum::<u64>();
        for (i, (b, digest)) in files.iter().enumerate() {
            if !open.is_empty() && blocks_of(&open) + b > 3 * m {
                bundles.push(std::mem::take(&mut open));
            }
            open.push(i);
            let first_eight = u64::from_le_bytes(digest.as_bytes()[..8].try_into().unwrap());
            if blocks_of(&open) >= m && first_eight % m < *b {
                bundles.push(std::mem::take(&mut open));
            }
        }
        if !open.is_empty() {
            bundles.push(open);
        }
        bundles
    }

    proptest! {
        #[test]
        fn bundles_are_those_of_the_document(
            seeds in prop::collection::vec((any::<u32>(), any::<prop::sample::Index>()), 0..300),
            shift in 2u32..=7,
        ) {
            let m = 1 << shift;
            let files: Vec<_> = seeds
                .iter()
                .map(|(seed, size)| (size.index(m as usize) as u64 + 1, Blake3::of(&seed.to_le_bytes())))
                .collect();
            let mut cutter = BundleCutter::new(m);
            let mut bundles: Vec<Vec<usize>> = vec![Vec::new()];
            for (i, (blocks, digest)) in files.iter().enumerate() {
                let fragment = u32::from_le_bytes(digest.as_bytes()[..4].try_into().unwrap());
                let cut = cutter.file(*blocks, fragment);
                if cut.before {
                    bundles.push(Vec::new());
                }
                bundles.last_mut().unwrap().push(i);
                if cut.after {
                    bundles.push(Vec::new());
                }
            }
            bundles.retain(|bundle| !bundle.is_empty());
            for bundle in &bundles {
                prop_assert!(bundle.iter().map(|&i| files[i].0).sum::<u64>() <= 3 * m);
            }
            prop_assert_eq!(bundles, model(&files, m));
        }
    }
}
