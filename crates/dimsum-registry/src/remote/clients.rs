//! HTTP clients: one for plain HTTP, one for TLS, and one for each host that has certificates of its own. A client keeps
//! its connections for everybody.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dimsum_source::{SourceError, SourceFault, open_regular};
use parking_lot::Mutex;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Url, redirect};

use super::failure::translate;
use super::origin::{authority, names};
use super::timing::Timing;
use crate::access::Access;
use crate::fault::{RegistryFault, TlsProblem};

/// Connections that are kept per host. Reads of a container come in bursts; a registry counts connections per client.
const IDLE_CONNECTIONS: usize = 8;
/// Time for which a connection without requests is kept: less than load balancers keep it.
const IDLE_CONNECTION: Duration = Duration::from_secs(50);
/// Time after which a silent peer is asked whether it still is there: middle boxes forget connections after minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Largest file of certificates or keys: bundles of all public CAs have 250 KiB.
const MAX_FILE: u64 = 4 << 20;
/// Files of a host's directory that are looked at.
const MAX_FILES: usize = 64;
/// What we call ourselves.
const USER_AGENT: &str = concat!("dimsum/", env!("CARGO_PKG_VERSION"));

/// The clients of a [`Network`](crate::Network). Those that are made are kept.
#[derive(Debug)]
pub(super) struct Clients {
    access: Arc<Access>,
    timing: Timing,
    made: Mutex<HashMap<Kind, Client>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    Plain,
    Tls,
    /// With the certificates in these directories.
    Own(Vec<PathBuf>),
}

impl Clients {
    pub(super) fn new(access: Arc<Access>, timing: Timing) -> Self {
        Self { access, timing, made: Mutex::default() }
    }

    /// Returns the client for an address. A host's client certificate goes to that host alone.
    pub(super) async fn of(self: &Arc<Self>, url: &Url) -> Result<Client, SourceError> {
        let host = authority(url);
        let kind = match url.scheme() {
            "http" => Kind::Plain,
            _ => self.tls_kind(url),
        };
        if let Some(client) = self.made.lock().get(&kind) {
            return Ok(client.clone());
        }
        let (this, asked) = (Arc::clone(self), host.clone());
        // Certificates are files.
        let made = tokio::task::spawn_blocking(move || {
            let client = this.make(&asked, &kind)?;
            Ok(this.made.lock().entry(kind).or_insert(client).clone())
        });
        made.await.map_err(|_| SourceFault::Cancelled.at(host))?
    }

    /// A directory is named by the host as it may be written in references.
    fn tls_kind(&self, url: &Url) -> Kind {
        let names = names(url);
        let named = |dir: &PathBuf| names.iter().map(|name| dir.join(name)).collect::<Vec<_>>();
        let dirs: Vec<_> = self.access.cert_dirs.iter().flat_map(named).filter(|dir| dir.is_dir()).collect();
        if dirs.is_empty() { Kind::Tls } else { Kind::Own(dirs) }
    }

    fn make(&self, host: &str, kind: &Kind) -> Result<Client, SourceError> {
        let builder = self.builder();
        let builder = match kind {
            // No certificates are read, so that this works where there are none.
            Kind::Plain => builder.tls_certs_only([]),
            Kind::Tls => builder.tls_certs_merge(self.authorities(&[])?),
            Kind::Own(dirs) => {
                let builder = builder.tls_certs_merge(self.authorities(dirs)?);
                match identity(dirs)? {
                    Some(identity) => builder.identity(identity),
                    None => builder,
                }
            }
        };
        builder.build().map_err(|error| translate(host, "TLS", error))
    }

    fn builder(&self) -> ClientBuilder {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Client::builder()
            .user_agent(USER_AGENT)
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .referer(false)
            // A library reads no environment.
            .no_proxy()
            .connect_timeout(self.timing.connect)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_CONNECTION)
            .tcp_keepalive(KEEP_ALIVE)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(self.timing.connect)
            .http2_adaptive_window(true)
    }

    fn authorities(&self, dirs: &[PathBuf]) -> Result<Vec<Certificate>, SourceError> {
        let mut files = self.access.ca_files.clone();
        for dir in dirs {
            files.extend(list(dir, "crt")?);
        }
        let mut authorities = Vec::new();
        for path in files {
            let parsed = Certificate::from_pem_bundle(&read(&path)?);
            let parsed = parsed.map_err(|_| unusable(&path, "not a certificate in PEM".to_owned()))?;
            if parsed.is_empty() {
                return Err(unusable(&path, "there is no certificate in it".to_owned()));
            }
            authorities.extend(parsed);
        }
        Ok(authorities)
    }
}

/// Returns the first client certificate with its key, by name.
fn identity(dirs: &[PathBuf]) -> Result<Option<Identity>, SourceError> {
    for dir in dirs {
        let Some(path) = list(dir, "cert")?.into_iter().next() else { continue };
        let mut pem = read(&path.with_extension("key"))?;
        pem.push(b'\n');
        pem.extend(read(&path)?);
        let identity = Identity::from_pem(&pem);
        return identity.map(Some).map_err(|_| unusable(&path, "no certificate and key in PEM".to_owned()));
    }
    Ok(None)
}

/// Returns the files with an extension, by name.
fn list(dir: &Path, extension: &str) -> Result<Vec<PathBuf>, SourceError> {
    let failed = |error: io::Error| unusable(dir, error.to_string());
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
    found.sort();
    if found.len() > MAX_FILES {
        return Err(unusable(dir, format!("there are more than {MAX_FILES} files *.{extension}")));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = open_regular(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    read.map_err(|error| unusable(path, error.to_string()))?;
    Ok(bytes)
}

fn unusable(path: &Path, reason: String) -> SourceError {
    RegistryFault::Tls { problem: TlsProblem::OwnFiles, reason }.at(path.display().to_string())
}
