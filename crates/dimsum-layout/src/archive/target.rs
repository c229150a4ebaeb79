//! Writing an archive: blobs are spooled, and the tar is written when its root comes.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use dimsum_format::limits::MAX_CONFIG_BYTES;
use dimsum_format::manifest::{Annotations, Blob, Descriptor, ImageConfig, Index, Manifest};
use dimsum_format::{Digest, FormatError, media};
use dimsum_source::{
    BlobWriter, Document, ImageName, Plan, Reference, Role, Shape, Source, SourceError, SourceFault, Target,
};
use dimsum_tree::LayerDecoder;
use sha2::{Digest as _, Sha256};

use super::docker::{self, Saved, canonical};
use super::oci::{BLOBS, INDEX};
use super::spool::Spool;
use super::write::TarWriter;
use crate::schemes::{DOCKER_ARCHIVE, OCI_ARCHIVE};

/// An archive that is being written as a whole. The file at its path is replaced when it is finished.
#[derive(Debug)]
pub struct ArchiveTarget {
    /// The reference as text.
    text: String,
    file: PathBuf,
    kind: Kind,
    spool: Spool,
}

#[derive(Debug)]
enum Kind {
    Oci { tag: Option<String> },
    Docker { name: Option<String> },
}

impl ArchiveTarget {
    /// Prepares an OCI layout in a tar. An archive that is there already is replaced, as skopeo does.
    ///
    /// # Errors
    /// If it cannot be written, another process writes it, or `name` is a digest.
    pub fn oci(file: &Path, name: Option<ImageName>) -> Result<Self, SourceError> {
        let text = Reference::in_files(OCI_ARCHIVE.name, file, name.clone()).to_string();
        let tag = match name {
            Some(ImageName::Tag(tag)) => Some(tag),
            None => None,
            Some(ImageName::Digest(_)) => {
                let reason = "a target has a tag, not a digest: the digest is known only afterwards";
                return Err(SourceFault::Target { reason }.at(text));
            }
        };
        Ok(Self { spool: Spool::open(file, &text)?, file: file.to_owned(), text, kind: Kind::Oci { tag } })
    }

