//! The scratch directory: a layout with the converted image, a store that nobody has read from, and nothing of it afterwards.

use std::path::PathBuf;

use dimsum_convert::{ConvertOptions, Converted, Input, convert_as};
use dimsum_layout::OCI_LAYOUT;
use dimsum_source::{ErrorKind, ImageName, Prefer, Reference, Role, Target, copy_manifest};
use tempfile::TempDir;

use super::rehearsal::Rehearsal;
use crate::conversion::sharing::SharingPlaces;
use crate::image::convert_in::ConvertProgress;
use crate::image::{self, Opened, Resolved};
use crate::text::total;
use crate::{CancelToken, Engine, EngineError, ProgressPhase};

/// The tag of the image in the layout.
const TAG: &str = "estimate";

/// The directory; removed when dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    /// With a store and a key in the directory. It is gone before the directory.
    engine: Engine,
    dir: TempDir,
}

impl Scratch {
    /// Makes one where temporary files go.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn create(engine: &Engine) -> Result<Self, EngineError> {
        let dir = tempfile::Builder::new().prefix("dimsum-estimate-").tempdir_in(&engine.config().temp_dir);
        let failed = |source| dimsum_convert::ConvertError::Temporary { dir: engine.config().temp_dir.clone(), source };
        let dir = dir.map_err(|source| EngineError::Convert {
            action: "estimate",
            object: engine.config().temp_dir.display().to_string(),
            source: Box::new(failed(source)),
        })?;
        let engine = engine.reconfigured(|config| {
            config.store = dir.path().join("store");
            config.node_key = dir.path().join("node.key");
            // It is we who name what lies here.
            config.require_digest = false;
        });
        Ok(Self { engine, dir })
    }

    /// Returns the engine with a store and a key in the scratch directory.
    pub(super) const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns a path in the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the reference of the image in the layout.
    pub(super) fn reference(&self) -> Reference {
        Reference::in_files(OCI_LAYOUT.name, self.path("image"), Some(ImageName::Tag(TAG.to_owned())))
    }

    fn target(&self, engine: &Engine) -> Result<Box<dyn Target>, EngineError> {
        let reference = self.reference();
        let target = engine.transports()?.create(&reference);
        target.map_err(|source| EngineError::Target { object: reference.to_string(), source: Box::new(source) })
    }

    /// Converts an ordinary image into the layout.
    ///
    /// # Errors
    /// If it cannot be read or is refused.
    pub(super) fn convert(
        &self,
        engine: &Engine,
        from: &Resolved,
        options: &ConvertOptions,
    ) -> Result<Converted, EngineError> {
        let target = self.target(engine)?;
        let shown = ConvertProgress::new(engine, &from.reference.to_string());
        let converted = dimsum_convert::convert(input(from), &*target, options, &shown);
        converted.map_err(|error| shown.error(error))
    }

    /// Converts as a conversion to `target` would that shares with what is there already. Packs of others are fetched only if they
    /// are to be read, for a run.
    ///
    /// # Errors
    /// As [`convert`](Self::convert); also if the target cannot be asked, or an image to share with is not there.
    pub(super) fn rehearse(
        &self,
        engine: &Engine,
        from: &Resolved,
        options: &ConvertOptions,
        shared: SharedInRehearsal<'_>,
    ) -> Result<Converted, EngineError> {
        let SharedInRehearsal { target, others, fetch } = shared;
        let rehearsal = Rehearsal::new(engine, self.target(engine)?, target, fetch)?;
        let shown = ConvertProgress::new(engine, &from.reference.to_string());
        // As a conversion of the whole would do it for this image.
        let root = from.place.root();
        let root = root
            .map_err(|source| EngineError::Source { object: from.reference.to_string(), source: Box::new(source) })?;
        let platform = if root.is_index() { Some(engine.platform()?) } else { None };
        let sharing = others.sharing().resolve(&rehearsal, Some(from.digest), platform.as_ref(), options);
        let sharing = sharing.map_err(|error| shown.error(error))?;
        let converted = convert_as(input(from), &rehearsal, Role::Root, options, &sharing, &shown);
        converted.map_err(|error| shown.error(error))
    }

    /// Copies a Dimsum image into the layout, so that a run measures no network.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn copy(&self, engine: &Engine, from: &Resolved) -> Result<(), EngineError> {
        let reference = from.reference.to_string();
        let total = total(from.manifest.layers.iter().map(|layer| layer.size));
        let phase = engine.progress().phase(&format!("copying {reference}"), Some(total));
        let shown = ScratchCopy { _phase: phase, cancel: engine.cancel() };
        let target = self.target(engine)?;
        let copied = copy_manifest(&*from.place, &*target, from.digest, Role::Root, &shown);
        copied.map(drop).map_err(|source| match (source.kind(), engine.cancel().reason()) {
            (ErrorKind::Cancelled, Some(reason)) => EngineError::Cancelled { reason },
            _ => EngineError::Source { object: reference, source: Box::new(source) },
        })
    }

    /// Opens the image in the layout through the scratch store.
    ///
    /// # Errors
    /// If it does not prove.
    pub(super) fn open(&self) -> Result<Opened, EngineError> {
        let resolved = image::resolve(&self.engine, &self.reference(), Prefer::Dimsum)?;
        image::open_resolved(&self.engine, resolved)
    }
}

/// What a rehearsal shares with.
#[derive(Debug, Clone, Copy)]
pub(super) struct SharedInRehearsal<'a> {
    /// Where the image would be pushed to, if that was said.
    pub(super) target: Option<&'a str>,
    /// The images.
    pub(super) others: &'a SharingPlaces,
    /// Whether their packs are fetched.
    pub(super) fetch: bool,
}

fn input(from: &Resolved) -> Input<'_> {
    Input::Image { source: &*from.place, manifest: from.digest }
}

/// Shows a copy, and stops it when it is cancelled.
struct ScratchCopy<'e> {
    _phase: Box<dyn ProgressPhase>,
    cancel: &'e CancelToken,
}

impl dimsum_source::CopyProgress for ScratchCopy<'_> {
    fn cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
