//! Tars cut into their entries: put into another order, headers untouched, which is the same tree for every extractor; or with a file's bytes changed.

use std::collections::HashSet;
use std::ops::Range;

use anyhow::{Context as _, Result, bail};

const BLOCK: usize = 512;

/// One entry with the extension headers that belong to it.
struct TarUnit<'a> {
    /// Where it begins in the tar.
    start: usize,
    bytes: &'a [u8],
    hard_link: bool,
}

/// Reverses the entries; hard links stay behind, for their targets must come first.
pub fn reorder(tar: &[u8]) -> Result<Vec<u8>> {
    let units = split(tar)?;
    let unique: HashSet<&[u8]> = units.iter().map(|unit| unit.bytes).collect();
    if unique.len() != units.len() {
        bail!("the tar has duplicate entries: another order would be another tree");
    }
    let mut out = Vec::with_capacity(tar.len());
    for unit in units.iter().rev().filter(|unit| !unit.hard_link) {
        out.extend_from_slice(unit.bytes);
    }
    for unit in units.iter().filter(|unit| unit.hard_link) {
        out.extend_from_slice(unit.bytes);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    Ok(out)
}

/// A regular file in a tar.
#[derive(Debug, Clone)]
pub struct TarFile {
    pub path: String,
    /// Where its bytes are.
    pub range: Range<usize>,
}

/// The regular files of a tar, as far as their names and sizes need no extension header.
pub fn files(tar: &[u8]) -> Result<Vec<TarFile>> {
    let mut found = Vec::new();
    for TarUnit { start, bytes: header, .. } in split(tar)? {
        if !matches!(header[156], b'0' | 0) {
            continue;
        }
        let text = |range: Range<usize>| {
            let field = header[range].split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(field).into_owned()
        };
        let (prefix, name) = (text(345..500), text(0..100));
        let is_ustar = &header[257..263] == b"ustar\0" && !prefix.is_empty();
        let path = if is_ustar { format!("{prefix}/{name}") } else { name };
        let content = start + BLOCK..start + BLOCK + size(&header[124..136])?;
        found.push(TarFile { path: path.trim_start_matches("./").to_owned(), range: content });
    }
    Ok(found)
}

fn split(tar: &[u8]) -> Result<Vec<TarUnit<'_>>> {
    let (mut units, mut start, mut at) = (Vec::new(), 0, 0);
    while let Some(header) = tar.get(at..at + BLOCK) {
        at += BLOCK;
        if header.iter().all(|byte| *byte == 0) {
            start = at;
            continue;
        }
        let kind = header[156];
        if kind == b'S' && header[482] != 0 {
            // Old GNU sparse: extension blocks, each says whether another follows.
            while tar.get(at + 504).context("cut off in a sparse map")? != &0 {
                at += BLOCK;
            }
            at += BLOCK;
        }
        at += size(&header[124..136])?.next_multiple_of(BLOCK);
        if matches!(kind, b'x' | b'L' | b'K') {
            continue;
        }
        if kind == b'g' {
            bail!("global headers bind to what follows: no other order");
        }
        units.push(TarUnit {
            start,
            bytes: tar.get(start..at).context("cut off in an entry")?,
            hard_link: kind == b'1',
        });
        start = at;
    }
    Ok(units)
}

/// Octal, or GNU's base 256.
fn size(field: &[u8]) -> Result<usize> {
    if field[0] & 0x80 != 0 {
        return Ok(field[1..].iter().fold(0, |value, byte| (value << 8) | usize::from(*byte)));
    }
    let text = std::str::from_utf8(field)?.trim_matches(|c| c == '\0' || c == ' ');
    Ok(if text.is_empty() { 0 } else { usize::from_str_radix(text, 8)? })
}
