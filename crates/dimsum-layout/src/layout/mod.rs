//! An OCI image layout: a directory with `oci-layout`, `index.json` and `blobs/sha256/…`.
//!
//! Blobs are files named by their digest and never change, so reading needs no lock. Writing makes a blob visible only
//! when it is whole and durable; `index.json` is replaced as a whole, under a lock.

mod index;
mod partial;
mod read;
mod referrers;
mod resolve;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use dimsum_format::Digest;
use dimsum_source::{ImageName, MAX_BLOCKING_READS, Reference, SourceError, SourceFault};
use tokio::sync::Semaphore;

use crate::schemes::OCI_LAYOUT;

pub(crate) use self::resolve::find_named;
pub(crate) use self::write::sync_directory;

/// The marker file and what we write into a new one.
const MARKER: &str = "oci-layout";
const MARKER_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX: &str = "index.json";

/// An OCI image layout on disk, opened for one of its images: both a [`Source`](dimsum_source::Source) and a
/// [`Target`](dimsum_source::Target).
#[derive(Debug)]
pub struct OciLayout {
    dir: PathBuf,
    name: Option<ImageName>,
    reference: Reference,
    /// The reference as text.
    text: String,
    reads: Arc<Semaphore>,
}

impl OciLayout {
    /// Opens an existing layout.
    ///
    /// # Errors
    /// If there is none at `dir`.
    pub fn open(dir: impl Into<PathBuf>, name: Option<ImageName>) -> Result<Self, SourceError> {
        let layout = Self::new(dir.into(), name);
        let marker = layout.dir.join(MARKER);
        match fs::metadata(&marker) {
            Ok(_) => Ok(layout),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(SourceFault::Name { reason: format!("not an OCI image layout: there is no {}", marker.display()) }
                    .at(layout.text))
            }
            Err(error) => Err(io_error(&marker, error)),
        }
    }

    /// Opens a layout as a target, and makes it first if it is not there. Manifests are stored under the tag in `name`.
    ///
    /// # Errors
    /// If the directory cannot be made or holds something else, or `name` is a digest.
    pub fn create(dir: impl Into<PathBuf>, name: Option<ImageName>) -> Result<Self, SourceError> {
        let layout = Self::new(dir.into(), name);
        if matches!(layout.name, Some(ImageName::Digest(_))) {
            let reason = "a target has a tag, not a digest: the digest is known only afterwards";
            return Err(SourceFault::Target { reason }.at(layout.text));
        }
        layout.make()?;
        Ok(layout)
    }

    fn new(dir: PathBuf, name: Option<ImageName>) -> Self {
        let reference = Reference::in_files(OCI_LAYOUT.name, &dir, name.clone());
        let text = reference.to_string();
        Self { dir, name, reference, text, reads: Arc::new(Semaphore::new(MAX_BLOCKING_READS)) }
    }

    /// Returns the layout's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the image that the layout was opened for.
    #[must_use]
    pub fn image_name(&self) -> Option<&ImageName> {
        self.name.as_ref()
    }

    fn blobs(&self) -> PathBuf {
        self.dir.join("blobs/sha256")
    }

    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }
}

pub(crate) fn io_error(path: &Path, source: io::Error) -> SourceError {
    SourceError::io(path.display().to_string(), source)
}
