//! A blob as a blocking reader. A task on the runtime fetches ahead, a few pieces far; a reader that waits holds it up, and
//! with it the connection.

use std::io::{self, Read};
use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use dimsum_source::{Runtime, SourceError, SourceFault};
use futures_util::future::{Either, select};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tracing::Instrument as _;

use super::Repo;
use super::range::RangeBody;

/// Pieces that wait for their reader. A piece is what one read of a socket gave, some tens of KiB.
const AHEAD: usize = 16;

/// Reads a blob.
pub(super) struct BlobReader {
    name: String,
    now: Bytes,
    next: Receiver<Result<Option<Bytes>, SourceError>>,
    ended: bool,
}

impl BlobReader {
    /// Goes on with `body` in the background; `first` are bytes that it gave already, none if there are none.
    pub(super) fn start(runtime: &Runtime, repo: Arc<Repo>, body: RangeBody, first: Option<Bytes>) -> Self {
        let (give, next) = mpsc::channel(AHEAD);
        let (name, ended) = (repo.text.clone(), first.is_none());
        if !ended {
            runtime.spawn(fetch(repo, body, give).in_current_span());
        }
        Self { name, now: first.unwrap_or_default(), next, ended }
    }
}

/// Ends when the body does, or when the reader is gone.
async fn fetch(repo: Arc<Repo>, mut body: RangeBody, give: Sender<Result<Option<Bytes>, SourceError>>) {
    loop {
        let next = match select(pin!(body.next(&repo)), pin!(give.closed())).await {
            Either::Left((next, _)) => next,
            Either::Right(_) => return,
        };
        let more = matches!(next, Ok(Some(_)));
        if give.send(next).await.is_err() || !more {
            return;
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() && !self.ended {
            self.now = match self.next.blocking_recv() {
                Some(Ok(Some(bytes))) => bytes,
                Some(Ok(None)) => {
                    self.ended = true;
                    Bytes::new()
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Err(io::Error::other(error));
                }
                // An end that nobody announced is none.
                None => return Err(io::Error::other(SourceFault::Cancelled.at(&self.name))),
            };
        }
        let count = self.now.len().min(buffer.len());
        if let Some(to) = buffer.get_mut(..count) {
            self.now.copy_to_slice(to);
        }
        Ok(count)
    }
}
