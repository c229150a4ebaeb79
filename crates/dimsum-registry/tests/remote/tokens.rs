//! A token server whose tokens a real registry believes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::certificates::Certificates;
use crate::hostile::{Request, Server, Stream, answer};
use crate::real::{Extra, Kind, PASSWORD, Registry, USER};

const ISSUER: &str = "test-issuer";
const SERVICE: &str = "test registry";

/// Starts a token server and a registry that trusts it. Everybody may pull `open/…`, [`USER`] may do everything.
pub(crate) fn start(life: u64) -> Option<(Server, Registry)> {
    let certificates = Arc::new(Certificates::new()?);
    certificates.signer("signer");
    let root = certificates.file("signer.crt");
    let number = AtomicU64::new(0);
    let server = Server::start(move |request, stream| {
        token(&certificates, life, number.fetch_add(1, Ordering::Relaxed), request, stream)
    });
    let realm = server.url("/token?x=y");
    let registry = Kind::Debian.start_with(|_| Extra {
        top: format!(
            "auth:\n  token:\n    realm: \"{realm}\"\n    service: \"{SERVICE}\"\n    issuer: {ISSUER}\n    rootcertbundle: {}\n",
            root.display()
        ),
        ..Extra::default()
    })?;
    Some((server, registry))
}

fn token(
    certificates: &Certificates,
    life: u64,
    number: u64,
    request: &Request,
    stream: &mut dyn Stream,
) -> io::Result<()> {
    let user = match request.header("authorization") {
        None => false,
        Some(header) if header == format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}"))) => true,
        Some(_) => return answer(stream, 401, &[], br#"{"errors": [{"code": "UNAUTHORIZED", "message": "wrong"}]}"#),
    };
    let asked = reqwest::Url::parse(&format!("http://x{}", request.target)).unwrap();
    let pairs: Vec<(String, String)> = asked.query_pairs().into_owned().collect();
    assert!(pairs.contains(&("service".into(), SERVICE.into())) && pairs.contains(&("x".into(), "y".into())));
    let access: Vec<_> = pairs
        .iter()
        .filter(|(key, _)| key == "scope")
        .map(|(_, scope)| {
            let (resource, actions) = scope.rsplit_once(':').unwrap();
            let (kind, name) = resource.split_once(':').unwrap();
            let allowed = |action: &&str| user || (name.starts_with("open/") && *action == "pull");
            let actions: Vec<_> = actions.split(',').filter(allowed).collect();
            json!({ "type": kind, "name": name, "actions": actions })
        })
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let der = std::fs::read_to_string(certificates.file("signer.crt")).unwrap();
    let der: String = der.lines().filter(|line| !line.starts_with('-')).collect();
    let head = json!({ "typ": "JWT", "alg": "RS256", "x5c": [der] });
    // The registry allows for a minute of difference between clocks; a token that is to run out runs out before that.
    let claims = json!({ "iss": ISSUER, "sub": USER, "aud": SERVICE, "exp": now + 600, "nbf": now - 10, "iat": now,
        "jti": number.to_string(), "access": access });
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(&head), encode(&claims));
    let token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(certificates.sign("signer", &text)));
    answer(stream, 200, &[], json!({ "token": token, "expires_in": life }).to_string().as_bytes())
}
