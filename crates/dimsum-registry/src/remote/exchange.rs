//! One request and its answer: credentials, redirects, and trying again.
//!
//! ```text
//!   retried ─→ call ─→ hop: follow ─→ send      one HTTP exchange
//!     │         │            └ redirects: counted, never from https to http; credentials stay with the origin
//!     │         └ 401 of the registry itself: a token or a password, then again
//!     └ 429, 5xx, broken connections: a pause, then again
//! ```

use std::time::Duration;

use bytes::Bytes;
use dimsum_source::{BoxFuture, SourceError};
use reqwest::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};
use tracing::debug;

use super::Repo;
use super::body::detail;
use super::challenge;
use super::failure::{Failure, Retry};
use super::hop::{Hop, follow, refused};
use super::origin::Origin;
use super::proof::Purpose;
use super::timing::Timing;
use crate::fault::RegistryFault;

/// Challenges of one request that are answered: one for a token that has run out, one for a token that allows too little.
const MAX_CHALLENGES: usize = 2;

/// A request to a registry.
#[derive(Debug, Clone)]
pub(super) struct Call<'c> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    /// For messages.
    pub(super) what: &'c str,
    pub(super) purpose: &'c Purpose,
}

impl Repo {
    /// Sends a request until it succeeds, fails for good, or was tried often enough.
    pub(super) async fn retried<'a, T>(
        &self,
        mut attempt: impl FnMut() -> BoxFuture<'a, Result<T, Failure>>,
    ) -> Result<T, SourceError> {
        let mut tried = 0;
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(failure) => {
                    tried += 1;
                    self.pause(failure, tried).await?;
                }
            }
        }
    }

    /// Waits before the next try, or returns the error if there is to be none. `tried` counts those that failed.
    pub(super) async fn pause(&self, failure: Failure, tried: u32) -> Result<(), SourceError> {
        match wait(&self.hub.wire.timing, &failure, tried) {
            Some(pause) => {
                let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                debug!(tried, millis, reason = %failure.error, "tries again after a pause");
                tokio::time::sleep(pause).await;
                Ok(())
            }
            None => Err(failure.error),
        }
    }

    /// Sends a request once and answers challenges. Whatever the registry says at last is returned, 401 excepted.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Response, Failure> {
        let auth = &self.registry.auth;
        let mut authorization = auth.header(&self.asker(), call.purpose).await?;
        let mut answered = 0;
        loop {
            let mut headers = call.headers.clone();
            if let Some(authorization) = &authorization {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
            let hop = Hop { method: call.method.clone(), url: call.url.clone(), headers, body: call.body.clone() };
            let (response, at_home) = follow(&self.hub.wire, hop, call.what).await?;
            if response.status() != StatusCode::UNAUTHORIZED || !at_home {
                return Ok(response);
            }
            let challenges = challenges(response.headers());
            let detail = detail(response, self.hub.wire.timing).await;
            if answered == MAX_CHALLENGES {
                let error = auth.refusal(&self.registry.host, call.purpose, detail).await;
                return Err(Failure::fatal(error));
            }
            answered += 1;
            debug!(host = self.registry.host, what = call.what, "is asked for credentials");
            let refused = authorization.take();
            authorization = Some(auth.answer(&self.asker(), call.purpose, refused, challenges, detail).await?);
        }
    }

    /// Translates an answer that is a refusal.
    pub(super) async fn refused(&self, response: Response, what: &str, purpose: &Purpose) -> Failure {
        let (forbidden, timing) = (response.status() == StatusCode::FORBIDDEN, self.hub.wire.timing);
        let at_home = match self.hub.base(&self.registry).await {
            Ok(base) => Origin::of(response.url()) == Origin::of(&base),
            Err(_) => false,
        };
        if !forbidden || !at_home {
            return refused(response, what, timing).await;
        }
        Failure::fatal(
            RegistryFault::AuthDenied {
                repository: purpose.repository.path().to_owned(),
                action: purpose.action(),
                with_credentials: self.registry.auth.has_credentials(purpose).await,
                detail: detail(response, timing).await,
            }
            .at(&self.registry.host),
        )
    }
}

/// Returns the pause before the next try; none if the failure is to stand.
fn wait(timing: &Timing, failure: &Failure, tried: u32) -> Option<Duration> {
    if tried >= timing.tries {
        return None;
    }
    match failure.retry {
        Retry::No => None,
        Retry::Yes => Some(timing.pause_before(tried.saturating_add(1))),
        Retry::After(seconds) => {
            let wish = Duration::from_secs(seconds.into());
            let pause = wish.max(timing.pause_before(tried.saturating_add(1)));
            (wish <= timing.longest_retry_after).then_some(pause)
        }
    }
}

fn challenges(headers: &HeaderMap) -> Vec<challenge::Challenge> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(challenge::parse).collect()
}
