//! What the keeper keeps of a mount, in its memory: enough for the next server to take the mount over.
//!
//! The digest is the one that the client's mount was opened with. Whatever happens to the store or to a tag meanwhile,
//! the next server serves the same bytes, or `EIO`.

use dimsum_engine::ImageOrigin;
use dimsum_engine::image::Located;
use dimsum_format::Digest;
use dimsum_mount::DriverKind;
use dimsum_mount::keeper::OpenOptions;
use serde::{Deserialize, Serialize};

use crate::{Error, MountRequest};

/// The record of a mount. Fields are only ever added, with a default: a keeper may hold records of an older server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountRecord {
    /// The manifest, the root of all trust.
    pub(crate) image: Digest,
    /// Where its blobs can come from, in order. May be empty if the store has all.
    #[serde(default)]
    pub(crate) origins: Vec<ImageOrigin>,
    /// What mount tables show as the source.
    pub(crate) source_name: String,
    /// Where the client will attach it; only for lists.
    #[serde(default)]
    pub(crate) target: String,
    /// Set-user-id bits and file capabilities take effect.
    #[serde(default)]
    pub(crate) suid: bool,
    /// Device nodes can be opened.
    #[serde(default)]
    pub(crate) dev: bool,
    /// Fetch the rest of the image behind the readers.
    #[serde(default)]
    pub(crate) fill: bool,
    /// What serves it.
    #[serde(default)]
    pub(crate) driver: DriverKind,
}

impl MountRecord {
    /// Returns the record of a mount of an image that was opened.
    pub(crate) fn new(request: &MountRequest, located: &Located) -> Self {
        Self {
            image: located.digest,
            origins: located.origins.clone(),
            source_name: located.name(),
            target: request.target.clone(),
            suid: request.suid,
            dev: request.dev,
            fill: request.fill,
            driver: request.driver,
        }
    }

    /// Reads what a keeper holds.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|source| Error::Message { source })
    }

    /// Writes it for the keeper.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(self).map_err(|source| Error::Message { source })
    }

    /// Returns how the keeper makes the mount.
    pub(crate) fn open_options(&self) -> OpenOptions {
        OpenOptions { source_name: self.source_name.clone(), suid: self.suid, dev: self.dev }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The record that a server of the first release gave to its keeper.
    #[test]
    fn a_record_of_the_first_release_is_read() {
        let image = Digest::new([0xab; 32]);
        let record = format!(
            r#"{{"image":"{image}","origins":[],"source_name":"app","target":"/mnt","suid":false,"dev":false,"fill":true}}"#
        );
        let read = MountRecord::parse(record.as_bytes()).unwrap();
        assert_eq!((read.image, read.fill, read.driver), (image, true, DriverKind::Fuse));
        assert_eq!(MountRecord::parse(&read.to_bytes().unwrap()).unwrap(), read);
    }
}
