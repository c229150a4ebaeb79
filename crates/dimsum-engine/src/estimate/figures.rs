//! The figures of an estimate.

use dimsum_format::Digest;
use serde::Serialize;

use super::model::EstimateLink;
use super::presence::{InTarget, OnNode};
use crate::conversion::SharingSummary;

/// The whole of it.
#[derive(Debug, Serialize)]
pub struct ImageEstimate {
    /// As the user wrote it.
    pub image: String,
    /// The manifest that was found there.
    pub source_manifest: Digest,
    /// The ordinary image; none if it is a Dimsum image already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordinary: Option<OrdinarySize>,
    /// What it is as a Dimsum image.
    pub dimsum: DimsumSize,
    /// What it would take from other images; none if it was not asked to share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharing: Option<SharingSummary>,
    /// What the target repository has already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<InTarget>,
    /// What this node's store has already; none if there is no store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<OnNode>,
    /// What a run touched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Touched>,
    /// When it is ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<Ready>,
}

/// An ordinary image.
#[derive(Debug, Serialize)]
pub struct OrdinarySize {
    /// Layers.
    pub layers: usize,
    /// Bytes of the layers as stored.
    pub stored_bytes: u64,
    /// Bytes of their tars.
    pub tar_bytes: u64,
    /// How long the conversion took here.
    pub convert_seconds: f64,
}

/// A Dimsum image.
#[derive(Debug, Serialize)]
pub struct DimsumSize {
    /// Its manifest.
    pub manifest: Digest,
    /// Packs.
    pub packs: usize,
    /// Bytes of packs and meta.
    pub stored_bytes: u64,
    /// Of these, the meta.
    pub meta_bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// What a run touched.
#[derive(Debug, Serialize)]
pub struct Touched {
    /// The command.
    pub command: Vec<String>,
    /// How it ended.
    pub exit_status: u64,
    /// Bytes that were fetched.
    pub fetched_bytes: u64,
    /// Requests for them.
    pub requests: u64,
    /// Chunks.
    pub chunks: u64,
    /// Bytes that it read.
    pub read_bytes: u64,
    /// How long it took here, without a network.
    pub seconds: f64,
}

/// When a command is ready over a link.
#[derive(Debug, Serialize)]
pub struct Ready {
    /// The link.
    #[serde(flatten)]
    pub link: EstimateLink,
    /// Lazily, from an empty store.
    pub lazy_seconds: f64,
    /// From the ordinary image, pulled before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_seconds: Option<f64>,
}
