//! Credentials: found, sent where they belong, and asked for in words.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dimsum_format::Digest;
use dimsum_registry::{Access, Network, RegistryFault};
use dimsum_source::{Reference, Runtime, SourceError, SourceFault};
use serde_json::json;
use tempfile::TempDir;

use crate::content::{self, Image, blob};
use crate::hostile::{Server, answer};
use crate::real::{KINDS, Kind, PASSWORD, USER, network, quick, with_password};
use crate::tokens;

/// Writes an auth file with one entry and returns access with it.
fn login(host: &str, user: &str, password: &str) -> (TempDir, Access) {
    file(&json!({ "auths": { host: { "auth": STANDARD.encode(format!("{user}:{password}")) } } }))
}

fn file(content: &serde_json::Value) -> (TempDir, Access) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("auth.json");
    fs::write(&path, content.to_string()).unwrap();
    (dir, Access { auth_files: vec!["/nowhere/auth.json".into(), path], ..Access::default() })
}

fn root(access: Access, reference: &Reference) -> SourceError {
    network(access).open(reference).unwrap().root().unwrap_err()
}

#[test]
fn a_password_opens_a_registry() {
    for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Crane) {
        let Some(registry) = kind.start_with(with_password) else { continue };
        let (image, reference) = (Image::new(1), registry.reference("a/b:v1"));
        let (_dir, access) = login(&registry.host, USER, PASSWORD);
        image.push(&*network(access.clone()).create(&reference).unwrap());
        image.compare(&*network(access).open(&reference).unwrap());
        let none = root(Access::default(), &reference);
        assert!(
            matches!(none.detail(), Some(RegistryFault::AuthNeeded { repository, .. }) if repository == "a/b")
                && none.object() == registry.host,
            "{none:?}"
        );
        let (_dir, wrong) = login(&registry.host, USER, "wrong");
        let wrong = root(wrong, &reference);
        assert!(matches!(wrong.detail(), Some(RegistryFault::AuthDenied { with_credentials: true, .. })), "{wrong:?}");
    }
}

#[test]
fn tokens_are_got_kept_and_renewed() {
    let Some((server, registry)) = tokens::start(600) else { return };
    let (image, reference) = (Image::new(3), registry.reference("a/b:v1"));
    let (_dir, access) = login(&registry.host, USER, PASSWORD);
    let network = network(access);
    image.push(&*network.create(&reference).unwrap());
    assert_eq!(server.seen().len(), 1, "{:?}", server.seen());
    image.compare(&*network.open(&reference).unwrap());
    image.compare(&*network.open(&reference).unwrap());
    assert_eq!(server.seen().len(), 2, "{:?}", server.seen());
    // To read from another repository is one more thing to be allowed.
    let repository = reference.repository().unwrap();
    let target = network.create(&registry.reference("c/d:v1")).unwrap();
    assert!(target.mount_blob(blob(&image.layers[0]), repository).unwrap());
    assert_eq!(server.seen().len(), 3, "{:?}", server.seen());
}

#[test]
fn tokens_that_run_out_are_got_again() {
    let Some((server, registry)) = tokens::start(0) else { return };
    let (image, reference) = (Image::new(4), registry.reference("a/b:v1"));
    let (_dir, access) = login(&registry.host, USER, PASSWORD);
    image.push(&*network(access).create(&reference).unwrap());
    assert!(!server.seen().is_empty());
}

#[test]
fn nobody_may_read_what_is_open_and_no_more() {
    let Some((_server, registry)) = tokens::start(600) else { return };
    let (image, reference) = (Image::new(5), registry.reference("open/b:v1"));
    let (_dir, access) = login(&registry.host, USER, PASSWORD);
    image.push(&*network(access).create(&reference).unwrap());
    let anonymous = network(Access::default());
    image.compare(&*anonymous.open(&reference).unwrap());
    let target = anonymous.create(&reference).unwrap();
    let pushed = target.copy_blob(blob(&image.layers[1][1..]), &image.layout(), &content::go_on);
    assert!(pushed.is_err());
    let pushed = target.has(Digest::of(b"absent"), 1);
    assert!(
        matches!(pushed, Ok(false)) || matches!(dimsum_testing::fault(&pushed), Some(RegistryFault::AuthNeeded { .. })),
        "{pushed:?}"
    );
    let closed = root(Access::default(), &registry.reference("closed/b:v1"));
    assert!(matches!(closed.detail(), Some(RegistryFault::AuthNeeded { .. })), "{closed:?}");
    let (_dir, wrong) = login(&registry.host, USER, "wrong");
    let wrong = root(wrong, &reference);
    assert!(
        matches!(wrong.detail(), Some(RegistryFault::AuthDenied { with_credentials: true, detail, .. })
        if detail.message == "wrong"),
        "{wrong:?}"
    );
}

