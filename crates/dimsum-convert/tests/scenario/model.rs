//! The devices are those that `docs/format.md`, section 7, describes. This is a second, naive writing of its rules: it
//! holds everything in memory and must give the same bytes.

use std::collections::BTreeMap;

use dimsum_format::Blake3;
use proptest::prelude::*;

use crate::reader::{Node, read};
use crate::sources::{Case, noise, small_options};
use crate::tar::file;

const SLICE: usize = 64 << 10;
const BUNDLE: usize = 32 << 10;

/// Content that is stored so far, anywhere in the image.
#[derive(Default)]
struct Stored {
    slices: Vec<Vec<u8>>,
    small: Vec<Vec<u8>>,
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    bytes
}

fn slices(bytes: &[u8]) -> Vec<&[u8]> {
    let mut slices: Vec<&[u8]> = bytes.chunks(SLICE).collect();
    if slices.len() > 1 && slices.last().unwrap().len() < SLICE / 4 {
        slices.pop();
        let before = slices.pop().unwrap();
        slices.push(&bytes[bytes.len() - bytes.len() % SLICE - before.len()..]);
    }
    slices
}

/// The chunks of the device of one layer.
fn device(files: &BTreeMap<Vec<Vec<u8>>, Vec<u8>>, stored: &mut Stored) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    for bytes in files.values().filter(|bytes| bytes.len() > BUNDLE / 2) {
        for slice in slices(bytes) {
            let slice = padded(slice);
            if slice.iter().any(|&byte| byte != 0) && !stored.slices.contains(&slice) {
                stored.slices.push(slice.clone());
                chunks.push(slice);
            }
        }
    }
    let m = BUNDLE / 8192;
    let mut open: Vec<u8> = Vec::new();
    for bytes in files.values().filter(|bytes| bytes.len() <= BUNDLE / 2) {
        if bytes.iter().all(|&byte| byte == 0) || stored.small.contains(bytes) {
            continue;
        }
        stored.small.push(bytes.clone());
        let b = bytes.len().div_ceil(4096);
        if !open.is_empty() && open.len() / 4096 + b > 3 * m {
            chunks.push(std::mem::take(&mut open));
        }
        open.extend(padded(bytes));
        let digest = Blake3::of(bytes);
        let first = u64::from_le_bytes(digest.as_bytes()[..8].try_into().unwrap());
        if open.len() / 4096 >= m && (first % m as u64) < b as u64 {
            chunks.push(std::mem::take(&mut open));
        }
    }
    if !open.is_empty() {
        chunks.push(open);
    }
    chunks
}

/// Contents that often meet: few seeds, lengths near every border, zeros in between.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let base = prop::sample::select(vec![0, 1, 4096, BUNDLE / 2, SLICE, SLICE + SLICE / 4, 2 * SLICE, 3 * SLICE]);
    (base, 0usize..3, 0u64..4, any::<bool>()).prop_map(|(base, more, seed, hole)| {
        let mut bytes = if seed == 0 {
            vec![0; (base + more).saturating_sub(1)]
        } else {
            noise((base + more).saturating_sub(1), seed)
        };
        if hole && bytes.len() > SLICE {
            let end = bytes.len().min(2 * SLICE + 100);
            bytes[SLICE - 50..end].fill(0);
        }
        bytes
    })
}

fn layer() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = prop::sample::select(vec!["a", "a-", "a/b", "a/c", "a0", "d/e/f", "d.e", "d/g", "d/e-", "z", "Z", "k"]);
    prop::collection::vec((name.prop_map(str::to_owned), content()), 0..12)
        .prop_map(|files| files.into_iter().filter(|(name, _)| name != "a").collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn devices_are_those_of_the_document(layers in prop::collection::vec(layer(), 1..4)) {
        let case = Case::new(&layers.iter().map(|files| files.iter().map(|(name, bytes)| file(name, bytes.clone())).collect()).collect::<Vec<_>>());
        let converted = case.convert(&small_options());
        let image = read(&case.target(), converted.manifest);
        let mut stored = Stored::default();
        let mut merged = BTreeMap::new();
        let mut listed = image.devices.iter().zip(&image.maps.devices);
        for (files, summary) in layers.iter().zip(&converted.layers) {
            let sorted: BTreeMap<Vec<Vec<u8>>, Vec<u8>> = files
                .iter()
                .map(|(name, bytes)| (name.split('/').map(|part| part.as_bytes().to_vec()).collect(), bytes.clone()))
                .collect();
            merged.extend(files.iter().cloned());
            let chunks = device(&sorted, &mut stored);
            prop_assert_eq!(summary.chunks as usize, chunks.len());
            if summary.pack.is_some() {
                let (bytes, device) = listed.next().unwrap();
                prop_assert_eq!(device.map.chunks() as usize, chunks.len());
                prop_assert!(*bytes == chunks.concat());
            }
        }
        let tree = image.tree();
        for (name, bytes) in merged {
            prop_assert!(tree[&name] == Node::File(bytes));
        }
    }
}
