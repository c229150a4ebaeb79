//! Exports: a Dimsum image becomes an ordinary image, a tar or a directory again.
//!
//! ```text
//! name ─→ opened through the store (image) ─┬─ recipes? ─→ the very layers of the source ─┬→ target
//!                                           ├─ else ─────→ layers made of packs and meta ─┘
//!                                           └─ a tar or a directory of the whole tree
//! ```

mod image;
mod summary;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use dimsum_convert::ConvertError;
use dimsum_convert::export::{
    ExportMode, ExportOptions, Exported, LayerCompression, OmittedEntries, Owners, export, export_directory,
    export_original, export_tar,
};
use dimsum_format::manifest::Descriptor;
use dimsum_format::{Digest, media};
use dimsum_source::{Prefer, Role, SourceFault, Target};

pub use self::summary::{ExportSummary, LayerExport};

use self::image::StoreImage;
use crate::image::convert_in::ConvertProgress;
use crate::image::{create_target, open_resolved, parse, refuse_same, resolve};
use crate::output_file::write_whole;
use crate::{Engine, EngineError, RequestFault};

/// Referrers that are tried: there is one, unless somebody else puts others beside it.
const MAX_REFERRERS: usize = 4;

/// Where an export goes, and in which form.
pub enum ExportGoal<'a> {
    /// An ordinary image.
    Image(ImageExport),
    /// A tar of the file tree, to a writer.
    Tar(&'a mut dyn Write),
    /// A tar of the file tree, to a file. Its name stands for the whole of it or for the file before.
    TarFile(PathBuf),
    /// The file tree itself, in a directory that is empty or not there.
    Directory {
        /// The directory.
        path: PathBuf,
        /// To whom the files belong.
        owners: Owners,
    },
}

impl ExportGoal<'_> {
    /// Returns the target as a text.
    fn target(&self) -> String {
        match self {
            Self::Image(wanted) => wanted.target.clone(),
            Self::Tar(_) => "tar:-".to_owned(),
            Self::TarFile(file) => format!("tar:{}", file.display()),
            Self::Directory { path, .. } => format!("dir:{}", path.display()),
        }
    }
}

impl fmt::Debug for ExportGoal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExportGoal").field(&self.target()).finish()
    }
}

/// An ordinary image to make.
#[derive(Debug, Clone, Default)]
pub struct ImageExport {
    /// Where it goes.
    pub target: String,
    /// How files are spread over layers.
    pub mode: ExportMode,
    /// How layers are compressed that are made here; none takes the usual way, and allows the layers of the source.
    pub compression: Option<LayerCompression>,
    /// The level of the compression; none takes the usual one, and allows the layers of the source.
    pub level: Option<u32>,
    /// Whether layers are rebuilt even if the image has recipes for those of the source.
    pub no_original: bool,
}

impl ImageExport {
    /// Returns the wish that asks for layers of a certain kind.
    fn names_compression(&self) -> Option<&'static str> {
        let compression = self.compression.map(|_| "compression");
        compression.or_else(|| self.level.map(|_| "level"))
    }

    fn options(&self, engine: &Engine) -> ExportOptions {
        ExportOptions {
            mode: self.mode,
            compression: self.compression.unwrap_or(LayerCompression::Gzip),
            level: self.level,
            role: Role::Root,
            temp_dir: engine.config().temp_dir.clone(),
            ..ExportOptions::default()
        }
    }
}

/// The result of an export.
struct ExportOutcome {
    image: Option<Exported>,
    left_out: OmittedEntries,
    /// Why the source's layers could not be given back, though there are recipes.
    no_original: Option<String>,
}

impl ExportOutcome {
    fn of(exported: Exported, no_original: Option<String>) -> Self {
        Self { left_out: exported.left_out.clone(), image: Some(exported), no_original }
    }
}

