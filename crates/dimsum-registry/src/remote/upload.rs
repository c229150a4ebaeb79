//! Upload sessions.
//!
//! ```text
//!   small:  POST … → PUT ?digest, all of it                          again as a whole if it fails
//!   large:  POST … → PATCH, streamed → PUT ?digest
//!                      └ broken: GET says how far it came → the source is opened there → PATCH
//! ```
//!
//! Bytes are hashed as they leave, so what has the wrong digest is never finished. The thread that asked reads the source;
//! requests run on the runtime and take pieces from a short queue.

use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc as blocking;

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_format::manifest::Blob;
use dimsum_source::{SourceError, SourceFault};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tracing::Instrument as _;

use super::exchange::Call;
use super::failure::Failure;
use super::origin::Origin;
use super::{RemoteRepository, Repo, stream};
use crate::fault::RegistryFault;

/// Blobs up to this are held in memory and sent with one PUT: configs, and packs of small layers.
const MAX_SMALL: u64 = 4 << 20;
/// Bytes read from the source at once.
const PIECE: usize = 256 << 10;
/// Pieces that wait to be sent.
const AHEAD: usize = 4;
/// Bytes after which earlier failures are forgiven.
const FORGIVEN_AFTER: u64 = 64 << 20;

/// Where the bytes of a blob come from.
pub(super) trait Supply {
    /// Names it for messages.
    fn name(&self) -> &str;

    /// Opens the blob at a byte.
    fn open_at(&self, start: u64) -> Result<Box<dyn Read + Send>, SourceError>;
}

type Progress<'p> = &'p dyn Fn(u64) -> ControlFlow<()>;

impl RemoteRepository {
    /// Uploads a blob and checks it on the way.
    pub(super) fn upload(&self, blob: Blob, supply: &dyn Supply, progress: Progress<'_>) -> Result<(), SourceError> {
        if blob.size <= MAX_SMALL {
            return self.upload_small(blob, supply, progress);
        }
        let mut upload =
            Upload { target: self, blob, supply, progress, hasher: Sha256::new(), hashed: 0, session: None };
        let uploaded = upload.run();
        if let (Err(_), Some(session)) = (&uploaded, upload.session.take()) {
            // The error is what counts.
            drop(self.wait(|repo| async move {
                repo.give_up(session.url).await;
                Ok(())
            }));
        }
        uploaded
    }

    fn upload_small(&self, blob: Blob, supply: &dyn Supply, progress: Progress<'_>) -> Result<(), SourceError> {
        let mut bytes = Vec::new();
        // One byte more tells a blob that is too long.
        let mut reader = supply.open_at(0)?.take(blob.size.saturating_add(1));
        reader.read_to_end(&mut bytes).map_err(|source| read_error(supply, blob, source))?;
        check(supply, blob, Digest::of(&bytes), bytes.len() as u64)?;
        if progress(blob.size).is_break() {
            return Err(SourceFault::Cancelled.at(supply.name()));
        }
        let bytes = Bytes::from(bytes);
        self.wait(|repo| async move { repo.put_small(blob, bytes).await })
    }
}

fn read_error(supply: &dyn Supply, blob: Blob, source: std::io::Error) -> SourceError {
    SourceError::io(format!("{} {}", supply.name(), blob.digest), source)
}

fn check(supply: &dyn Supply, blob: Blob, is: Digest, size: u64) -> Result<(), SourceError> {
    if is == blob.digest && size == blob.size {
        return Ok(());
    }
    Err(SourceFault::Digest { object: "blob", is, must: blob.digest }.at(supply.name()))
}

/// A large blob on its way.
struct Upload<'u> {
    target: &'u RemoteRepository,
    blob: Blob,
    supply: &'u dyn Supply,
    progress: Progress<'u>,
    /// Over the first `hashed` bytes. Bytes that are sent again are not hashed again: the registry has the last word.
    hasher: Sha256,
    hashed: u64,
    session: Option<Session>,
}

/// An upload that the registry knows.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) url: Url,
    /// Bytes that the registry has.
    pub(super) has: u64,
    /// Whether it was continued after a failure.
    pub(super) resumed: bool,
}

