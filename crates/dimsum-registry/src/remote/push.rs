//! A repository as a target.

use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use dimsum_format::manifest::Blob;
use dimsum_format::{Digest, media};
use dimsum_source::referrers::{Referrer, list_in_tag};
use dimsum_source::{
    BlobWriter, Document, ImageName, Place, Repository, Role, Source, SourceError, SourceFault, Target,
};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::exchange::Call;
use super::failure::Failure;
use super::proof::Purpose;
use super::pull::CONTENT_DIGEST;
use super::referrers::OCI_SUBJECT;
use super::spool::Spool;
use super::upload::Supply;
use super::{RemoteRepository, Repo};
use crate::fault::RegistryFault;

impl Target for RemoteRepository {
    fn name(&self) -> &str {
        &self.repo.text
    }

    /// Begins an upload and gives it up.
    fn check_writable(&self) -> Result<(), SourceError> {
        self.wait(|repo| async move {
            let begun = repo.retried(|| Box::pin(repo.begin())).await?;
            repo.give_up(begun.url).await;
            Ok(())
        })
    }

    fn has(&self, blob: Digest, size: u64) -> Result<bool, SourceError> {
        let has = self.wait(|repo| async move { repo.head(blob, true).await })?;
        // A registry that does not say the length gets the blob again.
        Ok(has == Some(Some(size)))
    }

    fn start_blob(&self) -> Result<Box<dyn BlobWriter + '_>, SourceError> {
        Ok(Box::new(Spool::new(self)?))
    }

    fn mount_blob(&self, blob: Blob, from: &Repository) -> Result<bool, SourceError> {
        if from.host() != self.repo.repository.host() || from.path() == self.repo.repository.path() {
            return Ok(false);
        }
        let from = from.clone();
        match self.wait(|repo| async move { repo.mount(blob.digest, &from).await }) {
            // A user who may not read there copies. If writing is what is refused, the copy says so.
            Err(error) if is_refused(&error) => Ok(false),
            mounted => mounted,
        }
    }

    fn copy_blob(
        &self,
        blob: Blob,
        from: &dyn Source,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        self.upload(blob, &SourceBlob { from, digest: blob.digest }, progress)
    }

    fn put_manifest(&self, media_type: &str, manifest: &[u8], role: Role) -> Result<Digest, SourceError> {
        let tag = match (role, &self.repo.name) {
            (Role::Root, ImageName::Tag(tag)) => Some(tag.clone()),
            _ => None,
        };
        self.put(tag, media_type, manifest)
    }

    fn place(&self) -> Option<&dyn Place> {
        Some(self)
    }

    fn read_tag(&self, tag: &str) -> Result<Option<Document>, SourceError> {
        let tag = tag.to_owned();
        self.wait(|repo| async move { repo.tagged(&tag).await })
    }

    fn put_tag(&self, tag: &str, media_type: &str, manifest: &[u8]) -> Result<bool, SourceError> {
        self.put(Some(tag.to_owned()), media_type, manifest).map(|_| true)
    }

    fn refuses_referrers(&self) -> Option<&'static str> {
        None
    }

    fn put_referrer(&self, manifest: &[u8]) -> Result<Digest, SourceError> {
        let referrer = Referrer::parse(self, manifest)?;
        let bytes = Bytes::copy_from_slice(manifest);
        let listed = self.wait(|repo| async move { repo.put_manifest(None, media::MANIFEST, bytes).await })?.listed;
        if !listed {
            list_in_tag(self, referrer.subject, &referrer.entry)?;
        }
        Ok(referrer.entry.digest)
    }
}

impl RemoteRepository {
    /// Stores a manifest under a tag, or only under its digest.
    fn put(&self, tag: Option<String>, media_type: &str, manifest: &[u8]) -> Result<Digest, SourceError> {
        let (media_type, bytes) = (media_type.to_owned(), Bytes::copy_from_slice(manifest));
        self.wait(|repo| async move { repo.put_manifest(tag, &media_type, bytes).await }).map(|stored| stored.digest)
    }
}

