//! What one conversion is told: what it writes to, and how.

use dimsum_source::{Role, Target};

use crate::options::Options;
use crate::progress::Progress;
use crate::reuse::Candidates;
use crate::sharing::Sharing;

/// Target and options of a conversion, the same for all its layers.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) target: &'a dyn Target,
    pub(crate) role: Role,
    pub(crate) options: &'a Options,
    pub(crate) sharing: &'a Sharing<'a>,
    pub(crate) candidates: &'a Candidates<'a>,
    pub(crate) progress: &'a dyn Progress,
}
