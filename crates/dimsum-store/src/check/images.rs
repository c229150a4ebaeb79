//! Checking `images/`, which also tells what the devices must be.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use dimsum_format::Digest;
use dimsum_format::group::Groups;
use dimsum_format::index::MetaIndex;
use dimsum_format::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, MAX_META_INDEX_BYTES};
use dimsum_format::manifest::{DimsumManifest, ImageConfig, Manifest};
use dimsum_format::meta::{MetaFooter, MetaMaps};
use dimsum_format::pack::META_FOOTER_BYTES;

use super::walk::{Named, is_digest, named, only};
use super::{Cause, Checker, Object};
use crate::disk::frames::map_name;
use crate::disk::layout::{self, IMAGES};
use crate::disk::layout::{CONFIG_FILE, MANIFEST_FILE};
use crate::disk::meta_file::{INDEX_FILE, META_FILE};
use crate::limits::MAX_MAPS_BYTES;

impl Checker<'_> {
    pub(super) fn images(&mut self) {
        for Named { path, name } in named(&self.services.layout().directory(IMAGES), is_digest, self) {
            if let Ok(digest) = Digest::from_hex(&name) {
                only(&path, &[MANIFEST_FILE, CONFIG_FILE, INDEX_FILE, META_FILE], self);
                self.image(&path, digest);
            }
        }
    }

    fn image(&mut self, directory: &Path, digest: Digest) {
        let path = directory.join(MANIFEST_FILE);
        let Some(bytes) = self.document(Object::Manifest, &path, digest, MAX_MANIFEST_BYTES) else { return };
        let manifest = match Manifest::parse(&bytes).and_then(|manifest| DimsumManifest::new(&manifest)) {
            Ok(manifest) => manifest,
            Err(error) => return self.damage(Object::Manifest, &path, 0, Cause::Format { error: Arc::new(error) }),
        };
        let path = directory.join(CONFIG_FILE);
        if let Some(bytes) = self.document(Object::Config, &path, manifest.config.digest, MAX_CONFIG_BYTES)
            && let Err(error) = ImageConfig::parse(&bytes)
        {
            self.damage(Object::Config, &path, 0, Cause::Format { error: Arc::new(error) });
        }
        self.meta(directory, &manifest);
    }

    fn meta(&mut self, directory: &Path, manifest: &DimsumManifest) {
        let path = directory.join(INDEX_FILE);
        self.file();
        let index = match layout::read_small(&path, MAX_META_INDEX_BYTES) {
            Ok(Some(bytes)) => MetaIndex::parse(&bytes, manifest.meta.size, manifest.root),
            Ok(None) => return self.note(Object::MetaIndex, &path, Cause::Missing),
            Err(error) => {
                return self.damage(Object::MetaIndex, &path, 0, Cause::Unreadable { kind: error.kind() });
            }
        };
        let groups = match index {
            Ok(index) => index.groups,
            Err(error) => return self.damage(Object::MetaIndex, &path, 0, Cause::Format { error: Arc::new(error) }),
        };
        let path = directory.join(META_FILE);
        self.file();
        let file = match layout::open_regular(&path, false) {
            Ok(Some(file)) => file,
            Ok(None) => return self.note(Object::Meta, &path, Cause::Missing),
            Err(error) => return self.damage(Object::Meta, &path, 0, Cause::Unreadable { kind: error.kind() }),
        };
        if let Some(is) = false_length(&file, groups.length()) {
            let cause = Cause::Length { is: groups.length(), must: is };
            return self.damage(Object::MetaIndex, &directory.join(INDEX_FILE), 0, cause);
        }
        let mut maps_are_good = true;
        let (tail, maps) = maps_range(&file, &groups);
        for number in 0..groups.len() as u64 {
            let range = groups.range(number);
            if !self.group(&file, &groups, number) {
                self.damage(Object::Meta, &path, range.start, Cause::Group { chunk: None, group: number });
                maps_are_good &= range.end <= maps.start;
            }
        }
        if !maps_are_good {
            return;
        }
        let length = usize::try_from(maps.end - maps.start).ok().filter(|length| *length as u64 <= MAX_MAPS_BYTES);
        let parsed = tail.and_then(|footer| {
            let maps = layout::read_at(&file, length?, maps.start).ok()?;
            Some(MetaMaps::parse(&footer, &maps))
        });
        match parsed {
            Some(Ok(maps)) => {
                let maps = Arc::new(maps);
                for (index, device) in maps.devices.iter().enumerate() {
                    self.devices.entry(device.id).or_insert_with(|| (Arc::clone(&maps), index));
                    if let Some(pack) = manifest.packs.get(index) {
                        let name = format!("{}.{}", pack.digest.hex(), map_name(device.id, &device.frames));
                        self.parts.entry(name).or_insert_with(|| (*pack, Arc::clone(&maps), index));
                    }
                }
            }
            Some(Err(error)) => self.damage(Object::Meta, &path, maps.start, Cause::Format { error: Arc::new(error) }),
            None => {}
        }
    }

    /// Reads and verifies a group of a meta; twice if it is wrong, for a server may be writing it.
    fn group(&mut self, file: &File, groups: &Groups, number: u64) -> bool {
        let range = groups.range(number);
        let length = usize::try_from(range.end - range.start).unwrap_or(0);
        self.bytes(range.end - range.start);
        (0..2).any(|_| layout::read_at(file, length, range.start).is_ok_and(|bytes| groups.verify(number, &bytes)))
    }

    /// Returns a document if it has its digest.
    fn document(&mut self, object: Object, path: &Path, must: Digest, limit: u64) -> Option<Vec<u8>> {
        self.file();
        let bytes = match layout::read_small(path, limit) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                self.note(object, path, Cause::Missing);
                return None;
            }
            Err(error) => {
                self.damage(object, path, 0, Cause::Unreadable { kind: error.kind() });
                return None;
            }
        };
        self.bytes(bytes.len() as u64);
        let is = Digest::of(&bytes);
        if is == must {
            return Some(bytes);
        }
        self.damage(object, path, 0, Cause::Digest { is, must });
        None
    }
}

/// Reads where the maps lie from a footer that is not proven yet: only which groups they depend on. Without one they depend on all.
fn maps_range(file: &File, groups: &Groups) -> (Option<MetaFooter>, std::ops::Range<u64>) {
    let length = groups.length();
    let footer = layout::read_at(file, META_FOOTER_BYTES, length.saturating_sub(META_FOOTER_BYTES as u64));
    let footer = footer.ok().and_then(|footer| MetaFooter::parse(&footer, length).ok());
    let range = footer.map_or(0..0, |footer| footer.maps_range());
    (footer, range)
}

/// Returns the length of a meta whose own footer says that it is whole, if its index says another. The root does not
/// prove the length of the last group by itself.
fn false_length(file: &File, indexed: u64) -> Option<u64> {
    let length = file.metadata().ok()?.len();
    let footer = layout::read_at(file, META_FOOTER_BYTES, length.checked_sub(META_FOOTER_BYTES as u64)?).ok()?;
    (length != indexed && MetaFooter::parse(&footer, length).is_ok()).then_some(length)
}
