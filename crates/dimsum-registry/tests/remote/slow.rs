//! Registries that are overloaded, hang or trickle: tried again as they wish, and given up in bounded time. Waits are a few
//! hundred milliseconds here; what is counted are requests.

use std::io;
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_registry::RegistryFault;
use dimsum_source::{Role, Source as _, SourceError, SourceFault};
use dimsum_testing::outage::{Fault, OutageRegistry, RequestKind};

use crate::content::{self, Image, go_on};
use crate::hostile::{Request, Server, Stream, answer, blob, hang_up, head};
use crate::real::{impatient, parse};
use crate::roundtrip::range;

fn content() -> Vec<u8> {
    content::bytes(1, 10_000)
}

fn registry(handler: impl Fn(&Request, &mut dyn Stream) -> io::Result<()> + Send + Sync + 'static) -> Server {
    Server::start(move |request, stream| match &*request.target {
        "/v2/" => answer(stream, 200, &[], b"{}"),
        _ => handler(request, stream),
    })
}

fn read(server: &Server) -> Result<Bytes, SourceError> {
    let network = impatient();
    let place = network.open(&server.reference("a/b:v1")).unwrap();
    range(&network, &place, Digest::of(b""), 100..200)
}

/// Waits for a client to go away: holds a connection open without a clock.
fn until_gone(stream: &mut dyn Stream) -> io::Result<()> {
    stream.flush()?;
    io::copy(stream, &mut io::sink())?;
    hang_up()
}

#[test]
fn trouble_that_passes_is_not_noticed() {
    for status in [429, 500, 502, 503, 504, 408] {
        for wish in [&[("Retry-After", "0")][..], &[("Retry-After", "soon")], &[]] {
            let (count, wish) = (AtomicUsize::new(0), wish.to_vec());
            let server = registry(move |request, stream| match count.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => answer(stream, status, &wish, b"{}"),
                _ => blob(request, stream, &content()),
            });
            assert_eq!(read(&server).unwrap(), content()[100..200], "{status}");
            assert_eq!(server.seen().len(), 3);
        }
    }
}