impl Engine {
    /// Turns a Dimsum image back into an ordinary image, a tar or a directory. The result unpacks to the identical tree;
    /// every byte of a file is proven on the way.
    ///
    /// # Errors
    /// If the image cannot be read or is damaged, is an ordinary one, or the target cannot be written.
    pub fn export(&self, image: &str, goal: ExportGoal<'_>) -> Result<ExportSummary, EngineError> {
        let started = Instant::now();
        if let ExportGoal::Image(wanted) = &goal {
            refuse_same(self, image, &wanted.target)?;
        }
        let resolved = resolve(self, &parse(self, image)?, Prefer::Dimsum)?;
        if !resolved.manifest.is_dimsum() {
            return Err(EngineError::Request { object: image.to_owned(), fault: RequestFault::OrdinaryAlready });
        }
        let failed = |source| EngineError::Source { object: image.to_owned(), source: Box::new(source) };
        let manifest = resolved.place.read_manifest(resolved.digest).map_err(failed)?;
        let place = Arc::clone(&resolved.place);
        let opened = open_resolved(self, resolved)?;
        let source = StoreImage { name: image, manifest: &manifest, opened: &opened, place: &*place };
        let shown = ConvertProgress::of(self, "export", image);
        let target = goal.target();
        let done = export_to(self, &source, goal, &shown)?;
        drop(shown);
        Ok(ExportSummary::new(image, target, done, started.elapsed().as_secs_f64()))
    }
}

fn export_to(
    engine: &Engine,
    source: &StoreImage<'_>,
    goal: ExportGoal<'_>,
    shown: &ConvertProgress,
) -> Result<ExportOutcome, EngineError> {
    let tar = |output: &mut dyn Write| {
        let sparse_from = ExportOptions::default().sparse_from;
        export_tar(source, output, sparse_from, shown).map_err(|error| shown.error(error))
    };
    let left_out = match goal {
        ExportGoal::Image(wanted) => return export_image(engine, source, &wanted, shown),
        ExportGoal::Tar(output) => tar(output)?,
        ExportGoal::TarFile(file) => write_whole("write the tar to", &file, tar)?,
        ExportGoal::Directory { path, owners } => {
            export_directory(source, &path, owners, shown).map_err(|error| shown.error(error))?
        }
    };
    Ok(ExportOutcome { image: None, left_out, no_original: None })
}

fn export_image(
    engine: &Engine,
    source: &StoreImage<'_>,
    wanted: &ImageExport,
    shown: &ConvertProgress,
) -> Result<ExportOutcome, EngineError> {
    let options = wanted.options(engine);
    let (referrers, unread) = recipes(source, wanted)?;
    let target = create_target(engine, &wanted.target)?;
    let no_original = match original(source, &referrers, &*target, &options, shown)? {
        Ok(exported) => return Ok(ExportOutcome::of(exported, None)),
        Err(reason) => reason.or(unread),
    };
    let exported = export(source, &*target, &options, shown).map_err(|error| shown.error(error))?;
    Ok(ExportOutcome::of(exported, no_original))
}

/// Looks for recipes of the source's layers, if they are wanted. Something else in the place of their list, whoever put
/// it there, keeps nobody from the image: the reason is returned.
fn recipes(source: &StoreImage<'_>, wanted: &ImageExport) -> Result<(Vec<Descriptor>, Option<String>), EngineError> {
    if wanted.no_original || wanted.mode != ExportMode::PerLayer {
        return Ok((Vec::new(), None));
    }
    let referrers = match source.place.referrers(Digest::of(source.manifest), Some(media::ORIGINAL)) {
        Ok(referrers) => referrers,
        Err(error) if matches!(error.detail(), Some(SourceFault::Referrers { .. })) => {
            return Ok((Vec::new(), Some(error.to_string())));
        }
        Err(error) => {
            return Err(EngineError::Source { object: source.name.to_owned(), source: Box::new(error) });
        }
    };
    // Two wishes that exclude each other: the very layers, whoever converted the image, and other ones, whoever exports it.
    match wanted.names_compression() {
        Some(wish) if !referrers.is_empty() => {
            Err(EngineError::Request { object: wish.to_owned(), fault: RequestFault::LayersAreOriginal })
        }
        _ => Ok((referrers, None)),
    }
}

/// Gives the source's layers back, if there are recipes for them; else says why not, if there are some.
fn original(
    source: &StoreImage<'_>,
    referrers: &[Descriptor],
    target: &dyn Target,
    options: &ExportOptions,
    shown: &ConvertProgress,
) -> Result<Result<Exported, Option<String>>, EngineError> {
    let mut reason = None;
    for referrer in referrers.iter().take(MAX_REFERRERS) {
        match export_original(source, source.place, referrer.digest, target, options, shown) {
            Ok(exported) => return Ok(Ok(exported)),
            Err(error @ ConvertError::Original { .. }) => reason = Some(error.to_string()),
            Err(error) => return Err(shown.error(error)),
        }
    }
    Ok(Err(reason))
}
