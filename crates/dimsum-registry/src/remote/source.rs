//! A repository as a source and a place.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dimsum_format::Digest;
use dimsum_format::manifest::Descriptor;
use dimsum_source::{BoxFuture, Document, Place, Reference, Repository, Source, SourceError, SourceFault};
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::range::RangeBody;
use super::reader::BlobReader;
use super::{RemoteRepository, Repo};

/// Memory that is taken at once for a range: what is asked for is no promise that it comes.
const MAX_RESERVE: usize = 4 << 20;

impl Source for RemoteRepository {
    fn name(&self) -> &str {
        &self.repo.text
    }

    fn read_range(&self, blob: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, SourceError>> {
        Box::pin(self.repo.timed_range(blob, range))
    }

    fn read_piece(&self, blob: Digest, range: Range<u64>) -> Result<Bytes, SourceError> {
        self.wait(|repo| async move { repo.timed_range(blob, range).await })
    }

    fn stream_range(&self, blob: Digest, range: Range<u64>) -> BoxStream<'_, Result<Bytes, SourceError>> {
        let repo = &*self.repo;
        let body = RangeBody::new(blob, range.start, Some(range.end));
        stream::unfold(Some(body), move |body| async move {
            let mut body = body?;
            match body.next(repo).await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(body))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn repository(&self) -> Option<&Repository> {
        Some(&self.repo.repository)
    }

    fn open(&self, blob: Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        self.open_at(blob, 0)
    }

    fn open_at(&self, blob: Digest, start: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        // The first bytes are waited for, so that a blob that is not there is not opened.
        let (body, first) = self.wait(|repo| async move {
            let end = if start == 0 { None } else { repo.end_for(blob, start).await? };
            let mut body = RangeBody::new(blob, start, end);
            let first = body.next(&repo).await?;
            Ok((body, first))
        })?;
        Ok(Box::new(BlobReader::start(&self.runtime, Arc::clone(&self.repo), body, first)))
    }

    fn read_manifest(&self, digest: Digest) -> Result<Vec<u8>, SourceError> {
        self.wait(|repo| async move { repo.manifest_by_digest(digest).await })
    }

    fn size(&self, blob: Digest) -> Result<Option<u64>, SourceError> {
        let size = self.wait(|repo| async move { repo.head(blob, false).await })?;
        match size {
            Some(None) => Err(self.repo.answer_error(&format!("blob {blob}"), "the registry does not say its length")),
            Some(size) => Ok(size),
            None => Ok(None),
        }
    }

    fn read_small(&self, object: &'static str, blob: Digest, limit: u64) -> Result<Vec<u8>, SourceError> {
        self.wait(|repo| async move { repo.small(object, blob, limit).await })
    }
}

impl Place for RemoteRepository {
    fn reference(&self) -> &Reference {
        &self.repo.reference
    }

    fn root(&self) -> Result<Document, SourceError> {
        self.wait(|repo| async move { repo.root().await })
    }

    fn referrers(&self, subject: Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, SourceError> {
        let artifact_type = artifact_type.map(str::to_owned);
        self.wait(|repo| async move { repo.referrers(subject, artifact_type.as_deref()).await })
    }
}

impl Repo {
    /// Returns the end of a blob that is to be read from its middle: some registries know no ranges without an end. `None` if
    /// this one does not say how long its blobs are.
    async fn end_for(&self, digest: Digest, start: u64) -> Result<Option<u64>, SourceError> {
        let source_name = || self.text.clone();
        let size = self
            .head(digest, false)
            .await?
            .ok_or_else(|| SourceFault::NotFound { object: "blob", digest }.at(source_name()))?;
        match size {
            Some(size) if size < start => {
                Err(SourceFault::Range { digest, range: start..start.saturating_add(1) }.at(source_name()))
            }
            size => Ok(size),
        }
    }

    async fn timed_range(&self, blob: Digest, range: Range<u64>) -> Result<Bytes, SourceError> {
        let after = self.hub.wire.timing.range(range.end.saturating_sub(range.start));
        self.within(after, &format!("blob {blob}"), self.range(blob, range)).await
    }

    async fn range(&self, blob: Digest, range: Range<u64>) -> Result<Bytes, SourceError> {
        let cancelled = |_| SourceFault::Cancelled.at(&self.text);
        let _permit = self.ranges.acquire().await.map_err(cancelled)?;
        let wanted = range.end.saturating_sub(range.start);
        let mut body = RangeBody::new(blob, range.start, Some(range.end));
        let Some(first) = body.next(self).await? else { return Ok(Bytes::new()) };
        if first.len() as u64 == wanted {
            return Ok(first);
        }
        let capacity = usize::try_from(wanted).unwrap_or(MAX_RESERVE).min(MAX_RESERVE);
        let mut bytes = BytesMut::with_capacity(capacity.max(first.len()));
        bytes.extend_from_slice(&first);
        while let Some(next) = body.next(self).await? {
            bytes.extend_from_slice(&next);
        }
        Ok(bytes.freeze())
    }
}