#[test]
fn trouble_that_stays_is_given_up() {
    let server = registry(|_, stream| {
        answer(stream, 429, &[], br#"{"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}"#)
    });
    let error = read(&server).unwrap_err();
    assert!(error.is_passing(), "{error:?}");
    assert!(error.to_string().ends_with("status 429 (TOOMANYREQUESTS: slow down)"), "{error}");
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn what_would_fail_again_is_not_tried_again() {
    for (status, headers) in [(400, &[][..]), (501, &[]), (405, &[]), (503, &[("Retry-After", "86400")])] {
        let server = registry(move |_, stream| answer(stream, status, headers, b""));
        let error = read(&server).unwrap_err();
        assert!(matches!(error.detail(), Some(RegistryFault::Status { status: is, .. }) if *is == status), "{error:?}");
        assert_eq!(server.seen().len(), 1, "{status}");
    }
}

#[test]
fn a_registry_that_does_not_answer_is_given_up() {
    // It never accepts, and yet the kernel connects.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = parse(&format!("{}/a/b:v1", listener.local_addr().unwrap()));
    let error = impatient().open(&reference).unwrap().root().unwrap_err();
    assert!(error.is_passing(), "{error:?}");
    let port = listener.local_addr().unwrap();
    drop(listener);
    let error = impatient().open(&parse(&format!("{port}/a/b:v1"))).unwrap().root().unwrap_err();
    assert!(matches!(error.detail(), Some(RegistryFault::Unreachable { .. })), "{error:?}");
}

#[test]
fn a_host_that_nobody_knows_is_said_so() {
    let error = impatient().open(&parse("nowhere.invalid/a/b:v1")).unwrap().root().unwrap_err();
    // Where there is no resolver at all, it may take longer than we wait.
    assert!(
        matches!(error.detail(), Some(RegistryFault::UnknownHost { .. } | RegistryFault::Unreachable { .. })),
        "{error:?}"
    );
    assert!(error.to_string().contains("nowhere.invalid"), "{error}");
}

#[test]
fn a_request_that_is_not_answered_is_given_up() {
    let server = registry(|_, stream| until_gone(stream));
    let error = read(&server).unwrap_err();
    assert!(matches!(error.detail(), Some(SourceFault::Deadline { reason: "no answer came", .. })), "{error:?}");
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn a_body_that_stops_is_gone_on_with_or_given_up() {
    let server = registry(|request, stream| {
        let (start, _) = request.range().unwrap();
        let (says, length) = (format!("bytes {start}-199/10000"), (200 - start).to_string());
        head(stream, 206, &[("Content-Range", &says), ("Content-Length", &length)])?;
        stream.write_all(&content()[start..start + 30])?;
        until_gone(stream)
    });
    let error = read(&server).unwrap_err();
    assert!(matches!(error.detail(), Some(SourceFault::Deadline { .. })) && error.is_passing(), "{error:?}");
    let starts: Vec<_> = server.seen().iter().map(|request| request.range().unwrap().0).collect();
    assert_eq!(starts, [100, 130, 160]);
}

#[test]
fn a_trickle_is_no_connection() {
    let server = registry(|request, stream| {
        let (start, _) = request.range().unwrap();
        let (says, length) = (format!("bytes {start}-199/10000"), (200 - start).to_string());
        head(stream, 206, &[("Content-Range", &says), ("Content-Length", &length)])?;
        for _ in start..200 {
            stream.write_all(b"x")?;
            stream.flush()?;
            // What is tested is a slow server, and a clock is what makes it slow.
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        hang_up()
    });
    let error = read(&server).unwrap_err();
    assert!(matches!(error.detail(), Some(SourceFault::Deadline { reason: "too few bytes came", .. })), "{error:?}");
}

#[test]
fn a_read_that_is_abandoned_lets_go_of_the_connection() {
    let (gone, wait) = mpsc::channel();
    let gone = Mutex::new(gone);
    let server = registry(move |_, stream| {
        head(stream, 206, &[("Content-Range", "bytes 100-199/10000"), ("Content-Length", "100")])?;
        let ended = until_gone(stream);
        gone.lock().unwrap().send(()).unwrap();
        ended
    });
    let network = impatient();
    let place = network.open(&server.reference("a/b:v1")).unwrap();
    let abandoned = network.runtime().wait(async move {
        let read = place.read_range(Digest::of(b""), 100..200);
        tokio::time::timeout(std::time::Duration::from_millis(50), read).await.is_err()
    });
    assert_eq!(abandoned, Some(true));
    wait.recv().unwrap();
}

/// A registry that takes uploads, and loses the connection in the first PATCH after some bytes.
struct Uploads {
    /// What it has; and how often PATCH was tried.
    has: Mutex<(Vec<u8>, usize)>,
    remembers: bool,
}

impl Uploads {
    fn answer(&self, request: &Request, stream: &mut dyn Stream) -> io::Result<()> {
        let (has, tries) = &mut *self.has.lock().unwrap();
        match &*request.method {
            "HEAD" => answer(stream, 404, &[], b""),
            "POST" => {
                has.clear();
                answer(stream, 202, &[("Location", "/session?state=1")], b"")
            }
            "GET" if !self.remembers => answer(stream, 404, &[], b""),
            "GET" => {
                let range = format!("0-{}", has.len() - 1);
                answer(stream, 204, &[("Location", "/session?state=2"), ("Range", &range)], b"")
            }
            "PATCH" => {
                *tries += 1;
                let says = request.header("content-range").unwrap();
                assert_eq!(says.split('-').next().unwrap(), has.len().to_string());
                if *tries == 1 {
                    has.extend_from_slice(&request.body[..5_000_000]);
                    return hang_up();
                }
                has.extend_from_slice(&request.body);
                answer(stream, 202, &[("Location", "/session?state=3")], b"")
            }
            "PUT" => {
                assert!(request.target.starts_with("/session?state=3&digest=sha256%3A"), "{}", request.target);
                answer(stream, 201, &[], b"")
            }
            _ => answer(stream, 204, &[], b""),
        }
    }
}

#[test]
fn an_upload_goes_on_where_the_registry_has_it() {
    for remembers in [true, false] {
        let image = Image::new(1);
        let uploads = std::sync::Arc::new(Uploads { has: Mutex::default(), remembers });
        let state = std::sync::Arc::clone(&uploads);
        let server = registry(move |request, stream| state.answer(request, stream));
        let target = impatient().create(&server.reference("a/b:v1")).unwrap();
        target.copy_blob(content::blob(&image.layers[1]), &image.layout(), &go_on).unwrap();
        assert_eq!(uploads.has.lock().unwrap().0, image.layers[1]);
        let methods: Vec<_> = server.seen().iter().map(|request| request.method.clone()).collect();
        let must = if remembers { "POST PATCH GET PATCH PUT" } else { "POST PATCH GET POST PATCH PUT" };
        assert_eq!(methods.join(" "), must);
    }
}

#[test]
fn an_upload_survives_a_lost_question_after_its_state() {
    for fault in [Fault::Reset, Fault::Status(503)] {
        let image = Image::new(3);
        let registry = OutageRegistry::empty();
        let target = impatient().create(&parse(&registry.reference("v1"))).unwrap();
        registry.script_once(RequestKind::UploadPatch, Fault::Reset);
        registry.script_once(RequestKind::UploadStatus, fault);
        target.copy_blob(content::blob(&image.layers[1]), &image.layout(), &go_on).unwrap();
        assert!(registry.has_blob(Digest::of(&image.layers[1])));
        let counts = [RequestKind::UploadStart, RequestKind::UploadPatch, RequestKind::UploadStatus];
        assert_eq!(counts.map(|kind| registry.count(kind)), [1, 2, 2], "{fault:?}: nothing is begun anew");
        assert_eq!(registry.open_uploads(), 0, "{fault:?}");
    }
}

#[test]
fn an_upload_that_always_fails_is_given_up() {
    let image = Image::new(2);
    let server = registry(|request, stream| match &*request.method {
        "POST" => answer(stream, 202, &[("Location", "/session")], b""),
        _ => answer(stream, 503, &[], b""),
    });
    let target = impatient().create(&server.reference("a/b:v1")).unwrap();
    for layer in &image.layers {
        let copied = target.copy_blob(content::blob(layer), &image.layout(), &go_on);
        assert!(
            matches!(dimsum_testing::fault(&copied), Some(RegistryFault::Status { status: 503, .. })),
            "{copied:?}"
        );
    }
    assert!(server.seen().len() < 40, "{}", server.seen().len());
    let put = target.put_manifest("application/json", b"{}", Role::Root);
    assert!(matches!(dimsum_testing::fault(&put), Some(RegistryFault::Status { status: 503, .. })), "{put:?}");
    assert!(image.layout().size(image.digest()).unwrap().is_some());
}
