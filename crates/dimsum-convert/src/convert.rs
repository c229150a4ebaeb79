//! The entry of a conversion.
//!
//! If a pack to be reused is not as it claims, the conversion starts again without it.

use dimsum_source::{Role, Target};
use tracing::{debug, debug_span};

use crate::conversion::run;
use crate::error::ConvertError;
use crate::input::Input;
use crate::options::ConvertOptions;
use crate::original::Keeping;
use crate::outcome::Converted;
use crate::progress::ConversionProgress;
use crate::reuse::Candidates;
use crate::sharing::{PackReuse, Refusals, RefusedPack, Sharing};
use crate::task::ConvertTask;
use crate::{manifest, source};

/// Attempts that may fail because of packs of others. After that the conversion takes no such pack: a writer of tags
/// could otherwise cause one attempt for each layer.
const MAX_ATTEMPTS: u32 = 8;

/// Converts an image or a directory by itself and makes the result the root of `target`.
///
/// # Errors
/// If the source cannot be read, is damaged or is refused, or the target cannot be written.
pub fn convert(
    input: Input<'_>,
    target: &dyn Target,
    options: &ConvertOptions,
    progress: &dyn ConversionProgress,
) -> Result<Converted, ConvertError> {
    let alone = Sharing { reuse: PackReuse::Never, ..Sharing::default() };
    convert_as(input, target, Role::Root, options, &alone, progress)
}

/// Converts an image or a directory and stores the result in `target`, as the whole or as a part of an index
/// that follows.
///
/// # Errors
/// As [`convert`]; also if an image to share with cannot be read.
pub fn convert_as(
    input: Input<'_>,
    target: &dyn Target,
    role: Role,
    options: &ConvertOptions,
    sharing: &Sharing<'_>,
    progress: &dyn ConversionProgress,
) -> Result<Converted, ConvertError> {
    options.check()?;
    let source = match input {
        Input::Image { manifest, .. } => manifest.to_string(),
        Input::Directory { path } => path.display().to_string(),
    };
    let _entered = debug_span!("convert", source).entered();
    let mut refused = Refusals::of(&sharing.refused);
    let candidates = Candidates::new(target, options, sharing, &mut refused)?;
    let mut attempts = 0;
    loop {
        let task = ConvertTask { target, role, options, sharing, candidates: &candidates, progress };
        match once(input, task, &mut refused) {
            // What it was to stand for has not been compressed, so all is done again, without it.
            Err(ConvertError::Reuse { what, reason }) => {
                debug!(pack = what, reason, "begins anew without a pack");
                refused.add(RefusedPack { what, reason });
                attempts += 1;
                if attempts == MAX_ATTEMPTS {
                    refused.add_everything(format!("{MAX_ATTEMPTS} packs were not what they were said to be"));
                }
            }
            done => return done,
        }
    }
}

fn once<'a>(input: Input<'a>, task: ConvertTask<'a>, refused: &'a mut Refusals) -> Result<Converted, ConvertError> {
    let keeping = Keeping::start(input, task.target, task.options)?;
    match input {
        Input::Directory { path } => run(task, 1, refused, keeping, |mut conversion| {
            conversion.directory(path)?;
            conversion.finish(manifest::new_config(), None)
        }),
        Input::Image { source, manifest } => {
            let image = source::read(source, manifest)?;
            run(task, image.layers.len(), refused, keeping, |mut conversion| {
                for (index, layer) in image.layers.iter().enumerate() {
                    conversion.layer(source, layer, index)?;
                }
                conversion.finish(image.config, Some(manifest))
            })
        }
    }
}
