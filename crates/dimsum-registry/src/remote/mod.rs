//! Registries: the OCI distribution protocol, by a client of our own.
//!
//! ```text
//!   RemoteRepository ─┬─ pull: manifests, ranges, streams          ┐
//!                     └─ push: upload sessions, mounts, manifests  ┤ exchange: one request, with
//!                                                                  │   auth: challenges, tokens, credentials
//!   Network ── Hub ── clients (connections), registries (tokens) ──┘   redirects, tries
//! ```
//!
//! Nothing that comes from a registry is believed. Lengths are limits, digests are computed, redirects and challenges
//! are counted, and every wait has an end ([`Timing`]). A [`RemoteRepository`] is cheap; what is worth sharing is in
//! the hub.

mod auth;
mod body;
mod challenge;
mod clients;
mod credentials;
mod exchange;
mod failure;
pub mod fuzz;
mod helper;
mod hop;
mod hub;
mod link;
mod moved;
mod origin;
mod proof;
mod pull;
mod push;
mod range;
mod reader;
mod referrers;
mod source;
mod spool;
mod stream;
mod timing;
mod token;
mod upload;

use std::future::Future;
use std::sync::Arc;

use dimsum_format::Digest;
use dimsum_source::{ImageName, Reference, Repository, Runtime, SourceError, SourceFault};
use reqwest::Url;
use tokio::sync::Semaphore;

use auth::Asker;
pub(crate) use hub::Hub;
use hub::Registry;
use moved::Moved;
use proof::Purpose;
pub use timing::Timing;

use crate::fault::RegistryFault;
use crate::scheme::REGISTRY;

/// Ranges of one repository that are read at the same time. Each is a connection with HTTP/1; more fill no link, and
/// registries count them.
const MAX_RANGES: usize = 16;

/// A repository of a registry, for one of its images: a [`Place`](dimsum_source::Place) and a [`Target`](dimsum_source::Target).
#[derive(Debug)]
pub(crate) struct RemoteRepository {
    repo: Arc<Repo>,
    runtime: Runtime,
}

/// What requests need; they own a handle of it.
#[derive(Debug)]
struct Repo {
    hub: Arc<Hub>,
    registry: Arc<Registry>,
    repository: Repository,
    name: ImageName,
    reference: Reference,
    /// The reference as text.
    text: String,
    pull: Purpose,
    push: Purpose,
    ranges: Semaphore,
    moved: Moved,
}

impl RemoteRepository {
    /// Prepares; nothing is connected yet.
    pub(crate) fn open(hub: &Arc<Hub>, runtime: &Runtime, repository: &Repository, name: &ImageName) -> Self {
        let reference = Reference::in_registry(REGISTRY.name, repository.clone(), name.clone());
        let repo = Repo {
            hub: Arc::clone(hub),
            registry: hub.registry(repository.host()),
            repository: repository.clone(),
            name: name.clone(),
            text: reference.to_string(),
            reference,
            pull: Purpose::new(repository, false),
            push: Purpose::new(repository, true),
            ranges: Semaphore::new(MAX_RANGES),
            moved: Moved::default(),
        };
        Self { repo: Arc::new(repo), runtime: runtime.clone() }
    }

    /// Opens a repository as a target.
    pub(crate) fn create(
        hub: &Arc<Hub>,
        runtime: &Runtime,
        repository: &Repository,
        name: &ImageName,
    ) -> Result<Self, SourceError> {
        let target = Self::open(hub, runtime, repository, name);
        if matches!(name, ImageName::Digest(_)) {
            let reason = "a target has a tag, not a digest: the digest is known only afterwards";
            return Err(SourceFault::Target { reason }.at(&target.repo.text));
        }
        Ok(target)
    }

    /// Runs a future on the runtime and waits for it.
    fn wait<T: Send + 'static, F: Future<Output = Result<T, SourceError>> + Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Repo>) -> F,
    ) -> Result<T, SourceError> {
        let cancelled = || SourceFault::Cancelled.at(&self.repo.text);
        self.runtime.wait(work(Arc::clone(&self.repo))).ok_or_else(cancelled)?
    }
}

impl Repo {
    /// Returns who asks for credentials and tokens.
    fn asker(&self) -> Asker<'_> {
        Asker { access: &self.hub.access, wire: &self.hub.wire, host: &self.registry.host }
    }

    /// Returns the address of something in this repository.
    async fn url(&self, tail: &str) -> Result<Url, SourceError> {
        let base = self.hub.base(&self.registry).await?;
        let malformed =
            |_| SourceFault::Reference { reason: "the reference makes no valid address".into() }.at(&self.text);
        base.join(&format!("{}/{tail}", self.repository.path())).map_err(malformed)
    }

    async fn blob_url(&self, blob: Digest) -> Result<Url, SourceError> {
        self.url(&format!("blobs/{blob}")).await
    }

    fn answer_error(&self, what: &str, reason: impl Into<String>) -> SourceError {
        RegistryFault::Answer { what: what.to_owned(), reason: reason.into() }.at(&self.registry.host)
    }

    /// Gives work a time.
    async fn within<T>(
        &self,
        after: std::time::Duration,
        what: &str,
        work: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        let late = |_| {
            let (host, what) = (self.registry.host.clone(), what.to_owned());
            SourceFault::Deadline { what, reason: "no complete answer came", after }.at(host)
        };
        tokio::time::timeout(after, work).await.map_err(late)?
    }
}
