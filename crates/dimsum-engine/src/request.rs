//! Requests that contradict themselves, or that the image cannot fulfil.

/// Why the engine does not do what was asked, whatever the state of the node.
///
/// A front that has options with names of its own says it in these terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestFault {
    /// Images to re-use packs of, and no re-use.
    #[error("images to re-use packs of are named, and no pack is to be re-used")]
    ReuseForbidden,
    /// An image to re-use packs of that is named by a tag.
    #[error("packs are re-used of an image that is named by its digest, since a tag may be moved")]
    ReuseByTag,
    /// The image that the target's name stands for, without a target.
    #[error("the image before is looked for in the target, and there is no target")]
    AutoWithoutTarget,
    /// Packs by their cache tags, without a target.
    #[error("packs of the same layers are looked for in the target, and there is no target")]
    ReuseWithoutTarget,
    /// A file tree that should stand beside its original.
    #[error("a directory has no image that could stand beside the new one")]
    TreeWithOriginal,
    /// An ordinary image to export.
    #[error("this is an ordinary image already")]
    OrdinaryAlready,
    /// A compression of layers that are given back as they were.
    #[error("the image has recipes for the layers of its source, which are compressed as they were")]
    LayersAreOriginal,
    /// Images to share with, for an image that is converted already.
    #[error("it is a Dimsum image already: it shares what it was converted with")]
    SharingIsOver,
}
