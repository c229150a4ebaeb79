//! Proves that an existing pack equals the pack that would be written.
//!
//! Its device map and layer meta are compared with those of the layer; they are only what the pack *promises*.
//! Anybody may have written a pack under a cache tag, and a pack with damaged frames would make every image of
//! this base unreadable. So its frames are decoded and hashed too, which costs a tenth of compressing them.

use std::io::{self, Read};

use dimsum_format::codec::Decompressor;
use dimsum_format::{BLOCK, Blake3, Digest};
use sha2::{Digest as _, Sha256};

use super::chunks::Maps;
use super::meta;
use super::pack::{PackContent, PackContext};
use crate::error::ConvertError;
use crate::hashing::HashingReader;
use crate::known::refuse;
use crate::ordered_tasks::with_workers;
use crate::progress::ConversionProgress;
use crate::reuse::Reusable;

/// Bytes of a pack that are read at a time behind its frames.
const BUFFER: usize = 64 << 10;

/// Reads a pack that may stand for a layer, and compares all of it with what would be written.
///
/// # Errors
/// [`ConvertError::Reuse`] if it is not that, another one if it cannot be reached.
pub(crate) fn verify_pack(
    plan: &PackContent,
    maps: &Maps,
    common: PackContext<'_>,
    reusable: &Reusable<'_>,
    progress: &dyn ConversionProgress,
) -> Result<(), ConvertError> {
    if meta::digest(plan, maps, common)? != reusable.described.footer.layer_meta_digest {
        return Err(reusable.differs("its layer meta says other things of the layer"));
    }
    let held = match read(maps, common, reusable, progress) {
        Err(error @ ConvertError::Reuse { .. }) => return Err(error),
        Err(error) => {
            let refused = refuse(reusable.candidate.what.clone(), error)?;
            return Err(reusable.differs(&refused.reason));
        }
        Ok(held) => held,
    };
    if held.blob != reusable.candidate.blob.digest {
        return Err(reusable.differs("its bytes are not those of its digest"));
    }
    if held.device != reusable.candidate.diff_id {
        return Err(reusable.differs("the device has another SHA-256 than is said of it"));
    }
    Ok(())
}

/// The result of proving a pack.
struct HeldPack {
    /// SHA-256 of the blob.
    blob: Digest,
    /// SHA-256 of the device.
    device: Digest,
}

/// A frame, and the expected bytes.
struct HeldFrame {
    bytes: Vec<u8>,
    length: usize,
    digest: Blake3,
}

/// Reads a whole pack; its frames are decoded and compared with the device map.
fn read(
    (map, frames): &Maps,
    common: PackContext<'_>,
    reusable: &Reusable<'_>,
    progress: &dyn ConversionProgress,
) -> Result<HeldPack, ConvertError> {
    let candidate = &reusable.candidate;
    // One byte more tells a blob that is too long.
    let blob = candidate.source.open(candidate.blob.digest)?.take(candidate.blob.size.saturating_add(1));
    let mut blob = HashingReader::new(blob, &());
    let unreadable =
        |source: io::Error| ConvertError::Unreadable { object: candidate.what.clone(), source: Box::new(source) };
    let work = |decompressor: &mut Decompressor, frame: HeldFrame| {
        let bytes = decompressor.decompress(&frame.bytes, frame.length).ok();
        bytes.filter(|bytes| Blake3::of(bytes) == frame.digest)
    };
    let mut device = Sha256::new();
    let mut count = 0u64;
    let mut take = |bytes: Option<Vec<u8>>| {
        let damaged = || reusable.differs(&format!("its chunk {count} is damaged"));
        device.update(bytes.ok_or_else(damaged)?);
        count += 1;
        if progress.cancelled() { Err(ConvertError::Cancelled) } else { Ok(()) }
    };
    with_workers(common.jobs, Decompressor::default, work, |ordered| {
        let rows = (0..).map_while(|chunk| Some((frames.frame(chunk)?, map.chunk_blocks(chunk)?, map.digest(chunk)?)));
        for (frame, blocks, digest) in rows {
            let length = usize::try_from(frame.end - frame.start).expect("a frame is at most 16 MiB");
            let mut bytes = vec![0; length];
            blob.read_exact(&mut bytes).map_err(unreadable)?;
            if let Some(done) = ordered.submit(HeldFrame { bytes, length: blocks.len() * BLOCK, digest }) {
                take(done)?;
            }
        }
        while let Some(done) = ordered.take() {
            take(done)?;
        }
        Ok::<(), ConvertError>(())
    })?;
    let mut buffer = vec![0; BUFFER];
    while blob.read(&mut buffer).map_err(unreadable)? > 0 {}
    let (blob, _) = blob.finish();
    Ok(HeldPack { blob, device: Digest::new(device.finalize().into()) })
}
