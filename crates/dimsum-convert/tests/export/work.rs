//! Recipes are not followed whatever they cost, and none is written that would cost so much.

use dimsum_convert::{ConvertError, ConvertOptions};

use crate::image::blob;
use crate::original::{comes_back, keeping, pipe, with_recipe};
use crate::round_trip::plain;
use crate::sources::{Case, noise};
use crate::tar::{Entry, archive, file, whiteout};

/// Bytes of a recipe's header, and of a row of its devices.
const HEADER: usize = 152;
const DEVICE_ROW: usize = 36;

#[test]
fn a_layer_that_is_too_much_work_in_its_own_style_is_noted_in_another_or_as_its_tar() {
    // Two letters in no order: `gzip -9` looks at thousands of places for each few bits. Whoever follows the
    // notes does not.
    let letters = noise(600_000, 1).iter().map(|byte| b'a' + byte % 2).collect::<Vec<_>>();
    comes_back(vec![pipe(&archive(&[file("letters", letters)]), "gzip", &["-n", "-9"])], "letters");
}

#[test]
fn a_sparse_file_in_more_pieces_than_a_recipe_refers_to_comes_back() {
    const PIECES: usize = 70_000;
    let content: Vec<u8> = noise(PIECES, 1).iter().map(|byte| byte + 1).collect();
    let map = (0..PIECES).map(|piece| format!("{}\n1\n", 2 * piece));
    let mut stored: Vec<u8> = std::iter::once(format!("{PIECES}\n")).chain(map).collect::<String>().into_bytes();
    stored.resize(stored.len().next_multiple_of(512), 0);
    stored.extend_from_slice(&content);
    let records = [
        ("GNU.sparse.major", "1".to_owned()),
        ("GNU.sparse.minor", "0".to_owned()),
        ("GNU.sparse.name", "pieces".to_owned()),
        ("GNU.sparse.realsize", (2 * PIECES).to_string()),
    ];
    let records: String = records.iter().map(|(key, value)| record(key, value)).collect();
    let entries = [Entry { flag: b'x', ..file("header", records) }, file("GNUSparseFile.1/pieces", stored)];
    assert!(comes_back(vec![plain(archive(&entries))], "pieces").2.original);
}

/// A record of an extended header, which starts with its own length.
fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let digits = (1..).find(|digits| (rest.len() + digits).to_string().len() == *digits).unwrap();
    format!("{}{rest}", rest.len() + digits)
}

#[test]
fn a_recipe_that_goes_to_and_fro_in_a_pack_is_soon_refused() {
    const SLICE: usize = 4 << 20;
    const COUNT: u64 = 50_000;
    let entries = [file("a", noise(SLICE, 1)), file("b", noise(SLICE, 2))];
    let layers = vec![plain(archive(&entries)), plain(archive(&[whiteout("a"), whiteout("b"), file("c", "c")]))];
    let case = Case::of(layers);
    let converted = case.convert(&ConvertOptions { slice_size: SLICE as u32, level: 1, ..keeping() });
    let kept = converted.original.as_ref().unwrap();
    assert_eq!(kept.packs.len(), 1, "a pack that only recipes need");
    let honest = blob(&case.target(), kept.layers[0].recipe.digest);
    assert_eq!(honest[HEADER..HEADER + 32], *converted.layers[0].device.unwrap().as_bytes());
    // One byte of the first chunk, one of the second, and so on.
    let mut operations = Vec::new();
    for index in 0..COUNT {
        let step = match (index, index % 2) {
            (0, _) => 0,
            (_, 1) => SLICE as i64 - 4096,
            _ => -(SLICE as i64 + 4096),
        };
        number(&mut operations, 1 << 2 | 2);
        number(&mut operations, 0);
        number(&mut operations, (step << 1 ^ step >> 63) as u64);
    }
    let compressed = zstd::bulk::compress(&operations, 3).unwrap();
    let mut recipe = honest[..HEADER + DEVICE_ROW].to_vec();
    let mut put = |at: usize, value: u64| recipe[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(16, COUNT);
    for (at, value) in [(104, compressed.len() as u64), (112, operations.len() as u64), (120, 0), (128, 0)] {
        put(at, value);
    }
    recipe[12..16].copy_from_slice(&0u32.to_le_bytes());
    recipe.extend_from_slice(&compressed);
    match with_recipe(&case, &converted, &recipe) {
        Err(ConvertError::Original { source, .. }) => {
            assert!(source.to_string().contains("bytes decoded of a pack"), "{source}");
        }
        other => panic!("{other:?}"),
    }
}

fn number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
