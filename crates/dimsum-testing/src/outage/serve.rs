//! One connection: requests are told apart, counted, and answered as the script says.

use std::io::{self, BufReader};
use std::net::{Shutdown, TcpStream};

use dimsum_format::manifest::Index;
use dimsum_format::{Digest, media};

use super::http::{Answer, RequestHead, read_body};
use super::{Fault, REPOSITORY, RequestKind, Shared};

/// The token that everybody gets.
const TOKEN: &str = "a-token-for-everybody";

/// Serves a connection until the client hangs up or a fault ends it.
pub(super) fn connection(shared: &Shared, socket: TcpStream) {
    let mut stream = BufReader::new(socket);
    loop {
        match RequestHead::read(&mut stream) {
            Ok(Some(request)) => {
                if serve(shared, &request, &mut stream).is_err() {
                    break;
                }
            }
            Ok(None) => break,
            // Whoever speaks TLS here hears that this is plain HTTP.
            Err(_) => {
                drop(Answer::new(400, Vec::new(), Vec::new()).write(stream.get_mut()));
                break;
            }
        }
    }
    // Nothing can be done about a failure: the client has hung up then.
    drop(stream.get_ref().shutdown(Shutdown::Both));
}

fn serve(shared: &Shared, request: &RequestHead, stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    let kind = kind(shared, request);
    let Some(kind) = kind else {
        read_body(stream, request.length())?;
        return other(shared, request).write(stream.get_mut());
    };
    let fault = shared.meet(kind);
    let body = match fault {
        Some(_) if kind == RequestKind::UploadPatch => {
            let half = read_body(stream, request.length() / 2)?;
            shared.content.append(upload(request).unwrap_or(0), &half);
            Vec::new()
        }
        _ => read_body(stream, request.length())?,
    };
    let broken = || Err(io::ErrorKind::ConnectionAborted.into());
    match fault {
        Some(Fault::Status(status)) => {
            let mut refusal = Answer::refusal(status, "UNAVAILABLE");
            if status == 401 && shared.wants_tokens() {
                refusal.headers.push(challenge(shared));
            }
            refusal.write(stream.get_mut())?;
            // The rest of a body that nobody reads would pass for the next request.
            return if kind == RequestKind::UploadPatch { broken() } else { Ok(()) };
        }
        Some(Fault::Reset) => return broken(),
        Some(Fault::Hang) => {
            shared.hang(kind);
            return broken();
        }
        Some(Fault::WrongBytes | Fault::Truncated) if kind == RequestKind::UploadPatch => return broken(),
        Some(Fault::WrongBytes | Fault::Truncated) | None => {}
    }
    let mut answer = answer(shared, kind, request, body);
    shared.count_sent(kind, answer.body.len() as u64);
    match fault {
        Some(Fault::WrongBytes) => {
            let middle = answer.body.len() / 2;
            if let Some(byte) = answer.body.get_mut(middle) {
                *byte ^= 0x20;
            }
            answer.write(stream.get_mut())
        }
        Some(Fault::Truncated) => {
            answer.write_half(stream.get_mut())?;
            broken()
        }
        _ => answer.write(stream.get_mut()),
    }
}

/// Tells requests apart; `None` for those that no script is for.
fn kind(shared: &Shared, request: &RequestHead) -> Option<RequestKind> {
    let tail = tail(request);
    let digest = |name: &str| name.starts_with("sha256:");
    match (&*request.method, tail) {
        ("GET", _) if request.path == "/v2/" => Some(RequestKind::Ping),
        ("GET", _) if request.path == "/token" => Some(RequestKind::Token),
        ("POST", Some(("blobs", "uploads/"))) => Some(RequestKind::UploadStart),
        ("PATCH", Some(("blobs", _))) => Some(RequestKind::UploadPatch),
        ("PUT", Some(("blobs", _))) => Some(RequestKind::UploadPut),
        ("PUT", Some(("manifests", _))) => Some(RequestKind::ManifestPut),
        ("HEAD", Some(_)) => Some(RequestKind::Head),
        ("GET", Some(("manifests", name))) if digest(name) => Some(RequestKind::ManifestByDigest),
        ("GET", Some(("manifests", _))) => Some(RequestKind::ManifestByTag),
        ("GET", Some(("blobs", name))) if digest(name) => Some(shared.content.kind(name)),
        ("GET", Some(("blobs", _))) => Some(RequestKind::UploadStatus),
        ("GET", Some(("referrers", _))) => Some(RequestKind::Referrers),
        _ => None,
    }
}

/// Splits `/v2/REPOSITORY/WHAT/NAME`.
fn tail(request: &RequestHead) -> Option<(&str, &str)> {
    request.path.strip_prefix("/v2/")?.strip_prefix(REPOSITORY)?.strip_prefix('/')?.split_once('/')
}

fn name(request: &RequestHead) -> &str {
    tail(request).map(|(_, name)| name).unwrap_or_default()
}

