//! Answers to challenges: which header proves to a registry that we may.
//!
//! Tokens are kept until they run out, one per repository and what it allows. Whoever needs one that is being fetched waits
//! for it. Credentials go to the registry's own origin (Basic), or to the token server that it named (Bearer), and to nobody
//! else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dimsum_source::{Detail, Repository, SourceError};
use parking_lot::Mutex;
use reqwest::header::HeaderValue;

use super::challenge::{Challenge, Scopes};
use super::credentials::{self, Credentials};
use super::failure::Failure;
use super::hub::{Hub, Registry};
use super::token;

/// Tokens that are kept: more repositories than a node reads at once.
const MAX_TOKENS: usize = 1024;

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Purpose {
    /// The repository, whose credentials count.
    pub(super) repository: Repository,
    /// What a token must allow.
    pub(super) scopes: Scopes,
    /// Whether something is written.
    pub(super) push: bool,
}

impl Purpose {
    pub(super) fn new(repository: &Repository, push: bool) -> Self {
        let actions: &[_] = if push { &["pull", "push"] } else { &["pull"] };
        Self { repository: repository.clone(), scopes: Scopes::repository(repository.path(), actions), push }
    }

    /// Adds reading from another repository.
    pub(super) fn and_pull(mut self, other: &Repository) -> Self {
        self.scopes = self.scopes.with(&Scopes::repository(other.path(), &["pull"]));
        self
    }

    pub(super) const fn action(&self) -> &'static str {
        if self.push { "push to" } else { "pull" }
    }
}

/// What one registry wants and has given.
#[derive(Debug, Default)]
pub(super) struct Auth(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How the registry wanted it the last time, so that the next token needs no refusal first.
    known: Option<Challenge>,
    slots: HashMap<Purpose, Arc<Slot>>,
}

/// A place for one proof. Held while it is being got: a slow token server holds up nobody who has a token for something else.
type Slot = tokio::sync::Mutex<Option<Proof>>;

/// A header that was good when it was made.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    pub(super) header: HeaderValue,
    /// When it is not to be used any more.
    pub(super) until: Option<Instant>,
    /// Whether nobody's credentials stand behind it.
    pub(super) anonymous: bool,
}

