//! What the fuzz targets do with bytes.
//!
//! A target in `fuzz/` is one call into this crate. `tests/replay.rs` calls the same functions with the seeds of
//! `fuzz/corpus`, so a finding stays found without a fuzzer. Each function states its invariants and panics when one
//! breaks.

#![forbid(unsafe_code)]

mod convert;
mod erofs;
mod format;
mod node;
mod registry;

use dimsum_fuse::Request;
use dimsum_tree::{LayerDecoder, NullSink, Policy, read_layer};

pub use convert::{pack_description, recipe};
pub use erofs::{erofs_reader, erofs_validator};
pub use format::{manifest, meta, pack};
pub use node::{keeper_packet, wire_request, wire_response};
pub use registry::{archive, auth_file, challenge, content_range, reference};

/// A fuzz target: its name and what it does.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All targets, by the name of their corpus.
pub const TARGETS: &[FuzzTarget] = &[
    ("tar", tar),
    ("layer_blob", layer_blob),
    ("erofs_reader", erofs_reader),
    ("erofs_validator", erofs_validator),
    ("meta", meta),
    ("pack", pack),
    ("manifest", manifest),
    ("fuse_request", fuse_request),
    ("archive", archive),
    ("reference", reference),
    ("challenge", challenge),
    ("auth_file", auth_file),
    ("content_range", content_range),
    ("recipe", recipe),
    ("pack_description", pack_description),
    ("keeper_packet", keeper_packet),
    ("wire_request", wire_request),
    ("wire_response", wire_response),
];

/// Output of a decoder that is read for fuzzing, so that a bomb ends.
const MAX_DECODED: u64 = 4 << 20;

/// A tar layer: no panic; an accepted layer has a consistent tree.
pub fn tar(data: &[u8]) {
    if let Ok(layer) = read_layer(data, None, &mut NullSink::default(), Policy::default()) {
        // The root has no entry.
        let entries = layer.tree.walk().count() + 1;
        assert!(entries >= layer.tree.len(), "every inode has a path");
        // A second layer of the same bytes over the first gives the same names.
        if let Ok(again) = read_layer(data, Some(&layer.tree), &mut NullSink::default(), Policy::default()) {
            drop(dimsum_tree::merge(layer.tree, &again.tree));
        }
    }
}

/// A compressed layer: no panic, bounded output.
pub fn layer_blob(data: &[u8]) {
    if let Ok(decoder) = LayerDecoder::with_limit(data, None, MAX_DECODED) {
        let _ = read_layer(decoder, None, &mut NullSink::default(), Policy::default()).is_ok();
    }
}

/// A request from `/dev/fuse`: no panic.
pub fn fuse_request(data: &[u8]) {
    if let Ok(request) = Request::decode(data) {
        drop(format!("{request:?}"));
    }
}
