//! Opening an image: manifest → config, meta root → maps, each proven from what came before.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use dimsum_format::index::MetaIndex;
use dimsum_format::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, MAX_META_INDEX_BYTES};
use dimsum_format::manifest::{Blob, DimsumManifest, ImageConfig, Manifest};
use dimsum_format::meta::{MetaFooter, MetaMaps};
use dimsum_format::pack::META_FOOTER_BYTES;
use dimsum_format::{Digest, FormatError};
use dimsum_source::{ErrorKind, Source, SourceError, SourceFault};
use tracing::{Instrument as _, Span, debug, debug_span};

use crate::budget::{OpenMaps, OpeningPermit};
use crate::disk::frames::LocalFrames;
use crate::disk::layout::{self, CONFIG_FILE, MANIFEST_FILE};
use crate::disk::meta_file::{INDEX_FILE, MetaFile};
use crate::error::{FailureReason, ReadError, ReadObject, SourceFailure, StoreError};
use crate::fetch::feed::{DeviceFeed, Feed};
use crate::fetch::fetcher::Fetcher;
use crate::fetch::index::{self, OpeningAsker};
use crate::fetch::origin::{self, OriginState, Origins};
use crate::image::Image;
use crate::limits::MAX_MAPS_BYTES;
use crate::meta::Meta;
use crate::read::ReadGate;
use crate::role::WriterLock;
use crate::services::Services;
use crate::stats::{Counters, Event, EventKind, add};

/// What is needed while an image is opened.
struct ImageLoader<'a> {
    services: &'a Arc<Services>,
    image: Digest,
    origins: Arc<Origins>,
    counters: Arc<Counters>,
    writer: Arc<WriterLock>,
}

/// A document of the store as it stands on its disk.
struct StoredDocument {
    object: ReadObject,
    path: PathBuf,
    /// `None` if it is not there or wrong.
    bytes: Option<Vec<u8>>,
    is_damaged: bool,
}

/// Opens an image.
pub(crate) fn open(
    services: &Arc<Services>,
    image: Digest,
    sources: &[Arc<dyn Source>],
) -> Result<Arc<Image>, StoreError> {
    let _entered = debug_span!("open", %image).entered();
    debug!(sources = sources.len(), "opens an image");
    let origins = Origins::new(sources);
    let writer = services.claim().map_err(|error| StoreError::io(services.layout().root(), error))?;
    let loader = ImageLoader { services, image, origins, counters: Arc::default(), writer };
    let directory = services.layout().image(image);
    let format = |source| StoreError::Format { image, source: Arc::new(source) };

    let manifest = loader.manifest(&directory)?;
    let manifest = Manifest::parse(&manifest).and_then(|manifest| DimsumManifest::new(&manifest)).map_err(format)?;
    // Asked for now and waited for behind the meta: over a network both take one round trip.
    let config = loader.start_config(&directory, manifest.config)?;
    let meta = loader.meta(&directory, &manifest);
    let config = loader.config(config, manifest.config)?;
    ImageConfig::parse(&config).map_err(format)?;
    let (core, maps) = meta?;
    let maps = Arc::new(maps);
    agree(image, &manifest, &maps)?;

    let mut feeds = vec![Feed::Meta(Arc::clone(&core))];
    for (index, (device, blob)) in maps.devices.iter().zip(&manifest.packs).enumerate() {
        let shared = services.device(&maps, index, device.id);
        let local = LocalFrames::of_pack((services.layout(), services.role()), *blob, device.id, &device.frames);
        feeds.push(Feed::Device(DeviceFeed { device: shared, blob: *blob, maps: Arc::clone(&maps), index, local }));
    }
    // Its meta may be new to it, and others may have come meanwhile.
    services.siblings().expect_more();
    let fetcher = loader.fetcher(feeds);
    let meta = Meta::new(core, Arc::clone(&fetcher));
    debug!(packs = manifest.packs.len(), "the image is open");
    Ok(Arc::new(Image::new(manifest, config, meta, ReadGate::new(maps, fetcher))))
}

