//! Opening an image: manifest → config, meta root → maps, each proven from what came before.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use dimsum_format::index::MetaIndex;
use dimsum_format::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, MAX_META_INDEX_BYTES};
use dimsum_format::manifest::{Config, DimsumManifest, Manifest};
use dimsum_format::meta::{MetaFooter, MetaMaps};
use dimsum_format::pack::META_FOOTER_BYTES;
use dimsum_format::{Digest, FormatError};
use dimsum_registry::{Source, SourceError};

use crate::error::{FailureReason, ReadError, ReadObject, SourceFailure, StoreError};
use crate::feed::{DeviceFeed, Feed};
use crate::fetch::Fetcher;
use crate::image::Image;
use crate::index;
use crate::layout;
use crate::limits::MAX_MAPS_BYTES;
use crate::meta::{INDEX_FILE, Meta, MetaCore};
use crate::request::LOCAL;
use crate::stats::{Counters, Event, add};
use crate::store::Inner;

/// Name of the manifest in an image's directory.
pub(crate) const MANIFEST_FILE: &str = "manifest";
/// Name of the config in an image's directory.
pub(crate) const CONFIG_FILE: &str = "config";

/// What is needed while an image is opened.
struct Loader<'a> {
    inner: &'a Arc<Inner>,
    image: Digest,
    sources: Vec<Arc<dyn Source>>,
    counters: Arc<Counters>,
}

/// Opens an image.
pub(crate) fn open(inner: &Arc<Inner>, image: Digest, origins: Vec<Arc<dyn Source>>) -> Result<Arc<Image>, StoreError> {
    let mut sources: Vec<Arc<dyn Source>> = vec![Arc::clone(&inner.packs) as Arc<dyn Source>];
    sources.extend(origins);
    let loader = Loader { inner, image, sources, counters: Arc::default() };
    let directory = inner.layout.image(image);
    let format = |source| StoreError::Format { image, source };

    let manifest = loader.document("manifest", &directory.join(MANIFEST_FILE), image, MAX_MANIFEST_BYTES)?;
    let manifest = Manifest::parse(&manifest).and_then(|manifest| DimsumManifest::new(&manifest)).map_err(format)?;
    let config = loader.document("config", &directory.join(CONFIG_FILE), manifest.config.digest, MAX_CONFIG_BYTES)?;
    Config::parse(&config).map_err(format)?;

    let (core, maps) = loader.meta(&directory, &manifest)?;
    let maps = Arc::new(maps);
    agree(image, &manifest, &maps)?;

    let mut feeds = vec![Feed::Meta(Arc::clone(&core))];
    for (index, (device, blob)) in maps.devices.iter().zip(&manifest.packs).enumerate() {
        let shared = inner.device(&maps, index, device.id);
        feeds.push(Feed::Device(DeviceFeed { device: shared, blob: *blob, maps: Arc::clone(&maps), index }));
    }
    let fetcher = loader.fetcher(feeds);
    let meta = Meta::new(core, Arc::clone(&fetcher));
    Ok(Arc::new(Image::new(manifest, config, maps, meta, fetcher)))
}

