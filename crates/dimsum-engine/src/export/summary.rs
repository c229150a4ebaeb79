//! The figures of an export.

use dimsum_convert::export::{Omission, Reached};
use dimsum_format::Digest;
use serde::Serialize;

use super::ExportOutcome;

/// An exported image, tar or directory.
#[derive(Debug, Clone, Serialize)]
pub struct ExportSummary {
    /// As the caller wrote it.
    pub image: String,
    /// The target, as a text.
    pub target: String,
    /// The manifest of an ordinary image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// Whether the manifest is the source's, byte for byte.
    pub original: bool,
    /// Why the source's layers could not be given back, though there are recipes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_original: Option<String>,
    /// The layers of an ordinary image.
    pub layers: Vec<LayerExport>,
    /// Entries that the target cannot hold.
    pub left_out: u64,
    /// The first of these. Paths are escaped.
    pub left_out_first: Vec<String>,
    /// Time of the whole export.
    pub seconds: f64,
}

/// A layer of an ordinary image.
#[derive(Debug, Clone, Serialize)]
pub struct LayerExport {
    /// The blob.
    pub digest: Digest,
    /// The tar.
    pub diff_id: Digest,
    /// Bytes of the blob.
    pub bytes: u64,
    /// Bytes of the tar.
    pub tar_bytes: u64,
    /// The pack that it was made of.
    pub pack: Option<Digest>,
    /// `original blob` or `original tar` of the source, or `rebuilt`.
    pub reached: &'static str,
}

impl ExportSummary {
    pub(super) fn new(image: &str, target: String, done: ExportOutcome, seconds: f64) -> Self {
        let ExportOutcome { image: exported, left_out, no_original } = done;
        let layers = exported.iter().flat_map(|exported| &exported.layers).map(|layer| LayerExport {
            digest: layer.blob.digest,
            diff_id: layer.diff_id,
            bytes: layer.blob.size,
            tar_bytes: layer.tar_bytes,
            pack: layer.pack,
            reached: match layer.reached {
                Reached::Blob => "original blob",
                Reached::Tar => "original tar",
                _ => "rebuilt",
            },
        });
        let first = left_out.first.iter().map(|(path, omission)| format!("{path}: {}", omitted(omission)));
        Self {
            image: image.to_owned(),
            target,
            manifest: exported.as_ref().map(|exported| exported.manifest),
            original: exported.as_ref().is_some_and(|exported| exported.original),
            no_original,
            layers: layers.collect(),
            left_out: left_out.count,
            left_out_first: first.collect(),
            seconds,
        }
    }
}

fn omitted(omission: &Omission) -> String {
    match omission {
        Omission::Socket => "socket".to_owned(),
        Omission::Xattr { name } => format!("extended attribute {name}"),
        Omission::Device => "device node".to_owned(),
        _ => "cannot be there".to_owned(),
    }
}
