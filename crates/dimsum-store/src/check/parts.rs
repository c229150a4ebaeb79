//! Checking packs that came piece by piece.

use std::fs::File;
use std::path::Path;

use dimsum_format::Blake3;
use dimsum_format::codec::Decompressor;
use dimsum_format::meta::MappedDevice;

use super::walk::Named;
use super::{Cause, Checker, Object};
use crate::disk::frames::is_absent;
use crate::disk::layout;

impl Checker<'_> {
    /// Proves every frame that is there from the maps of the image that has it. What stands behind the frames is proven when the pack
    /// is made whole; nothing reads it before.
    pub(super) fn parts(&mut self, parts: Vec<Named>) {
        let mut decompressor = Decompressor::default();
        for Named { path, name } in parts {
            self.file();
            let Some((blob, maps, index)) = self.parts.get(&name).cloned() else {
                self.note(Object::Pack, &path, Cause::Unnamed);
                continue;
            };
            let file = match layout::open_regular(&path, false) {
                Ok(Some(file)) => file,
                Ok(None) => continue,
                Err(error) => {
                    self.damage(Object::Pack, &path, 0, Cause::Unreadable { kind: error.kind() });
                    continue;
                }
            };
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            if length > blob.size {
                self.damage(Object::Pack, &path, blob.size, Cause::Length { is: blob.size, must: length });
            }
            if let Some(device) = maps.devices.get(index) {
                self.frames(&file, &path, device, &mut decompressor);
            }
        }
    }

    fn frames(&mut self, file: &File, path: &Path, device: &MappedDevice, decompressor: &mut Decompressor) {
        for chunk in 0..u32::try_from(device.map.chunks()).unwrap_or(u32::MAX) {
            let (Some(frame), Some(bytes), Some(must)) =
                (device.frames.frame(chunk), device.map.chunk_bytes(chunk), device.map.digest(chunk))
            else {
                continue;
            };
            let length = usize::try_from(bytes.end - bytes.start).unwrap_or(0);
            let mut is_right = || {
                let found = layout::read_at(file, usize::try_from(frame.end - frame.start).unwrap_or(0), frame.start);
                let decoded = found.ok().and_then(|found| decompressor.decompress(&found, length).ok());
                decoded.is_some_and(|decoded| Blake3::of(&decoded) == must)
            };
            // A second look: a server may have been writing it.
            if is_absent(file, frame.start) {
                continue;
            }
            if !(is_right() || is_right()) {
                self.damage(Object::Pack, path, frame.start, Cause::Frame { chunk });
            }
            self.bytes(frame.end - frame.start);
        }
    }
}
