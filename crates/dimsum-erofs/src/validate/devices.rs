//! The blocks of the flat image that are data.

/// The devices behind a meta.
#[derive(Debug)]
pub(super) struct DeviceRanges {
    /// First block of the first device.
    first: u64,
    /// For each device the block behind its last.
    ends: Vec<u64>,
}

impl DeviceRanges {
    pub(super) fn new(meta_blocks: u32, devices: &[u32]) -> Self {
        let first = u64::from(meta_blocks);
        let ends = devices.iter().scan(first, |end, &blocks| {
            *end += u64::from(blocks);
            Some(*end)
        });
        Self { first, ends: ends.collect() }
    }

    /// Returns whether these blocks, at least one, all lie in one device.
    pub(super) fn hold(&self, block: u64, blocks: u64) -> bool {
        let device = self.ends.partition_point(|&end| end <= block);
        block >= self.first
            && self.ends.get(device).is_some_and(|&end| block.checked_add(blocks).is_some_and(|last| last <= end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_lies_in_one_device_or_in_none() {
        let devices = DeviceRanges::new(10, &[5, 0, 3]);
        assert!(devices.hold(10, 5));
        assert!(devices.hold(15, 3));
        assert!(devices.hold(17, 1));
        for (block, blocks) in [(9, 1), (9, 2), (10, 6), (14, 2), (15, 4), (18, 1), (0, 1), (12, u64::MAX)] {
            assert!(!devices.hold(block, blocks), "{block} {blocks}");
        }
        assert!(!DeviceRanges::new(10, &[]).hold(10, 1));
    }
}
