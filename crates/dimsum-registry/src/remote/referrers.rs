//! Referrers in a registry: by its API, else by the fallback tag.

use dimsum_format::Digest;
use dimsum_format::limits::MAX_MANIFEST_BYTES;
use dimsum_format::manifest::{Descriptor, Index};
use dimsum_format::media;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::Repo;
use super::body::Body;
use super::exchange::Call;
use super::failure::Failure;
use crate::error::SourceError;
use crate::referrers::{fallback_tag, select};

/// What a registry with the API answers when a manifest with a subject is stored.
pub(super) const OCI_SUBJECT: &str = "oci-subject";

impl Repo {
    /// Lists referrers of a type: the first page of the registry's list, which it narrows down if it can.
    pub(super) async fn referrers(&self, subject: Digest, artifact_type: &str) -> Result<Vec<Descriptor>, SourceError> {
        let what = format!("referrers of {subject}");
        let mut url = self.url(&format!("referrers/{subject}")).await?;
        url.query_pairs_mut().append_pair("artifactType", artifact_type);
        let read = self.retried(|| Box::pin(self.try_referrers(&url, &what)));
        let format_error = |source| SourceError::Format { source_name: self.text.clone(), source };
        if let Some(bytes) = self.within(self.hub.timing.total, &what, read).await? {
            return Ok(select(Index::parse(&bytes).map_err(format_error)?, artifact_type));
        }
        let Some(document) = self.tagged(&fallback_tag(subject)).await? else { return Ok(Vec::new()) };
        Ok(select(Index::parse(&document.bytes).map_err(format_error)?, artifact_type))
    }

    /// `None` of a registry that does not have the API.
    async fn try_referrers(&self, url: &Url, what: &str) -> Result<Option<Vec<u8>>, Failure> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(media::INDEX))]);
        let call = Call { method: Method::GET, url: url.clone(), headers, body: None, what, purpose: &self.pull };
        let response = self.call(&call).await?;
        match response.status() {
            StatusCode::OK => {}
            // 404 is what the specification says; others say that they do not know such a request.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST => return Ok(None),
            _ => return Err(self.refused(response, what, &self.pull).await),
        }
        let body = Body::of(response, what, self.hub.timing).map_err(Failure::fatal)?;
        match body.all(MAX_MANIFEST_BYTES).await? {
            Some(bytes) => Ok(Some(bytes.into())),
            None => {
                let reason = format!("it has more than {MAX_MANIFEST_BYTES} bytes");
                Err(Failure::fatal(self.answer_error(what, reason)))
            }
        }
    }
}
