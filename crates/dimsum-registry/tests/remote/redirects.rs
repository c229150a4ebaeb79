//! Redirects: followed, counted, and never with what is not meant for others.

use std::fs::File;
use std::io::{self, BufReader};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dimsum_events::log::LogFormat;
use dimsum_events::trace::{LogLevel, TraceWriter, install};
use dimsum_format::Digest;
use dimsum_registry::{Access, Network, RegistryFault};
use dimsum_source::{Place, Runtime, SourceError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::NamedTempFile;

use crate::certificates::Certificates;
use crate::content;
use crate::hostile::{Server, Stream, answer, blob, head};
use crate::real::{PASSWORD, USER, quick};
use crate::roundtrip::range;

fn content() -> Vec<u8> {
    content::bytes(1, 10_000)
}

/// Answers every request but the first look, and those without a password, with a redirect.
fn redirecting(status: u16, to: String) -> Server {
    Server::start(move |request, stream| match request.header("authorization") {
        _ if request.target == "/v2/" => answer(stream, 200, &[], b"{}"),
        None => answer(stream, 401, &[("WWW-Authenticate", "Basic realm=x")], b""),
        Some(_) => answer(stream, status, &[("Location", &to)], b""),
    })
}

/// Reads a range with credentials for this registry, and for every other host that is asked.
fn read(registry: &Server, others: &[&Server]) -> Result<Bytes, SourceError> {
    let (_file, network, place) = open(registry, others);
    range(&network, &place, Digest::of(b""), 100..200)
}

fn open(registry: &Server, others: &[&Server]) -> (NamedTempFile, Network, Arc<dyn Place>) {
    let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let hosts = others.iter().chain([&registry]).map(|server| (server.host(), serde_json::json!({ "auth": auth })));
    let auths: serde_json::Map<_, _> = hosts.collect();
    let mut file = NamedTempFile::new().unwrap();
    serde_json::to_writer(&mut file, &serde_json::json!({ "auths": auths })).unwrap();
    let access = Access { auth_files: vec![file.path().into()], ..Access::default() };
    let network = Network::with_timing(access, &Runtime::start().unwrap(), quick());
    let place = network.open(&registry.reference("a/b:v1")).unwrap();
    (file, network, place)
}

#[test]
fn a_redirect_to_a_store_is_followed_without_credentials() {
    for status in [301, 302, 303, 307, 308] {
        let store = Server::start(|request, stream| blob(request, stream, &content()));
        let registry = redirecting(status, store.url("/bucket/x?signature=y"));
        assert_eq!(read(&registry, &[&store]).unwrap(), content()[100..200]);
        let seen = store.seen();
        assert_eq!(seen.len(), 1);
        assert_eq!((&*seen[0].method, seen[0].header("range")), ("GET", Some("bytes=100-199")));
        assert_eq!((seen[0].header("authorization"), seen[0].header("referer")), (None, None));
    }
}

/// All records of this process.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<String>>);

impl TraceWriter for Recorded {
    fn write(&self, line: String) {
        self.0.lock().unwrap().push_str(&line);
    }
}

#[test]
fn records_have_neither_credentials_nor_the_query_of_an_address() {
    let recorded = Recorded::default();
    // Requests run on threads of the runtime, so those of other tests are recorded, too.
    install(LogLevel::Trace, LogFormat::Json, "test", recorded.clone()).unwrap();
    let store = Server::start(|request, stream| blob(request, stream, &content()));
    let registry = redirecting(307, store.url("/bucket/object-1704?X-Signature=7d4f1c"));
    assert_eq!(read(&registry, &[&store]).unwrap(), content()[100..200]);
    let text = recorded.0.lock().unwrap().clone();
    for told in ["\"path\":\"/bucket/object-1704\"", "is asked for credentials", "is sent on", &store.host()] {
        assert!(text.contains(told), "{told} is missing: {text}");
    }
    for secret in [PASSWORD, &STANDARD.encode(format!("{USER}:{PASSWORD}")), "X-Signature", "7d4f1c"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[test]
fn a_store_is_asked_directly_for_as_long_as_it_answers() {
    // Each address is good for two requests.
    let store = Server::start({
        let asked = AtomicUsize::new(0);
        move |request, stream| match asked.fetch_add(1, Ordering::Relaxed) {
            2 => answer(stream, 403, &[], b""),
            _ => blob(request, stream, &content()),
        }
    });
    let registry = redirecting(307, store.url("/x"));
    let (_file, network, place) = open(&registry, &[&store]);
    for start in [0, 100, 200] {
        assert_eq!(range(&network, &place, Digest::of(b""), start..start + 10).unwrap().len(), 10);
    }
    let targets = |server: &Server| server.seen().iter().filter(|seen| seen.header("authorization").is_some()).count();
    assert_eq!((targets(&registry), targets(&store), store.seen().len()), (2, 0, 4));
}

#[test]
fn a_store_that_asks_for_credentials_gets_none() {
    for challenge in ["Basic realm=x".to_owned(), "Bearer realm=\"http://127.0.0.1:1/token\",service=x".to_owned()] {
        let store = Server::start(move |_, stream| answer(stream, 401, &[("WWW-Authenticate", &challenge)], b""));
        let registry = redirecting(307, store.url("/x"));
        let error = read(&registry, &[&store]).unwrap_err();
        assert!(matches!(error.detail(), Some(RegistryFault::Status { status: 401, .. })), "{error:?}");
        assert!(error.to_string().contains(&store.host()), "{error}");
        assert_eq!(store.seen().len(), 1);
        assert_eq!(store.seen()[0].header("authorization"), None);
    }
}

#[test]
fn a_store_that_sends_back_gets_the_registry_without_credentials() {
    let registry = Arc::new(std::sync::OnceLock::<String>::new());
    let back = Arc::clone(&registry);
    let store = Server::start(move |_, stream| answer(stream, 307, &[("Location", back.get().unwrap())], b""));
    let server = redirecting(307, store.url("/x"));
    registry.set(server.url("/v2/other/blobs/x")).unwrap();
    let error = read(&server, &[]).unwrap_err();
    assert!(matches!(error.detail(), Some(RegistryFault::Status { status: 401, .. })), "{error:?}");
    assert_eq!(server.seen().last().unwrap().header("authorization"), None);
}

#[test]
fn circles_and_long_ways_end() {
    let circle = redirecting(307, "/v2/a/b/blobs/x".to_owned());
    let error = read(&circle, &[]).unwrap_err();
    assert!(matches!(error.detail(), Some(RegistryFault::Redirect { .. })), "{error:?}");
    let long = Server::start(|request, stream| match &*request.target {
        "/v2/" => answer(stream, 200, &[], b""),
        target => answer(stream, 307, &[("Location", &format!("{target}x"))], b""),
    });
    let error = read(&long, &[]).unwrap_err();
    assert!(matches!(error.detail(), Some(RegistryFault::Redirect { .. })), "{error:?}");
    assert!(long.seen().len() < 10);
}

#[test]
fn places_that_are_none_are_refused() {
    for to in ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://user:password@127.0.0.1:1/", "http://[", "data:,x"] {
        let error = read(&redirecting(302, to.to_owned()), &[]).unwrap_err();
        assert!(matches!(error.detail(), Some(RegistryFault::Redirect { .. })), "{to}: {error:?}");
        assert!(!error.to_string().contains("password"), "{error}");
    }
    let nowhere = Server::start(|request, stream| match &*request.target {
        "/v2/" => answer(stream, 200, &[], b""),
        _ => head(stream, 307, &[("Content-Length", "0")]),
    });
    let error = read(&nowhere, &[]).unwrap_err();
    assert!(matches!(error.detail(), Some(RegistryFault::Redirect { .. })), "{error:?}");
}

#[test]
fn uploads_are_not_sent_elsewhere() {
    let store = Server::start(|_, stream| answer(stream, 201, &[], b""));
    for status in [302, 307] {
        let url = store.url("/x");
        let registry = Server::start(move |request, stream| match &*request.target {
            "/v2/" => answer(stream, 200, &[], b""),
            _ if request.method == "HEAD" => answer(stream, 404, &[], b""),
            _ => answer(stream, status, &[("Location", &url)], b""),
        });
        let network = Network::with_timing(Access::default(), &Runtime::start().unwrap(), quick());
        let target = network.create(&registry.reference("a/b:v1")).unwrap();
        let put = target.put_manifest("application/json", b"{}", dimsum_source::Role::Root);
        assert!(matches!(dimsum_testing::fault(&put), Some(RegistryFault::Redirect { .. })), "{put:?}");
    }
    // Nor does an upload session move.
    let url = store.url("/session");
    let registry = Server::start(move |request, stream| match &*request.target {
        "/v2/" => answer(stream, 200, &[], b""),
        _ if request.method == "HEAD" => answer(stream, 404, &[], b""),
        _ => answer(stream, 202, &[("Location", &url)], b""),
    });
    let network = Network::with_timing(Access::default(), &Runtime::start().unwrap(), quick());
    let target = network.create(&registry.reference("a/b:v1")).unwrap();
    let mut writer = target.start_blob().unwrap();
    writer.write_all(b"x").unwrap();
    let sent = writer.commit(Digest::of(b"x"), 1, &|_| std::ops::ControlFlow::Continue(()));
    assert!(matches!(dimsum_testing::fault(&sent), Some(RegistryFault::Answer { .. })), "{sent:?}");
    assert_eq!(store.seen().len(), 0);
}

#[test]
fn tls_is_never_left() {
    let Some(certificates) = Certificates::new() else { return };
    certificates.server("server");
    let pem = |name: &str| BufReader::new(File::open(certificates.file(name)).unwrap());
    let chain = CertificateDer::pem_reader_iter(pem("server.crt")).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_reader(pem("server.key")).unwrap();
    let config = Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap());
    let wrap = move |socket: TcpStream| -> Box<dyn Stream> {
        Box::new(StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), socket))
    };
    let store = Server::start(|request, stream| blob(request, stream, &content()));
    let to = store.url("/x");
    let registry = Server::start_wrapped(wrap, move |request, stream| -> io::Result<()> {
        match &*request.target {
            "/v2/" => answer(stream, 200, &[], b""),
            _ => answer(stream, 307, &[("Location", &to)], b""),
        }
    });
    let access = Access { ca_files: vec![certificates.file("ca.crt")], ..Access::default() };
    let network = Network::with_timing(access, &Runtime::start().unwrap(), quick());
    let place = network.open(&registry.reference("a/b:v1")).unwrap();
    let error = range(&network, &place, Digest::of(b""), 100..200).unwrap_err();
    assert!(matches!(error.detail(), Some(RegistryFault::Redirect { .. })), "{error:?}");
    assert_eq!((registry.seen().len(), store.seen().len()), (1, 0));
}
