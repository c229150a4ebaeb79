//! The tree of an ordinary image, read without anything of the export: one line per path, with a digest of the content.

use std::convert::Infallible;
use std::path::Path;

use dimsum_format::Digest;
use dimsum_format::manifest::{ImageConfig, Manifest};
use dimsum_tree::{ContentId, ContentSink, LayerDecoder, Policy, Tree, merge, read_directory, read_layer};

use crate::image::{blob, blob_path};

/// Keeps a digest of each file.
#[derive(Default)]
pub(crate) struct Digests {
    hasher: blake3::Hasher,
    done: Vec<blake3::Hash>,
}

impl ContentSink for Digests {
    type Error = Infallible;

    fn begin(&mut self, _size: u64) -> Result<(), Infallible> {
        self.hasher.reset();
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.hasher.update(bytes);
        Ok(())
    }

    fn hole(&mut self, mut length: u64) -> Result<(), Infallible> {
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        while length > 0 {
            let now = length.min(ZEROS.len() as u64);
            self.hasher.update(&ZEROS[..now as usize]);
            length -= now;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<ContentId, Infallible> {
        self.done.push(self.hasher.finalize());
        Ok(ContentId::new(self.done.len() as u32 - 1))
    }
}

impl Digests {
    pub(crate) fn lines(&self, tree: &Tree) -> Vec<String> {
        let line = |entry: dimsum_tree::DumpEntry<'_>| match entry.inode.content() {
            Some(content) => format!("{entry} {}", self.done[content.get() as usize].to_hex()),
            None => entry.to_string(),
        };
        tree.dump().map(line).collect()
    }
}

/// Of an image in a layout; its digests and diff_ids are checked.
pub(crate) fn of_image(layout: &Path, manifest: Digest) -> Vec<String> {
    let manifest = Manifest::parse(&blob(layout, manifest)).unwrap();
    let config = ImageConfig::parse(&blob(layout, manifest.config.digest)).unwrap();
    let diff_ids = config.diff_ids().unwrap();
    assert_eq!(diff_ids.len(), manifest.layers.len());
    let (mut sink, mut merged) = (Digests::default(), None);
    for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
        let bytes = blob(layout, layer.digest);
        assert_eq!(bytes.len() as u64, layer.size);
        let mut tar = Vec::new();
        LayerDecoder::new(&bytes[..], None)
            .and_then(|mut decoder| std::io::Read::read_to_end(&mut decoder, &mut tar))
            .unwrap();
        assert_eq!(Digest::of(&tar), diff_id, "{}", blob_path(layout, layer.digest).display());
        let tree = read_layer(&tar[..], merged.as_ref(), &mut sink, Policy::default()).unwrap().tree;
        merged = Some(match merged {
            None => tree.into_base().unwrap(),
            Some(lower) => merge(lower, &tree).unwrap(),
        });
    }
    sink.lines(&merged.unwrap())
}

pub(crate) fn of_tar(tar: &[u8]) -> Vec<String> {
    let mut sink = Digests::default();
    let tree = read_layer(tar, None, &mut sink, Policy::default()).unwrap().tree;
    sink.lines(&tree)
}

pub(crate) fn of_directory(path: &Path) -> Vec<String> {
    let mut sink = Digests::default();
    let tree = read_directory(path, &mut sink, Policy::default()).unwrap().tree;
    sink.lines(&tree)
}

/// Compares line by line, so that a difference is readable.
pub(crate) fn assert_same(got: &[String], want: &[String], what: &str) {
    for (got, want) in got.iter().zip(want) {
        assert_eq!(got, want, "{what}");
    }
    assert_eq!(got.len(), want.len(), "{what}");
}
