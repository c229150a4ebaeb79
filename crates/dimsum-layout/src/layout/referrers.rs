//! Referrers in a layout: listed under their fallback tag, which tools that ask for another tag do not meet.

use dimsum_format::Digest;
use dimsum_format::manifest::Descriptor;
use dimsum_source::referrers::{fallback_tag, parse_list, select};
use dimsum_source::{SourceError, Target as _};

use super::OciLayout;

impl OciLayout {
    pub(super) fn list_referrers(
        &self,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, SourceError> {
        let Some(document) = self.read_tag(&fallback_tag(subject))? else { return Ok(Vec::new()) };
        Ok(select(parse_list(&self.text, subject, &document.bytes)?, artifact_type))
    }
}
