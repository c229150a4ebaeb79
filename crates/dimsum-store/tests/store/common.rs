//! Small images made with `dimsum-format` alone, and a source that does what a test tells it.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use dimsum_format::codec::Compressor;
use dimsum_format::index::MetaIndex;
use dimsum_format::manifest::{Descriptor, Manifest};
use dimsum_format::map::{DeviceMap, FrameMap};
use dimsum_format::meta::MetaMaps;
use dimsum_format::pack::META_FRAME;
use dimsum_format::{BLOCK, Blake3, Digest, MetaRoot, group, media};
use dimsum_source::{BoxFuture, Source, SourceError, SourceFault};
use dimsum_store::{Extent, Image, Joining, ReadError, Store, StoreOptions, StoreRole};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// Bits of the bytes of images: half of them, so that they compress to about half.
const COMPRESSIBLE: u64 = 0x0F0F_0F0F_0F0F_0F0F;

/// A generator that is the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Bytes of which no two blocks are alike.
    pub(crate) fn bytes(&mut self, length: usize, mask: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&(self.next() & mask).to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// An image and all its blobs.
#[derive(Clone)]
pub(crate) struct TestImage {
    pub(crate) manifest: Digest,
    pub(crate) config: Digest,
    pub(crate) meta: Digest,
    pub(crate) packs: Vec<Digest>,
    pub(crate) blobs: HashMap<Digest, Bytes>,
    /// What every read must give.
    pub(crate) flat: Vec<u8>,
    pub(crate) maps: Vec<(DeviceMap, FrameMap)>,
    pub(crate) meta_length: u64,
}

impl TestImage {
    /// An image whose devices have chunks of the given numbers of blocks.
    pub(crate) fn new(seed: u64, erofs_blocks: u32, devices: &[&[u32]]) -> Self {
        Self::with_bits(COMPRESSIBLE, seed, erofs_blocks, devices)
    }

    /// The same with bytes that do not compress: frames of equal chunks have equal lengths, whatever is in them.
    pub(crate) fn incompressible(seed: u64, erofs_blocks: u32, devices: &[&[u32]]) -> Self {
        Self::with_bits(u64::MAX, seed, erofs_blocks, devices)
    }

    fn with_bits(mask: u64, seed: u64, erofs_blocks: u32, devices: &[&[u32]]) -> Self {
        let mut random = Random(seed);
        let mut chunk = |blocks: &u32| random.bytes(*blocks as usize * BLOCK, mask);
        let devices = devices.iter().map(|chunks| chunks.iter().map(&mut chunk).collect()).collect();
        Self::of_bytes(random, erofs_blocks, FAST, devices)
    }

    /// An image whose devices have these chunks: the number of a content, and a number of blocks. What has equal numbers is equal in
    /// all images; packs are compressed at `level`.
    pub(crate) fn of_chunks(seed: u64, level: i32, devices: &[&[(u64, u32)]]) -> Self {
        let chunk = |(content, blocks): &(u64, u32)| Random(*content).bytes(*blocks as usize * BLOCK, COMPRESSIBLE);
        let devices = devices.iter().map(|chunks| chunks.iter().map(chunk).collect()).collect();
        Self::of_bytes(Random(seed), 3, level, devices)
    }

    fn of_bytes(mut random: Random, erofs_blocks: u32, level: i32, devices: Vec<Vec<Vec<u8>>>) -> Self {
        let mut blobs = HashMap::new();
        let (mut maps, mut packs, mut data) = (Vec::new(), Vec::new(), Vec::new());
        for chunks in devices {
            let (mut map, mut frames, mut pack) = (DeviceMap::default(), FrameMap::default(), Vec::new());
            for bytes in chunks {
                map.push((bytes.len() / BLOCK) as u32, Blake3::of(&bytes)).unwrap();
                frames.push(compress(level, &bytes, &mut pack)).unwrap();
                data.extend_from_slice(&bytes);
            }
            // What stands behind the frames does not matter to a reader.
            pack.extend_from_slice(b"layer meta and footer");
            packs.push(put(&mut blobs, pack));
            maps.push((map, frames));
        }
        Self::assemble(&mut random, erofs_blocks, blobs, packs, maps, data)
    }

    /// An image of given packs and maps; `data` is what its devices hold.
    pub(crate) fn assemble(
        random: &mut Random,
        erofs_blocks: u32,
        mut blobs: HashMap<Digest, Bytes>,
        packs: Vec<Digest>,
        maps: Vec<(DeviceMap, FrameMap)>,
        data: Vec<u8>,
    ) -> Self {
        let mut meta = random.bytes(erofs_blocks as usize * BLOCK, COMPRESSIBLE);
        meta.extend_from_slice(&MetaMaps::tail_bytes(erofs_blocks, &maps));
        let root = MetaRoot::new(*Blake3::of(&meta).as_bytes());
        let mut blob = Vec::new();
        let mut frames = FrameMap::default();
        for part in meta.chunks(META_FRAME) {
            frames.push(compress(FAST, part, &mut blob)).unwrap();
        }
        let values = group::chaining_values(&meta);
        blob.extend_from_slice(&MetaIndex::to_bytes(&frames, &values, meta.len() as u64).unwrap());
        let meta_digest = put(&mut blobs, blob);
        let config = put(&mut blobs, format!("{{\"seed\":{}}}", random.next()).into_bytes());

        let describe = |media_type: &str, digest: Digest, layer: bool| {
            let annotations = [
                (media::ANNOTATION_META.to_owned(), meta_digest.to_string()),
                (media::ANNOTATION_ROOT.to_owned(), root.to_string()),
            ];
            Descriptor {
                media_type: media_type.to_owned(),
                digest,
                size: blobs[&digest].len() as u64,
                platform: None,
                artifact_type: None,
                annotations: if layer { annotations.into() } else { [].into() },
            }
        };
        let mut layers: Vec<_> = packs.iter().map(|pack| describe(media::PACK, *pack, true)).collect();
        layers.push(describe(media::META, meta_digest, true));
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.to_owned()),
            artifact_type: None,
            subject: None,
            config: describe(media::CONFIG, config, false),
            layers,
            annotations: [(media::ANNOTATION_FORMAT.to_owned(), "1".to_owned())].into(),
        };
        let manifest = put(&mut blobs, manifest.to_bytes());
        let meta_length = meta.len() as u64;
        let mut flat = meta;
        flat.extend_from_slice(&data);
        Self { manifest, config, meta: meta_digest, packs, blobs, flat, maps, meta_length }
    }

    pub(crate) fn source(&self, name: &str) -> Arc<TestSource> {
        self.source_that_is(name, false)
    }

    /// A source like a registry: remote, with manifests kept apart from blobs.
    pub(crate) fn remote(&self, name: &str) -> Arc<TestSource> {
        self.source_that_is(name, true)
    }

    fn source_that_is(&self, name: &str, is_remote: bool) -> Arc<TestSource> {
        Arc::new(TestSource {
            name: name.to_owned(),
            is_remote,
            manifest: self.manifest,
            blobs: Mutex::new(self.blobs.clone()),
            log: Mutex::default(),
            hook: Mutex::default(),
        })
    }

    /// Bytes of a frame in its pack.
    pub(crate) fn frame(&self, device: usize, chunk: u32) -> Range<u64> {
        self.maps[device].1.frame(chunk).unwrap()
    }

    pub(crate) fn pack_bytes(&self) -> u64 {
        self.packs.iter().map(|pack| self.blobs[pack].len() as u64).sum()
    }

    /// Byte range of a chunk of a device in the flat image.
    pub(crate) fn chunk(&self, device: usize, chunk: u32) -> Range<u64> {
        let before: u64 = self.maps[..device].iter().map(|(map, _)| u64::from(map.blocks())).sum();
        let start = self.meta_length + before * BLOCK as u64;
        let range = self.maps[device].0.chunk_bytes(chunk).unwrap();
        start + range.start..start + range.end
    }

    pub(crate) fn expect(&self, range: &Range<u64>) -> &[u8] {
        &self.flat[range.start as usize..range.end as usize]
    }

    /// Reads the whole flat image, MiB by MiB: each read gives the right bytes or an error. Returns the errors.
    pub(crate) fn read_all(&self, image: &Image) -> Vec<ReadError> {
        let mut errors = Vec::new();
        let length = self.flat.len() as u64;
        for start in (0..length).step_by(1 << 20) {
            let range = start..length.min(start + (1 << 20));
            match read(image, &range) {
                Ok(bytes) => assert!(bytes == self.expect(&range), "wrong bytes in {range:?}"),
                Err(error) => errors.push(error),
            }
        }
        image.wait_idle();
        errors
    }
}

