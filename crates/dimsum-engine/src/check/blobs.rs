//! Every blob of an image where it lies: digest, length, form, and with `data` every chunk.

use std::io::{self, BufReader, Read};

use dimsum_format::codec::Decompressor;
use dimsum_format::index::{IndexTail, MetaIndex, TAIL_BYTES};
use dimsum_format::limits::{MAX_CONFIG_BYTES, MAX_META_BYTES};
use dimsum_format::manifest::{Blob, DimsumManifest, ImageConfig};
use dimsum_format::meta::{MappedDevice, MetaFooter, MetaMaps};
use dimsum_format::pack::{FOOTER_BYTES, META_FOOTER_BYTES, PackFooter, SKIPPABLE_HEADER};
use dimsum_format::{Blake3, Digest, FormatError};
use dimsum_layout::OCI_LAYOUT;
use dimsum_source::{ImageName, Reference, SourceError};
use dimsum_tree::{Compression, LayerDecoder};
use sha2::{Digest as _, Sha256};

use super::finding::Findings;
use crate::image::Resolved;

/// What is read of a file at a time.
const BUFFER: usize = 1 << 20;

/// An image of which enough is right to look into it.
#[derive(Debug)]
pub(super) struct Checked {
    /// What the manifest says.
    pub(super) manifest: DimsumManifest,
    /// The whole meta, proven from the root.
    pub(super) meta: Vec<u8>,
    /// Its maps.
    pub(super) maps: MetaMaps,
}

impl Checked {
    /// Returns the EROFS image.
    #[must_use]
    pub(super) fn erofs(&self) -> &[u8] {
        let length = usize::try_from(u64::from(self.maps.erofs_blocks) * dimsum_format::BLOCK_U64).unwrap_or(0);
        self.meta.get(..length).unwrap_or_default()
    }
}

/// A check under way.
#[derive(Debug)]
pub(super) struct BlobCheck<'a> {
    resolved: &'a Resolved,
    data: bool,
    findings: &'a mut Findings,
    /// Bytes read.
    pub(super) bytes: u64,
    /// Chunks decoded and proven.
    pub(super) chunks: u64,
}

impl<'a> BlobCheck<'a> {
    /// Starts a check of an image whose manifest has its digest already.
    #[must_use]
    pub(super) fn new(resolved: &'a Resolved, data: bool, findings: &'a mut Findings) -> Self {
        Self { resolved, data, findings, bytes: 0, chunks: 0 }
    }

    fn object(&self, digest: Digest) -> String {
        blob_name(&self.resolved.reference, digest)
    }

