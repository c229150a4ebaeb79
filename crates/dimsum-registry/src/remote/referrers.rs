//! Referrers in a registry: by its API, page by page, else by the fallback tag.
//!
//! ```text
//!   referrers/<subject> ─┬─ 200: a page ─ Link: next? ─→ the next page, of the same registry … ─→ entries
//!                        └─ 404: no API ─→ tag sha256-<subject> ─────────────────────────────────→ entries
//! ```

use std::collections::HashSet;

use dimsum_format::limits::{MAX_INDEX_MANIFESTS, MAX_MANIFEST_BYTES};
use dimsum_format::manifest::{Descriptor, Index};
use dimsum_format::{Digest, FormatError, media};
use dimsum_source::referrers::{fallback_tag, parse_list, select};
use dimsum_source::{SourceError, SourceFault};
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, LINK};
use reqwest::{Method, Response, StatusCode, Url};

use super::body::Body;
use super::exchange::Call;
use super::failure::Failure;
use super::origin::Origin;
use super::{Repo, link};

/// What a registry with the API answers when a manifest with a subject is stored.
pub(super) const OCI_SUBJECT: &str = "oci-subject";
/// Pages of a list that are read. Registries give 50 to 1000 entries with a page, and an image has a handful. Only a
/// registry that cannot narrow a list down has so many, for an image with thousands of signatures.
const MAX_PAGES: usize = 64;

/// A part of a list.
struct Page {
    bytes: Vec<u8>,
    next: Option<Url>,
}

impl Repo {
    /// Lists referrers, of one type or of all; the registry narrows the list down if it can.
    pub(super) async fn referrers(
        &self,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, SourceError> {
        let what = format!("referrers of {subject}");
        let format_error = |source| SourceFault::Format { source }.at(&self.text);
        let mut url = self.url(&format!("referrers/{subject}")).await?;
        if let Some(artifact_type) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", artifact_type);
        }
        let Some(mut page) = self.page(&url, &what).await? else {
            let Some(document) = self.tagged(&fallback_tag(subject)).await? else { return Ok(Vec::new()) };
            return Ok(select(parse_list(&self.text, subject, &document.bytes)?, artifact_type));
        };
        let mut seen = HashSet::from([url]);
        let mut found = Vec::new();
        loop {
            found.extend(select(Index::parse(&page.bytes).map_err(format_error)?, artifact_type));
            if found.len() > MAX_INDEX_MANIFESTS {
                let (value, limit) = (found.len() as u64, MAX_INDEX_MANIFESTS as u64);
                return Err(format_error(FormatError::Limit { part: "referrers of a manifest", value, limit }));
            }
            let Some(next) = page.next else { return Ok(found) };
            // A list that is cut off somewhere must not pass for a short one.
            if seen.len() == MAX_PAGES || !seen.insert(next.clone()) {
                let reason = format!("the list goes in circles, or has more than {MAX_PAGES} pages");
                return Err(self.answer_error(&what, reason));
            }
            let gone = || self.answer_error(&what, "the list is said to go on, and a page of it is not there");
            page = self.page(&next, &what).await?.ok_or_else(gone)?;
        }
    }

    /// `None` of a registry that does not have the API.
    async fn page(&self, url: &Url, what: &str) -> Result<Option<Page>, SourceError> {
        let read = self.retried(|| Box::pin(self.try_page(url, what)));
        self.within(self.hub.wire.timing.total, what, read).await
    }

    async fn try_page(&self, url: &Url, what: &str) -> Result<Option<Page>, Failure> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(media::INDEX))]);
        let call = Call { method: Method::GET, url: url.clone(), headers, body: None, what, purpose: &self.pull };
        let response = self.call(&call).await?;
        match response.status() {
            StatusCode::OK => {}
            // 404 is what the specification says; others say that they do not know such a request.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST => return Ok(None),
            _ => return Err(self.refused(response, what, &self.pull).await),
        }
        let next = self.next_page(&response, url, what)?;
        let body = Body::of(response, what, self.hub.wire.timing).map_err(Failure::fatal)?;
        match body.all(MAX_MANIFEST_BYTES).await? {
            Some(bytes) => Ok(Some(Page { bytes: bytes.into(), next })),
            None => {
                let reason = format!("it has more than {MAX_MANIFEST_BYTES} bytes");
                Err(Failure::fatal(self.answer_error(what, reason)))
            }
        }
    }

    /// Returns where the list goes on. That must be the place that was asked: it gets the credentials again.
    fn next_page(&self, response: &Response, asked: &Url, what: &str) -> Result<Option<Url>, Failure> {
        let links = response.headers().get_all(LINK).iter().filter_map(|link| link.to_str().ok());
        let Some(target) = links.filter_map(link::next).next() else { return Ok(None) };
        let url = response.url().join(target).ok();
        let same =
            |url: &Url| Origin::of(url) == Origin::of(asked) && url.username().is_empty() && url.password().is_none();
        match url.filter(same) {
            Some(url) => Ok(Some(url)),
            None => Err(Failure::fatal(self.answer_error(what, "the list is to go on at another place"))),
        }
    }
}
