//! What proves to a registry that we may: a header, what it is for, and the error if there is none.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dimsum_source::{Repository, SourceError};
use reqwest::header::HeaderValue;

use super::challenge::Scopes;
use super::failure::Failure;
use crate::fault::{RegistryFault, RegistryMessage};

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
    pub(super) fn is_fresh(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// Returns the error for a request that was refused.
pub(super) fn refusal(
    host: &str,
    purpose: &Purpose,
    with_credentials: bool,
    detail: Box<RegistryMessage>,
) -> SourceError {
    let (registry, repository) = (host.to_owned(), purpose.repository.path().to_owned());
    if with_credentials {
        RegistryFault::AuthDenied { repository, action: purpose.action(), with_credentials, detail }.at(registry)
    } else {
        RegistryFault::AuthNeeded { repository, detail }.at(registry)
    }
}

pub(super) fn basic(host: &str, user: &str, secret: &str) -> Result<HeaderValue, Failure> {
    sensitive(host, format!("Basic {}", STANDARD.encode(format!("{user}:{secret}"))))
}

pub(super) fn bearer(host: &str, token: &str) -> Result<HeaderValue, Failure> {
    sensitive(host, format!("Bearer {token}"))
}

fn sensitive(host: &str, text: String) -> Result<HeaderValue, Failure> {
    let mut header = HeaderValue::try_from(text).map_err(|_| {
        let (registry, place) = (host.to_owned(), "the token".to_owned());
        let reason = "it has letters that no header may have".to_owned();
        Failure::fatal(RegistryFault::Credentials { place, reason }.at(registry))
    })?;
    // Keeps it out of debug output and of HTTP/2's compression tables.
    header.set_sensitive(true);
    Ok(header)
}
