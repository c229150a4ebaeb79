//! Wrong bytes, wrong lengths, wrong headers: right bytes or an error that says what is wrong, and never more memory than what
//! was asked for.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use dimsum_format::{Digest, media};
use dimsum_registry::RegistryFault;
use dimsum_source::{Role, SourceError, SourceFault};

use crate::content;
use crate::hostile::{Request, Server, Stream, answer, blob, hang_up, head};
use crate::real::impatient;
use crate::roundtrip::range;

fn content() -> Vec<u8> {
    content::bytes(1, 100_000)
}

/// A server that is a registry as far as that is looked for.
fn registry(handler: impl Fn(&Request, &mut dyn Stream) -> io::Result<()> + Send + Sync + 'static) -> Server {
    Server::start(move |request, stream| match &*request.target {
        "/v2/" => answer(stream, 200, &[], b"{}"),
        _ => handler(request, stream),
    })
}

/// Reads bytes 1000 to 5000 from a registry that answers like this.
fn read(
    handler: impl Fn(&Request, &mut dyn Stream) -> io::Result<()> + Send + Sync + 'static,
) -> (Result<Bytes, SourceError>, Server) {
    let server = registry(handler);
    let network = impatient();
    let place = network.open(&server.reference("a/b:v1")).unwrap();
    (range(&network, &place, Digest::of(&content()), 1000..5000), server)
}

fn right(read: Result<Bytes, SourceError>) {
    assert_eq!(read.unwrap(), content()[1000..5000]);
}

#[track_caller]
fn refused(read: Result<impl std::fmt::Debug, SourceError>, must: &str) {
    let error = read.unwrap_err();
    assert!(matches!(error.detail(), Some(RegistryFault::Answer { .. })), "{error:?}");
    assert!(error.to_string().contains(must), "{error}");
}

/// Writes for as long as it is read.
fn endless(stream: &mut dyn Stream) -> io::Result<()> {
    loop {
        stream.write_all(&[b'x'; 65536])?;
    }
}