/// A blob of another source.
struct SourceBlob<'s> {
    from: &'s dyn Source,
    digest: Digest,
}

impl Supply for SourceBlob<'_> {
    fn name(&self) -> &str {
        self.from.name()
    }

    fn open_at(&self, start: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        if start == 0 { self.from.open(self.digest) } else { self.from.open_at(self.digest, start) }
    }
}

impl Repo {
    /// Asks for a blob of another repository. A registry that does not do it begins an upload instead, which is given up:
    /// the copy that follows begins its own.
    async fn mount(self: &Arc<Self>, blob: Digest, from: &Repository) -> Result<bool, SourceError> {
        let what = format!("mounting blob {blob} from {}", from.path());
        let mut url = self.url("blobs/uploads/").await?;
        url.query_pairs_mut().append_pair("mount", &blob.to_string()).append_pair("from", from.path());
        let purpose = self.push.clone().and_pull(from);
        let mount = self.retried(|| Box::pin(self.try_mount(&url, &what, &purpose)));
        let begun = match self.within(self.hub.wire.timing.total, &what, mount).await? {
            Ok(()) => return Ok(true),
            Err(begun) => begun,
        };
        if let Some(begun) = begun {
            self.give_up(begun).await;
        }
        Ok(false)
    }

    /// `Err` holds the upload that was begun instead.
    async fn try_mount(&self, url: &Url, what: &str, purpose: &Purpose) -> Result<Result<(), Option<Url>>, Failure> {
        let headers = HeaderMap::new();
        let call = Call { method: Method::POST, url: url.clone(), headers, body: Some(Bytes::new()), what, purpose };
        let response = self.call(&call).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Ok(())),
            StatusCode::ACCEPTED => Ok(Err(self.location(&response, what)?)),
            _ => Err(self.refused(response, what, purpose).await),
        }
    }

    async fn put_manifest(&self, tag: Option<String>, media_type: &str, bytes: Bytes) -> Result<Stored, SourceError> {
        let digest = Digest::of(&bytes);
        let name = tag.unwrap_or_else(|| digest.to_string());
        let what = format!("manifest {name}");
        let url = self.url(&format!("manifests/{name}")).await?;
        let media_type = HeaderValue::try_from(media_type)
            .map_err(|_| self.answer_error(&what, "the media type has letters that no header may have"))?;
        let put = self.retried(|| Box::pin(self.try_put(&url, &what, &media_type, bytes.clone(), digest)));
        let listed = self.within(self.hub.wire.timing.total, &what, put).await?;
        Ok(Stored { digest, listed })
    }

    /// Says whether the registry lists the manifest as a referrer.
    async fn try_put(
        &self,
        url: &Url,
        what: &str,
        media_type: &HeaderValue,
        bytes: Bytes,
        digest: Digest,
    ) -> Result<bool, Failure> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, media_type.clone())]);
        let purpose = &self.push;
        let call = Call { method: Method::PUT, url: url.clone(), headers, body: Some(bytes), what, purpose };
        let response = self.call(&call).await?;
        if !matches!(response.status(), StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED) {
            return Err(self.refused(response, what, purpose).await);
        }
        let says = response.headers().get(CONTENT_DIGEST).and_then(|digest| digest.to_str().ok()?.parse().ok());
        match says {
            Some(is) if is != digest => {
                let source_name = self.text.clone();
                Err(Failure::fatal(SourceFault::Digest { object: "stored manifest", is, must: digest }.at(source_name)))
            }
            _ => Ok(response.headers().contains_key(OCI_SUBJECT)),
        }
    }
}

/// A manifest that was stored.
struct Stored {
    digest: Digest,
    /// The registry has the referrers API and has seen the manifest's subject.
    listed: bool,
}

fn is_refused(error: &SourceError) -> bool {
    use RegistryFault as F;
    let refused =
        |fault: &F| matches!(fault, F::AuthDenied { .. } | F::AuthNeeded { .. } | F::Status { status: 400..=499, .. });
    error.detail().is_some_and(refused)
}
