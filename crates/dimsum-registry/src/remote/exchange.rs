//! One request and its answer: credentials, redirects, and trying again.
//!
//! ```text
//!   retried ─→ call ─→ follow ─→ send      one HTTP exchange
//!     │         │        └ redirects: counted, never from https to http; credentials stay with the origin
//!     │         └ 401 of the registry itself: a token or a password, then again
//!     └ 429, 5xx, broken connections: a pause, then again
//! ```

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use dimsum_source::{BoxFuture, SourceError, is_transient_status};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, Request, Response, StatusCode, Url};

use super::auth::Purpose;
use super::body::detail;
use super::challenge;
use super::failure::{Failure, Retry, translate};
use super::hub::Hub;
use super::origin::{Origin, authority};
use super::{Repo, timing::Timing};

/// Redirects of one request: a registry sends on to an object store, that perhaps to a cache.
const MAX_REDIRECTS: usize = 6;
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

/// One HTTP request.
#[derive(Debug, Clone)]
pub(super) struct Hop {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
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
        match wait(&self.hub.timing, &failure, tried) {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            None => Err(failure.error),
        }
    }

    /// Sends a request once and answers challenges. Whatever the registry says at last is returned, 401 excepted.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Response, Failure> {
        let auth = &self.registry.auth;
        let mut authorization = auth.header(&self.hub, &self.registry, call.purpose).await?;
        let mut answered = 0;
        loop {
            let mut headers = call.headers.clone();
            if let Some(authorization) = &authorization {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
            let hop = Hop { method: call.method.clone(), url: call.url.clone(), headers, body: call.body.clone() };
            let (response, at_home) = follow(&self.hub, hop, call.what).await?;
            if response.status() != StatusCode::UNAUTHORIZED || !at_home {
                return Ok(response);
            }
            let challenges = challenges(response.headers());
            let detail = detail(response, self.hub.timing).await;
            if answered == MAX_CHALLENGES {
                let error = auth.refusal(&self.registry, call.purpose, detail).await;
                return Err(Failure::fatal(error));
            }
            answered += 1;
            let refused = authorization.take();
            authorization =
                Some(auth.answer(&self.hub, &self.registry, call.purpose, refused, challenges, detail).await?);
        }
    }

    /// Translates an answer that is a refusal.
    pub(super) async fn refused(&self, response: Response, what: &str, purpose: &Purpose) -> Failure {
        let (forbidden, timing) = (response.status() == StatusCode::FORBIDDEN, self.hub.timing);
        let at_home = match self.hub.base(&self.registry).await {
            Ok(base) => Origin::of(response.url()) == Origin::of(&base),
            Err(_) => false,
        };
        if !forbidden || !at_home {
            return refused(response, what, timing).await;
        }
        Failure::fatal(SourceError::AuthDenied {
            registry: self.registry.host.clone(),
            repository: purpose.repository.path().to_owned(),
            action: purpose.action(),
            with_credentials: self.registry.auth.has_credentials(purpose).await,
            detail: detail(response, timing).await,
        })
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

/// Translates an answer that is a refusal, whoever gave it.
pub(super) async fn refused(response: Response, what: &str, timing: Timing) -> Failure {
    let (status, host) = (response.status(), authority(response.url()));
    let wish = response.headers().get(RETRY_AFTER).and_then(seconds);
    let detail = detail(response, timing).await;
    let retry = match (is_transient_status(status.as_u16()), wish) {
        (true, Some(wish)) => Retry::After(wish),
        (true, None) => Retry::Yes,
        (false, _) => Retry::No,
    };
    let error = SourceError::Status { host, what: what.to_owned(), status: status.as_u16(), detail };
    Failure { error, retry }
}

/// `Retry-After` in seconds. A date is not understood: then the usual pauses apply.
fn seconds(value: &HeaderValue) -> Option<u32> {
    let seconds: u64 = value.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.try_into().unwrap_or(u32::MAX))
}

fn challenges(headers: &HeaderMap) -> Vec<challenge::Challenge> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(challenge::parse).collect()
}

/// Sends a request and follows redirects. Says whether the answer came from where the request was sent to: elsewhere no
/// credentials were sent, and none are given on demand.
pub(super) async fn follow(hub: &Hub, mut hop: Hop, what: &str) -> Result<(Response, bool), Failure> {
    let home = Origin::of(&hop.url);
    let mut at_home = true;
    let mut seen = HashSet::from([hop.url.clone()]);
    loop {
        let response = send(hub, hop.clone(), what).await?;
        if !is_redirect(response.status()) {
            return Ok((response, at_home));
        }
        let refuse = |to: &str, reason| {
            let (host, what) = (authority(&hop.url), what.to_owned());
            Failure::fatal(SourceError::Redirect { host, what, to: to.to_owned(), reason })
        };
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let Some(next) = location.and_then(|location| hop.url.join(location).ok()) else {
            return Err(refuse("nowhere", "it has no address"));
        };
        let to = format!("{}://{}", next.scheme(), authority(&next));
        check_redirect(&hop, &next, response.status()).map_err(|reason| refuse(&to, reason))?;
        if seen.len() > MAX_REDIRECTS || !seen.insert(next.clone()) {
            return Err(refuse(&to, "it goes in circles, or does not end"));
        }
        if Origin::of(&next) != home {
            // For good: a place elsewhere that sends back does not speak for the registry.
            at_home = false;
            hop.headers.remove(AUTHORIZATION);
        }
        hop.url = next;
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn check_redirect(hop: &Hop, next: &Url, status: StatusCode) -> Result<(), &'static str> {
    if !matches!(next.scheme(), "http" | "https") || !next.has_host() {
        return Err("this is no address of the web");
    }
    if hop.url.scheme() == "https" && next.scheme() != "https" {
        return Err("it leaves TLS");
    }
    if !next.username().is_empty() || next.password().is_some() {
        return Err("the address has a user name in it");
    }
    let reads = matches!(hop.method, Method::GET | Method::HEAD);
    if !reads && (Origin::of(next) != Origin::of(&hop.url) || !matches!(status.as_u16(), 307 | 308)) {
        return Err("only reading follows to other places");
    }
    Ok(())
}

/// Sends one request and waits for the head of its answer.
pub(super) async fn send(hub: &Hub, hop: Hop, what: &str) -> Result<Response, Failure> {
    let timing = hub.timing;
    let host = authority(&hop.url);
    let client = hub.clients.of(&hop.url).await.map_err(Failure::fatal)?;
    let mut request = Request::new(hop.method, hop.url);
    *request.headers_mut() = hop.headers;
    *request.body_mut() = hop.body.map(Into::into);
    // What was written may be read once more before it is acknowledged.
    let patience = if request.method() == Method::PUT { timing.commit } else { timing.idle };
    let after = patience.saturating_add(timing.connect);
    match tokio::time::timeout(after, client.execute(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(Failure::from(translate(&host, what, error))),
        Err(_) => {
            let (what, reason) = (what.to_owned(), "no answer came");
            Err(Failure::passing(SourceError::Deadline { host, what, reason, after }))
        }
    }
}
