//! The place of content in a device.

/// Where content starts: the layer whose device it is, and the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ContentPlace {
    /// Number of the source layer.
    pub(crate) device: u16,
    /// Block of that layer's device.
    pub(crate) block: u32,
}

impl ContentPlace {
    /// Content that was read and has no place yet. No device has so many blocks.
    pub(crate) const NONE: Self = Self { device: u16::MAX, block: u32::MAX };

    /// Says whether this is no place.
    pub(crate) const fn is_none(self) -> bool {
        self.block == u32::MAX
    }
}