    /// Prepares what `docker load` reads. It holds one ordinary image. An archive that is there already may hold other
    /// images and is not touched, as with skopeo.
    ///
    /// # Errors
    /// If it is there, cannot be written, or another process writes it.
    pub fn docker(file: &Path, name: Option<String>) -> Result<Self, SourceError> {
        let text = Reference::in_files(DOCKER_ARCHIVE.name, file, name.clone().map(ImageName::Tag)).to_string();
        if fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0) {
            let reason = "the archive exists, and images cannot be added to it; remove it first";
            return Err(SourceFault::Target { reason }.at(text));
        }
        let name = name.as_deref().map(canonical);
        Ok(Self { spool: Spool::open(file, &text)?, file: file.to_owned(), text, kind: Kind::Docker { name } })
    }

    fn write(&self, root: Document) -> Result<(), SourceError> {
        let tar = TarWriter::create(self.spool.unfinished())?;
        let tar = match &self.kind {
            Kind::Oci { tag } => self.write_oci(tar, root, tag.as_deref())?,
            Kind::Docker { name } => self.write_docker(tar, &root, name.as_deref())?,
        };
        tar.finish(&self.file)
    }

    /// Writes what the root reaches, and nothing else that an interrupted attempt may have left in the spool. The list
    /// of the contents comes first.
    fn write_oci(&self, mut tar: TarWriter, root: Document, tag: Option<&str>) -> Result<TarWriter, SourceError> {
        let mut descriptor = root.descriptor.clone();
        descriptor.annotations =
            tag.map(|tag| (media::ANNOTATION_REF_NAME.to_owned(), tag.to_owned())).into_iter().collect();
        let index = Index {
            schema_version: 2,
            media_type: Some(media::INDEX.to_owned()),
            manifests: vec![descriptor],
            annotations: Annotations::new(),
        };
        let plan = Plan::of(&self.spool.layout, root)?;
        let mut digests: Vec<Digest> = plan.documents().map(|document| document.descriptor.digest).collect();
        for wanted in plan.blobs() {
            if self.spool.layout.size(wanted.blob.digest)? == Some(wanted.blob.size) {
                digests.push(wanted.blob.digest);
            } else if !wanted.foreign {
                return Err(SourceFault::NotFound { object: "blob", digest: wanted.blob.digest }.at(&self.text));
            }
        }
        digests.sort_unstable();
        digests.dedup();
        tar.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        tar.bytes(INDEX, &index.to_bytes())?;
        tar.directory("blobs/")?;
        tar.directory(BLOBS)?;
        for digest in digests {
            let hex = digest.hex();
            tar.file(&format!("{BLOBS}{hex}"), &self.spool.layout.dir().join(BLOBS).join(&hex))?;
        }
        Ok(tar)
    }

    fn write_docker(&self, mut tar: TarWriter, root: &Document, name: Option<&str>) -> Result<TarWriter, SourceError> {
        if let Some(reason) = self.refuses(Shape::of(root)) {
            return Err(SourceFault::Target { reason }.at(&self.text));
        }
        let format_error = |source| SourceFault::Format { source }.at(&self.text);
        let manifest = Manifest::parse(&root.bytes).map_err(format_error)?;
        let config = self.spool.layout.read_small("config", manifest.config.digest, MAX_CONFIG_BYTES)?;
        let diff_ids = ImageConfig::parse(&config).and_then(|config| config.diff_ids()).map_err(format_error)?;
        if diff_ids.len() != manifest.layers.len() {
            let (said, is) = (diff_ids.len() as u64, manifest.layers.len() as u64);
            return Err(format_error(FormatError::Mismatch { part: "number of layers, by diff_ids", said, is }));
        }
        let config_name = format!("{}.json", manifest.config.digest.hex());
        tar.bytes(&config_name, &config)?;
        let mut written = HashSet::new();
        for (layer, &diff_id) in manifest.layers.iter().zip(&diff_ids) {
            if written.insert(diff_id) {
                self.write_layer(&mut tar, layer, diff_id)?;
            }
        }
        let saved = Saved {
            config: config_name,
            repo_tags: name.map(|name| vec![name.to_owned()]),
            layers: Some(diff_ids.iter().map(|diff_id| layer_name(*diff_id)).collect()),
        };
        let listing = serde_json::to_vec(&[saved]).expect("strings always serialize");
        tar.bytes(docker::MANIFEST, &listing)?;
        Ok(tar)
    }

    /// Writes a layer as the plain tar that `docker load` wants.
    fn write_layer(&self, tar: &mut TarWriter, layer: &Descriptor, diff_id: Digest) -> Result<(), SourceError> {
        let failed = |source| SourceError::io(format!("{}: layer {}", self.text, layer.digest), source);
        let blob = self.spool.layout.open(layer.digest)?;
        let mut plain = Hashing { inner: LayerDecoder::new(blob, None).map_err(failed)?, hasher: Sha256::new() };
        tar.stream(&layer_name(diff_id), &mut plain).map_err(failed)?;
        let is = Digest::new(plain.hasher.finalize().into());
        if is != diff_id {
            let (source_name, object) = (self.text.clone(), "tar of a layer");
            return Err(SourceFault::Digest { object, is, must: diff_id }.at(source_name));
        }
        Ok(())
    }
}

fn layer_name(diff_id: Digest) -> String {
    format!("{}.tar", diff_id.hex())
}

impl Target for ArchiveTarget {
    fn name(&self) -> &str {
        &self.text
    }

    fn refuses(&self, shape: Shape) -> Option<&'static str> {
        match (&self.kind, shape) {
            (Kind::Oci { .. }, _) | (Kind::Docker { .. }, Shape::Image) => None,
            (Kind::Docker { .. }, Shape::Dimsum) => {
                Some("docker load knows no Dimsum images: export an ordinary image, or write an oci-archive:")
            }
            (Kind::Docker { .. }, Shape::Index) => {
                Some("it holds the image of one platform: choose one, or write an oci-archive:")
            }
        }
    }

    fn has(&self, blob: Digest, size: u64) -> Result<bool, SourceError> {
        self.spool.layout.has(blob, size)
    }

    fn start_blob(&self) -> Result<Box<dyn BlobWriter + '_>, SourceError> {
        self.spool.layout.start_blob()
    }

    fn copy_blob(
        &self,
        blob: Blob,
        from: &dyn Source,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        self.spool.layout.copy_blob(blob, from, progress)
    }

    fn put_manifest(&self, media_type: &str, manifest: &[u8], role: Role) -> Result<Digest, SourceError> {
        let digest = self.spool.layout.put_manifest(media_type, manifest, Role::Part)?;
        if role == Role::Root {
            let format_error = |source| SourceFault::Format { source }.at(&self.text);
            let mut root = Document::new(digest, manifest.to_vec()).map_err(format_error)?;
            root.descriptor.media_type = media_type.to_owned();
            self.write(root)?;
            self.spool.remove();
        }
        Ok(digest)
    }
}

/// Hashes the bytes that are read.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
