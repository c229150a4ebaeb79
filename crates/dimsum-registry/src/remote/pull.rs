//! Whole small things: manifests, configs, and how long a blob is.

use dimsum_format::limits::MAX_MANIFEST_BYTES;
use dimsum_format::{Digest, media};
use dimsum_source::{Document, ImageName, SourceError, SourceFault};
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::Repo;
use super::body::{Body, length};
use super::exchange::Call;
use super::failure::Failure;

/// The digest that a registry computed. Not what anything is named by: a second opinion.
pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

impl Repo {
    /// Reads what the reference stands for.
    pub(super) async fn root(&self) -> Result<Document, SourceError> {
        let bytes = match &self.name {
            ImageName::Digest(digest) => return self.document(*digest).await,
            ImageName::Tag(tag) => self.manifest(tag, None).await?,
        };
        let Some(bytes) = bytes else {
            let reason = "the registry has no image by this name, or hides it".to_owned();
            return Err(SourceFault::Name { reason }.at(&self.text));
        };
        self.parse(Digest::of(&bytes), bytes)
    }

    /// Reads what another tag of the repository stands for; `None` if there is none.
    pub(super) async fn tagged(&self, tag: &str) -> Result<Option<Document>, SourceError> {
        let bytes = self.manifest(tag, None).await?;
        bytes.map(|bytes| self.parse(Digest::of(&bytes), bytes)).transpose()
    }

    async fn document(&self, digest: Digest) -> Result<Document, SourceError> {
        let bytes = self.manifest_by_digest(digest).await?;
        self.parse(digest, bytes)
    }

    fn parse(&self, digest: Digest, bytes: Vec<u8>) -> Result<Document, SourceError> {
        let form = |source| SourceFault::Format { source }.at(&self.text);
        Document::new(digest, bytes).map_err(form)
    }

    pub(super) async fn manifest_by_digest(&self, digest: Digest) -> Result<Vec<u8>, SourceError> {
        let bytes = self.manifest(&digest.to_string(), Some(digest)).await?;
        bytes.ok_or_else(|| SourceFault::NotFound { object: "manifest", digest }.at(&self.text))
    }

    /// Reads a manifest or an index; `None` if there is none.
    async fn manifest(&self, name: &str, digest: Option<Digest>) -> Result<Option<Vec<u8>>, SourceError> {
        let what = format!("manifest {name}");
        let url = self.url(&format!("manifests/{name}")).await?;
        let read = self.retried(|| Box::pin(self.try_manifest(&url, &what, digest)));
        self.within(self.hub.wire.timing.total, &what, read).await
    }

    async fn try_manifest(&self, url: &Url, what: &str, digest: Option<Digest>) -> Result<Option<Vec<u8>>, Failure> {
        let accepted = [media::MANIFEST, media::INDEX, media::DOCKER_MANIFEST, media::DOCKER_INDEX].join(", ");
        let accepted = HeaderValue::try_from(accepted).expect("media types make a header");
        let headers = HeaderMap::from_iter([(ACCEPT, accepted)]);
        let call = Call { method: Method::GET, url: url.clone(), headers, body: None, what, purpose: &self.pull };
        let response = self.call(&call).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.refused(response, what, &self.pull).await),
        }
        let claimed = response.headers().get(CONTENT_DIGEST).and_then(|digest| digest.to_str().ok()?.parse().ok());
        let body = Body::of(response, what, self.hub.wire.timing).map_err(Failure::fatal)?;
        let Some(bytes) = body.all(MAX_MANIFEST_BYTES).await? else {
            let reason = format!("it has more than {MAX_MANIFEST_BYTES} bytes");
            return Err(Failure::fatal(self.answer_error(what, reason)));
        };
        let is = Digest::of(&bytes);
        let must: Option<Digest> = digest.or(claimed);
        if let Some(must) = must.filter(|must| *must != is) {
            let source_name = self.text.clone();
            return Err(Failure::fatal(SourceFault::Digest { object: "manifest", is, must }.at(source_name)));
        }
        Ok(Some(bytes.into()))
    }

    /// Reads a small blob and checks it, in one request.
    pub(super) async fn small(&self, object: &'static str, blob: Digest, limit: u64) -> Result<Vec<u8>, SourceError> {
        let what = format!("{object} {blob}");
        let url = self.blob_url(blob).await?;
        let read = self.retried(|| Box::pin(self.try_small(&url, &what, object, blob, limit)));
        self.within(self.hub.wire.timing.range(limit), &what, read).await
    }

    async fn try_small(
        &self,
        url: &Url,
        what: &str,
        object: &'static str,
        blob: Digest,
        limit: u64,
    ) -> Result<Vec<u8>, Failure> {
        let headers = HeaderMap::new();
        let call = Call { method: Method::GET, url: url.clone(), headers, body: None, what, purpose: &self.pull };
        let response = self.call(&call).await?;
        let source_name = self.text.clone();
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return Err(Failure::fatal(SourceFault::NotFound { object, digest: blob }.at(source_name)));
            }
            _ => return Err(self.refused(response, what, &self.pull).await),
        }
        let size = length(response.headers()).unwrap_or_else(|| limit.saturating_add(1));
        let Some(bytes) = Body::of(response, what, self.hub.wire.timing).map_err(Failure::fatal)?.all(limit).await?
        else {
            return Err(Failure::fatal(SourceFault::TooLarge { object, digest: blob, size, limit }.at(source_name)));
        };
        let is = Digest::of(&bytes);
        if is != blob {
            return Err(Failure::fatal(SourceFault::Digest { object, is, must: blob }.at(source_name)));
        }
        Ok(bytes.into())
    }

    /// Returns the length of a blob; `None` if it is not there. The inner `None` is a registry that does not say.
    pub(super) async fn head(&self, blob: Digest, push: bool) -> Result<Option<Option<u64>>, SourceError> {
        let what = format!("blob {blob}");
        let url = self.blob_url(blob).await?;
        let read = self.retried(|| Box::pin(self.try_head(&url, &what, push)));
        self.within(self.hub.wire.timing.total, &what, read).await
    }

    async fn try_head(&self, url: &Url, what: &str, push: bool) -> Result<Option<Option<u64>>, Failure> {
        let (headers, purpose) = (HeaderMap::new(), if push { &self.push } else { &self.pull });
        let call = Call { method: Method::HEAD, url: url.clone(), headers, body: None, what, purpose };
        let response = self.call(&call).await?;
        match response.status() {
            StatusCode::OK => Ok(Some(length(response.headers()))),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.refused(response, what, purpose).await),
        }
    }
}
