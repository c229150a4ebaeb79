//! The entries of a tar in another order, headers untouched: the same tree for every extractor.

use std::collections::HashSet;

use anyhow::{Context as _, Result, bail};

const BLOCK: usize = 512;

/// One entry with the extension headers that belong to it.
struct Unit<'a> {
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

fn split(tar: &[u8]) -> Result<Vec<Unit<'_>>> {
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
        units.push(Unit { bytes: tar.get(start..at).context("cut off in an entry")?, hard_link: kind == b'1' });
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