/// The level of most packs here.
const FAST: i32 = 1;

fn compress(level: i32, bytes: &[u8], blob: &mut Vec<u8>) -> u32 {
    Compressor::new(level).unwrap().compress(bytes, blob).unwrap() as u32
}

pub(crate) fn put(blobs: &mut HashMap<Digest, Bytes>, blob: Vec<u8>) -> Digest {
    let digest = Digest::of(&blob);
    blobs.insert(digest, blob.into());
    digest
}

pub(crate) fn read(image: &Image, range: &Range<u64>) -> Result<Vec<u8>, ReadError> {
    image.read_blocking(&[Extent::Flat { range: range.clone() }]).map(|buf| buf.to_vec())
}

/// Waits for background work of a handle that was closed just now; one that is still open is not waited for long.
fn settle(directory: &Path) {
    let Ok(lock) = std::fs::File::open(directory.join("writer.lock")) else { return };
    let begun = std::time::Instant::now();
    let take = || rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    while take().is_err() && begun.elapsed().as_millis() < 500 {
        std::thread::yield_now();
    }
}

pub(crate) fn open(directory: &Path) -> Store {
    settle(directory);
    Store::open(directory, StoreOptions::default()).unwrap()
}

/// Opens an image in a store whose files no other handle writes any more; waits for background work of the last one to end.
pub(crate) fn open_alone(directory: &Path) -> Store {
    let (store, begun) = (open(directory), std::time::Instant::now());
    while store.role() != StoreRole::Owner {
        assert!(begun.elapsed().as_secs() < 60, "another handle is open");
        std::thread::yield_now();
    }
    store
}

