//! The frames of one pack on this disk, as they came: the near tier below the decoded device.
//!
//! `packs/<hh>/<digest>` is a whole pack: written by a conversion, or checked by its SHA-256. A pack that comes from a
//! network piece by piece lands in `packs/<hh>/<digest>.<map>`, a sparse file of the pack's length. There `<map>` names
//! the device map and the frame map: an image that claims another's pack with a map of its own fills another file. A
//! sparse file is never taken for a whole pack.
//!
//! There is no index of what is there: a frame starts with a magic number, so zeros in its place say that it is absent. Frames are not
//! proven here; whoever decodes them does that. Nothing is synced: after a power loss a frame is absent or wrong, and is fetched again.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use dimsum_format::manifest::Blob;
use dimsum_format::map::FrameMap;
use dimsum_format::{Blake3, DeviceId};
use dimsum_source::SourceError;
use parking_lot::Mutex;

use crate::disk::device::WriteFailure;
use crate::disk::layout::{self, Layout};
use crate::disk::packs::io_error;
use crate::error::FailureReason;
use crate::role::RoleFlag;

/// Bytes at the start of a frame that are never all zero: the magic numbers of zstd.
const MAGIC: usize = 4;
/// Hexadecimal digits of the name of a map: 128 bits, of which nobody finds a second preimage.
pub(crate) const MAP_NAME: usize = 32;

/// Where the frames of a pack, or of a meta, may lie on this disk.
#[derive(Debug)]
pub(crate) struct LocalFrames {
    whole: PathBuf,
    /// Metas have none: they are kept decoded and whole.
    part: Option<PathBuf>,
    size: u64,
    /// Held between looking whether a frame is absent and writing it.
    writing: Mutex<()>,
    to_mend: MendCount,
    /// Whether this process may write; nothing where only reading was meant.
    role: Option<Arc<RoleFlag>>,
}

/// Frames fetched for a whole pack that is to be mended; a try is under way if there are any.
#[derive(Debug, Default)]
pub(crate) struct MendCount(Mutex<u64>);

impl MendCount {
    /// Adds one; says whether it is the first, so that a try has to start.
    pub(crate) fn add(&self) -> bool {
        let mut count = self.0.lock();
        *count = count.saturating_add(1);
        *count == 1
    }

    pub(crate) fn count(&self) -> u64 {
        *self.0.lock()
    }

    /// Ends the tries unless frames have come since there were `seen`; says whether it did.
    pub(crate) fn is_done(&self, seen: u64) -> bool {
        let mut count = self.0.lock();
        let is_done = *count == seen;
        if is_done {
            *count = 0;
        }
        is_done
    }
}

/// Which frames may take whose place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Not decoded, so perhaps wrong: only where there is none.
    Raw,
    /// Proven, over whatever stands in the sparse file.
    Proven,
    /// Proven, and what stood here was wrong: kept beside a whole pack too, until that is mended.
    Mends,
}

/// The files as they were a moment ago.
pub(crate) struct OpenFrames {
    part: Option<File>,
    /// An entry that is no regular file, or cannot be read, is found out about by reading.
    whole: io::Result<Option<File>>,
}

impl LocalFrames {
    /// Of a pack as one image maps it.
    pub(crate) fn of_pack(
        (layout, role): (&Layout, &Arc<RoleFlag>),
        blob: Blob,
        device: DeviceId,
        frames: &FrameMap,
    ) -> Self {
        Self { role: Some(Arc::clone(role)), ..Self::named(layout, blob, &map_name(device, frames)) }
    }

    /// Of a pack, by the name of a map, for reading.
    pub(crate) fn named(layout: &Layout, blob: Blob, map: &str) -> Self {
        let part = layout.part(blob.digest, map);
        Self {
            whole: layout.pack(blob.digest),
            part: Some(part),
            size: blob.size,
            writing: Mutex::new(()),
            to_mend: MendCount::default(),
            role: None,
        }
    }

    /// Of a compressed meta.
    pub(crate) fn of_meta(layout: &Layout, blob: Blob) -> Self {
        Self {
            whole: layout.pack(blob.digest),
            part: None,
            size: blob.size,
            writing: Mutex::new(()),
            to_mend: MendCount::default(),
            role: None,
        }
    }

    pub(crate) fn open(&self) -> OpenFrames {
        let part = self.part.as_ref().and_then(|part| layout::open_regular(part, false).ok().flatten());
        OpenFrames { part, whole: layout::open_regular(&self.whole, false) }
    }