impl Loader<'_> {
    /// Returns a small document that has its digest: the store's copy, or a source's, which is kept.
    fn document(&self, object: &'static str, path: &Path, digest: Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let found = layout::read_small(path, limit);
        if let Ok(Some(bytes)) = &found
            && Digest::of(bytes) == digest
        {
            return Ok(found.ok().flatten().unwrap_or_default());
        }
        let damaged = !matches!(found, Ok(None));
        let what = ReadObject::Document { object, digest };
        if damaged {
            self.damaged(what);
        }
        let mut failures = Vec::new();
        for (number, source) in self.sources.iter().enumerate() {
            let found = source.read_small(object, digest, limit);
            if number != LOCAL {
                add(&self.counters.requests, 1);
                add(&self.counters.bytes_fetched, found.as_ref().map_or(0, |bytes| bytes.len() as u64));
            }
            match found {
                Ok(bytes) => {
                    self.keep(path, &bytes, damaged.then_some(what));
                    return Ok(bytes);
                }
                Err(SourceError::NotFound { .. }) if number == LOCAL => {}
                Err(error) => {
                    let reason = FailureReason::Source(Arc::new(error));
                    failures.push(SourceFailure { source_name: source.name().to_owned(), reason });
                }
            }
        }
        add(&self.counters.source_failures, failures.len() as u64);
        Err(StoreError::Unavailable { object, digest, failures })
    }

    /// Returns the meta and its maps; the first time with all its bytes put into the store.
    fn meta(&self, directory: &Path, manifest: &DimsumManifest) -> Result<(Arc<MetaCore>, MetaMaps), StoreError> {
        let path = directory.join(INDEX_FILE);
        let object = ReadObject::MetaIndex { root: manifest.root };
        let (root, blob) = (manifest.root, manifest.meta);
        let stored = layout::read_small(&path, MAX_META_INDEX_BYTES);
        let damaged = !matches!(stored, Ok(None));
        if let Ok(Some(bytes)) = &stored
            && let Ok(index) = MetaIndex::parse(bytes, blob.size, root)
        {
            let core = Arc::new(MetaCore::new(directory, root, blob, index, true));
            // The root proves the chaining values, but a false length of the last group shows only when that group is read:
            // an index from disk that leads nowhere is damaged.
            if let Ok(maps) = self.maps(&core) {
                return Ok((core, maps));
            }
        }
        if damaged {
            self.damaged(object);
        }
        let (sources, deadline, counters) = (self.sources.clone(), self.inner.deadline, Arc::clone(&self.counters));
        let fetch = async move { index::fetch(&sources, deadline, blob, root, &counters).await };
        let failed = |source| StoreError::Meta { image: self.image, source: Box::new(source) };
        let fetched = self.inner.wait(fetch).ok_or_else(|| failed(ReadError::Closed))?;
        let (index, bytes) =
            fetched.map_err(|failures| failed(ReadError::Unavailable { object, failures: failures.into() }))?;
        let core = Arc::new(MetaCore::new(directory, root, blob, index, false));
        let maps = self.maps(&core)?;
        self.keep(&path, &bytes, damaged.then_some(object));
        Ok((core, maps))
    }

    /// Reads the maps at the end of the meta.
    fn maps(&self, core: &Arc<MetaCore>) -> Result<MetaMaps, StoreError> {
        let format = |source| StoreError::Format { image: self.image, source };
        let failed = |source| StoreError::Meta { image: self.image, source: Box::new(source) };
        let meta = Meta::new(Arc::clone(core), self.fetcher(vec![Feed::Meta(Arc::clone(core))]));
        let length = meta.length();
        match core.length_on_disk() {
            Some(on_disk) if on_disk >= length => {}
            Some(_) => {
                let object = ReadObject::MetaFrame { root: core.root(), frame: 0 };
                self.damaged(object);
                meta.fetch_all().map_err(failed)?;
                if core.length_on_disk() >= Some(length) {
                    self.repaired(object);
                }
            }
            None => {
                let begun = core.begin();
                meta.fetch_all().map_err(failed)?;
                if let Err((path, error)) = begun.and_then(|temporary| core.complete(temporary)) {
                    self.tell(&self.counters.write_errors, &Event::WriteFailed { path, kind: error.kind() });
                }
            }
        }
        let mut footer = [0; META_FOOTER_BYTES];
        meta.read_blocking(length.saturating_sub(META_FOOTER_BYTES as u64), &mut footer).map_err(failed)?;
        let footer = MetaFooter::parse(&footer, length).map_err(format)?;
        let range = footer.maps_range();
        let size = range.end.saturating_sub(range.start);
        let size = usize::try_from(size).ok().filter(|size| *size as u64 <= MAX_MAPS_BYTES).ok_or_else(|| {
            format(FormatError::Limit { part: "maps of the meta", value: size, limit: MAX_MAPS_BYTES })
        })?;
        let mut maps = vec![0; size];
        meta.read_blocking(range.start, &mut maps).map_err(failed)?;
        // Repairs on the way are written before anybody looks at the files.
        meta.wait_idle();
        MetaMaps::parse(&footer, &maps).map_err(format)
    }

    fn fetcher(&self, feeds: Vec<Feed>) -> Arc<Fetcher> {
        let (inner, counters) = (Arc::clone(self.inner), Arc::clone(&self.counters));
        Fetcher::new(inner, self.image, self.sources.clone(), feeds, counters)
    }

    /// Writes what was proven; failing to costs the next opening a fetch.
    fn keep(&self, path: &Path, bytes: &[u8], repaired: Option<ReadObject>) {
        match layout::put_file(path, bytes, true) {
            Ok(()) => repaired.into_iter().for_each(|object| self.repaired(object)),
            Err(error) => {
                self.tell(&self.counters.write_errors, &Event::WriteFailed { path: path.into(), kind: error.kind() });
            }
        }
    }

    fn damaged(&self, object: ReadObject) {
        self.tell(&self.counters.damage, &Event::Damaged { image: self.image, object });
    }

    fn repaired(&self, object: ReadObject) {
        self.tell(&self.counters.repairs, &Event::Repaired { image: self.image, object });
    }

    fn tell(&self, counter: &AtomicU64, event: &Event) {
        add(counter, 1);
        if let Some(sink) = &self.inner.events {
            sink.event(event);
        }
    }
}

/// Device k of the meta is pack k of the manifest, and its frames must lie in that blob.
fn agree(image: Digest, manifest: &DimsumManifest, maps: &MetaMaps) -> Result<(), StoreError> {
    let (packs, devices) = (manifest.packs.len() as u64, maps.devices.len() as u64);
    if packs != devices {
        return Err(StoreError::Disagree { image, what: "number of packs", manifest: packs, meta: devices });
    }
    for (pack, device) in manifest.packs.iter().zip(&maps.devices) {
        let (manifest, meta) = (pack.size, device.frames.length());
        if meta > manifest {
            return Err(StoreError::Disagree { image, what: "length of a pack", manifest, meta });
        }
    }
    Ok(())
}
