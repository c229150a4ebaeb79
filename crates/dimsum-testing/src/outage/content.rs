//! What the registry has: blobs of a layout, read where they lie, and what was uploaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use dimsum_format::manifest::{Index, Manifest};
use dimsum_format::{Digest, media};

use super::RequestKind;

/// Blobs, manifests, tags and uploads of the one repository.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The directory of a layout's blobs.
    blobs: Option<PathBuf>,
    state: Mutex<Stored>,
}

#[derive(Debug, Default)]
struct Stored {
    /// Digests by tag.
    tags: BTreeMap<String, String>,
    /// Digests of configs and metas.
    configs: BTreeSet<String>,
    metas: BTreeSet<String>,
    /// Uploaded blobs and manifests by digest.
    uploaded: BTreeMap<String, Vec<u8>>,
    /// Uploads by number.
    uploads: BTreeMap<u64, Vec<u8>>,
    next_upload: u64,
}

/// A blob that can be read.
#[derive(Debug)]
pub(super) enum Blob {
    Stored(File, u64),
    Uploaded(Vec<u8>),
}

impl Blob {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Stored(_, length) => *length,
            Self::Uploaded(bytes) => bytes.len() as u64,
        }
    }

    pub(super) fn read(&self, range: Range<u64>) -> Vec<u8> {
        let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        match self {
            Self::Stored(file, _) => {
                let mut bytes = vec![0; end - start];
                file.read_exact_at(&mut bytes, range.start).unwrap();
                bytes
            }
            Self::Uploaded(bytes) => bytes[start..end].to_vec(),
        }
    }
}

impl Content {
    pub(super) fn of_layout(layout: &Path) -> Self {
        let content = Self { blobs: Some(layout.join("blobs/sha256")), state: Mutex::default() };
        let index = Index::parse(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let mut state = content.state.lock().unwrap();
        for entry in index.manifests {
            if let Some(tag) = entry.annotations.get(media::ANNOTATION_REF_NAME) {
                state.tags.insert(tag.clone(), entry.digest.to_string());
            }
            content.learn(&mut state, &entry.digest.to_string());
        }
        drop(state);
        content
    }

    /// Learns what the blobs of a manifest are for.
    fn learn(&self, state: &mut Stored, digest: &str) {
        let Some(blob) = self.find(state, digest) else { return };
        let bytes = blob.read(0..blob.length());
        if let Ok(index) = Index::parse(&bytes) {
            index.manifests.iter().for_each(|entry| self.learn(state, &entry.digest.to_string()));
        } else if let Ok(manifest) = Manifest::parse(&bytes) {
            state.configs.insert(manifest.config.digest.to_string());
            let metas = manifest.layers.iter().filter(|layer| layer.media_type == media::META);
            state.metas.extend(metas.map(|meta| meta.digest.to_string()));
        }
    }

    fn find(&self, state: &Stored, digest: &str) -> Option<Blob> {
        if let Some(bytes) = state.uploaded.get(digest) {
            return Some(Blob::Uploaded(bytes.clone()));
        }
        let path = self.blobs.as_ref()?.join(digest.strip_prefix("sha256:")?);
        let file = File::open(path).ok()?;
        let length = file.metadata().unwrap().len();
        Some(Blob::Stored(file, length))
    }

    pub(super) fn blob(&self, digest: &str) -> Option<Blob> {
        self.find(&self.state.lock().unwrap(), digest)
    }

    /// Returns a manifest by tag or digest.
    pub(super) fn manifest(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state.lock().unwrap();
        let digest = state.tags.get(name).cloned().unwrap_or_else(|| name.to_owned());
        self.find(&state, &digest).map(|blob| blob.read(0..blob.length()))
    }

    /// Says what a blob is for.
    pub(super) fn kind(&self, digest: &str) -> RequestKind {
        let state = self.state.lock().unwrap();
        if state.configs.contains(digest) {
            RequestKind::Config
        } else if state.metas.contains(digest) {
            RequestKind::Meta
        } else {
            RequestKind::Pack
        }
    }

    pub(super) fn put_manifest(&self, name: &str, bytes: Vec<u8>) -> String {
        let digest = Digest::of(&bytes).to_string();
        let mut state = self.state.lock().unwrap();
        state.uploaded.insert(digest.clone(), bytes);
        if !name.starts_with("sha256:") {
            state.tags.insert(name.to_owned(), digest.clone());
        }
        self.learn(&mut state, &digest);
        digest
    }

    pub(super) fn begin_upload(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.next_upload += 1;
        let number = state.next_upload;
        state.uploads.insert(number, Vec::new());
        number
    }

    /// Returns how many bytes an upload has; `None` if there is no such upload.
    pub(super) fn upload_length(&self, number: u64) -> Option<usize> {
        self.state.lock().unwrap().uploads.get(&number).map(Vec::len)
    }

    pub(super) fn append(&self, number: u64, bytes: &[u8]) {
        self.state.lock().unwrap().uploads.entry(number).or_default().extend_from_slice(bytes);
    }

    /// Ends an upload. Says whether it has the digest.
    pub(super) fn finish_upload(&self, number: u64, digest: &str) -> bool {
        let mut state = self.state.lock().unwrap();
        let bytes = state.uploads.remove(&number).unwrap_or_default();
        let right = Digest::of(&bytes).to_string() == digest;
        if right {
            state.uploaded.insert(digest.to_owned(), bytes);
        }
        right
    }

    pub(super) fn give_up(&self, number: u64) {
        self.state.lock().unwrap().uploads.remove(&number);
    }

    pub(super) fn open_uploads(&self) -> usize {
        self.state.lock().unwrap().uploads.len()
    }
}