#[test]
fn an_honest_registry_is_read_with_one_request() {
    let (read, server) = read(|request, stream| blob(request, stream, &content()));
    right(read);
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("range"), Some("bytes=1000-4999"));
    assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn an_ignored_range_is_refused_and_not_read() {
    let (read, server) = read(|_, stream| {
        head(stream, 200, &[("Content-Length", "1000000000000")])?;
        endless(stream)
    });
    refused(read, "ignores Range");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn an_ignored_range_from_the_start_gives_what_was_asked_for() {
    let server = registry(|_, stream| {
        head(stream, 200, &[("Content-Length", "1000000000000")])?;
        stream.write_all(&content())?;
        endless(stream)
    });
    let network = impatient();
    let place = network.open(&server.reference("a/b:v1")).unwrap();
    assert_eq!(range(&network, &place, Digest::of(b""), 0..5000).unwrap(), content()[..5000]);
}

#[test]
fn a_range_of_another_place_is_refused() {
    for (says, must) in [
        ("bytes 0-3999/100000", "bytes from 1000 on were asked for, 0..4000 came"),
        ("bytes 1001-5000/100000", "1001..5001 came"),
        ("bytes 1000-5000/100000", "Content-Length"),
        ("bytes */100000", "malformed"),
        ("x", "malformed"),
    ] {
        let (read, _) = read(move |_, stream| answer(stream, 206, &[("Content-Range", says)], &[0; 4000]));
        refused(read, must);
    }
    refused(read(|_, stream| answer(stream, 206, &[], &[0; 4000])).0, "there is none");
    let several = [("Content-Type", "multipart/byteranges; boundary=x"), ("Content-Range", "bytes 1000-4999/100000")];
    refused(read(move |_, stream| answer(stream, 206, &several, &[0; 4000])).0, "several ranges");
}

#[test]
fn more_than_was_asked_for_is_refused() {
    let range = [("Content-Range", "bytes 1000-4999/100000"), ("Connection", "close")];
    let (read, _) = read(move |_, stream| {
        head(stream, 206, &range)?;
        endless(stream)
    });
    refused(read, "more bytes came");
}

#[test]
fn a_blob_that_is_shorter_is_said_so() {
    let (read, _) =
        read(|_, stream| answer(stream, 206, &[("Content-Range", "bytes 1000-1999/2000")], &content()[1000..2000]));
    assert!(matches!(dimsum_testing::fault(&read), Some(SourceFault::Range { .. })), "{read:?}");
}

#[test]
fn a_range_in_parts_is_put_together() {
    let (read, server) = read(|request, stream| {
        let (start, _) = request.range().unwrap();
        let says = format!("bytes {start}-{}/100000", start + 1999);
        answer(stream, 206, &[("Content-Range", &says)], &content()[start..start + 2000])
    });
    right(read);
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_broken_connection_is_gone_on_with_where_it_broke() {
    let count = AtomicUsize::new(0);
    let (read, server) = read(move |request, stream| {
        if count.fetch_add(1, Ordering::Relaxed) > 0 {
            return blob(request, stream, &content());
        }
        head(stream, 206, &[("Content-Range", "bytes 1000-4999/100000"), ("Content-Length", "4000")])?;
        stream.write_all(&content()[1000..3000])?;
        hang_up()
    });
    right(read);
    let ranges: Vec<_> = server.seen().iter().map(|request| request.range().unwrap()).collect();
    assert_eq!(ranges, [(1000, Some(5000)), (3000, Some(5000))]);
}

#[test]
fn a_connection_that_always_breaks_is_given_up() {
    let (read, server) = read(|_, stream| {
        head(stream, 206, &[("Content-Range", "bytes 1000-4999/100000"), ("Content-Length", "4000")])?;
        hang_up()
    });
    let error = read.unwrap_err();
    assert!(matches!(error.detail(), Some(RegistryFault::Broken { .. })) && error.is_passing(), "{error:?}");
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn encoded_bodies_are_refused_unread() {
    for encoding in ["gzip", "zstd", "br", "identity, gzip"] {
        let (read, server) = read(move |_, stream| {
            let headers = [("Content-Encoding", encoding), ("Content-Range", "bytes 1000-4999/100000")];
            head(stream, 206, &headers)?;
            endless(stream)
        });
        refused(read, "Content-Encoding");
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn huge_headers_are_refused() {
    let (read, _) = read(|_, stream| {
        stream.write_all(b"HTTP/1.1 206 Test\r\nX: ")?;
        endless(stream)
    });
    assert!(matches!(dimsum_testing::fault(&read), Some(RegistryFault::Broken { .. })), "{read:?}");
    let (read, _) = self::read(|_, stream| {
        stream.write_all(b"HTTP/1.1 206 Test\r\n")?;
        for number in 0..100_000 {
            write!(stream, "X-{number}: y\r\n")?;
        }
        stream.write_all(b"\r\n")
    });
    assert!(matches!(dimsum_testing::fault(&read), Some(RegistryFault::Broken { .. })), "{read:?}");
}

#[test]
fn endless_errors_are_cut_off_and_shown_tamely() {
    let (read, _) = read(|_, stream| {
        head(stream, 400, &[])?;
        endless(stream)
    });
    assert!(matches!(dimsum_testing::fault(&read), Some(RegistryFault::Status { status: 400, .. })), "{read:?}");
    let (read, _) = self::read(|_, stream| {
        answer(stream, 418, &[], br#"{"errors": [{"code": "TEAPOT", "message": "I am\u001b[31m red"}]}"#)
    });
    let error = read.unwrap_err().to_string();
    assert!(error.ends_with("status 418 (TEAPOT: I am[31m red)"), "{error}");
}

#[test]
fn manifests_have_a_limit_and_a_digest() {
    let reference = |server: &Server| server.reference("a/b:v1");
    let huge = registry(|_, stream| answer(stream, 200, &[], &vec![b' '; 100 << 20]));
    refused(impatient().open(&reference(&huge)).unwrap().root(), "more than");
    let endless = registry(|_, stream| {
        head(stream, 200, &[])?;
        self::endless(stream)
    });
    refused(impatient().open(&reference(&endless)).unwrap().root(), "more than");
    let digest = Digest::of(b"{}").to_string();
    let forged = registry(move |_, stream| answer(stream, 200, &[("Docker-Content-Digest", &digest)], b"{} "));
    let root = impatient().open(&reference(&forged)).unwrap().root();
    assert!(matches!(dimsum_testing::fault(&root), Some(SourceFault::Digest { .. })), "{root:?}");
    let wrong = registry(|_, stream| answer(stream, 200, &[], b"{} "));
    let place = impatient().open(&reference(&wrong)).unwrap();
    assert!(matches!(dimsum_testing::fault(&place.read_manifest(Digest::of(b"{}"))), Some(SourceFault::Digest { .. })));
    assert!(matches!(dimsum_testing::fault(&place.root()), Some(SourceFault::Format { .. })));
}

#[test]
fn small_blobs_have_a_limit_and_a_digest() {
    let server = registry(|request, stream| blob(request, stream, &content()));
    let place = impatient().open(&server.reference("a/b:v1")).unwrap();
    let digest = Digest::of(&content());
    assert_eq!(place.read_small("config", digest, 100_000).unwrap(), content());
    assert!(matches!(
        dimsum_testing::fault(&place.read_small("config", digest, 99_999)),
        Some(SourceFault::TooLarge { size: 100_000, .. })
    ));
    assert!(matches!(
        dimsum_testing::fault(&place.read_small("config", Digest::of(b""), 100_000)),
        Some(SourceFault::Digest { .. })
    ));
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn a_whole_blob_is_read_over_broken_connections() {
    let count = AtomicUsize::new(0);
    let server = registry(move |request, stream| {
        let start = request.range().map_or(0, |(start, _)| start);
        if count.fetch_add(1, Ordering::Relaxed) == 2 {
            return blob(request, stream, &content());
        }
        let (says, length) = (format!("bytes {start}-99999/100000"), (100_000 - start).to_string());
        let status = if start == 0 { 200 } else { 206 };
        head(stream, status, &[("Content-Range", &says), ("Content-Length", &length)])?;
        stream.write_all(&content()[start..start + 10_000])?;
        hang_up()
    });
    let place = impatient().open(&server.reference("a/b:v1")).unwrap();
    assert_eq!(content::read(&*place, Digest::of(b""), 0), content());
    let starts: Vec<_> = server.seen().iter().map(|request| request.range().map(|(start, _)| start)).collect();
    assert_eq!(starts, [None, Some(10_000), Some(20_000)]);
}

#[test]
fn a_reader_that_waits_holds_the_registry_up() {
    let sent = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&sent);
    let (ended, end) = std::sync::mpsc::channel();
    let ended = std::sync::Mutex::new(ended);
    let server = registry(move |_, stream| {
        head(stream, 200, &[("Content-Length", "100000000000")])?;
        while stream.write_all(&[0; 1 << 20]).is_ok() {
            count.fetch_add(1 << 20, Ordering::Relaxed);
        }
        ended.lock().unwrap().send(()).unwrap();
        hang_up()
    });
    let place = impatient().open(&server.reference("a/b:v1")).unwrap();
    let mut reader = place.open(Digest::of(b"")).unwrap();
    reader.read_exact(&mut [0; 1000]).unwrap();
    drop(reader);
    // Only now does the registry learn that nobody reads; until then it filled queues and socket buffers.
    end.recv().unwrap();
    assert!(sent.load(Ordering::Relaxed) < 64 << 20, "{sent:?}");
}

#[test]
fn a_registry_that_stored_another_manifest_is_found_out() {
    let digest = Digest::of(b"other").to_string();
    let server = registry(move |_, stream| answer(stream, 201, &[("Docker-Content-Digest", &digest)], b""));
    let target = impatient().create(&server.reference("a/b:v1")).unwrap();
    let put = target.put_manifest(media::MANIFEST, b"{}", Role::Root);
    assert!(matches!(dimsum_testing::fault(&put), Some(SourceFault::Digest { .. })), "{put:?}");
}