    /// Checks everything that is there; `progress` is told the bytes read.
    pub(super) fn run(&mut self, mut progress: impl FnMut(u64)) -> Option<Checked> {
        let manifest = match DimsumManifest::new(&self.resolved.manifest) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.findings.add(self.object(self.resolved.digest), None, error);
                return None;
            }
        };
        let diff_ids = self.config(&manifest);
        let meta = self.meta(&manifest, diff_ids.last().copied());
        progress(self.bytes);
        let maps = meta.as_deref().and_then(|meta| self.maps(&manifest, meta));
        for (index, pack) in manifest.packs.iter().enumerate() {
            let device = maps.as_ref().and_then(|maps| maps.devices.get(index));
            let diff_id = diff_ids.get(index).copied();
            if let Err(error) = self.pack(*pack, device, diff_id, &mut progress) {
                self.findings.add(self.object(pack.digest), None, error);
            }
        }
        Some(Checked { manifest, meta: meta?, maps: maps? })
    }

    /// Checks the config and returns its diff_ids, none if it has not as many as there are layers.
    fn config(&mut self, manifest: &DimsumManifest) -> Vec<Digest> {
        let path = self.object(manifest.config.digest);
        let bytes = match self.resolved.place.read_small("config", manifest.config.digest, MAX_CONFIG_BYTES) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.findings.add(path, None, error);
                return Vec::new();
            }
        };
        self.bytes += bytes.len() as u64;
        if bytes.len() as u64 != manifest.config.size {
            let what = format!("{} bytes, the manifest says {}", bytes.len(), manifest.config.size);
            self.findings.add(path.clone(), None, what);
        }
        match ImageConfig::parse(&bytes).and_then(|config| config.diff_ids()) {
            Ok(ids) if ids.len() == self.resolved.manifest.layers.len() => ids,
            Ok(ids) => {
                let layers = self.resolved.manifest.layers.len();
                self.findings.add(path, None, format!("{} diff_ids for {layers} layers", ids.len()));
                Vec::new()
            }
            Err(error) => {
                self.findings.add(path, None, error);
                Vec::new()
            }
        }
    }

    /// Checks the meta blob and returns what it holds, if that is proven.
    fn meta(&mut self, manifest: &DimsumManifest, diff_id: Option<Digest>) -> Option<Vec<u8>> {
        let object = self.object(manifest.meta.digest);
        let blob = match self.read_whole(manifest.meta) {
            Ok(blob) => blob,
            Err(error) => {
                self.findings.add(object, None, error);
                return None;
            }
        };
        self.bytes += blob.len() as u64;
        self.same_digest(&object, "the blob", Digest::of(&blob), Some(manifest.meta.digest));
        let index = match parse_index(&blob, manifest) {
            Ok(index) => index,
            Err(error) => {
                self.findings.add(object, Some(blob.len() as u64), format!("index at the end: {error}"));
                return None;
            }
        };
        let meta = self.meta_frames(&object, &blob, &index)?;
        let (is, must) = (Blake3::of(&meta), Blake3::from(manifest.root));
        if is != must {
            self.findings.add(object, None, format!("the meta's digest is {is}, the root is {must}"));
            return None;
        }
        self.same_digest(&object, "the uncompressed meta", Digest::of(&meta), diff_id);
        Some(meta)
    }

    /// Decodes all frames of the meta; none if one of them is wrong.
    fn meta_frames(&mut self, object: &str, blob: &[u8], index: &MetaIndex) -> Option<Vec<u8>> {
        let mut decompressor = Decompressor::default();
        let mut meta = Vec::new();
        let mut whole = true;
        for number in 0..u32::try_from(index.frames.frames()).unwrap_or(u32::MAX) {
            let Some(frame) = index.frames.frame(number) else { break };
            let content = index.frame_content(number);
            let length = usize::try_from(content.end - content.start).unwrap_or(0);
            let bytes = slice(blob, frame.clone());
            match decompressor.decompress(bytes, length) {
                Ok(bytes) => {
                    let first = content.start / dimsum_format::group::GROUP_U64;
                    let groups = (first..).zip(bytes.chunks(dimsum_format::group::GROUP));
                    for (group, bytes) in groups.filter(|(group, bytes)| !index.groups.verify(*group, bytes)) {
                        whole = false;
                        let what = format!("group {group} of the meta ({} bytes) has another hash", bytes.len());
                        self.findings.add(object, Some(frame.start), what);
                    }
                    meta.extend_from_slice(&bytes);
                }
                Err(error) => {
                    whole = false;
                    self.findings.add(object, Some(frame.start), format!("frame {number} of the meta: {error}"));
                }
            }
        }
        whole.then_some(meta)
    }

    /// Checks what is in the meta and returns its maps.
    fn maps(&mut self, manifest: &DimsumManifest, meta: &[u8]) -> Option<MetaMaps> {
        let object = self.object(manifest.meta.digest);
        let maps = match parse_maps(meta) {
            Ok(maps) => maps,
            Err(error) => {
                self.findings.add(object, None, error);
                return None;
            }
        };
        if maps.devices.len() != manifest.packs.len() {
            let what = format!("{} devices for {} packs", maps.devices.len(), manifest.packs.len());
            self.findings.add(object, None, what);
            return None;
        }
        Some(maps)
    }

    /// Reads a pack once from its start to its end.
    fn pack(
        &mut self,
        pack: Blob,
        device: Option<&MappedDevice>,
        diff_id: Option<Digest>,
        progress: &mut impl FnMut(u64),
    ) -> io::Result<()> {
        let object = self.object(pack.digest);
        // One byte more shows a blob that is too long.
        let blob = self.open(pack.digest, 0)?.take(pack.size.saturating_add(1));
        let mut reader = HashingBlob { inner: BufReader::with_capacity(BUFFER, blob), hasher: Sha256::new(), bytes: 0 };
        if let Some(device) = device.filter(|_| self.data) {
            self.frames(&object, &mut reader, device, diff_id, progress)?;
        }
        let tail = read_to_tail(&mut reader)?;
        let length = reader.bytes;
        self.bytes += length;
        progress(self.bytes);
        if length != pack.size {
            let than = if length > pack.size { "more than" } else { "less than" };
            self.findings.add(&*object, None, format!("{than} the {} bytes that the manifest says", pack.size));
        }
        let is = Digest::new(reader.hasher.finalize().into());
        self.same_digest(&object, "the blob", is, Some(pack.digest));
        match PackFooter::parse(&tail, length) {
            Ok(footer) => {
                let frames = device.map(|device| device.frames.length());
                if frames.is_some_and(|frames| frames != footer.layer_meta_offset) {
                    let what = format!("frames end at {}, the meta says {frames:?}", footer.layer_meta_offset);
                    self.findings.add(&*object, Some(length), what);
                }
                if self.data {
                    self.layer_meta(&object, pack.digest, &footer)?;
                }
            }
            Err(error) => self.findings.add(object, Some(length.saturating_sub(FOOTER_BYTES as u64)), error),
        }
        Ok(())
    }

    /// Decodes and proves every chunk of a pack, and the device as a whole.
    fn frames(
        &mut self,
        object: &str,
        reader: &mut impl Read,
        device: &MappedDevice,
        diff_id: Option<Digest>,
        progress: &mut impl FnMut(u64),
    ) -> io::Result<()> {
        let mut decompressor = Decompressor::default();
        let mut whole = Some(Sha256::new());
        let (mut frame, mut seen) = (Vec::new(), 0);
        for chunk in 0..u32::try_from(device.map.chunks()).unwrap_or(u32::MAX) {
            let (Some(at), Some(bytes), Some(must)) =
                (device.frames.frame(chunk), device.map.chunk_bytes(chunk), device.map.digest(chunk))
            else {
                break;
            };
            frame.resize(usize::try_from(at.end - at.start).unwrap_or(0), 0);
            reader.read_exact(&mut frame)?;
            seen += frame.len() as u64;
            progress(self.bytes + seen);
            let length = usize::try_from(bytes.end - bytes.start).unwrap_or(0);
            let wrong = match decompressor.decompress(&frame, length) {
                Ok(decoded) if Blake3::of(&decoded) == must => {
                    self.chunks += 1;
                    if let Some(hasher) = &mut whole {
                        hasher.update(&decoded);
                    }
                    continue;
                }
                Ok(decoded) => format!("digest is {}, must be {must}", Blake3::of(&decoded)),
                Err(error) => error.to_string(),
            };
            whole = None;
            self.findings.add(object, Some(at.start), format!("chunk {chunk} of device {}: {wrong}", device.id));
        }
        if let Some(hasher) = whole {
            self.same_digest(object, "the device", Digest::new(hasher.finalize().into()), diff_id);
        }
        Ok(())
    }

    /// Proves the layer meta of a pack, which converters read.
    fn layer_meta(&mut self, object: &str, pack: Digest, footer: &PackFooter) -> io::Result<()> {
        let start = footer.layer_meta_offset.saturating_add(SKIPPABLE_HEADER as u64);
        let compressed = self.open(pack, start)?.take(u64::from(footer.layer_meta_compressed));
        let limit = footer.layer_meta_length;
        let mut decoder = LayerDecoder::with_limit(compressed, Some(Compression::Zstd), limit)?;
        let mut hasher = blake3::Hasher::new();
        let (is, must) = match io::copy(&mut decoder, &mut hasher) {
            Ok(_) => (Blake3::new(*hasher.finalize().as_bytes()), footer.layer_meta_digest),
            Err(error) => {
                self.findings.add(object, Some(start), format!("layer meta: {error}"));
                return Ok(());
            }
        };
        if is != must {
            self.findings.add(object, Some(start), format!("layer meta: digest is {is}, must be {must}"));
        }
        Ok(())
    }

    fn open(&self, blob: Digest, start: u64) -> io::Result<Box<dyn Read + Send>> {
        self.resolved.place.open_at(blob, start).map_err(|error: SourceError| io::Error::other(error))
    }

    /// Reads a blob that must have its size. One that is longer than a meta can be is not read.
    fn read_whole(&self, blob: Blob) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = blob.size.min(MAX_META_BYTES).saturating_add(1);
        let length = self.open(blob.digest, 0)?.take(limit).read_to_end(&mut bytes)?;
        if length as u64 != blob.size {
            let what = format!("{length} bytes, the manifest says {}", blob.size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(bytes)
    }

    fn same_digest(&mut self, object: &str, part: &str, is: Digest, must: Option<Digest>) {
        if let Some(must) = must.filter(|must| *must != is) {
            self.findings.add(object, None, format!("{part}: digest is {is}, must be {must}"));
        }
    }
}

