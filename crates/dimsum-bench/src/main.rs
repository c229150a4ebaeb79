//! Hot functions, each on a fixed input: `cargo xtask bench instructions` counts what they execute.
//!
//! `dimsum-bench` lists the names, `dimsum-bench NAME` makes the input and runs the function once inside [`measured`].
//! Only what runs in there is counted. So counts do not depend on how inputs are made.

#![forbid(unsafe_code)]

mod erofs;
mod format;
mod trace;
mod wire;

use std::process::ExitCode;

use dimsum_tree::{Metadata, Timestamp};

/// Metadata of every file of a generated tree.
const METADATA: Metadata<'static> = Metadata {
    permissions: 0o644,
    uid: 0,
    gid: 0,
    mtime: Timestamp { seconds: 1_700_000_000, nanoseconds: 0 },
    xattrs: &[],
};

/// A hot function on its input, ready to run.
type Work = Box<dyn FnOnce()>;
/// Makes the input of a hot function.
type Prepare = fn() -> Work;

/// The hot functions, by the way of a byte: asked for by the kernel, found, read, proven; then what a conversion does.
const FUNCTIONS: &[(&str, Prepare)] = &[
    ("fuse_decode_read", wire::decode_read),
    ("fuse_decode_lookup", wire::decode_lookup),
    ("trace_off", trace::off),
    ("erofs_lookup", erofs::lookup),
    ("erofs_read_dir", erofs::read_dir),
    ("erofs_map_file", erofs::map_file),
    ("group_verify_16k", format::verify_group),
    ("groups_prove_256k", format::prove_groups),
    ("frame_decode_256k", format::decode_frame),
    ("device_map_parse", format::parse_device_map),
    ("frame_map_parse", format::parse_frame_map),
    ("manifest_parse", format::parse_manifest),
    ("tar_read", wire::read_tar),
    ("bundle_cut", wire::cut_bundles),
];

/// What the counter counts: everything from here on, and nothing else.
#[inline(never)]
fn measured(work: Work) {
    work();
}

#[expect(clippy::print_stdout, reason = "the list of functions is what the program is asked for")]
fn main() -> ExitCode {
    let Some(wanted) = std::env::args().nth(1) else {
        for (name, _) in FUNCTIONS {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    };
    let Some((_, prepare)) = FUNCTIONS.iter().find(|(name, _)| *name == wanted) else { return ExitCode::FAILURE };
    measured(prepare());
    ExitCode::SUCCESS
}

/// Bytes that compress to about half, the same in every run.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        bytes.extend(step());
        bytes.extend(b"the same");
    }
    bytes.truncate(length);
    bytes
}
