//! A tar writer that does nothing it is not told: ustar headers, any order.

use std::io::Write;

/// An entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) flag: u8,
    pub(crate) link: String,
    pub(crate) mode: u32,
    pub(crate) mtime: u64,
    pub(crate) content: Vec<u8>,
}

pub(crate) fn file(path: &str, content: impl Into<Vec<u8>>) -> Entry {
    Entry {
        path: path.into(),
        flag: b'0',
        link: String::new(),
        mode: 0o644,
        mtime: 1_600_000_000,
        content: content.into(),
    }
}

pub(crate) fn dir(path: &str) -> Entry {
    Entry { flag: b'5', mode: 0o755, ..file(path, "") }
}

pub(crate) fn symlink(path: &str, target: &str) -> Entry {
    Entry { flag: b'2', link: target.into(), mode: 0o777, ..file(path, "") }
}

pub(crate) fn hard_link(path: &str, target: &str) -> Entry {
    Entry { flag: b'1', link: target.into(), ..file(path, "") }
}

/// Deletes `path` of the layers below.
pub(crate) fn whiteout(path: &str) -> Entry {
    let (parent, name) = path.rsplit_once('/').map_or(("", path), |(parent, name)| (parent, name));
    let parent = if parent.is_empty() { String::new() } else { format!("{parent}/") };
    file(&format!("{parent}.wh.{name}"), "")
}

pub(crate) fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut tar = Vec::new();
    for entry in entries {
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        assert!(entry.path.len() <= 100, "no long names here");
        put(0, &entry.path);
        put(100, &format!("{:07o}", entry.mode));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", entry.content.len()));
        put(136, &format!("{:011o}", entry.mtime));
        put(148, "        ");
        put(157, &entry.link);
        put(257, "ustar");
        put(263, "00");
        header[156] = entry.flag;
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        tar.extend_from_slice(&header);
        tar.extend_from_slice(&entry.content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// How a layer blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

pub(crate) fn compress(tar: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::Plain => tar.to_vec(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => zstd::stream::encode_all(tar, 1).unwrap(),
    }
}
