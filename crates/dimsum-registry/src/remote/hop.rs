//! One request over the wire, and its redirects. It knows no tokens: whoever has a credential puts it into the headers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dimsum_source::SourceFault;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, Request, Response, StatusCode, Url};
use tracing::{Instrument as _, debug, debug_span};

use super::body::detail;
use super::clients::Clients;
use super::failure::{Failure, Retry, translate};
use super::origin::{Origin, authority};
use super::timing::Timing;
use crate::fault::{RegistryFault, is_passing_status};

/// Redirects of one request: a registry sends on to an object store, that perhaps to a cache.
const MAX_REDIRECTS: usize = 6;

/// What a request needs to be sent: connections, and how long to wait.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    pub(super) clients: Arc<Clients>,
    pub(super) timing: Timing,
}

/// One HTTP request.
#[derive(Debug, Clone)]
pub(super) struct Hop {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
}

/// Translates an answer that is a refusal, whoever gave it.
pub(super) async fn refused(response: Response, what: &str, timing: Timing) -> Failure {
    let (status, host) = (response.status(), authority(response.url()));
    let wish = response.headers().get(RETRY_AFTER).and_then(seconds);
    let detail = detail(response, timing).await;
    let retry = match (is_passing_status(status.as_u16()), wish) {
        (true, Some(wish)) => Retry::After(wish),
        (true, None) => Retry::Yes,
        (false, _) => Retry::No,
    };
    let error = RegistryFault::Status { what: what.to_owned(), status: status.as_u16(), detail }.at(host);
    Failure { error, retry }
}

/// `Retry-After` in seconds. A date is not understood: then the usual pauses apply.
fn seconds(value: &HeaderValue) -> Option<u32> {
    let seconds: u64 = value.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.try_into().unwrap_or(u32::MAX))
}

/// Sends a request and follows redirects. Says whether the answer came from where the request was sent to: elsewhere no
/// credentials were sent, and none are given on demand.
pub(super) async fn follow(wire: &Wire, mut hop: Hop, what: &str) -> Result<(Response, bool), Failure> {
    let home = Origin::of(&hop.url);
    let mut at_home = true;
    let mut seen = HashSet::from([hop.url.clone()]);
    loop {
        let response = send(wire, hop.clone(), what).await?;
        if !is_redirect(response.status()) {
            return Ok((response, at_home));
        }
        let refuse = |to: &str, reason| {
            let (host, what) = (authority(&hop.url), what.to_owned());
            Failure::fatal(RegistryFault::Redirect { what, to: to.to_owned(), reason }.at(host))
        };
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let Some(next) = location.and_then(|location| hop.url.join(location).ok()) else {
            return Err(refuse("nowhere", "it has no address"));
        };
        let to = format!("{}://{}", next.scheme(), authority(&next));
        debug!(what, host = authority(&next), "is sent on");
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
        return Err("the address is not one of http or https");
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
///
/// Neither headers nor the query of an address are recorded: they hold credentials and signatures.
pub(super) async fn send(wire: &Wire, hop: Hop, what: &str) -> Result<Response, Failure> {
    let span = debug_span!("http", method = %hop.method, host = authority(&hop.url), path = hop.url.path(), what);
    let asked = Instant::now();
    debug!(parent: &span, "sends");
    let outcome = send_untraced(wire, hop, what).instrument(span.clone()).await;
    let millis = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
    match &outcome {
        Ok(response) => debug!(parent: &span, status = response.status().as_u16(), millis, "has an answer"),
        Err(failure) => debug!(parent: &span, millis, reason = %failure.error, "has no answer"),
    }
    outcome
}

async fn send_untraced(wire: &Wire, hop: Hop, what: &str) -> Result<Response, Failure> {
    let timing = wire.timing;
    let host = authority(&hop.url);
    let client = wire.clients.of(&hop.url).await.map_err(Failure::fatal)?;
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
            Err(Failure::passing(SourceFault::Deadline { what, reason, after }.at(host)))
        }
    }
}
