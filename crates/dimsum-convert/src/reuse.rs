//! Reuses packs that exist for the same layers: a base that a thousand images share is compressed and pushed
//! once.
//!
//! The data of a layer is a function of its chain id (the layer and all below it), the options and the encoder. So a
//! pack is found by a tag made of these three in the target's repository. It is also found by annotations in the
//! manifest of a named image. Images that refer to packs of other images are left out: their data depends on those
//! packs too. A reference to such a pack serves as well.
//!
//! Under [`PackReuse::Verify`] a writer of tags cannot change the content of an image, nor make it unreadable. The
//! layer is read and hashed, only not compressed. Its device map and layer meta must equal those of the pack,
//! and the pack's data must match them ([`crate::layer::verify_pack`]).
//!
//! A tag vouches only for data that its conversion made or proved. A conversion that took a pack unseen writes
//! no tag, because all layers above it depend on that pack.

use std::sync::Arc;

use dimsum_format::manifest::{Annotations, Blob, Descriptor, Manifest};
use dimsum_format::map::FrameMap;
use dimsum_format::{Blake3, DeviceId, Digest, codec, media};
use dimsum_source::{Source, Target};

use crate::blob::BlobOut;
use crate::error::ConvertError;
use crate::known::{DescribedPack, Promised, list, refuse};
use crate::manifest::ListedPack;
use crate::options::ConvertOptions;
use crate::progress::ConversionProgress;
use crate::sharing::{PackReuse, Refusals, RefusedPack, Sharing};

/// A pack that may be what a layer becomes.
#[derive(Debug, Clone)]
pub(crate) struct Candidate<'s> {
    pub(crate) source: &'s dyn Source,
    pub(crate) blob: Blob,
    /// The claimed SHA-256 of the device: for containerd, not for us.
    pub(crate) diff_id: Digest,
    /// Where it was found, for messages.
    pub(crate) what: String,
    /// Whether it is under its tag in the target.
    pub(crate) tagged: bool,
}

impl Candidate<'_> {
    /// Returns the pack as a manifest lists it.
    pub(crate) const fn listed(&self) -> ListedPack {
        ListedPack { blob: self.blob, diff_id: self.diff_id, foreign: None }
    }
}

/// A candidate with its own claims.
#[derive(Debug)]
pub(crate) struct Reusable<'s> {
    pub(crate) candidate: Candidate<'s>,
    pub(crate) described: DescribedPack,
}

impl Reusable<'_> {
    /// Returns the slices that need not be compressed if this is the layer's pack.
    pub(crate) fn promised(&self) -> Promised {
        let map = &self.described.map;
        let chunks = (0..).map_while(|chunk| map.digest(chunk));
        Promised::Pack(Arc::new(chunks.collect()))
    }

    /// Returns the frame map, if the device is the one that the layer gives.
    pub(crate) fn frames_of(&self, device: DeviceId) -> Result<FrameMap, ConvertError> {
        if device == self.described.id {
            return Ok(self.described.frames.clone());
        }
        Err(self.differs("its device is another"))
    }

    pub(crate) fn differs(&self, reason: &str) -> ConvertError {
        ConvertError::Reuse { what: self.candidate.what.clone(), reason: reason.to_owned() }
    }
}

/// Where packs are looked for.
pub(crate) struct Candidates<'s> {
    /// The target, if tags are asked for.
    tags: Option<&'s dyn Target>,
    /// Packs of images that were named, by chain id.
    named: Vec<(Digest, Candidate<'s>)>,
    options: ConvertOptions,
}

impl<'s> Candidates<'s> {
    /// Reads the manifests of the images that were named.
    pub(crate) fn new(
        target: &'s dyn Target,
        options: &ConvertOptions,
        sharing: &Sharing<'s>,
        refused: &mut Refusals,
    ) -> Result<Self, ConvertError> {
        let wanted = sharing.reuse != PackReuse::Never && sharing.with.is_empty();
        let mut named = Vec::new();
        for image in sharing.reuse_from.iter().filter(|_| wanted) {
            let name = format!("{} {}", image.source.name(), image.manifest);
            let listed = match list(image) {
                Ok(listed) => listed,
                Err(error) => {
                    refused.add(refuse(name, error)?);
                    continue;
                }
            };
            if let Some(reason) = unlike(&listed.manifest.annotations, options) {
                refused.add(RefusedPack { what: name, reason });
                continue;
            }
            for pack in listed.packs.iter().filter(|pack| !pack.foreign) {
                let Some((_, chain_id)) = pack.of else { continue };
                let what = format!("pack {} of {name}", pack.blob.digest);
                let (blob, diff_id) = (pack.blob, pack.diff_id);
                named.push((chain_id, Candidate { source: image.source, blob, diff_id, what, tagged: false }));
            }
        }
        let tags = wanted.then_some(target);
        Ok(Self { tags, named, options: options.clone() })
    }

