//! Translates addresses in a meta or layer meta to addresses in the flat image.

use dimsum_format::meta::MetaMaps;
use dimsum_format::{BLOCK_U64, DeviceId};

/// The devices behind a meta or layer meta, in bytes, ascending.
#[derive(Debug)]
pub(super) struct DiskSpace {
    areas: Vec<Area>,
    /// Blocks of the devices.
    blocks: Vec<u32>,
}

#[derive(Debug)]
struct Area {
    start: u64,
    end: u64,
    /// Where its first byte lies in the flat image; `None` if the image does not list the device.
    flat: Option<u64>,
}

/// Where bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpacePlace {
    /// Nowhere: they are zeros.
    Null,
    /// At this byte of the flat image.
    Flat(u64),
    /// In a device that the image does not list.
    Missing,
}

impl DiskSpace {
    /// The space of the image itself.
    pub(super) fn of_image(maps: &MetaMaps) -> Self {
        let mut space = Self { areas: Vec::new(), blocks: Vec::new() };
        for device in &maps.devices {
            let start = u64::from(device.first_block) * BLOCK_U64;
            space.push(start, device.map.blocks(), Some(start));
        }
        space
    }

    /// The space of the layer meta of pack `index`, `length` bytes long, which refers to `references`.
    pub(super) fn of_layer(maps: &MetaMaps, index: usize, length: u64, references: &[(DeviceId, u32)]) -> Self {
        let mut space = Self { areas: Vec::new(), blocks: Vec::new() };
        let mut start = length;
        let own = maps.devices.get(index).map(|device| (device.id, device.map.blocks()));
        for &(id, blocks) in own.iter().chain(references) {
            // A device of another length than the layer meta says is another one, whatever its id.
            let listed = maps.devices.iter().find(|device| device.id == id && device.map.blocks() == blocks);
            space.push(start, blocks, listed.map(|device| u64::from(device.first_block) * BLOCK_U64));
            start += u64::from(blocks) * BLOCK_U64;
        }
        space
    }

    fn push(&mut self, start: u64, blocks: u32, flat: Option<u64>) {
        self.areas.push(Area { start, end: start + u64::from(blocks) * BLOCK_U64, flat });
        self.blocks.push(blocks);
    }

    /// Returns the blocks of each device.
    pub(super) fn blocks(&self) -> &[u32] {
        &self.blocks
    }

    /// Returns where byte `at` is, and how many of `length` bytes from there on lie in the same device. `None`
    /// outside of all.
    pub(super) fn resolve(&self, at: u64, length: u64) -> Option<(SpacePlace, u64)> {
        let index = self.areas.partition_point(|area| area.end <= at);
        let area = self.areas.get(index).filter(|area| area.start <= at)?;
        let place = area.flat.map_or(SpacePlace::Missing, |flat| SpacePlace::Flat(flat + (at - area.start)));
        Some((place, length.min(area.end - at)))
    }
}
