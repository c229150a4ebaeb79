//! From the tar of one OCI layer to a layer tree: the layer alone, with whiteouts for the lower names that it hides.
//!
//! The rules are those of the OCI image specification, and where it is silent those of containerd:
//!
//! - Names are relative to the root; `.` and empty components are skipped, `..` is refused. A parent on the way is
//!   looked up in this layer as read so far, then in the lower tree. Symbolic links are followed inside the root, at
//!   most 40.
//! - A later entry of a name replaces an earlier one; a directory over a directory only sets attributes.
//! - `.wh.NAME` hides NAME of the lower tree and `.wh..wh..opq` all of its directory there; neither touches entries of
//!   this layer, wherever they stand. A directory beside a whiteout of its name is opaque. Other `.wh..wh.*` are
//!   ignored. Whiteouts that hide nothing are left out.
//! - A directory without an entry has the attributes of the lower one if that is visible, else mode 0755, owner 0:0,
//!   1970.
//! - A hard link to a file of the lower tree brings it here under both names, as overlayfs copies it up. The name of the
//!   lower file is no entry of this layer: whiteouts and opaque marks hide it. A hard link's own attributes are ignored.
//!   Its target must stand before it.
//!
//! The order of entries matters only by nature: for entries of one name, links and their targets, symbolic links and
//! names that lead through them.

mod apply;
mod borrowed;
mod normalise;
mod resolve;

use std::io::{BufRead, BufReader, Read};

pub(crate) use self::apply::{OPAQUE, WHITEOUT};

use crate::error::LayerReadError;
use crate::policy::{LayerReport, Policy};
use crate::sink::ContentSink;
use crate::tar::{BUFFER, TarReader};
use crate::tree::Tree;

/// The contents of one layer.
#[derive(Clone, Debug)]
pub struct LayerTree {
    /// The layer's own tree, with whiteouts and opaque directories.
    pub tree: Tree,
    /// Findings besides the tree.
    pub report: LayerReport,
}

/// Reads the uncompressed tar of one layer to its end, over `lower` (the merged tree of the layers below, none
/// for the first).
///
/// Content goes to `sink` as it streams by; files of the lower tree that the layer links to keep their handles.
///
/// # Errors
///
/// The archive is broken, an entry is refused (the error names it), or the sink fails.
pub fn read_layer<R: Read, S: ContentSink>(
    tar: R,
    lower: Option<&Tree>,
    sink: &mut S,
    policy: Policy,
) -> Result<LayerTree, LayerReadError<S::Error>> {
    read_buffered_layer(BufReader::with_capacity(BUFFER, tar), lower, sink, policy)
}

/// As [`read_layer`], of a stream that has large buffers already: its bytes go to `sink` from these, without a
/// copy between.
///
/// # Errors
///
/// As [`read_layer`].
pub fn read_buffered_layer<R: BufRead, S: ContentSink>(
    tar: R,
    lower: Option<&Tree>,
    sink: &mut S,
    policy: Policy,
) -> Result<LayerTree, LayerReadError<S::Error>> {
    let mut reader = TarReader::new(tar);
    let mut applier = apply::Applier::new(lower, policy);
    while let Some(mut entry) = reader.next_entry()? {
        if let Some(kind) = applier.prepare(&mut entry)? {
            let content = match kind {
                apply::WantedEntry::Content => Some(reader.content(&entry, sink)?),
                apply::WantedEntry::Nothing => None,
            };
            applier.add(&entry, content)?;
        }
    }
    reader.drain()?;
    let (tree, report) = applier.finish()?;
    Ok(LayerTree { tree, report })
}
