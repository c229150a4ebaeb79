//! Media types and annotation keys (`docs/format.md`, section 8).

/// A pack. The prefix makes containerd count it as a layer.
pub const PACK: &str = "application/vnd.oci.image.layer.dimsum.pack.v1+zstd";
/// A meta.
pub const META: &str = "application/vnd.oci.image.layer.dimsum.meta.v1+zstd";
/// An OCI image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image config.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Docker's manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's manifest list.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// OCI layer: plain tar.
pub const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer: gzip.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer: zstd.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker layer: gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker layer: plain tar.
pub const DOCKER_LAYER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Artifact type of a Dimsum image's descriptor in an index that has the ordinary image too.
pub const ARTIFACT_TYPE: &str = "application/vnd.dimsum.image.v1";

/// On every layer: digest of the meta blob. containerd hands annotations of this prefix to a snapshotter.
pub const ANNOTATION_META: &str = "containerd.io/snapshot/dimsum.meta";
/// On every layer: the meta root.
pub const ANNOTATION_ROOT: &str = "containerd.io/snapshot/dimsum.root";
/// On a pack: diff_id of the source layer.
pub const ANNOTATION_SOURCE_DIFF_ID: &str = "io.dimsum.source.diff-id";
/// On a pack: chain id of the source layer.
pub const ANNOTATION_SOURCE_CHAIN_ID: &str = "io.dimsum.source.chain-id";
/// On the manifest: format version.
pub const ANNOTATION_FORMAT: &str = "io.dimsum.format";
/// On the manifest: encoder id.
pub const ANNOTATION_ENCODER: &str = "io.dimsum.encoder";
/// On the manifest: canonical options.
pub const ANNOTATION_OPTIONS: &str = "io.dimsum.options";
/// On the manifest, and on its descriptor in an index: digest of the manifest that was converted.
pub const ANNOTATION_SOURCE_MANIFEST: &str = "io.dimsum.source.manifest";
/// On a pack of another image: digest of the manifest that it was found in.
pub const ANNOTATION_FOREIGN: &str = "io.dimsum.foreign";
/// On the manifest: digests of the images whose packs could be referred to, in order.
pub const ANNOTATION_DEDUP: &str = "io.dimsum.dedup";
/// On the manifest: digest of the image that the target's name stood for before.
pub const ANNOTATION_PARENT: &str = "io.dimsum.parent";
/// On a pack in the manifest behind a cache tag: SHA-256 of the device.
pub const ANNOTATION_PACK_DIFF_ID: &str = "io.dimsum.pack.diff-id";
/// Artifact type of the manifest behind a cache tag.
pub const CACHE_TYPE: &str = "application/vnd.dimsum.cache.v1";
/// The config of an artifact that has none.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// In an OCI layout's index: the tag.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Artifact type of the referrer that says how the original layers of a Dimsum image are put together again.
pub const ORIGINAL: &str = "application/vnd.dimsum.original.v1";
/// The recipe of one original layer.
pub const ORIGINAL_RECIPE: &str = "application/vnd.dimsum.original.recipe.v1";
/// The original manifest as a blob. Not its own media type: some tools follow descriptors with that of a manifest.
pub const ORIGINAL_MANIFEST: &str = "application/vnd.dimsum.original.manifest.v1+json";
/// The original config as a blob.
pub const ORIGINAL_CONFIG: &str = "application/vnd.dimsum.original.config.v1+json";
/// On a recipe: number of the source layer, from 0.
pub const ANNOTATION_ORIGINAL_LAYER: &str = "io.dimsum.original.layer";
/// On a recipe: digest of the source layer's blob.
pub const ANNOTATION_ORIGINAL_DIGEST: &str = "io.dimsum.original.digest";
/// On a recipe: diff_id of the source layer.
pub const ANNOTATION_ORIGINAL_DIFF_ID: &str = "io.dimsum.original.diff-id";
/// On a recipe: its result, `blob` or `tar`.
pub const ANNOTATION_ORIGINAL_GIVES: &str = "io.dimsum.original.gives";
/// On the original manifest: its media type.
pub const ANNOTATION_ORIGINAL_MEDIA_TYPE: &str = "io.dimsum.original.media-type";
