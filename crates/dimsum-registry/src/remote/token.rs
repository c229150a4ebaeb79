//! Tokens from the token server that a registry names, by GET with user and password (or as nobody), or by POST with an
//! identity token.

use std::time::{Duration, Instant};

use bytes::Bytes;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use tracing::debug;

use super::body::{Body, detail};
use super::challenge::Scopes;
use super::credentials::Credentials;
use super::failure::Failure;
use super::hop::{Hop, Wire, follow, refused};
use super::origin::is_loopback;
use super::proof::{Proof, Purpose, basic, bearer, refusal};
use crate::fault::RegistryFault;

/// Largest answer of a token server: tokens list what they allow, some have several KiB.
const MAX_ANSWER: u64 = 256 << 10;
/// How long a token lives that does not say it, as the token specification has it.
const DEFAULT_LIFE: u64 = 60;
/// A token is renewed this part of its life before its end: clocks differ and requests take time.
const MARGIN: u32 = 10;
/// Who we are for a token server.
const CLIENT: &str = "dimsum";

/// What a registry wants a token for.
pub(super) struct Wanted<'w> {
    pub(super) realm: &'w str,
    pub(super) service: Option<&'w str>,
    pub(super) scopes: &'w Scopes,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Fetches a token.
pub(super) async fn fetch(
    wire: &Wire,
    plain_http: bool,
    host: &str,
    purpose: &Purpose,
    wanted: Wanted<'_>,
    credentials: Option<Credentials>,
) -> Result<Proof, Failure> {
    let problem = |reason: &str| {
        let (registry, place) = (host.to_owned(), "its token server".to_owned());
        Failure::fatal(RegistryFault::Credentials { place, reason: reason.to_owned() }.at(registry))
    };
    let realm = realm(wanted.realm, plain_http).map_err(problem)?;
    let anonymous = credentials.is_none();
    let asked = Instant::now();
    let hop = match credentials {
        Some(Credentials::Identity(token)) => post(realm, &wanted, &token),
        Some(Credentials::Password { user, secret }) => {
            get(realm, &wanted, Some(basic(host, &user, &secret)?), Some(&user))
        }
        Some(Credentials::Token(_)) | None => get(realm, &wanted, None, None),
    };
    let what = "asking for a token";
    debug!(host, anonymous, "asks for a token");
    let (response, at_home) = follow(wire, hop, what).await?;
    if !at_home {
        return Err(problem("it redirects to another host"));
    }
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let detail = detail(response, wire.timing).await;
            return Err(Failure::fatal(refusal(host, purpose, !anonymous, detail)));
        }
        _ => return Err(refused(response, what, wire.timing).await),
    }
    let answer =
        read(wire, response, what).await?.ok_or_else(|| problem("its answer is too long or has another form"))?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| problem("its answer has no token"))?;
    // A life of 0 would mean a token for each request.
    let life = Duration::from_secs(answer.expires_in.unwrap_or(DEFAULT_LIFE).max(1));
    let until = asked.checked_add(life - life / MARGIN);
    Ok(Proof { header: bearer(host, &token)?, until, anonymous })
}

async fn read(wire: &Wire, response: Response, what: &str) -> Result<Option<Answer>, Failure> {
    let bytes = Body::of(response, what, wire.timing).map_err(Failure::fatal)?.all(MAX_ANSWER).await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// A token server gets credentials, so it must speak TLS where that matters.
fn realm(text: &str, plain_http: bool) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "its address is malformed")?;
    match url.scheme() {
        "https" => {}
        "http" if plain_http || is_loopback(&url) => {}
        _ => return Err("it does not speak TLS, and gets no credentials"),
    }
    if !url.has_host() || !url.username().is_empty() || url.password().is_some() {
        return Err("its address is malformed");
    }
    Ok(url)
}

fn get(mut url: Url, wanted: &Wanted<'_>, authorization: Option<HeaderValue>, user: Option<&str>) -> Hop {
    {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(wanted.service.map(|service| ("service", service)));
        query.extend_pairs(wanted.scopes.texts().map(|scope| ("scope", scope)));
        query.extend_pairs(user.map(|user| ("account", user)));
    }
    let mut headers = HeaderMap::new();
    headers.extend(authorization.map(|authorization| (AUTHORIZATION, authorization)));
    Hop { method: Method::GET, url, headers, body: None }
}

fn post(url: Url, wanted: &Wanted<'_>, identity: &str) -> Hop {
    // The query of an address and a form are encoded alike.
    let mut form = url.clone();
    form.set_query(None);
    let scopes: Vec<_> = wanted.scopes.texts().collect();
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("service", wanted.service.unwrap_or_default())
        .append_pair("client_id", CLIENT)
        .append_pair("scope", &scopes.join(" "))
        .append_pair("refresh_token", identity);
    let body = Bytes::copy_from_slice(form.query().unwrap_or_default().as_bytes());
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    Hop { method: Method::POST, url, headers, body: Some(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_only_where_nobody_listens() {
        assert!(realm("https://a.b/token", false).is_ok());
        assert!(realm("http://127.0.0.1:1/token", false).is_ok());
        assert!(realm("http://a.b/token", true).is_ok());
        for text in ["http://a.b/token", "ftp://a.b/", "file:///etc/passwd", "https://user@a.b/", "token", ""] {
            assert!(realm(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn an_identity_token_is_posted_and_not_in_the_address() {
        let scopes = Scopes::repository("a/b", &["pull"]);
        let wanted = Wanted { realm: "", service: Some("s&t"), scopes: &scopes };
        let hop = post(Url::parse("https://a.b/token?x=1").unwrap(), &wanted, "se=cret");
        assert_eq!(hop.url.as_str(), "https://a.b/token?x=1");
        let must = "grant_type=refresh_token&service=s%26t&client_id=dimsum&scope=repository%3Aa%2Fb%3Apull&refresh_token=se%3Dcret";
        assert_eq!(hop.body.unwrap(), must);
        let hop = get(Url::parse("https://a.b/token?x=1").unwrap(), &wanted, None, Some("me"));
        assert_eq!(hop.url.query(), Some("x=1&service=s%26t&scope=repository%3Aa%2Fb%3Apull&account=me"));
    }
}
