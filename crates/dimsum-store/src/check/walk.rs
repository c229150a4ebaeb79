//! Listing the directories of a store.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Cause, Checker, Object};
use crate::disk::frames::MAP_NAME;
use crate::disk::layout::TEMPORARY;
use crate::limits::MAX_DIR_ENTRIES;

/// Hexadecimal digits of a digest.
pub(super) const DIGEST: usize = 64;

/// An entry with a name that the store gives.
pub(super) struct Named {
    pub(super) path: PathBuf,
    pub(super) name: String,
}

/// Lists `kind/<hh>/<name>`; reports what has other names.
pub(super) fn fanned(kind: &Path, is_name: fn(&str) -> bool, checker: &mut Checker<'_>) -> Vec<Named> {
    let mut found = Vec::new();
    for (path, name) in list(kind, checker) {
        if name.len() != 2 || !is_hex(&name) {
            foreign(&path, &name, checker);
            continue;
        }
        for entry in named(&path, is_name, checker) {
            if entry.name.starts_with(&name) {
                found.push(entry);
            } else {
                checker.note(Object::Foreign, &entry.path, Cause::Name);
            }
        }
    }
    found
}

/// Lists `directory/<name>`; reports what has other names.
pub(super) fn named(directory: &Path, is_name: fn(&str) -> bool, checker: &mut Checker<'_>) -> Vec<Named> {
    let mut found = Vec::new();
    for (path, name) in list(directory, checker) {
        if is_name(&name) {
            found.push(Named { path, name });
        } else {
            foreign(&path, &name, checker);
        }
    }
    found
}

/// Reports entries of `directory` other than `known`.
pub(super) fn only(directory: &Path, known: &[&str], checker: &mut Checker<'_>) {
    for (path, name) in list(directory, checker) {
        if !known.contains(&name.as_str()) {
            foreign(&path, &name, checker);
        }
    }
}

/// Lists a directory in order; names that are not UTF-8 are none of ours and appear changed.
fn list(directory: &Path, checker: &mut Checker<'_>) -> Vec<(PathBuf, String)> {
    let mut entries = Vec::new();
    match fs::read_dir(directory) {
        Err(error) => {
            checker.note(Object::Foreign, directory, Cause::Unreadable { kind: error.kind() });
        }
        Ok(list) => {
            for entry in list.flatten() {
                if entries.len() >= MAX_DIR_ENTRIES {
                    checker.note(Object::Foreign, directory, Cause::TooManyEntries);
                    break;
                }
                entries.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
            }
        }
    }
    entries.sort();
    entries
}

fn foreign(path: &Path, name: &str, checker: &mut Checker<'_>) {
    let cause = if name.starts_with(TEMPORARY) { Cause::LeftOver } else { Cause::Name };
    checker.note(Object::Foreign, path, cause);
}

/// Says whether a name is a digest.
pub(super) fn is_digest(name: &str) -> bool {
    name.len() == DIGEST && is_hex(name)
}

/// Says whether a name is that of a pack, or of a sparse file beside one.
pub(super) fn is_pack(name: &str) -> bool {
    match name.split_once('.') {
        None => is_digest(name),
        Some((digest, map)) => is_digest(digest) && map.len() == MAP_NAME && is_hex(map),
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
