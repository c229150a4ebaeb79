//! The one request whose body is a stream. It cannot be sent twice, so it answers no challenge and follows no redirect; the
//! request before it had the chance to do that.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dimsum_format::manifest::Blob;
use dimsum_source::SourceFault;
use futures_util::stream;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Body, Method, Request, Response, StatusCode, Url};
use tokio::sync::mpsc::Receiver;
use tracing::debug;

use super::Repo;
use super::failure::{Failure, translate};
use super::upload::{Session, range_end};

/// How a stream is doing, seen from the outside.
#[derive(Debug, Default)]
struct Flow {
    sent: AtomicU64,
    /// Whether the source is waited for, which is not the registry's fault.
    starved: AtomicBool,
    ended: AtomicBool,
}

/// Sends all that is left of a blob and returns where the upload goes on.
pub(super) async fn patch(
    repo: &Repo,
    session: Session,
    blob: Blob,
    pieces: Receiver<io::Result<Bytes>>,
) -> Result<Url, Failure> {
    let what = format!("uploading blob {}", blob.digest);
    let client = repo.hub.wire.clients.of(&session.url).await.map_err(Failure::fatal)?;
    let flow = Arc::new(Flow::default());
    let mut request = Request::new(Method::PATCH, session.url.clone());
    *request.headers_mut() = headers(session.has, blob.size);
    let authorization = repo.registry.auth.header(&repo.asker(), &repo.push).await?;
    request.headers_mut().extend(authorization.map(|authorization| (AUTHORIZATION, authorization)));
    *request.body_mut() = Some(body(pieces, Arc::clone(&flow)));
    debug!(method = "PATCH", host = repo.registry.host, path = session.url.path(), what, from = session.has, "sends");
    let response = watch(repo, &flow, &what, client.execute(request)).await?;
    debug!(status = response.status().as_u16(), what, "has an answer");
    match response.status() {
        StatusCode::ACCEPTED | StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => {}
        // The token ran out: the next request gets a new one.
        StatusCode::UNAUTHORIZED => {
            return Err(Failure::passing(repo.refused(response, &what, &repo.push).await.error));
        }
        _ => return Err(repo.refused(response, &what, &repo.push).await),
    }
    if range_end(&response).is_some_and(|has| has != blob.size) {
        return Err(Failure::passing(repo.answer_error(&what, "the registry has taken less than all")));
    }
    Ok(repo.location(&response, &what)?.unwrap_or(session.url))
}

fn headers(start: u64, size: u64) -> HeaderMap {
    let number = |text: String| HeaderValue::try_from(text).expect("digits make a header");
    HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (CONTENT_LENGTH, number(size.saturating_sub(start).to_string())),
        (CONTENT_RANGE, number(format!("{start}-{}", size.saturating_sub(1)))),
    ])
}

fn body(pieces: Receiver<io::Result<Bytes>>, flow: Arc<Flow>) -> Body {
    Body::wrap_stream(stream::unfold((pieces, flow), |(mut pieces, flow)| async move {
        flow.starved.store(true, Ordering::Relaxed);
        let piece = pieces.recv().await;
        flow.starved.store(false, Ordering::Relaxed);
        match &piece {
            Some(Ok(bytes)) => drop(flow.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed)),
            _ => flow.ended.store(true, Ordering::Relaxed),
        }
        piece.map(|piece| (piece, (pieces, flow)))
    }))
}

/// Waits for the answer as long as bytes are taken, and then as long as a registry may need to store them.
async fn watch(
    repo: &Repo,
    flow: &Flow,
    what: &str,
    answer: impl Future<Output = reqwest::Result<Response>>,
) -> Result<Response, Failure> {
    let (timing, host) = (repo.hub.wire.timing, repo.registry.host.clone());
    let mut answer = std::pin::pin!(answer);
    let (mut sent, mut ended) = (0, Duration::ZERO);
    loop {
        if let Ok(answer) = tokio::time::timeout(timing.idle, &mut answer).await {
            return answer.map_err(|error| Failure::from(translate(&host, what, error)));
        }
        let late = |reason, after| {
            Err(Failure::passing(SourceFault::Deadline { what: what.to_owned(), reason, after }.at(&host)))
        };
        let now = flow.sent.load(Ordering::Relaxed);
        if flow.ended.load(Ordering::Relaxed) {
            ended += timing.idle;
            if ended >= timing.commit {
                return late("no answer came", ended);
            }
        } else if now == sent && !flow.starved.load(Ordering::Relaxed) {
            return late("no bytes were taken", timing.idle);
        }
        sent = now;
    }
}
