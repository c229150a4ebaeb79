//! What all repositories share: clients, and per registry its address and tokens.

use std::collections::HashMap;
use std::sync::Arc;

use dimsum_source::{SourceError, SourceFault};
use parking_lot::Mutex;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode, Url};
use tokio::sync::OnceCell;

use super::auth::Auth;
use super::clients::Clients;
use super::hop::{Hop, Wire, send};
use super::origin::{base, is_loopback};
use super::timing::Timing;
use crate::access::Access;
use crate::fault::RegistryFault;

/// Registries that are remembered. A command knows one or two, a node a handful; the names come from outside.
const MAX_REGISTRIES: usize = 256;

/// Shared by everything that a [`Network`](crate::Network) opens.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(super) access: Arc<Access>,
    pub(super) wire: Wire,
    registries: Mutex<HashMap<String, Arc<Registry>>>,
}

/// One registry.
#[derive(Debug)]
pub(super) struct Registry {
    /// The host as references have it.
    pub(super) host: String,
    pub(super) auth: Auth,
    /// The address below which everything is; known once it is known whether TLS is spoken.
    base: OnceCell<Url>,
}

impl Hub {
    pub(crate) fn new(access: Arc<Access>, timing: Timing) -> Self {
        let clients = Arc::new(Clients::new(Arc::clone(&access), timing));
        Self { access, wire: Wire { clients, timing }, registries: Mutex::default() }
    }

    pub(super) fn registry(&self, host: &str) -> Arc<Registry> {
        let mut registries = self.registries.lock();
        if registries.len() >= MAX_REGISTRIES && !registries.contains_key(host) {
            registries.clear();
        }
        let fresh = || Arc::new(Registry { host: host.to_owned(), auth: Auth::default(), base: OnceCell::new() });
        Arc::clone(registries.entry(host.to_owned()).or_insert_with(fresh))
    }

    /// Returns the address of a registry's API.
    pub(super) async fn base(&self, registry: &Registry) -> Result<Url, SourceError> {
        registry.base.get_or_try_init(|| self.find_base(&registry.host)).await.cloned()
    }

    /// TLS, except where plain HTTP was asked for. On this machine, where TLS protects nothing, plain HTTP is taken when
    /// TLS is not spoken.
    async fn find_base(&self, host: &str) -> Result<Url, SourceError> {
        let malformed = || SourceFault::Reference { reason: "the text is not a host and port".into() }.at(host);
        let secure = base("https", host).ok_or_else(malformed)?;
        let plain = base("http", host).ok_or_else(malformed)?;
        if self.access.plain_http {
            return Ok(plain);
        }
        if !is_loopback(&secure) {
            return Ok(secure);
        }
        match self.ping(&secure).await {
            Ok(_) => Ok(secure),
            Err(error) if may_be_plain(&error) => match self.ping(&plain).await {
                // Servers that speak TLS say this to plain requests.
                Ok(StatusCode::BAD_REQUEST) | Err(_) => Err(error),
                Ok(_) => Ok(plain),
            },
            Err(error) => Err(error),
        }
    }

    /// Sends a first request.
    async fn ping(&self, url: &Url) -> Result<StatusCode, SourceError> {
        let what = "looking for a registry";
        let hop = Hop { method: Method::GET, url: url.clone(), headers: HeaderMap::new(), body: None };
        send(&self.wire, hop, what).await.map(|response| response.status()).map_err(|failure| failure.error)
    }
}

fn may_be_plain(error: &SourceError) -> bool {
    super::failure::speaks_no_tls(error)
        || matches!(error.detail(), Some(RegistryFault::Unreachable { .. } | RegistryFault::Broken { .. }))
}
