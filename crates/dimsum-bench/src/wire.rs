//! What comes from outside: requests of the kernel, tars.

use std::convert::Infallible;
use std::hint::black_box;
use std::ops::Range;

use dimsum_convert::fuzzing;
use dimsum_fuse::Request;
use dimsum_tree::{ContentId, ContentSource, NodeKind, NullSink, Policy, TarOptions, TreeBuilder, read_layer, to_tar};

use crate::{METADATA, Work};

/// Files of the tar, and of the sequence that is cut into bundles.
const FILES: u32 = 1000;
/// Bytes of each file.
const FILE_BYTES: u64 = 700;

/// A READ as the kernel writes it.
pub(crate) fn decode_read() -> Work {
    decode(include_bytes!("../../../fuzz/corpus/fuse_request/read"))
}

/// A LOOKUP as the kernel writes it.
pub(crate) fn decode_lookup() -> Work {
    decode(include_bytes!("../../../fuzz/corpus/fuse_request/lookup"))
}

/// One request is too little to count: a hundred.
fn decode(request: &'static [u8]) -> Work {
    Box::new(move || {
        for _ in 0..100 {
            assert!(black_box(Request::decode(black_box(request))).is_ok(), "a request of the corpus");
        }
    })
}

/// The same bytes for every file.
struct Same;

impl ContentSource for Same {
    type Error = Infallible;

    fn next_data(&mut self, _: ContentId, from: u64) -> Result<Option<Range<u64>>, Infallible> {
        Ok((from < FILE_BYTES).then_some(from..FILE_BYTES))
    }

    fn read(&mut self, _: ContentId, offset: u64, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let length = buffer.len().min(usize::try_from(FILE_BYTES.saturating_sub(offset)).unwrap_or(usize::MAX));
        buffer.iter_mut().take(length).for_each(|byte| *byte = b'x');
        Ok(length)
    }
}

/// A layer's tar into a tree.
pub(crate) fn read_tar() -> Work {
    let mut tree = TreeBuilder::new();
    for number in 0..FILES {
        let kind = NodeKind::Regular { size: FILE_BYTES, content: ContentId::new(number) };
        let name = format!("some-file-name-{number}.py");
        tree.insert(TreeBuilder::ROOT, name.as_bytes(), kind, &METADATA).expect("names are different");
    }
    let tree = tree.finish().expect("the tree is shallow");
    let mut tar = Vec::new();
    to_tar(&tree, &mut Same, &mut tar, TarOptions::default()).expect("memory is there");
    Box::new(move || {
        let layer = read_layer(black_box(&tar[..]), None, &mut NullSink::default(), Policy::default());
        assert!(layer.is_ok(), "our own tar");
    })
}

/// Where bundles end in a sequence of small files.
pub(crate) fn cut_bundles() -> Work {
    let files: Vec<(u64, u32)> =
        (0..FILES).map(|number| (u64::from(1 + number % 3), number.wrapping_mul(0x9e37_79b9))).collect();
    Box::new(move || assert!(fuzzing::bundles(black_box(&files), 16) > 1))
}
