//! A blob that is copied in more than one attempt.
//!
//! The bytes of an interrupted copy stay in a file of its own, `blobs/.dimsum-partial-HEX` ([`PartialBlob`]). It is
//! outside of `blobs/sha256`, where other tools look. The next attempt hashes it again, since nothing on disk is
//! trusted, and goes on where it ends. A second copier of the same blob finds it locked and copies for itself.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use dimsum_format::Digest;
use dimsum_format::manifest::Blob;
use dimsum_source::{
    PartialBlob, PartialFailure, Source, SourceError, SourceFault, Target as _, check, copy_through, remove_unwritten,
};
use sha2::{Digest as _, Sha256};

use super::{OciLayout, io_error};

/// Blobs below this are not worth a second attempt's file: they are copied again.
const MIN_SIZE: u64 = 1 << 20;
/// Partial blobs that a layout keeps; the oldest go first. More than one copy leaves behind, few enough that forgotten ones
/// do not pile up.
const MAX_KEPT: usize = 16;
const PREFIX: &str = ".dimsum-partial-";

impl OciLayout {
    /// Copies a blob, going on where an earlier attempt stopped.
    pub(super) fn copy_resumable(
        &self,
        blob: Blob,
        from: &dyn Source,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let path = self.partials().join(format!("{PREFIX}{}", blob.digest.hex()));
        let failed = |error| io_error(&path, error);
        let partial = if blob.size < MIN_SIZE { Ok(None) } else { PartialBlob::open(&path, blob.size) };
        let Some(mut partial) = partial.map_err(failed)? else {
            return copy_through(self.start_blob()?, blob, from, progress);
        };
        let (mut is, mut length) =
            fetch(&partial, blob, from, progress).map_err(|failure| explain(failure, blob, from, &failed))?;
        if partial.found() > 0 && is != blob.digest {
            // The kept bytes may be the wrong ones.
            partial.clear().map_err(failed)?;
            (is, length) =
                fetch(&partial, blob, from, progress).map_err(|failure| explain(failure, blob, from, &failed))?;
        }
        if let Err(error) = check(blob, from, is, length) {
            // Going on from here would end the same way.
            partial.remove().map_err(failed)?;
            return Err(error);
        }
        let path = self.blob_path(blob.digest);
        partial.finish(&path).map_err(|error| io_error(&path, error))
    }

    /// Removes partial blobs that are whole by now, or are too many.
    pub(super) fn forget_partials(&self) -> Result<(), SourceError> {
        let dir = self.partials();
        let mut kept = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|error| io_error(&dir, error))? {
            let entry = entry.map_err(|error| io_error(&dir, error))?;
            let name = entry.file_name();
            let Some(hex) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            let whole = Digest::from_hex(hex).is_ok_and(|digest| self.blob_path(digest).exists());
            match entry.metadata() {
                Ok(metadata) if !whole => kept.push((metadata.mtime(), metadata.mtime_nsec(), entry.path())),
                Ok(_) => remove_unwritten(&entry.path()),
                // Its copier has just come to the end.
                Err(_) => {}
            }
        }
        kept.sort_unstable();
        let surplus = kept.len().saturating_sub(MAX_KEPT);
        kept.iter().take(surplus).for_each(|(_, _, path)| remove_unwritten(path));
        Ok(())
    }

    /// Says whether there is a partial blob.
    pub(crate) fn has_partials(&self) -> bool {
        let is_partial = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.starts_with(PREFIX));
        fs::read_dir(self.partials())
            .is_ok_and(|mut all| all.any(|each| each.is_ok_and(|each| is_partial(&each.file_name()))))
    }

    fn partials(&self) -> PathBuf {
        self.dir.join("blobs")
    }
}

/// Hashes the bytes that are there, fetches the rest, and returns digest and length of all.
fn fetch(
    partial: &PartialBlob,
    blob: Blob,
    from: &dyn Source,
    progress: &dyn Fn(u64) -> ControlFlow<()>,
) -> Result<(Digest, u64), PartialFailure> {
    let mut hasher = Sha256::new();
    partial.read_found(&mut |bytes| {
        hasher.update(bytes);
        // Nothing has moved, but it takes its time.
        progress(0)
    })?;
    let length = partial.fetch(blob, from, &mut |bytes| {
        hasher.update(bytes);
        progress(bytes.len() as u64)
    })?;
    Ok((Digest::new(hasher.finalize().into()), length))
}

fn explain(
    failure: PartialFailure,
    blob: Blob,
    from: &dyn Source,
    in_file: &dyn Fn(io::Error) -> SourceError,
) -> SourceError {
    match failure {
        PartialFailure::Source(error) => error,
        PartialFailure::Read(source) => SourceError::io(format!("{} {}", from.name(), blob.digest), source),
        PartialFailure::File(source) => in_file(source),
        PartialFailure::Stopped => SourceFault::Cancelled.at(from.name()),
    }
}
