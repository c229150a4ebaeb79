//! Checking `devices/`.

use std::fs::File;
use std::path::Path;

use dimsum_format::DeviceId;
use dimsum_format::group::Groups;
use dimsum_format::map::DeviceMap;
use rustix::fs::SeekFrom;

use super::walk::{Named, fanned, is_digest, only};
use super::{Cause, Checker, Object};
use crate::disk::device::{DATA, STATE};
use crate::disk::layout::{self, DEVICES};
use crate::disk::values::{STATE_HEADER, StoredValues, state_header, state_slot, stored_values};

impl Checker<'_> {
    pub(super) fn devices(&mut self) {
        for Named { path, name } in fanned(&self.services.layout().directory(DEVICES), is_digest, self) {
            let Ok(id) = DeviceId::from_hex(&name) else { continue };
            only(&path, &[DATA, STATE], self);
            let Some((maps, index)) = self.devices.get(&id).cloned() else {
                self.note(Object::Data, &path, Cause::Unnamed);
                continue;
            };
            if let Some(device) = maps.devices.get(index) {
                self.device(&path, id, &device.map);
            }
        }
    }

    fn device(&mut self, directory: &Path, id: DeviceId, map: &DeviceMap) {
        let (data_path, state_path) = (directory.join(DATA), directory.join(STATE));
        let (Some(data), Some(state)) = (self.part(Object::Data, &data_path), self.part(Object::State, &state_path))
        else {
            return;
        };
        if state.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            // Made when the disk was full.
            self.note(Object::State, &state_path, Cause::Missing);
            return;
        }
        let header = usize::try_from(STATE_HEADER).map(|length| layout::read_at(&state, length, 0));
        if !header.is_ok_and(|header| header.is_ok_and(|header| header == state_header(id))) {
            self.damage(Object::State, &state_path, 0, Cause::Header);
        }
        for chunk in 0..u32::try_from(map.chunks()).unwrap_or(u32::MAX) {
            self.chunk(&data, &data_path, &state, &state_path, map, chunk);
        }
    }

    fn chunk(&mut self, data: &File, data_path: &Path, state: &File, state_path: &Path, map: &DeviceMap, chunk: u32) {
        let (Some(range), Some(must)) = (map.chunk_bytes(chunk), map.digest(chunk)) else { return };
        // A second look: a server may have been between data and chaining values.
        let known = match stored_values(state, map, chunk) {
            StoredValues::Damaged => stored_values(state, map, chunk),
            other => other,
        };
        match known {
            StoredValues::Absent => {
                if has_data(data, range.start, range.end) {
                    self.note(Object::Data, data_path, Cause::Orphan { chunk });
                }
            }
            StoredValues::Damaged => {
                let slot = state_slot(map, chunk).unwrap_or(0);
                self.damage(Object::State, state_path, slot, Cause::ChainingValues { chunk, must });
            }
            StoredValues::Proven(groups) => {
                for number in 0..groups.len() as u64 {
                    let offset = range.start + groups.range(number).start;
                    if !self.data_group(data, &groups, number, offset) {
                        let cause = Cause::Group { chunk: Some(chunk), group: number };
                        self.damage(Object::Data, data_path, offset, cause);
                    }
                }
            }
        }
    }

    fn data_group(&mut self, data: &File, groups: &Groups, number: u64, offset: u64) -> bool {
        let range = groups.range(number);
        let length = usize::try_from(range.end - range.start).unwrap_or(0);
        self.bytes(range.end - range.start);
        (0..2).any(|_| layout::read_at(data, length, offset).is_ok_and(|bytes| groups.verify(number, &bytes)))
    }

    fn part(&mut self, object: Object, path: &Path) -> Option<File> {
        self.file();
        match layout::open_regular(path, false) {
            Ok(Some(file)) => Some(file),
            Ok(None) => {
                self.note(object, path, Cause::Missing);
                None
            }
            Err(error) => {
                self.damage(object, path, 0, Cause::Unreadable { kind: error.kind() });
                None
            }
        }
    }
}

/// Says whether the file has allocated bytes in a range.
fn has_data(file: &File, start: u64, end: u64) -> bool {
    rustix::fs::seek(file, SeekFrom::Data(start)).is_ok_and(|at| at < end)
}
