//! The source image. Its manifest and config are checked before any layer is read.

use dimsum_format::limits::MAX_CONFIG_BYTES;
use dimsum_format::manifest::{ImageConfig, Manifest};
use dimsum_format::{Digest, media};
use dimsum_source::Source;

use crate::error::ConvertError;
use crate::layer::Expected;

/// A source image that can be converted.
pub(crate) struct SourceImage {
    pub(crate) config: ImageConfig,
    pub(crate) layers: Vec<Expected>,
}

/// Says whether a manifest is that of a container image, not of another artifact in the form of one.
pub(crate) fn is_image(manifest: &Manifest) -> bool {
    manifest.artifact_type.is_none()
        && matches!(&*manifest.config.media_type, media::CONFIG | DOCKER_CONFIG)
        && manifest.layers.iter().all(|layer| LAYERS.contains(&&*layer.media_type))
}

/// Reads manifest and config.
pub(crate) fn read(source: &dyn Source, digest: Digest) -> Result<SourceImage, ConvertError> {
    let bytes = source.read_manifest(digest)?;
    let document = |object, digest| move |source| ConvertError::Document { object, digest, source: Box::new(source) };
    let manifest = Manifest::parse(&bytes).map_err(document("manifest", digest))?;
    if manifest.is_dimsum() {
        return Err(ConvertError::AlreadyDimsum { digest });
    }
    let refuse = |object: String, media_type: &str| {
        Err(ConvertError::MediaType { digest, object, media_type: media_type.to_owned() })
    };
    let config_type = &*manifest.config.media_type;
    if !matches!(config_type, media::CONFIG | DOCKER_CONFIG) {
        return refuse("config".to_owned(), config_type);
    }
    for layer in &manifest.layers {
        if !LAYERS.contains(&&*layer.media_type) {
            return refuse(format!("layer {}", layer.digest), &layer.media_type);
        }
    }
    let config_digest = manifest.config.digest;
    let bytes = source.read_small("config", config_digest, MAX_CONFIG_BYTES)?;
    let config = ImageConfig::parse(&bytes).map_err(document("config", config_digest))?;
    let diff_ids = config.diff_ids().map_err(document("config", config_digest))?;
    if diff_ids.len() != manifest.layers.len() {
        return Err(ConvertError::LayerCount { digest, layers: manifest.layers.len(), diff_ids: diff_ids.len() });
    }
    let layers = manifest.layers.iter().zip(diff_ids);
    let layers = layers.map(|(layer, diff_id)| Expected { digest: layer.digest, size: layer.size, diff_id }).collect();
    Ok(SourceImage { config, layers })
}

/// The config of a Docker image, which is an OCI config with more keys.
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Layers that are tars. How they are compressed is seen by their first bytes, as some tools name it wrongly.
/// The last five are for layers that may not be passed on; if they are there they can be read.
const LAYERS: [&str; 10] = [
    media::LAYER_TAR,
    media::LAYER_GZIP,
    media::LAYER_ZSTD,
    media::DOCKER_LAYER_TAR,
    media::DOCKER_LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
];
