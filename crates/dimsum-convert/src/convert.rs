//! The entry of a conversion.
//!
//! If a pack that was to be reused is not what it claims, everything is done again without it.

use dimsum_source::{Role, Target};

use crate::conversion::run;
use crate::error::Error;
use crate::input::Input;
use crate::options::Options;
use crate::original::Keeping;
use crate::outcome::Converted;
use crate::progress::Progress;
use crate::reuse::Candidates;
use crate::sharing::{Refusals, Refused, Reuse, Sharing};
use crate::task::Task;
use crate::{manifest, source};

/// Attempts that may fail because of what others have: then nothing of theirs is taken any more, or whoever can
/// write tags could make one conversion as many as there are layers.
const MAX_ATTEMPTS: u32 = 8;

/// Converts an image or a directory by itself and makes the result the root of `target`.
///
/// # Errors
/// If the source cannot be read, is damaged or is refused, or the target cannot be written.
pub fn convert(
    input: Input<'_>,
    target: &dyn Target,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Converted, Error> {
    let alone = Sharing { reuse: Reuse::Never, ..Sharing::default() };
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
    options: &Options,
    sharing: &Sharing<'_>,
    progress: &dyn Progress,
) -> Result<Converted, Error> {
    options.check()?;
    let mut refused = Refusals::of(&sharing.refused);
    let candidates = Candidates::new(target, options, sharing, &mut refused)?;
    let mut attempts = 0;
    loop {
        let task = Task { target, role, options, sharing, candidates: &candidates, progress };
        match once(input, task, &mut refused) {
            // What it was to stand for has not been compressed, so all is done again, without it.
            Err(Error::Reuse { what, reason }) => {
                refused.add(Refused { what, reason });
                attempts += 1;
                if attempts == MAX_ATTEMPTS {
                    refused.add_everything(format!("{MAX_ATTEMPTS} packs were not what they were said to be"));
                }
            }
            done => return done,
        }
    }
}

fn once<'a>(input: Input<'a>, task: Task<'a>, refused: &'a mut Refusals) -> Result<Converted, Error> {
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
