//! Hosts: how a name in a reference becomes an address, and what counts as the same place.

use std::net::IpAddr;

use reqwest::Url;

/// The registry that `docker.io` stands for.
const DOCKER_HOST: &str = "docker.io";
/// Where its API is.
const DOCKER_API: &str = "registry-1.docker.io";

/// Returns the host (and port) whose API serves a host as it is written in references.
pub(super) fn api_host(host: &str) -> &str {
    if host == DOCKER_HOST { DOCKER_API } else { host }
}

/// Scheme, host and port: who gets a credential and who does not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    pub(super) fn of(url: &Url) -> Self {
        Self {
            scheme: url.scheme().to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default(),
        }
    }
}

/// Returns the base of all addresses of a registry, `SCHEME://HOST[:PORT]/v2/`; `None` if the host is none.
pub(super) fn base(scheme: &str, host: &str) -> Option<Url> {
    let url = Url::parse(&format!("{scheme}://{}/v2/", api_host(host))).ok()?;
    url.has_host().then_some(url)
}

/// Returns `HOST[:PORT]` for messages and for directories of certificates.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Returns what a host may be called in references: with and without the port that goes without saying.
pub(super) fn names(url: &Url) -> Vec<String> {
    let name = authority(url);
    let with_port = url.port().is_none().then(|| url.port_or_known_default()).flatten();
    let with_port = with_port.map(|port| format!("{name}:{port}"));
    let short = (name == DOCKER_API).then(|| DOCKER_HOST.to_owned());
    [Some(name), with_port, short].into_iter().flatten().collect()
}

/// Says whether a host is this machine: there TLS protects nothing.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machine_only() {
        for (host, is) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("localhost.example.com", false),
            ("127.0.0.1.example.com", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&base("https", host).unwrap()), is, "{host}");
        }
    }

    #[test]
    fn docker_io_is_served_elsewhere() {
        assert_eq!(base("https", "docker.io").unwrap().as_str(), "https://registry-1.docker.io/v2/");
        assert_eq!(base("http", "a.b:5000").unwrap().as_str(), "http://a.b:5000/v2/");
        assert!(base("https", "a:b:c").is_none());
    }

    #[test]
    fn a_host_has_the_names_that_people_give_it() {
        let of = |host: &str| names(&base("https", host).unwrap());
        assert_eq!(of("a.b:5000"), ["a.b:5000"]);
        assert_eq!(of("a.b:443"), ["a.b", "a.b:443"]);
        assert_eq!(of("docker.io"), ["registry-1.docker.io", "registry-1.docker.io:443", "docker.io"]);
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let of = |text: &str| Origin::of(&Url::parse(text).unwrap());
        assert_eq!(of("https://a.b/x"), of("https://A.b:443/y?z"));
        for other in ["http://a.b/x", "https://a.b:444/x", "https://b.b/x", "http://a.b:443/"] {
            assert_ne!(of("https://a.b/x"), of(other));
        }
    }
}