#[test]
fn an_identity_token_is_posted() {
    let tokens = Server::start(|request, stream| {
        let body = String::from_utf8(request.body.clone()).unwrap();
        let fits = request.method == "POST"
            && body.contains("refresh_token=me%26")
            && body.contains("scope=repository%3Aa%2Fb%3Apull");
        match fits && request.header("authorization").is_none() {
            true => answer(stream, 200, &[], br#"{"access_token": "good"}"#),
            false => answer(stream, 400, &[], b""),
        }
    });
    let challenge = format!("Bearer realm=\"{}\",service=x", tokens.url("/token"));
    let registry = Server::start(move |request, stream| match request.header("authorization") {
        Some("Bearer good") => answer(stream, 404, &[], b""),
        _ => answer(stream, 401, &[("WWW-Authenticate", "Basic realm=x"), ("WWW-Authenticate", &challenge)], b""),
    });
    let (_dir, access) = file(&json!({ "auths": { registry.host(): { "identitytoken": "me&" } } }));
    let error = root(access, &registry.reference("a/b:v1"));
    assert!(matches!(error.detail(), Some(SourceFault::Name { .. })), "{error:?}");
    assert_eq!(tokens.seen().len(), 1);
}

#[test]
fn a_token_server_that_hangs_for_one_repository_leaves_others_alone() {
    let (gone, never) = std::sync::mpsc::channel::<()>();
    let (asked, wait) = std::sync::mpsc::channel();
    let (asked, never) = (std::sync::Mutex::new(asked), std::sync::Mutex::new(never));
    let tokens = Server::start(move |request, stream| {
        if request.target.contains("hung") {
            asked.lock().unwrap().send(()).unwrap();
            // Until the test is over.
            assert!(never.lock().unwrap().recv().is_err());
        }
        answer(stream, 200, &[], br#"{"token": "good"}"#)
    });
    let challenge = format!("Bearer realm=\"{}\"", tokens.url("/token"));
    let registry = Server::start(move |request, stream| match request.header("authorization") {
        Some("Bearer good") => answer(stream, 404, &[], b""),
        _ => answer(stream, 401, &[("WWW-Authenticate", &challenge)], b""),
    });
    let network = network(Access::default());
    let hung = network.open(&registry.reference("hung/b:v1")).unwrap();
    let reader = std::thread::spawn(move || hung.root());
    wait.recv().unwrap();
    let error = network.open(&registry.reference("a/b:v1")).unwrap().root().unwrap_err();
    assert!(matches!(error.detail(), Some(SourceFault::Name { .. })), "{error:?}");
    drop(gone);
    assert!(matches!(dimsum_testing::fault(&reader.join().unwrap()), Some(SourceFault::Name { .. })));
}

#[test]
fn a_registry_that_always_wants_more_is_given_up() {
    let count = AtomicUsize::new(0);
    let tokens = Server::start(move |_, stream| {
        let token = format!("{{\"token\": \"t{}\"}}", count.fetch_add(1, Ordering::Relaxed));
        answer(stream, 200, &[], token.as_bytes())
    });
    for challenge in
        [format!("Bearer realm=\"{}\"", tokens.url("/t")), "Basic".into(), "Digest x=y".into(), String::new()]
    {
        let registry = Server::start(move |_, stream| answer(stream, 401, &[("WWW-Authenticate", &challenge)], b""));
        let (_dir, access) = login(&registry.host(), USER, PASSWORD);
        let network = Network::with_timing(access, &Runtime::start().unwrap(), quick());
        let error = network.open(&registry.reference("a/b:v1")).unwrap().root().unwrap_err();
        assert!(
            matches!(error.detail(), Some(RegistryFault::AuthDenied { .. } | RegistryFault::AuthNeeded { .. })),
            "{error:?}"
        );
        assert!(registry.seen().len() <= 3, "{:?}", registry.seen().len());
    }
}

#[test]
fn no_credentials_go_to_a_token_server_that_is_not_safe() {
    let registry = Server::start(|_, stream| {
        answer(stream, 401, &[("WWW-Authenticate", "Bearer realm=\"http://tokens.example/t\"")], b"")
    });
    let (_dir, access) = login(&registry.host(), USER, PASSWORD);
    let error = root(access, &registry.reference("a/b:v1"));
    assert!(matches!(error.detail(), Some(RegistryFault::Credentials { .. })), "{error:?}");
    assert!(error.to_string().contains("TLS"), "{error}");
}
