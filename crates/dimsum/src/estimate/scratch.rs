//! The scratch directory: a layout with the converted image, a store that nobody has read from, and nothing of it afterwards.

use std::path::PathBuf;

use dimsum_convert::{ConvertOptions, Converted, Input, convert_as};
use dimsum_layout::OCI_LAYOUT;
use dimsum_source::{ImageName, Prefer, Reference, Role, SourceError, Target, copy_manifest};
use tempfile::TempDir;

use super::rehearsal::Rehearsal;
use crate::commands::sharing_args::Others;
use crate::context::Context;
use crate::output::total;
use dimsum_engine::EngineError;
use dimsum_engine::image::convert_in::ConvertProgress;
use dimsum_engine::image::{self, Opened, Resolved};

/// The tag of the image in the layout.
const TAG: &str = "estimate";

/// The directory; removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
}

impl Scratch {
    /// Makes one where temporary files go.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(context: &Context) -> Result<Self, EngineError> {
        let dir = tempfile::Builder::new().prefix("dimsum-estimate-").tempdir_in(&context.engine.config().temp_dir);
        let failed =
            |source| dimsum_convert::ConvertError::Temporary { dir: context.engine.config().temp_dir.clone(), source };
        let dir = dir.map_err(|source| EngineError::Convert {
            action: "estimate",
            object: context.engine.config().temp_dir.display().to_string(),
            source: Box::new(failed(source)),
        })?;
        Ok(Self { dir })
    }

    /// Returns the surroundings with a store and a key in the scratch directory.
    #[must_use]
    pub fn context(&self, context: &Context) -> Context {
        let engine = context.engine.reconfigured(|config| {
            config.store = self.path("store");
            config.node_key = self.path("node.key");
            // It is we who name what lies here.
            config.require_digest = false;
        });
        Context { engine, ..context.clone() }
    }

    /// Returns a path in the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the reference of the image in the layout.
    #[must_use]
    pub fn reference(&self) -> Reference {
        Reference::in_files(OCI_LAYOUT.name, self.path("image"), Some(ImageName::Tag(TAG.to_owned())))
    }

    fn target(&self, context: &Context) -> Result<Box<dyn Target>, EngineError> {
        let reference = self.reference();
        let target = context.engine.transports()?.create(&reference);
        target.map_err(|source| EngineError::Target { object: reference.to_string(), source: Box::new(source) })
    }

    /// Converts an ordinary image into the layout.
    ///
    /// # Errors
    /// If it cannot be read or is refused.
    pub fn convert(
        &self,
        context: &Context,
        from: &Resolved,
        options: &ConvertOptions,
    ) -> Result<Converted, EngineError> {
        let target = self.target(context)?;
        let shown = ConvertProgress::new(&context.engine, &from.reference.to_string());
        let converted = dimsum_convert::convert(input(from), &*target, options, &shown);
        converted.map_err(|error| shown.error(error))
    }

    /// Converts as a conversion to `target` would that shares with what is there already. Packs of others are fetched only if they
    /// are to be read, for a run.
    ///
    /// # Errors
    /// As [`convert`](Self::convert); also if the target cannot be asked, or an image to share with is not there.
    pub fn rehearse(
        &self,
        context: &Context,
        from: &Resolved,
        options: &ConvertOptions,
        shared: Shared<'_>,
    ) -> Result<Converted, EngineError> {
        let Shared { target, others, fetch } = shared;
        let rehearsal = Rehearsal::new(context, self.target(context)?, target, fetch)?;
        let shown = ConvertProgress::new(&context.engine, &from.reference.to_string());
        // As a conversion of the whole would do it for this image.
        let root = from.place.root();
        let root = root
            .map_err(|source| EngineError::Source { object: from.reference.to_string(), source: Box::new(source) })?;
        let platform = if root.is_index() { Some(context.engine.platform()?) } else { None };
        let sharing = others.sharing().resolve(&rehearsal, Some(from.digest), platform.as_ref(), options);
        let sharing = sharing.map_err(|error| shown.error(error))?;
        let converted = convert_as(input(from), &rehearsal, Role::Root, options, &sharing, &shown);
        converted.map_err(|error| shown.error(error))
    }

    /// Copies a Dimsum image into the layout, so that a run measures no network.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn copy(&self, context: &Context, from: &Resolved) -> Result<(), EngineError> {
        let reference = from.reference.to_string();
        let total = total(from.manifest.layers.iter().map(|layer| layer.size));
        let shown = Shown { phase: context.progress.phase(&format!("copying {reference}"), Some(total)), context };
        let target = self.target(context)?;
        let copied = copy_manifest(&*from.place, &*target, from.digest, Role::Root, &shown);
        copied.map(drop).map_err(|source| match (&source, context.engine.cancel().reason()) {
            (SourceError::Cancelled { .. }, Some(reason)) => EngineError::Cancelled { reason },
            _ => EngineError::Source { object: reference, source: Box::new(source) },
        })
    }

    /// Opens the image in the layout through the scratch store.
    ///
    /// # Errors
    /// If it does not prove.
    pub fn open(&self, context: &Context) -> Result<Opened, EngineError> {
        let scratch = self.context(context);
        let resolved = image::resolve(&scratch.engine, &self.reference(), Prefer::Dimsum)?;
        image::open_resolved(&scratch.engine, resolved)
    }
}

/// What a rehearsal shares with.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// Where the image would be pushed to, if that was said.
    pub target: Option<&'a str>,
    /// The images.
    pub others: &'a Others,
    /// Whether their packs are fetched.
    pub fetch: bool,
}

fn input(from: &Resolved) -> Input<'_> {
    Input::Image { source: &*from.place, manifest: from.digest }
}

/// Shows a copy, and stops it when a signal asks for it.
struct Shown<'c> {
    phase: crate::progress::Phase,
    context: &'c Context,
}

impl dimsum_source::CopyProgress for Shown<'_> {
    fn cancelled(&self) -> bool {
        let _shown = &self.phase;
        self.context.engine.cancel().is_cancelled()
    }
}
