//! Referrers in a layout: listed under their fallback tag, which tools that ask for another tag do not meet.

use dimsum_format::Digest;
use dimsum_format::manifest::{Descriptor, Index};

use super::OciLayout;
use crate::error::SourceError;
use crate::referrers::{fallback_tag, select};
use crate::target::Target as _;

impl OciLayout {
    pub(super) fn list_referrers(
        &self,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, SourceError> {
        let Some(document) = self.read_tag(&fallback_tag(subject))? else { return Ok(Vec::new()) };
        let index = Index::parse(&document.bytes).map_err(|source| self.format_error(source))?;
        Ok(select(index, artifact_type))
    }
}
