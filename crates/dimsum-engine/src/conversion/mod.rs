//! Conversions that a caller asks for: an ordinary image, an index or a file tree becomes a Dimsum image in a target.
//!
//! ```text
//! request ─→ place, target, images to share with ─→ dimsum_convert ─┬─ one image ─→ summary
//!                                                                   └─ an index ──→ index: a summary for each image
//! ```

mod decisions;
mod index;
mod shared;
pub(crate) mod sharing;
mod summary;

use std::time::Instant;

use dimsum_convert::{Choice, ConvertOptions, Converted, Input, convert_all, convert_as};
use dimsum_source::{Role, Target};
use serde::Serialize;

pub use self::index::{IndexSummary, IndexedConversion, LeftOutImage};
pub use self::shared::{SharedPack, SharingRefusal, SharingSummary};
pub use self::sharing::SharingRequest;
pub use self::summary::{ConversionSummary, ConvertedLayer, KeptRecipe, OriginalSummary};

use self::decisions::decisions;
use self::sharing::SharingPlaces;
use crate::image::convert_in::ConvertProgress;
use crate::image::{create_target, open_place, parse, refuse_same};
use crate::{Engine, EngineError, RequestFault};

/// An image to convert.
#[derive(Debug, Clone, Default)]
pub struct ConvertRequest {
    /// An ordinary image or a file tree.
    pub source: String,
    /// Where the Dimsum image goes; made if it is not there.
    pub target: String,
    /// Whether an index is made in which each original stands before its Dimsum image.
    pub with_original: bool,
    /// How layers become packs.
    pub options: ConvertOptions,
    /// The images that it shares with.
    pub sharing: SharingRequest,
}

/// The result of a conversion.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub enum ConversionOutcome {
    /// One image.
    Image(ConversionSummary),
    /// An index of images.
    Index(IndexSummary),
}

impl ConversionOutcome {
    /// Returns the digest of the manifest or index that the target's name stands for now.
    #[must_use]
    pub const fn digest(&self) -> dimsum_format::Digest {
        match self {
            Self::Image(image) => image.manifest,
            Self::Index(index) => index.index,
        }
    }
}

impl Engine {
    /// Makes a Dimsum image of an ordinary image or a file tree. The platforms of the configuration pick images of an
    /// index; none takes all. Nothing is visible in the target before the whole source is verified.
    ///
    /// # Errors
    /// If the source cannot be read or is refused, an image to share with is not there, or the target cannot be written.
    pub fn convert(&self, request: &ConvertRequest) -> Result<ConversionOutcome, EngineError> {
        let started = Instant::now();
        let source = self.schemes().parse(&request.source);
        let source =
            source.map_err(|source| EngineError::Name { object: request.source.clone(), source: Box::new(source) })?;
        let others = request.sharing.open(self)?;
        let shown = ConvertProgress::new(self, &request.source);
        if let Some(path) = source.tree() {
            if request.with_original {
                let object = request.source.clone();
                return Err(EngineError::Request { object, fault: RequestFault::TreeWithOriginal });
            }
            let target = open_target(self, request, &others)?;
            let sharing = others.sharing().resolve(&*target, None, None, &request.options);
            let sharing = sharing.map_err(|error| shown.error(error))?;
            let input = Input::Directory { path };
            let converted = convert_as(input, &*target, Role::Root, &request.options, &sharing, &shown);
            let converted = converted.map_err(|error| shown.error(error))?;
            let (written, seconds) = (shown.written(), started.elapsed().as_secs_f64());
            drop(shown);
            explain(self, request, &others, &converted);
            return Ok(ConversionOutcome::Image(ConversionSummary::new(request, &converted, written, seconds)));
        }
        let place = open_place(self, &parse(self, &request.source)?)?;
        if !request.with_original {
            refuse_same(self, &request.source, &request.target)?;
        }
        let target = open_target(self, request, &others)?;
        let (platforms, sharing) = (self.config().platforms.clone(), others.sharing());
        let choice = Choice { platforms, with_original: request.with_original, sharing };
        let converted = convert_all(&*place, &*target, &choice, &request.options, &shown);
        let converted = converted.map_err(|error| shown.error(error))?;
        let (written, seconds) = (shown.written(), started.elapsed().as_secs_f64());
        drop(shown);
        converted.images.iter().for_each(|image| explain(self, request, &others, &image.converted));
        Ok(match &*converted.images {
            [only] if only.converted.manifest == converted.root.digest => {
                ConversionOutcome::Image(ConversionSummary::new(request, &only.converted, written, seconds))
            }
            _ => ConversionOutcome::Index(IndexSummary::new(request, &converted, written, seconds)),
        })
    }
}

fn open_target(
    engine: &Engine,
    request: &ConvertRequest,
    others: &SharingPlaces,
) -> Result<Box<dyn Target>, EngineError> {
    let target = create_target(engine, &request.target)?;
    if let Some(line) = others.in_vain(&*target) {
        engine.progress().note(line);
    }
    Ok(target)
}

fn explain(engine: &Engine, request: &ConvertRequest, others: &SharingPlaces, converted: &Converted) {
    for line in decisions(others, converted) {
        engine.progress().explain(&format!("{}: {line}", request.source));
    }
}
