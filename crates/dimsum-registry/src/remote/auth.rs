//! Answers to challenges: which header proves to a registry that we may.
//!
//! Tokens are kept until they run out, one per repository and what it allows. Whoever needs one that is being fetched waits
//! for it. Credentials go to the registry's own origin (Basic), or to the token server that it named (Bearer), and to nobody
//! else.

use std::collections::HashMap;
use std::sync::Arc;

use dimsum_source::{SourceError, SourceFault};
use parking_lot::Mutex;
use reqwest::header::HeaderValue;

use super::challenge::Challenge;
use super::credentials::{self, Credentials};
use super::failure::Failure;
use super::hop::Wire;
use super::proof::{Proof, Purpose, basic, bearer, refusal};
use super::token;
use crate::access::Access;
use crate::fault::{RegistryFault, RegistryMessage};

/// Tokens that are kept: more repositories than a node reads at once.
const MAX_TOKENS: usize = 1024;

/// Who asks for a proof, and with what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    /// Where credentials are looked for.
    pub(super) access: &'a Access,
    pub(super) wire: &'a Wire,
    /// The registry's host as references have it.
    pub(super) host: &'a str,
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

impl Auth {
    /// Returns the header for a request, as far as it is known that one is wanted.
    pub(super) async fn header(&self, asker: &Asker<'_>, purpose: &Purpose) -> Result<Option<HeaderValue>, Failure> {
        let slot = self.slot(purpose);
        let mut slot = slot.lock().await;
        if let Some(proof) = slot.as_ref().filter(|proof| proof.is_fresh()) {
            return Ok(Some(proof.header.clone()));
        }
        let Some(known) = self.0.lock().known.clone() else { return Ok(None) };
        match prove(asker, purpose, &known, Box::default()).await {
            Ok(proof) => Ok(Some(slot.insert(proof).header.clone())),
            // What one repository wants another may not: it is asked first.
            Err(failure) if matches!(failure.error.detail(), Some(RegistryFault::AuthNeeded { .. })) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Answers a refusal with a new header.
    pub(super) async fn answer(
        &self,
        asker: &Asker<'_>,
        purpose: &Purpose,
        refused: Option<HeaderValue>,
        challenges: Vec<Challenge>,
        detail: Box<RegistryMessage>,
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
            return Err(Failure::fatal(refusal(asker.host, purpose, with_credentials, detail)));
        };
        // A password that was refused stays refused.
        if challenge == Challenge::Basic && refused.is_some_and(|header| header.as_bytes().starts_with(b"Basic ")) {
            return Err(Failure::fatal(refusal(asker.host, purpose, true, detail)));
        }
        self.0.lock().known = Some(challenge.clone().for_all());
        let proof = prove(asker, purpose, &challenge, detail).await?;
        Ok(slot.insert(proof).header.clone())
    }

    /// Returns the error for a request that was refused again and again.
    pub(super) async fn refusal(&self, host: &str, purpose: &Purpose, detail: Box<RegistryMessage>) -> SourceError {
        let known = self.slot(purpose).lock().await.take();
        refusal(host, purpose, known.is_some_and(|proof| !proof.anonymous), detail)
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
    asker: &Asker<'_>,
    purpose: &Purpose,
    challenge: &Challenge,
    detail: Box<RegistryMessage>,
) -> Result<Proof, Failure> {
    let (files, patience) = (asker.access.auth_files.clone(), asker.wire.timing.helper);
    let repository = purpose.repository.clone();
    // Files are read and programs are run.
    let found = tokio::task::spawn_blocking(move || credentials::find(&files, &repository, patience)).await;
    let cancelled = |_| Failure::fatal(SourceFault::Cancelled.at(asker.host));
    let found = found.map_err(cancelled)?.map_err(Failure::fatal)?;
    match (challenge, found) {
        (_, Some(Credentials::Token(token))) => {
            Ok(Proof { header: bearer(asker.host, &token)?, until: None, anonymous: false })
        }
        (Challenge::Basic, Some(Credentials::Password { user, secret })) => {
            Ok(Proof { header: basic(asker.host, &user, &secret)?, until: None, anonymous: false })
        }
        (Challenge::Basic, Some(Credentials::Identity(_)) | None) => {
            Err(Failure::fatal(refusal(asker.host, purpose, false, detail)))
        }
        (Challenge::Bearer { realm, service, scope, .. }, found) => {
            let scopes = purpose.scopes.clone().with(scope);
            let wanted = token::Wanted { realm, service: service.as_deref(), scopes: &scopes };
            token::fetch(asker.wire, asker.access.plain_http, asker.host, purpose, wanted, found).await
        }
    }
}