impl Upload<'_> {
    fn run(&mut self) -> Result<(), SourceError> {
        let (mut failed, mut forgiven) = (0, 0);
        loop {
            let Err(failure) = self.attempt() else { return Ok(()) };
            if self.hashed.saturating_sub(forgiven) >= FORGIVEN_AFTER {
                (failed, forgiven) = (0, self.hashed);
            }
            failed += 1;
            self.target.wait(|repo| async move { repo.pause(failure, failed).await })?;
        }
    }

    /// Begins or goes on, to the end if nothing fails.
    fn attempt(&mut self) -> Result<(), Failure> {
        // It stays ours until there is another: the question after its state may be what is lost next.
        let known = self.session.clone();
        let digest = self.blob.digest;
        if known.as_ref().is_some_and(|session| session.has == self.blob.size) {
            // Only the word that it is there was missing, perhaps.
            let has = self.request(|repo| async move { repo.head(digest, true).await.map_err(Failure::from) })?;
            if has == Some(Some(self.blob.size)) {
                self.session = None;
                return Ok(());
            }
        }
        let session = self.request(|repo| async move { repo.begin_or_resume(known).await })?;
        let resumed = session.resumed;
        self.session = Some(session.clone());
        if session.has > self.hashed || session.has > self.blob.size {
            // It has what was never sent.
            self.session = None;
            return Err(Failure::passing(self.target.repo.answer_error("upload", "it has more than was sent")));
        }
        let url = if session.has < self.blob.size { self.send(session)? } else { session.url };
        self.session = Some(Session { url: url.clone(), has: self.blob.size, resumed });
        match self.request(|repo| async move { repo.finish(url, digest).await }) {
            Ok(()) => {
                self.session = None;
                Ok(())
            }
            // What was put together from pieces may be put together wrongly: once more, from the start.
            Err(failure) if resumed && !failure.error.is_passing() => {
                self.session = None;
                Err(Failure::passing(failure.error))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Sends what the registry does not have, and returns where to go on.
    fn send(&mut self, session: Session) -> Result<Url, Failure> {
        let start = session.has;
        let mut reader = self.supply.open_at(start).map_err(Failure::fatal)?;
        let (pieces, queue) = mpsc::channel(AHEAD);
        let (give, take) = blocking::channel();
        let (repo, blob) = (Arc::clone(&self.target.repo), self.blob);
        let patch = async move { drop(give.send(stream::patch(&repo, session, blob, queue).await)) };
        self.target.runtime.spawn(patch.in_current_span());
        let fed = self.feed(&mut *reader, start, &pieces);
        if fed.is_err() {
            // Cuts the request off in the middle.
            drop(pieces.blocking_send(Err(std::io::Error::other("the source failed"))));
        }
        drop(pieces);
        let answer = take.recv().map_err(|_| Failure::fatal(self.cancelled()))?;
        fed.map_err(Failure::fatal)?;
        match answer {
            // The registry knows nothing of it any more, or not this place in it.
            Err(failure)
                if matches!(
                    failure.error.detail(),
                    Some(RegistryFault::Status { status: 400 | 404 | 409 | 416, .. })
                ) =>
            {
                let begun_anew = self.session.take().is_some_and(|session| !session.resumed && start == 0);
                if begun_anew { Err(failure) } else { Err(Failure::passing(failure.error)) }
            }
            answer => answer,
        }
    }

    /// Reads the source into the queue. Ends early, and well, when the request does not take any more.
    fn feed(
        &mut self,
        reader: &mut dyn Read,
        start: u64,
        pieces: &mpsc::Sender<std::io::Result<Bytes>>,
    ) -> Result<(), SourceError> {
        let mut at = start;
        while at < self.blob.size {
            let left = usize::try_from(self.blob.size.saturating_sub(at)).unwrap_or(PIECE).min(PIECE);
            let piece = self.piece(reader, left)?;
            let end = at.saturating_add(piece.len() as u64);
            if end > self.hashed {
                let known = usize::try_from(self.hashed.saturating_sub(at)).unwrap_or(0);
                let new = piece.get(known..).unwrap_or_default();
                self.hasher.update(new);
                self.hashed = end;
                if (self.progress)(new.len() as u64).is_break() {
                    return Err(self.cancelled());
                }
            }
            at = end;
            if at == self.blob.size {
                // Before the last piece leaves.
                self.check(reader)?;
            }
            if pieces.blocking_send(Ok(piece)).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Reads a whole piece.
    fn piece(&self, reader: &mut dyn Read, length: usize) -> Result<Bytes, SourceError> {
        let mut piece = Vec::with_capacity(length);
        let read = reader.take(length as u64).read_to_end(&mut piece);
        read.map_err(|source| read_error(self.supply, self.blob, source))?;
        if piece.len() < length {
            let is = Digest::new(self.hasher.clone().chain_update(&piece).finalize().into());
            return check(self.supply, self.blob, is, 0).map(|()| Bytes::new());
        }
        Ok(piece.into())
    }

    fn check(&self, reader: &mut dyn Read) -> Result<(), SourceError> {
        let mut more = [0; 1];
        let more = reader.read(&mut more).map_err(|source| read_error(self.supply, self.blob, source))? as u64;
        let is = Digest::new(self.hasher.clone().finalize().into());
        check(self.supply, self.blob, is, self.blob.size.saturating_add(more))
    }

    fn cancelled(&self) -> SourceError {
        SourceFault::Cancelled.at(self.supply.name())
    }

    fn request<T: Send + 'static, F: Future<Output = Result<T, Failure>> + Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Repo>) -> F,
    ) -> Result<T, Failure> {
        let done = self.target.runtime.wait(work(Arc::clone(&self.target.repo)));
        done.ok_or_else(|| Failure::fatal(self.cancelled()))?
    }
}

impl Repo {
    /// Uploads a blob that is at hand.
    async fn put_small(&self, blob: Blob, bytes: Bytes) -> Result<(), SourceError> {
        self.retried(|| {
            let bytes = bytes.clone();
            Box::pin(async move {
                let session = self.begin().await?;
                self.put(session.url, blob.digest, bytes).await
            })
        })
        .await
    }

    async fn begin_or_resume(&self, session: Option<Session>) -> Result<Session, Failure> {
        if let Some(session) = session
            && let Some(resumed) = self.resume(session).await?
        {
            return Ok(resumed);
        }
        self.begin().await
    }

    pub(super) async fn begin(&self) -> Result<Session, Failure> {
        let what = "beginning an upload";
        let url = self.url("blobs/uploads/").await?;
        let response = self.upload_call(Method::POST, url, Some(Bytes::new()), what).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.refused(response, what, &self.push).await);
        }
        let missing = || Failure::fatal(self.answer_error(what, "the answer has no Location"));
        let url = self.location(&response, what)?.ok_or_else(missing)?;
        Ok(Session { url, has: 0, resumed: false })
    }

    /// Asks how far an upload came; `None` if it is to begin anew.
    async fn resume(&self, session: Session) -> Result<Option<Session>, Failure> {
        let what = "asking for the state of an upload";
        let response = self.upload_call(Method::GET, session.url.clone(), None, what).await?;
        match response.status() {
            StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::ACCEPTED => {}
            status if status.is_client_error() => return Ok(None),
            _ => return Err(self.refused(response, what, &self.push).await),
        }
        let url = self.location(&response, what)?.unwrap_or(session.url);
        // `0-0` is one byte for some and none for others.
        let has = range_end(&response).filter(|&has| has > 1);
        Ok(has.map(|has| Session { url, has, resumed: true }))
    }

    async fn finish(&self, url: Url, digest: Digest) -> Result<(), Failure> {
        self.put(url, digest, Bytes::new()).await
    }

    async fn put(&self, mut url: Url, digest: Digest, bytes: Bytes) -> Result<(), Failure> {
        let what = format!("uploading blob {digest}");
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let response = self.upload_call(Method::PUT, url, Some(bytes), &what).await?;
        match response.status() {
            status if status.is_success() => Ok(()),
            _ => Err(self.refused(response, &what, &self.push).await),
        }
    }

    /// Gives an upload up. Registries clean up by themselves too, so nothing depends on it.
    pub(super) async fn give_up(&self, url: Url) {
        drop(self.upload_call(Method::DELETE, url, None, "giving up an upload").await);
    }

    async fn upload_call(
        &self,
        method: Method,
        url: Url,
        body: Option<Bytes>,
        what: &str,
    ) -> Result<Response, Failure> {
        let mut headers = HeaderMap::new();
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        }
        self.call(&Call { method, url, headers, body, what, purpose: &self.push }).await
    }

    /// Returns where an upload goes on. It stays with the registry: bytes and credentials go nowhere else.
    pub(super) fn location(&self, response: &Response, what: &str) -> Result<Option<Url>, Failure> {
        let Some(text) = response.headers().get(LOCATION) else { return Ok(None) };
        let url = text.to_str().ok().and_then(|text| response.url().join(text).ok());
        match url.filter(|url| Origin::of(url) == Origin::of(response.url()) && url.username().is_empty()) {
            Some(url) => Ok(Some(url)),
            None => Err(Failure::fatal(self.answer_error(what, "the upload is to go on at another place"))),
        }
    }
}

/// Returns the number of bytes that an upload has, from `Range: 0-LAST`.
pub(super) fn range_end(response: &Response) -> Option<u64> {
    let range = response.headers().get(RANGE)?.to_str().ok()?;
    let last = range.trim().strip_prefix("bytes=").unwrap_or_else(|| range.trim()).strip_prefix("0-")?;
    last.parse::<u64>().ok()?.checked_add(1)
}