fn upload(request: &RequestHead) -> Option<u64> {
    name(request).strip_prefix("uploads/")?.parse().ok()
}

fn challenge(shared: &Shared) -> (&'static str, String) {
    let address = shared.address;
    ("WWW-Authenticate", format!(r#"Bearer realm="http://{address}/token",service="{address}""#))
}

/// Answers a request that meets no fault.
fn answer(shared: &Shared, kind: RequestKind, request: &RequestHead, body: Vec<u8>) -> Answer {
    let may = request.header("authorization") == Some(&*format!("Bearer {TOKEN}"));
    if shared.wants_tokens() && !may && !matches!(kind, RequestKind::Ping | RequestKind::Token) {
        let mut refusal = Answer::refusal(401, "UNAUTHORIZED");
        refusal.headers.push(challenge(shared));
        return refusal;
    }
    match kind {
        RequestKind::Ping => Answer::new(200, Vec::new(), b"{}".to_vec()),
        RequestKind::Token => Answer::new(200, Vec::new(), format!(r#"{{"token":"{TOKEN}"}}"#).into_bytes()),
        RequestKind::ManifestByTag | RequestKind::ManifestByDigest => manifest(shared, name(request)),
        RequestKind::Config | RequestKind::Meta | RequestKind::Pack => blob(shared, request),
        // It has no such API; the fallback tag is asked for next.
        RequestKind::Referrers => Answer::refusal(404, "NOT_FOUND"),
        RequestKind::Head => head(shared, request),
        RequestKind::UploadStart => accepted(shared.content.begin_upload(), 202, 0),
        RequestKind::UploadPatch => {
            let number = upload(request).unwrap_or(0);
            shared.content.append(number, &body);
            accepted(number, 202, shared.content.upload_length(number).unwrap_or(0))
        }
        RequestKind::UploadStatus => {
            let number = upload(request).unwrap_or(0);
            let length = shared.content.upload_length(number);
            length.map_or_else(|| Answer::refusal(404, "UNKNOWN"), |length| accepted(number, 204, length))
        }
        RequestKind::UploadPut => {
            let number = upload(request).unwrap_or(0);
            shared.content.append(number, &body);
            let digest = request.parameter("digest").unwrap_or_default();
            let right = shared.content.finish_upload(number, &digest);
            if right { Answer::new(201, Vec::new(), Vec::new()) } else { Answer::refusal(400, "DIGEST_INVALID") }
        }
        RequestKind::ManifestPut => {
            let digest = shared.content.put_manifest(name(request), body);
            Answer::new(201, vec![("Docker-Content-Digest", digest)], Vec::new())
        }
    }
}

/// Answers a request that no script is for.
fn other(shared: &Shared, request: &RequestHead) -> Answer {
    if request.method == "DELETE"
        && let Some(number) = upload(request)
    {
        shared.content.give_up(number);
        return Answer::new(204, Vec::new(), Vec::new());
    }
    Answer::refusal(404, "UNKNOWN")
}

fn manifest(shared: &Shared, name: &str) -> Answer {
    let Some(bytes) = shared.content.manifest(name) else { return Answer::refusal(404, "MANIFEST_UNKNOWN") };
    let media_type = if Index::parse(&bytes).is_ok() { media::INDEX } else { media::MANIFEST };
    let digest = Digest::of(&bytes).to_string();
    Answer::new(200, vec![("Content-Type", media_type.to_owned()), ("Docker-Content-Digest", digest)], bytes)
}

fn blob(shared: &Shared, request: &RequestHead) -> Answer {
    let Some(blob) = shared.content.blob(name(request)) else { return Answer::refusal(404, "BLOB_UNKNOWN") };
    let length = blob.length();
    match request.range(length) {
        None => Answer::new(200, Vec::new(), blob.read(0..length)),
        Some(range) if range.start < range.end => {
            let given = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            Answer::new(206, vec![("Content-Range", given)], blob.read(range))
        }
        Some(_) => Answer::new(416, vec![("Content-Range", format!("bytes */{length}"))], Vec::new()),
    }
}

fn head(shared: &Shared, request: &RequestHead) -> Answer {
    let name = name(request);
    let length = match tail(request) {
        Some(("manifests", _)) => shared.content.manifest(name).map(|bytes| bytes.len() as u64),
        _ => shared.content.blob(name).map(|blob| blob.length()),
    };
    match length {
        Some(length) => Answer { length, ..Answer::new(200, Vec::new(), Vec::new()) },
        None => Answer::new(404, Vec::new(), Vec::new()),
    }
}

/// An upload that goes on.
fn accepted(number: u64, status: u16, length: usize) -> Answer {
    let location = format!("/v2/{REPOSITORY}/blobs/uploads/{number}");
    let mut headers = vec![("Location", location)];
    if length > 0 {
        headers.push(("Range", format!("0-{}", length - 1)));
    }
    Answer::new(status, headers, Vec::new())
}