    /// Looks for the pack of a layer: in the images that were named, then by its tag.
    pub(crate) fn find(&self, chain_id: Digest, refused: &Refusals) -> Result<Option<Candidate<'s>>, ConvertError> {
        let fits = |what: &str| !refused.hold(what);
        let named = self.named.iter().find(|(of, candidate)| *of == chain_id && fits(&candidate.what));
        if let Some((_, candidate)) = named {
            return Ok(Some(candidate.clone()));
        }
        let Some((target, place)) = self.tags.and_then(|target| Some((target, target.place()?))) else {
            return Ok(None);
        };
        let tag = cache_tag(chain_id, &self.options);
        let what = format!("cache tag {tag} of {}", target.name());
        if !fits(&what) {
            return Ok(None);
        }
        let Some(document) = target.read_tag(&tag)? else { return Ok(None) };
        // A manifest that is no cache manifest of ours is not believed.
        let Some((blob, diff_id)) = Manifest::parse(&document.bytes).ok().and_then(|manifest| cached(&manifest)) else {
            return Ok(None);
        };
        Ok(Some(Candidate { source: place, blob, diff_id, what, tagged: true }))
    }
}

/// Says what tells an image's packs from what these options would make; none if nothing does.
fn unlike(annotations: &Annotations, options: &ConvertOptions) -> Option<String> {
    let own = [
        (media::ANNOTATION_OPTIONS, options.canonical()),
        (media::ANNOTATION_ENCODER, codec::encoder_id(options.level)),
    ];
    for (key, value) in own {
        let theirs = annotations.get(key).map_or("nothing", String::as_str);
        if theirs != value {
            return Some(format!("it was made with {theirs}, this conversion with {value}"));
        }
    }
    annotations.contains_key(media::ANNOTATION_DEDUP).then(|| "it refers to packs of other images".to_owned())
}

/// Returns the tag under which the pack of a layer is kept for the next who has it (`docs/format.md`, section 8.2).
pub(crate) fn cache_tag(chain_id: Digest, options: &ConvertOptions) -> String {
    let key = format!("{chain_id}\n{}\n{}\n", options.canonical(), codec::encoder_id(options.level));
    let digest = Blake3::of(key.as_bytes()).to_string();
    let hex = digest.strip_prefix("blake3:").unwrap_or(&digest);
    format!("dimsum-cache-{hex}")
}

/// Reads what a cache manifest says.
fn cached(manifest: &Manifest) -> Option<(Blob, Digest)> {
    let ours = manifest.artifact_type.as_deref() == Some(media::CACHE_TYPE);
    let [pack] = manifest.layers.as_slice() else { return None };
    if !ours || pack.media_type != media::PACK {
        return None;
    }
    let diff_id = pack.annotations.get(media::ANNOTATION_PACK_DIFF_ID)?.parse().ok()?;
    Some((Blob { digest: pack.digest, size: pack.size }, diff_id))
}

/// A layer whose pack is in the target now, known to be what the layer gives: others will take a tag's word.
pub(crate) struct TaggedPack {
    pub(crate) diff_id: Digest,
    pub(crate) chain_id: Digest,
    pub(crate) pack: Blob,
    pub(crate) pack_diff_id: Digest,
}

/// Puts the pack of each layer under its tag.
pub(crate) fn remember(
    target: &dyn Target,
    made: &[TaggedPack],
    options: &ConvertOptions,
    progress: &dyn ConversionProgress,
) -> Result<(), ConvertError> {
    if made.is_empty() {
        return Ok(());
    }
    let mut empty = BlobOut::new(target, progress)?;
    empty.put(b"{}")?;
    let empty = empty.finish();
    let config = Descriptor::new(media::EMPTY, empty.blob);
    empty.commit()?;
    for made in made {
        let manifest = cache_manifest(made, config.clone(), options);
        target.put_tag(&cache_tag(made.chain_id, options), media::MANIFEST, &manifest.to_bytes())?;
    }
    Ok(())
}

fn cache_manifest(made: &TaggedPack, config: Descriptor, options: &ConvertOptions) -> Manifest {
    let mut pack = Descriptor::new(media::PACK, made.pack);
    pack.annotations = Annotations::from([
        (media::ANNOTATION_PACK_DIFF_ID.to_owned(), made.pack_diff_id.to_string()),
        (media::ANNOTATION_SOURCE_DIFF_ID.to_owned(), made.diff_id.to_string()),
        (media::ANNOTATION_SOURCE_CHAIN_ID.to_owned(), made.chain_id.to_string()),
    ]);
    let annotations = Annotations::from([
        (media::ANNOTATION_FORMAT.to_owned(), "1".to_owned()),
        (media::ANNOTATION_ENCODER.to_owned(), codec::encoder_id(options.level)),
        (media::ANNOTATION_OPTIONS.to_owned(), options.canonical()),
    ]);
    Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.to_owned()),
        artifact_type: Some(media::CACHE_TYPE.to_owned()),
        config,
        layers: vec![pack],
        subject: None,
        annotations,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_depends_on_all_that_changes_a_pack_and_is_a_tag() {
        let (chain, options) = (Digest::of(b"chain"), ConvertOptions::default());
        let tag = cache_tag(chain, &options);
        assert!(tag.len() <= 128 && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{tag}");
        let others = [
            cache_tag(Digest::of(b"other"), &options),
            cache_tag(chain, &ConvertOptions { level: 4, ..options.clone() }),
            cache_tag(chain, &ConvertOptions { bundle_size: 64 << 10, ..options.clone() }),
            cache_tag(chain, &ConvertOptions { slice_size: 128 << 10, ..options.clone() }),
        ];
        assert!(!others.contains(&tag));
        assert_eq!(cache_tag(chain, &ConvertOptions { jobs: std::num::NonZeroUsize::MIN, ..options }), tag);
    }
}
