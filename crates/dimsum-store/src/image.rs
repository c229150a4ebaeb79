//! An open image: the gate for its data.

use std::sync::{Arc, mpsc};

use dimsum_format::Digest;
use dimsum_format::manifest::DimsumManifest;
use dimsum_format::meta::MetaMaps;
use dimsum_source::Source;

use crate::buf::ReadBuf;
use crate::error::ReadError;
use crate::fetch::fetcher::Fetcher;
use crate::fetch::fill::{Fill, FillSlot};
use crate::fetch::progress::FillProgress;
#[cfg(doc)]
use crate::limits::MAX_READ;
use crate::meta::Meta;
use crate::read::{Extent, ReadGate};
use crate::stats::ImageStats;

/// An image whose manifest, config and maps are proven and in memory.
#[derive(Debug)]
pub struct Image {
    manifest: DimsumManifest,
    config: Vec<u8>,
    meta: Meta,
    gate: ReadGate,
    fill: FillSlot,
}

impl Image {
    pub(crate) fn new(manifest: DimsumManifest, config: Vec<u8>, meta: Meta, gate: ReadGate) -> Self {
        Self { manifest, config, meta, gate, fill: FillSlot::default() }
    }

    const fn fetcher(&self) -> &Arc<Fetcher> {
        self.gate.fetcher()
    }

    /// Lets the image ask these sources too.
    pub(crate) fn with_sources(self: Arc<Self>, sources: &[Arc<dyn Source>]) -> Arc<Self> {
        self.fetcher().add_sources(sources);
        self
    }

    /// Returns the digest of the manifest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.fetcher().image()
    }

    /// Returns what the manifest says.
    #[must_use]
    pub const fn manifest(&self) -> &DimsumManifest {
        &self.manifest
    }

    /// Returns the bytes of the image config.
    #[must_use]
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// Returns the maps of all devices.
    #[must_use]
    pub fn maps(&self) -> &MetaMaps {
        self.gate.maps()
    }

    /// Returns the gate of the meta.
    #[must_use]
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> ImageStats {
        self.fetcher().counters().snapshot()
    }

    /// Starts to bring the rest of the image's packs into the store, in the background, behind the reads. Only a network is asked;
    /// frames are written as they come and proven when they are read. A reader who misses what is arriving waits for it.
    ///
    /// `report` is called on threads of the runtime, which it must not block. All fills of one image are one.
    #[must_use = "dropping it ends the fill"]
    pub fn fill(&self, report: impl Fn(FillProgress) + Send + Sync + 'static) -> Fill {
        self.fill.start(self.fetcher(), Box::new(report), false)
    }

    /// Like [`Image::fill`], and tries again after a failure, by the store's [`crate::FillPolicy`], until everything is here.
    #[must_use = "dropping it ends the fill"]
    pub fn keep_filled(&self, report: impl Fn(FillProgress) + Send + Sync + 'static) -> Fill {
        self.fill.start(self.fetcher(), Box::new(report), true)
    }

    /// Reads extents in order, together at most [`MAX_READ`] bytes.
    ///
    /// `done` is called exactly once, on this thread before `read` returns if everything is in the store and good.
    /// Bytes that were proven a moment ago and are being written count as good. Else it is called later on a thread of
    /// the store, which it must not block. This call itself reads files and hashes, and never waits for a source, the
    /// pool or another reader.
    pub fn read(&self, extents: &[Extent], done: impl FnOnce(Result<ReadBuf, ReadError>) + Send + 'static) {
        self.gate.read(extents, done);
    }

    /// Reads like [`Image::read`] and waits for the result. Not for threads of the store, nor for those that serve a driver.
    ///
    /// # Errors
    /// As given to `done`.
    pub fn read_blocking(&self, extents: &[Extent]) -> Result<ReadBuf, ReadError> {
        let (give, take) = mpsc::channel();
        self.read(extents, move |result| drop(give.send(result)));
        take.recv().map_err(|_| ReadError::Closed)?
    }

    /// Waits until everything that was fetched so far is in the store's files. A reader gets its bytes before they are written; a
    /// program that ends, and a test that looks at the files, waits here.
    pub fn wait_idle(&self) {
        self.fetcher().wait_idle();
    }
}