fn parse_index(blob: &[u8], manifest: &DimsumManifest) -> Result<MetaIndex, FormatError> {
    let length = blob.len() as u64;
    let cut = |need: u64| FormatError::Truncated { part: "meta index", need, have: length };
    let from_end = |bytes: u64| {
        let start = length.checked_sub(bytes).and_then(|start| usize::try_from(start).ok());
        start.and_then(|start| blob.get(start..)).ok_or_else(|| cut(bytes))
    };
    let tail = IndexTail::parse(from_end(TAIL_BYTES as u64)?)?;
    MetaIndex::parse(from_end(tail.index_bytes())?, length, manifest.root)
}

fn parse_maps(meta: &[u8]) -> Result<MetaMaps, FormatError> {
    let length = meta.len() as u64;
    let start = meta.len().saturating_sub(META_FOOTER_BYTES);
    let footer = MetaFooter::parse(meta.get(start..).unwrap_or_default(), length)?;
    MetaMaps::parse(&footer, slice(meta, footer.maps_range()))
}

fn slice(bytes: &[u8], range: std::ops::Range<u64>) -> &[u8] {
    let start = usize::try_from(range.start).unwrap_or(usize::MAX);
    let end = usize::try_from(range.end).unwrap_or(usize::MAX);
    bytes.get(start..end).unwrap_or_default()
}

/// Returns the name of a blob in messages: its file, where it is one.
#[must_use]
pub(super) fn blob_name(reference: &Reference, digest: Digest) -> String {
    match reference.path() {
        Some(dir) if reference.scheme() == OCI_LAYOUT.name => {
            dir.join("blobs/sha256").join(digest.hex()).display().to_string()
        }
        None if reference.repository().is_some() => reference.with_name(Some(ImageName::Digest(digest))).to_string(),
        _ => format!("{reference}: blob {digest}"),
    }
}

/// Reads to the end and returns the last bytes, as many as a pack's footer has.
fn read_to_tail(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; BUFFER];
    let mut tail = Vec::new();
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(tail);
        }
        tail.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let surplus = tail.len().saturating_sub(FOOTER_BYTES);
        tail.drain(..surplus);
    }
}

/// Hashes what is read.
struct HashingBlob<R> {
    inner: R,
    hasher: Sha256,
    bytes: u64,
}

impl<R: Read> Read for HashingBlob<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }
}
