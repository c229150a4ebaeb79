//! When all layers have been read: which devices the image uses, and so which packs are written, several of them and the meta at
//! the same time.

use std::num::NonZeroUsize;

use dimsum_format::{BLOCK_U64, DeviceId};
use dimsum_tree::Tree;

use crate::blob::BlobOut;
use crate::convert::Conversion;
use crate::error::Error;
use crate::image::{self, Meta};
use crate::layer::{Chunks, Common, Maps, Packed, Plan, write_pack};
use crate::ordered::with_workers;
use crate::progress::Phase;

/// All blobs of data, written but not visible yet.
pub(crate) struct Assembled<'t> {
    /// Of each layer that is listed.
    pub(crate) packs: Vec<(u16, Packed<'t>)>,
    pub(crate) meta: Meta<'t>,
}

impl<'a> Conversion<'a> {
    /// Writes packs and meta of the image, whose tree this is. The pool has done everything.
    pub(crate) fn assemble(&mut self, tree: &Tree) -> Result<Assembled<'a>, Error> {
        let live = image::live(tree, &self.contents, self.laid.len())?;
        let Planned { listed, maps, devices } = self.plan(&live)?;
        let threads = self.options.jobs.get().min(listed.len()).max(1);
        let common = Common {
            contents: &self.contents,
            frames: self.pool.frames(),
            devices: &devices,
            options: self.options,
            jobs: NonZeroUsize::new(self.options.jobs.get() / threads).unwrap_or(NonZeroUsize::MIN),
            temporaries: &self.temporaries,
        };
        let (target, progress, count) = (self.target, self.progress, self.laid.len());
        let pack = |(): &mut (), (plan, maps): (&Plan, &Maps)| {
            progress.phase(Phase::Pack { index: usize::from(plan.number), count });
            write_pack(plan, maps, common, BlobOut::new(target, progress)?).map(|packed| (plan.number, packed))
        };
        let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
        with_workers(
            threads,
            || (),
            pack,
            |ordered| {
                let mut packs = Vec::new();
                for task in listed.iter().zip(&maps) {
                    if let Some(pack) = ordered.submit(task) {
                        packs.push(pack?);
                    }
                }
                progress.phase(Phase::Meta);
                let out = BlobOut::new(target, progress)?;
                let meta = image::write_meta(tree, &self.contents, &listed, &maps, self.options, out)?;
                while let Some(pack) = ordered.take() {
                    packs.push(pack?);
                }
                Ok(Assembled { packs, meta })
            },
        )
    }

    /// Names all devices, and prepares the packs of those that are listed.
    fn plan(&mut self, live: &[bool]) -> Result<Planned, Error> {
        let mut planned = Planned::default();
        for (number, (laid, live)) in self.laid.iter_mut().zip(live).enumerate() {
            let Some(laid) = laid.take() else {
                planned.devices.push(None);
                continue;
            };
            let Chunks { maps, offsets, hasher, .. } = laid.bundling.finish(&laid.origin)?;
            let (id, blocks) = (maps.0.id(), maps.0.blocks());
            planned.devices.push(Some((id, blocks)));
            if let Some(summary) = self.summaries.get_mut(number) {
                summary.device = Some(id);
                summary.device_bytes = u64::from(blocks) * BLOCK_U64;
                summary.chunks = maps.0.chunks();
            }
            if *live {
                let number = u16::try_from(number).expect("a source has at most 512 layers");
                let (device, tree, rows, origin) = (laid.device, laid.tree, laid.rows, laid.origin);
                planned.listed.push(Plan { number, id, offsets, hasher, device, tree, rows, origin });
                planned.maps.push(maps);
            }
        }
        Ok(planned)
    }
}

/// What is known before a pack is written.
#[derive(Default)]
struct Planned {
    listed: Vec<Plan>,
    /// Of each that is listed.
    maps: Vec<Maps>,
    /// Of each layer, if it has data of its own: device id and blocks.
    devices: Vec<Option<(DeviceId, u32)>>,
}
