//! Opens the references of this crate's schemes: what a process registers.

use std::path::Path;
use std::sync::Arc;

use dimsum_source::{ImageName, Place, Reference, Scheme, SourceError, SourceFault, Target, Transport, Transports};

use crate::archive::{Archive, ArchiveTarget};
use crate::layout::OciLayout;
use crate::schemes::{DIRECTORY, DOCKER_ARCHIVE, OCI_ARCHIVE, OCI_LAYOUT};

/// Registers all transports of this crate.
pub fn register(transports: &mut Transports) {
    transports.register(Arc::new(FileTransport::OciLayout));
    transports.register(Arc::new(FileTransport::OciArchive));
    transports.register(Arc::new(FileTransport::DockerArchive));
    transports.register(Arc::new(FileTransport::Directory));
}

/// Opens files and directories.
#[derive(Debug, Clone, Copy)]
enum FileTransport {
    OciLayout,
    OciArchive,
    DockerArchive,
    Directory,
}

impl Transport for FileTransport {
    fn scheme(&self) -> Scheme {
        match self {
            Self::OciLayout => OCI_LAYOUT,
            Self::OciArchive => OCI_ARCHIVE,
            Self::DockerArchive => DOCKER_ARCHIVE,
            Self::Directory => DIRECTORY,
        }
    }

    fn open(&self, reference: &Reference) -> Result<Arc<dyn Place>, SourceError> {
        let (path, name) = (path(reference)?, reference.name().cloned());
        Ok(match self {
            Self::OciLayout => Arc::new(OciLayout::open(path, name)?),
            Self::OciArchive => Arc::new(Archive::open_oci(path, name)?),
            Self::DockerArchive => Arc::new(Archive::open_docker(path, text(name))?),
            Self::Directory => return Err(no_images(reference)),
        })
    }

    fn create(&self, reference: &Reference) -> Result<Box<dyn Target>, SourceError> {
        let (path, name) = (path(reference)?, reference.name().cloned());
        Ok(match self {
            Self::OciLayout => Box::new(OciLayout::create(path, name)?),
            Self::OciArchive => Box::new(ArchiveTarget::oci(path, name)?),
            Self::DockerArchive => Box::new(ArchiveTarget::docker(path, text(name))?),
            Self::Directory => return Err(no_images(reference)),
        })
    }
}

fn path(reference: &Reference) -> Result<&Path, SourceError> {
    reference.path().ok_or_else(|| {
        SourceFault::Reference { reason: "the reference names no file or directory".into() }.at(reference.to_string())
    })
}

fn no_images(reference: &Reference) -> SourceError {
    let reason = "a file tree holds no images".to_owned();
    SourceFault::Name { reason }.at(reference.to_string())
}

/// Returns an image's name as docker archives have it.
fn text(name: Option<ImageName>) -> Option<String> {
    name.map(|name| match name {
        ImageName::Tag(tag) => tag,
        ImageName::Digest(digest) => digest.to_string(),
    })
}