/// Returns a manifest that is here and right.
pub(crate) fn find_manifest(services: &Services, digest: Digest) -> Option<Vec<u8>> {
    let path = services.layout().image(digest).join(MANIFEST_FILE);
    let own = layout::read_small(&path, MAX_MANIFEST_BYTES).ok().flatten();
    own.filter(|bytes| Digest::of(bytes) == digest).or_else(|| services.packs().read_manifest(digest).ok())
}

/// Writes a manifest where [`open`] looks for it, unless it is there.
pub(crate) fn keep_manifest(services: &Services, manifest: &[u8]) -> Digest {
    let digest = Digest::of(manifest);
    if find_manifest(services, digest).is_none() {
        let path = services.layout().image(digest).join(MANIFEST_FILE);
        if let Err(error) = layout::put_file(&path, manifest, true)
            && let Some(sink) = services.events()
        {
            sink.event(Event::new(EventKind::StoreWriteFailed).image(digest).path(path).reason(error.kind()));
        }
    }
    digest
}

/// A config on its way: what this disk has, or the answer to come.
type ComingConfig = (StoredDocument, Option<mpsc::Receiver<Result<Bytes, Vec<SourceFailure>>>>);

impl ImageLoader<'_> {
    /// Returns the manifest: the store's copy, or a source's, which is kept.
    fn manifest(&self, directory: &Path) -> Result<Vec<u8>, StoreError> {
        let (object, digest) = ("manifest", self.image);
        let stored = self.stored(object, directory.join(MANIFEST_FILE), digest, MAX_MANIFEST_BYTES);
        if let Some(bytes) = stored.bytes {
            return Ok(bytes);
        }
        let mut failures = Vec::new();
        match self.services.packs().read_manifest(digest) {
            Ok(bytes) => return Ok(self.keep(&stored, bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => failures.push(failure(self.services.packs().name(), error)),
        }
        let origins = self.origins.list();
        for place in origin::order(&origins) {
            let Some(origin) = origins.get(place) else { continue };
            add(&self.counters.source_requests, 1);
            let found = self.manifest_of(origin);
            add(&self.counters.bytes_fetched, found.as_ref().map_or(0, |bytes| bytes.len() as u64));
            match found {
                Ok(bytes) => return Ok(self.keep(&stored, bytes)),
                Err(failure) => {
                    origin.demote();
                    failures.push(failure);
                }
            }
        }
        add(&self.counters.source_failures, failures.len() as u64);
        Err(StoreError::Unavailable { object, digest, failures })
    }

    /// Asks an origin for the manifest: a network within the deadline, on a thread of its own that is left behind if it hangs.
    fn manifest_of(&self, origin: &OriginState) -> Result<Vec<u8>, SourceFailure> {
        let (image, name) = (self.image, origin.source.name());
        if !origin.is_remote() {
            return origin.source.read_manifest(image).map_err(|error| failure(name, error));
        }
        let (give, take) = mpsc::channel();
        let source = Arc::clone(&origin.source);
        let span = Span::current();
        let ask = move || drop(give.send(span.in_scope(|| source.read_manifest(image))));
        let thread = std::thread::Builder::new().name("dimsum-open".to_owned()).spawn(ask);
        let thread = thread.map_err(|source| failure(name, SourceError::io(name, source)))?;
        let found = match take.recv_timeout(self.services.deadline()) {
            Ok(found) => found.map_err(|error| failure(name, error)),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let reason = FailureReason::Deadline(self.services.deadline());
                return Err(SourceFailure { source_name: name.to_owned(), reason });
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(failure(name, SourceFault::Cancelled.at(name))),
        };
        // It has nothing left to do; one that panicked is told by its silence.
        drop(thread.join());
        found
    }

    /// Looks for the config on this disk and asks for it if it is not there.
    fn start_config(&self, directory: &Path, blob: Blob) -> Result<ComingConfig, StoreError> {
        if blob.size > MAX_CONFIG_BYTES {
            let source = FormatError::Limit { part: "config", value: blob.size, limit: MAX_CONFIG_BYTES };
            return Err(StoreError::Format { image: self.image, source: Arc::new(source) });
        }
        let stored = self.stored("config", directory.join(CONFIG_FILE), blob.digest, MAX_CONFIG_BYTES);
        if stored.bytes.is_some() {
            return Ok((stored, None));
        }
        let (give, take) = mpsc::channel();
        let asker = self.asker();
        let ask = async move { drop(give.send(index::fetch_small(&asker, "config", blob).await)) };
        self.services.spawn(ask.in_current_span());
        Ok((stored, Some(take)))
    }

    /// Waits for the config.
    fn config(&self, (stored, coming): ComingConfig, blob: Blob) -> Result<Vec<u8>, StoreError> {
        let Some(coming) = coming else { return Ok(stored.bytes.unwrap_or_default()) };
        let (object, digest) = ("config", blob.digest);
        // Silence is a source that panicked; the others were not asked then.
        match coming.recv().unwrap_or_else(|_| Err(Vec::new())) {
            Ok(bytes) => Ok(self.keep(&stored, bytes.into())),
            Err(failures) => {
                add(&self.counters.source_failures, failures.len() as u64);
                Err(StoreError::Unavailable { object, digest, failures })
            }
        }
    }

    /// Reads a small document of the store.
    fn stored(&self, object: &'static str, path: PathBuf, digest: Digest, limit: u64) -> StoredDocument {
        let found = layout::read_small(&path, limit);
        let is_there = !matches!(found, Ok(None));
        let bytes = found.ok().flatten().filter(|bytes| Digest::of(bytes) == digest);
        let (object, is_damaged) = (ReadObject::Document { object, digest }, is_there && bytes.is_none());
        if is_damaged {
            self.damaged(object);
        }
        StoredDocument { object, path, bytes, is_damaged }
    }

    /// Writes a document that was not there or wrong.
    fn keep(&self, stored: &StoredDocument, bytes: Vec<u8>) -> Vec<u8> {
        self.put(&stored.path, &bytes, stored.is_damaged.then_some(stored.object));
        bytes
    }

    /// Returns the meta and its maps; the first time with all its bytes put into the store.
    fn meta(&self, directory: &Path, manifest: &DimsumManifest) -> Result<(Arc<MetaFile>, OpenMaps), StoreError> {
        let path = directory.join(INDEX_FILE);
        let object = ReadObject::MetaIndex { root: manifest.root };
        let (root, blob) = (manifest.root, manifest.meta);
        let share = (self.services.role(), &self.services.budgets().cached_meta);
        let local = || LocalFrames::of_meta(self.services.layout(), blob);
        let stored = layout::read_small(&path, MAX_META_INDEX_BYTES);
        let damaged = !matches!(stored, Ok(None));
        if let Ok(Some(bytes)) = &stored
            && let Ok(index) = MetaIndex::parse(bytes, blob.size, root)
        {
            let core = Arc::new(MetaFile::new(directory, root, blob, local(), index, true, share));
            // The root proves the chaining values, but a false length of the last group shows only when that group is
            // read. So an index from disk that leads nowhere is damaged.
            if let Ok(maps) = self.maps(&core, None) {
                return Ok((core, maps));
            }
        }
        if damaged {
            self.damaged(object);
        }
        // What is here was looked at before: a queue at a source that hangs delays only those who ask it.
        let _turn = self.turn()?;
        let (asker, whole) = (self.asker(), self.services.whole_meta());
        let fetch = async move { index::fetch(&asker, blob, root, whole).await };
        let failed = |source| StoreError::Meta { image: self.image, source: Box::new(source) };
        let fetched = self.services.wait(fetch).ok_or_else(|| failed(ReadError::Closed))?;
        let fetched =
            fetched.map_err(|failures| failed(ReadError::Unavailable { object, failures: failures.into() }))?;
        let core = Arc::new(MetaFile::new(directory, root, blob, local(), fetched.index, false, share));
        let maps = self.maps(&core, fetched.whole.as_ref())?;
        self.put(&path, &fetched.bytes, damaged.then_some(object));
        Ok((core, maps))
    }

    /// Waits until the meta may be fetched.
    fn turn(&self) -> Result<OpeningPermit, StoreError> {
        let (room, after) = (&self.services.budgets().openings, self.services.deadline());
        let turn = room.enter(self.origins.place(), after);
        turn.ok_or_else(|| StoreError::Openings { image: self.image, limit: room.limit(), after })
    }

    /// Reads the maps at the end of the meta. `whole` is the compressed meta, if it is here.
    fn maps(&self, core: &Arc<MetaFile>, whole: Option<&Bytes>) -> Result<OpenMaps, StoreError> {
        let format = |source| StoreError::Format { image: self.image, source: Arc::new(source) };
        let failed = |source| StoreError::Meta { image: self.image, source: Box::new(source) };
        let meta = Meta::new(Arc::clone(core), self.fetcher(vec![Feed::Meta(Arc::clone(core))]));
        let length = meta.length();
        match core.length_on_disk() {
            Some(on_disk) if on_disk >= length => {}
            Some(_) if self.services.role().is_owner() => {
                let object = ReadObject::MetaFrame { root: core.root(), frame: 0 };
                self.damaged(object);
                meta.fetch_all().map_err(failed)?;
                if core.length_on_disk() >= Some(length) {
                    self.repaired(object);
                }
            }
            // A guest does not write into it: its own takes the place of one that is cut off.
            _ => {
                let begun = core.begin();
                // Frames that are wrong in a blob with the right digest are wrong everywhere: fetching them again says so.
                if !whole.is_some_and(|whole| meta.take_whole(whole)) {
                    meta.fetch_all().map_err(failed)?;
                }
                if let Err((path, error)) = begun.and_then(|temporary| core.complete(temporary)) {
                    self.write_failed(&path, &error);
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
        let room = self.services.budgets().maps.charge(size as u64);
        let charge = room.map_err(|free| StoreError::Maps { image: self.image, length: size as u64, free })?;
        let mut maps = vec![0; size];
        meta.read_blocking(range.start, &mut maps).map_err(failed)?;
        // Repairs on the way are written before anybody looks at the files.
        meta.wait_idle();
        MetaMaps::parse(&footer, &maps).map(|maps| OpenMaps::new(maps, charge)).map_err(format)
    }

    fn fetcher(&self, feeds: Vec<Feed>) -> Arc<Fetcher> {
        Fetcher::new((self.services, &self.writer), self.image, &self.origins, feeds, &self.counters)
    }

    fn asker(&self) -> OpeningAsker {
        OpeningAsker::new(self.services, &self.origins.list(), &self.counters)
    }

    /// Writes what was proven; failing to costs the next opening a fetch.
    fn put(&self, path: &Path, bytes: &[u8], repaired: Option<ReadObject>) {
        match layout::put_file(path, bytes, true) {
            Ok(()) => repaired.into_iter().for_each(|object| self.repaired(object)),
            Err(error) => {
                self.write_failed(path, &error);
            }
        }
    }

    fn event(&self, kind: EventKind) -> Event {
        Event::new(kind).image(self.image)
    }

    fn write_failed(&self, path: &Path, error: &std::io::Error) {
        let event = self.event(EventKind::StoreWriteFailed).path(path).reason(error.kind());
        self.tell(&self.counters.write_errors, event);
    }

    fn damaged(&self, object: ReadObject) {
        self.tell(&self.counters.damage, self.event(EventKind::ChunkDamaged).object(object));
    }

    fn repaired(&self, object: ReadObject) {
        self.tell(&self.counters.repairs, self.event(EventKind::ChunkRepaired).object(object));
    }

    fn tell(&self, counter: &AtomicU64, event: Event) {
        add(counter, 1);
        if let Some(sink) = self.services.events() {
            sink.event(event);
        }
    }
}

fn failure(source_name: &str, error: SourceError) -> SourceFailure {
    SourceFailure { source_name: source_name.to_owned(), reason: FailureReason::Source(Arc::new(error)) }
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