impl Proof {
    fn is_fresh(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl Auth {
    /// Returns the header for a request, as far as it is known that one is wanted.
    pub(super) async fn header(
        &self,
        hub: &Hub,
        registry: &Registry,
        purpose: &Purpose,
    ) -> Result<Option<HeaderValue>, Failure> {
        let slot = self.slot(purpose);
        let mut slot = slot.lock().await;
        if let Some(proof) = slot.as_ref().filter(|proof| proof.is_fresh()) {
            return Ok(Some(proof.header.clone()));
        }
        let Some(known) = self.0.lock().known.clone() else { return Ok(None) };
        match prove(hub, registry, purpose, &known, Box::default()).await {
            Ok(proof) => Ok(Some(slot.insert(proof).header.clone())),
            // What one repository wants another may not: it is asked first.
            Err(Failure { error: SourceError::AuthNeeded { .. }, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Answers a refusal with a new header.
    pub(super) async fn answer(
        &self,
        hub: &Hub,
        registry: &Registry,
        purpose: &Purpose,
        refused: Option<HeaderValue>,
        challenges: Vec<Challenge>,
        detail: Box<Detail>,
    ) -> Result<HeaderValue, Failure> {
        let slot = self.slot(purpose);
        let mut slot = slot.lock().await;
        if let Some(proof) = slot.as_ref().filter(|proof| proof.is_fresh() && Some(&proof.header) != refused.as_ref()) {
            // Somebody else was refused too, and has a new one already.
            return Ok(proof.header.clone());
        }
        let known = slot.take();
        // A token tells less than a password.
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        let Some(challenge) = bearer.or_else(|| challenges.first()).cloned() else {
            let with_credentials = known.is_some_and(|proof| !proof.anonymous);
            return Err(Failure::fatal(refusal(registry, purpose, with_credentials, detail)));
        };
        // A password that was refused stays refused.
        if challenge == Challenge::Basic && refused.is_some_and(|header| header.as_bytes().starts_with(b"Basic ")) {
            return Err(Failure::fatal(refusal(registry, purpose, true, detail)));
        }
        self.0.lock().known = Some(challenge.clone().for_all());
        let proof = prove(hub, registry, purpose, &challenge, detail).await?;
        Ok(slot.insert(proof).header.clone())
    }

    /// Returns the error for a request that was refused again and again.
    pub(super) async fn refusal(&self, registry: &Registry, purpose: &Purpose, detail: Box<Detail>) -> SourceError {
        let known = self.slot(purpose).lock().await.take();
        refusal(registry, purpose, known.is_some_and(|proof| !proof.anonymous), detail)
    }

    /// Says whether somebody's credentials stand behind requests for this.
    pub(super) async fn has_credentials(&self, purpose: &Purpose) -> bool {
        self.slot(purpose).lock().await.as_ref().is_some_and(|proof| !proof.anonymous)
    }

    fn slot(&self, purpose: &Purpose) -> Arc<Slot> {
        let mut state = self.0.lock();
        if let Some(slot) = state.slots.get(purpose) {
            return Arc::clone(slot);
        }
        if state.slots.len() >= MAX_TOKENS {
            state.slots.clear();
        }
        Arc::clone(state.slots.entry(purpose.clone()).or_default())
    }
}

/// Finds credentials and makes of them what a challenge asks for.
async fn prove(
    hub: &Hub,
    registry: &Registry,
    purpose: &Purpose,
    challenge: &Challenge,
    detail: Box<Detail>,
) -> Result<Proof, Failure> {
    let (files, patience) = (hub.access.auth_files.clone(), hub.timing.helper);
    let repository = purpose.repository.clone();
    // Files are read and programs are run.
    let found = tokio::task::spawn_blocking(move || credentials::find(&files, &repository, patience)).await;
    let cancelled = |_| Failure::fatal(SourceError::Cancelled { source_name: registry.host.clone() });
    let found = found.map_err(cancelled)?.map_err(Failure::fatal)?;
    match (challenge, found) {
        (_, Some(Credentials::Token(token))) => {
            Ok(Proof { header: bearer(registry, &token)?, until: None, anonymous: false })
        }
        (Challenge::Basic, Some(Credentials::Password { user, secret })) => {
            Ok(Proof { header: basic(registry, &user, &secret)?, until: None, anonymous: false })
        }
        (Challenge::Basic, Some(Credentials::Identity(_)) | None) => {
            Err(Failure::fatal(refusal(registry, purpose, false, detail)))
        }
        (Challenge::Bearer { realm, service, scope, .. }, found) => {
            let scopes = purpose.scopes.clone().with(scope);
            let wanted = token::Wanted { realm, service: service.as_deref(), scopes: &scopes };
            token::fetch(hub, registry, purpose, wanted, found).await
        }
    }
}

pub(super) fn refusal(
    registry: &Registry,
    purpose: &Purpose,
    with_credentials: bool,
    detail: Box<Detail>,
) -> SourceError {
    let (registry, repository) = (registry.host.clone(), purpose.repository.path().to_owned());
    if with_credentials {
        SourceError::AuthDenied { registry, repository, action: purpose.action(), with_credentials, detail }
    } else {
        SourceError::AuthNeeded { registry, repository, detail }
    }
}

pub(super) fn basic(registry: &Registry, user: &str, secret: &str) -> Result<HeaderValue, Failure> {
    sensitive(registry, format!("Basic {}", STANDARD.encode(format!("{user}:{secret}"))))
}

pub(super) fn bearer(registry: &Registry, token: &str) -> Result<HeaderValue, Failure> {
    sensitive(registry, format!("Bearer {token}"))
}

fn sensitive(registry: &Registry, text: String) -> Result<HeaderValue, Failure> {
    let mut header = HeaderValue::try_from(text).map_err(|_| {
        let (registry, place) = (registry.host.clone(), "the token".to_owned());
        let reason = "it has letters that no header may have".to_owned();
        Failure::fatal(SourceError::Credentials { registry, place, reason })
    })?;
    // Keeps it out of debug output and of HTTP/2's compression tables.
    header.set_sensitive(true);
    Ok(header)
}
