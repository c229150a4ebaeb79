//! Tests of the events that a sink gets of an archive.

use super::*;
use crate::sink::ContentSink;

/// The pieces of each file, with the offsets said of them.
#[derive(Default)]
struct Pieces {
    at: Option<u64>,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl ContentSink for Pieces {
    type Error = std::convert::Infallible;

    fn begin(&mut self, _size: u64) -> Result<(), Self::Error> {
        Ok(())
    }

    fn at(&mut self, offset: u64) {
        assert_eq!(self.at.replace(offset), None, "said once for each piece");
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.pieces.push((self.at.take().unwrap(), bytes.to_vec()));
        Ok(())
    }

    fn hole(&mut self, _length: u64) -> Result<(), Self::Error> {
        Ok(())
    }

    fn end(&mut self) -> Result<ContentId, Self::Error> {
        Ok(ContentId::new(0))
    }
}

fn header(name: &str, flag: u8, size: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(124, &format!("{size:011o}"));
    put(148, "        ");
    put(257, "ustar\x0000");
    block[156] = flag;
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(BLOCK), 0);
    padded
}

fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    // The length counts itself: two digits here.
    format!("{}{rest}", rest.len() + 2)
}

#[test]
fn a_sink_hears_where_in_the_archive_each_piece_stands() {
    let plain = (0..BUFFER as u32 + 1_000).map(|i| (i / 7) as u8).collect::<Vec<_>>();
    // Two stored parts, of 5 and 700 bytes, behind a map that stands in front of them.
    let map = padded(b"2\n10\n5\n9000\n700\n");
    let stored = [&b"first"[..], &[7; 700]].concat();
    let records = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "10000")];
    let records: String = records.map(|(key, value)| record(key, value)).concat();
    let archive = [
        header("plain", b'0', plain.len()).to_vec(),
        padded(&plain),
        header("x", b'x', records.len()).to_vec(),
        padded(records.as_bytes()),
        header("sparse", b'0', map.len() + stored.len()).to_vec(),
        map,
        padded(&stored),
        vec![0; 2 * BLOCK],
    ]
    .concat();
    let mut reader = TarReader::new(io::BufReader::with_capacity(BUFFER, &archive[..]));
    let mut sink = Pieces::default();
    while let Some(entry) = reader.next_entry().unwrap() {
        reader.content(&entry, &mut sink).unwrap();
    }
    let content: Vec<u8> = sink.pieces.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    assert!(content == [plain, stored].concat());
    assert!(sink.pieces.len() >= 4, "the plain file is longer than a buffer, the sparse one has two parts");
    for (offset, bytes) in &sink.pieces {
        assert_eq!(archive[*offset as usize..][..bytes.len()], bytes[..], "{offset}");
    }
}