    /// Says whether there is a whole pack; whether it is right is another question.
    pub(crate) fn has_whole(&self) -> bool {
        matches!(layout::open_regular(&self.whole, false), Ok(Some(_)))
    }

    /// Returns what stands in the place of a frame, the sparse file's first; empty if it is absent.
    pub(crate) fn read(&self, range: &Range<u64>) -> Vec<Result<Bytes, FailureReason>> {
        let opened = self.open();
        let mut found = Vec::new();
        if let (Some(file), Some(path)) = (&opened.part, &self.part)
            && !is_absent(file, range.start)
        {
            found.push(read_frame(file, range).unwrap_or_else(|error| Err(unreadable(path, error))));
        }
        match &opened.whole {
            Ok(None) => {}
            Ok(Some(file)) => {
                found.push(read_frame(file, range).unwrap_or_else(|error| Err(unreadable(&self.whole, error))));
            }
            Err(error) => found.push(Err(unreadable(&self.whole, error.kind().into()))),
        }
        found
    }

    /// Says whether this process writes the store's files.
    pub(crate) fn may_write(&self) -> bool {
        self.role.as_ref().is_some_and(|role| role.is_owner())
    }

    /// Writes frames as they came, each at its place in the pack.
    pub(crate) fn keep(&self, frames: &[(u64, Bytes)], how: Keep) -> Result<(), WriteFailure> {
        let Some(path) = &self.part else { return Ok(()) };
        if !self.may_write() || (how != Keep::Mends && self.has_whole()) {
            return Ok(());
        }
        let failed = |error| (path.clone(), error);
        let _writing = self.writing.lock();
        let file = self.made(path).map_err(failed)?;
        for (start, frame) in frames {
            if how == Keep::Raw && !is_absent(&file, *start) {
                continue;
            }
            if let Err(error) = file.write_all_at(frame, *start) {
                // What was written of it is not taken for a frame. If even that fails, decoding finds out.
                drop(file.write_all_at(&[0; MAGIC], *start));
                return Err(failed(error));
            }
        }
        Ok(())
    }

    fn made(&self, path: &std::path::Path) -> io::Result<File> {
        let file = match layout::open_or_create(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                layout::make_directory(layout::directory_of(path))?;
                layout::open_or_create(path)?
            }
            other => other?,
        };
        if file.metadata()?.len() != self.size {
            file.set_len(self.size)?;
        }
        Ok(file)
    }

    /// Frames that wait to be taken into the whole pack.
    pub(crate) const fn to_mend(&self) -> &MendCount {
        &self.to_mend
    }

    /// The files' names, for mending: the whole pack's and the sparse one's.
    pub(crate) fn paths(&self) -> Option<(&PathBuf, &PathBuf)> {
        Some((&self.whole, self.part.as_ref()?))
    }
}

impl OpenFrames {
    /// Says whether a frame can be had here, or something that has to be looked at.
    pub(crate) fn has(&self, range: &Range<u64>) -> bool {
        !matches!(self.whole, Ok(None)) || self.has_part(range)
    }

    /// Says whether there is a whole pack.
    pub(crate) const fn has_whole(&self) -> bool {
        matches!(self.whole, Ok(Some(_)))
    }

    /// Says whether the sparse file has a frame.
    pub(crate) fn has_part(&self, range: &Range<u64>) -> bool {
        self.part.as_ref().is_some_and(|part| !is_absent(part, range.start))
    }
}

/// Names a map in the names of sparse files.
pub(crate) fn map_name(device: DeviceId, frames: &FrameMap) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(device.as_bytes());
    hasher.update(&frames.to_bytes());
    let mut name = Blake3::new(*hasher.finalize().as_bytes()).hex();
    name.truncate(MAP_NAME);
    name
}

/// Says whether nothing was written at the start of a frame.
pub(crate) fn is_absent(file: &File, start: u64) -> bool {
    // What cannot be read is there: reading it tells why it cannot.
    layout::read_at(file, MAGIC, start).is_ok_and(|magic| magic.iter().all(|byte| *byte == 0))
}

fn read_frame(file: &File, range: &Range<u64>) -> io::Result<Result<Bytes, FailureReason>> {
    let must = range.end.saturating_sub(range.start);
    let bytes = layout::read_at(file, usize::try_from(must).unwrap_or(0), range.start)?;
    let is = bytes.len() as u64;
    Ok(if is == must { Ok(bytes.into()) } else { Err(FailureReason::Length { is, must }) })
}

fn unreadable(path: &std::path::Path, error: io::Error) -> FailureReason {
    let error: SourceError = io_error(path, error);
    FailureReason::Source(Arc::new(error))
}
