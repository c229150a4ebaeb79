//! The task of one conversion: its target and its options.

use dimsum_source::{Role, Target};

use crate::options::ConvertOptions;
use crate::progress::ConversionProgress;
use crate::reuse::Candidates;
use crate::sharing::Sharing;

/// Target and options of a conversion, the same for all its layers.
#[derive(Clone, Copy)]
pub(crate) struct ConvertTask<'a> {
    pub(crate) target: &'a dyn Target,
    pub(crate) role: Role,
    pub(crate) options: &'a ConvertOptions,
    pub(crate) sharing: &'a Sharing<'a>,
    pub(crate) candidates: &'a Candidates<'a>,
    pub(crate) progress: &'a dyn ConversionProgress,
}