/// Opens a store that joins frames with at most `gap` bytes between them, whatever it measured of a source in memory.
pub(crate) fn open_joining(directory: &Path, gap: u64) -> Store {
    settle(directory);
    let options = StoreOptions { joining: Joining::Within(gap), ..StoreOptions::default() };
    Store::open(directory, options).unwrap()
}

/// What a source does with a request.
pub(crate) enum Reply {
    Bytes(Bytes),
    Refuse,
    /// Says that it is out of reach.
    Away,
    /// Gives pieces of that many bytes, one for each permit.
    Pieces(Arc<Semaphore>, usize, Bytes),
    /// Never answers.
    Hang,
    /// Answers once a permit is there.
    After(Arc<Semaphore>, Bytes),
}

type Hook = Box<dyn FnMut(Digest, &Range<u64>, Bytes) -> Reply + Send>;

/// A source in memory.
pub(crate) struct TestSource {
    name: String,
    is_remote: bool,
    manifest: Digest,
    pub(crate) blobs: Mutex<HashMap<Digest, Bytes>>,
    log: Mutex<Vec<(Digest, Range<u64>)>>,
    hook: Mutex<Option<Hook>>,
}

impl fmt::Debug for TestSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl TestSource {
    pub(crate) fn hook(&self, hook: impl FnMut(Digest, &Range<u64>, Bytes) -> Reply + Send + 'static) {
        *self.hook.lock() = Some(Box::new(hook));
    }

    pub(crate) fn behave(&self) {
        *self.hook.lock() = None;
    }

    /// Ranges asked for of a blob.
    pub(crate) fn asked(&self, blob: Digest) -> Vec<Range<u64>> {
        self.log.lock().iter().filter(|(digest, _)| *digest == blob).map(|(_, range)| range.clone()).collect()
    }

    pub(crate) fn clear_log(&self) {
        self.log.lock().clear();
    }

