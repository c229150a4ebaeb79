//! Where blobs really are. A registry sends each read on to an object store. A client that reads a blob in many ranges
//! goes there at once, which halves the time of a small read. An address that does not work any more costs one request.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dimsum_format::Digest;
use parking_lot::Mutex;
use reqwest::header::HeaderMap;
use reqwest::{Method, Response, StatusCode, Url};

use super::hop::{Hop, Wire, follow};

/// How long an address is used. Signed addresses live for ten minutes or more; a registry that takes a permission back is
/// asked again before long.
const LIFE: Duration = Duration::from_secs(300);
/// Addresses that are kept per repository: more blobs than an image has.
const MAX_ADDRESSES: usize = 256;

/// Addresses by blob.
#[derive(Debug, Default)]
pub(super) struct Moved(Mutex<HashMap<Digest, (Url, Instant)>>);

impl Moved {
    fn find(&self, blob: Digest) -> Option<Url> {
        let known = self.0.lock();
        known.get(&blob).filter(|(_, since)| since.elapsed() < LIFE).map(|(url, _)| url.clone())
    }

    /// Remembers where an answer came from, if it was another place than was asked.
    pub(super) fn remember(&self, blob: Digest, asked: &Url, response: &Response) {
        if response.status().is_success() && response.url() != asked {
            let mut known = self.0.lock();
            if known.len() >= MAX_ADDRESSES {
                known.clear();
            }
            known.insert(blob, (response.url().clone(), Instant::now()));
        }
    }
}

impl Moved {
    /// Asks the place where a blob was the last time for a range of it. `None` if there is no such place, or it has nothing
    /// for us any more.
    pub(super) async fn read_there(
        &self,
        wire: &Wire,
        blob: Digest,
        headers: &HeaderMap,
        what: &str,
    ) -> Option<Response> {
        let url = self.find(blob)?;
        let hop = Hop { method: Method::GET, url, headers: headers.clone(), body: None };
        match follow(wire, hop, what).await {
            Ok((response, _)) if response.status() == StatusCode::PARTIAL_CONTENT => Some(response),
            _ => {
                self.0.lock().remove(&blob);
                None
            }
        }
    }
}
