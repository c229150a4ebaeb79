//! The decisions of a conversion and their reasons: the images that it shared with, and the packs of its layers.

use dimsum_convert::{Converted, ForeignPack, LayerSummary, RefusedPack, ReusedPack, SharedContent};
use dimsum_format::Digest;
use dimsum_format::manifest::Blob;

use super::sharing::SharingPlaces;
use crate::text::Size;

/// Returns the lines.
pub(super) fn decisions(others: &SharingPlaces, converted: &Converted) -> Vec<String> {
    let shared = &converted.shared;
    let mut lines = Vec::new();
    match shared.parent {
        Some(parent) => lines.push(format!("it follows {parent}, which the target's name stood for")),
        None if others.is_auto() => lines.push(
            "the target's name stands for no Dimsum image that could be followed: nothing is shared with it".to_owned(),
        ),
        None => {}
    }
    lines.extend(shared.with.iter().map(|image| format!("shared with the packs of {image}")));
    if let Some(reason) = others.no_reuse(!shared.with.is_empty()) {
        lines.push(format!("packs of the same layers were not looked for: {reason}"));
    }
    lines
        .extend(shared.refused.iter().map(|RefusedPack { what, reason, .. }| format!("{what} is not taken: {reason}")));
    lines.extend(converted.layers.iter().map(|layer| became(layer, shared)));
    let layers: Vec<Digest> = converted.layers.iter().filter_map(|layer| layer.pack).map(|pack| pack.digest).collect();
    let beside = shared.foreign.iter().filter(|pack| !layers.contains(&pack.blob.digest));
    lines.extend(beside.map(|ForeignPack { blob: Blob { digest, size }, image, .. }| {
        format!("pack {digest} ({}) of {image} has what these layers do not store again", Size(*size))
    }));
    lines
}

/// Says what a layer became.
fn became(layer: &LayerSummary, shared: &SharedContent) -> String {
    let name = match layer.source {
        Some(source) => format!("layer {source}"),
        None => "the directory".to_owned(),
    };
    let Some(Blob { digest, size }) = layer.pack else {
        return format!("{name}: no pack, since the image uses nothing that only it stores");
    };
    let size = Size(size);
    if let Some(ForeignPack { image, .. }) = shared.foreign.iter().find(|pack| pack.blob.digest == digest) {
        return format!("{name}: pack {digest} ({size}) of {image}, made of the same layers, stands for it");
    }
    match shared.reused.iter().find(|pack| pack.blob.digest == digest) {
        Some(ReusedPack { what, .. }) => format!("{name}: pack {digest} ({size}) is re-used: {what}"),
        None => format!("{name}: made, as pack {digest} ({size})"),
    }
}