    /// Requests for all blobs.
    pub(crate) fn requests(&self) -> usize {
        self.log.lock().len()
    }

    /// What the hook says, and the error that a refusal is.
    fn answer(&self, blob: Digest, range: Range<u64>) -> Result<(Reply, SourceError), SourceError> {
        self.log.lock().push((blob, range.clone()));
        let whole = self.blobs.lock().get(&blob).cloned().ok_or_else(|| self.not_found(blob))?;
        let refused = SourceFault::Range { digest: blob, range: range.clone() }.at(&self.name);
        if range.end > whole.len() as u64 {
            return Err(refused);
        }
        let bytes = whole.slice(range.start as usize..range.end as usize);
        let reply = match &mut *self.hook.lock() {
            Some(hook) => hook(blob, &range, bytes),
            None => Reply::Bytes(bytes),
        };
        Ok((reply, refused))
    }

    fn not_found(&self, digest: Digest) -> SourceError {
        SourceFault::NotFound { object: "blob", digest }.at(&self.name)
    }
}

impl Source for TestSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn read_range(&self, blob: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, SourceError>> {
        Box::pin(async move {
            let mut whole = Vec::new();
            let mut pieces = self.stream_range(blob, range);
            while let Some(piece) = pieces.next().await {
                whole.extend_from_slice(&piece?);
            }
            Ok(whole.into())
        })
    }

    fn stream_range(&self, blob: Digest, range: Range<u64>) -> BoxStream<'_, Result<Bytes, SourceError>> {
        let pieces = async move {
            let (permits, size, bytes) = match self.answer(blob, range)? {
                (Reply::Bytes(bytes), _) => (None, usize::MAX, bytes),
                (Reply::After(permits, bytes), _) => (Some(permits), usize::MAX, bytes),
                (Reply::Pieces(permits, size, bytes), _) => (Some(permits), size, bytes),
                (Reply::Refuse, refused) => return Err(refused),
                (Reply::Away, _) => {
                    let source = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
                    return Err(SourceError::io(&self.name, source));
                }
                (Reply::Hang, _) => std::future::pending().await,
            };
            let next = move |(permits, mut bytes): (Option<Arc<Semaphore>>, Bytes)| async move {
                if bytes.is_empty() {
                    return None;
                }
                if let Some(permits) = &permits {
                    permits.acquire().await.unwrap().forget();
                }
                let piece = bytes.split_to(size.min(bytes.len()));
                Some((Ok(piece), (permits, bytes)))
            };
            Ok(stream::unfold((permits, bytes), next))
        };
        stream::once(pieces).try_flatten().boxed()
    }

    fn is_remote(&self) -> bool {
        self.is_remote
    }

    fn read_manifest(&self, digest: Digest) -> Result<Vec<u8>, SourceError> {
        let bytes = self.blobs.lock().get(&digest).cloned().ok_or_else(|| self.not_found(digest))?;
        self.log.lock().push((digest, 0..bytes.len() as u64));
        Ok(bytes.into())
    }

    fn open(&self, blob: Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        if self.is_remote && blob == self.manifest {
            return Err(self.not_found(blob));
        }
        let bytes = self.blobs.lock().get(&blob).cloned().ok_or_else(|| self.not_found(blob))?;
        Ok(Box::new(std::io::Cursor::new(bytes)))
    }

    fn size(&self, blob: Digest) -> Result<Option<u64>, SourceError> {
        Ok(self.blobs.lock().get(&blob).map(|bytes| bytes.len() as u64))
    }
}

/// Takes away what was decoded of devices, so that the next store has their frames only.
pub(crate) fn forget_devices(store: &Path) {
    drop(std::fs::remove_dir_all(store.join("devices")));
}

/// Every regular file of a directory tree, in order.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// The store's files of one name (`data`, `meta`, …), or all packs for `packs`.
pub(crate) fn files_named(store: &Path, name: &str) -> Vec<PathBuf> {
    let is = |path: &PathBuf| {
        if name == "packs" { path.starts_with(store.join("packs")) } else { path.file_name().unwrap() == name }
    };
    files(store).into_iter().filter(is).collect()
}
