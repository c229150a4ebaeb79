//! Credentials from the files that `docker login` and `podman login` write.
//!
//! A file is read when a registry asks, so that a login counts at once. The most specific key wins, as podman has it
//! (`HOST/NAMESPACE/REPO`, `HOST/NAMESPACE`, `HOST`); at each key a helper program counts before what stands in the file.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dimsum_source::{Repository, SourceError, open_regular};
use serde::Deserialize;

use super::helper;
use crate::fault::RegistryFault;

/// Largest auth file: a thousand registries with long tokens stay below.
const MAX_FILE: u64 = 1 << 20;
/// The name under which docker keeps the credentials of `docker.io`.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";
/// The user name that marks an identity token.
const TOKEN_USER: &str = "<token>";

/// What proves who we are.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// User and password, or what a registry takes as such.
    Password {
        /// The user.
        user: String,
        /// The password.
        secret: String,
    },
    /// A token with which tokens are got.
    Identity(String),
    /// A token that is sent as it is.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets do not belong into messages.
        f.write_str("Credentials")
    }
}

/// A file in the form of docker's `config.json`, of which podman's `auth.json` is a part.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AuthFile {
    auths: BTreeMap<String, Option<Entry>>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// Looks for the credentials of a repository, blocking: `None` if no file knows it.
///
/// # Errors
/// If a file cannot be read, or a helper fails.
pub(super) fn find(
    files: &[PathBuf],
    repository: &Repository,
    patience: Duration,
) -> Result<Option<Credentials>, SourceError> {
    let ask = |program: &str, key: &str| helper::get(program, key, repository.host(), patience);
    for path in files {
        let place = path.display().to_string();
        let file = match read(path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => continue,
            Err(error) => return Err(refusal(repository, &place, error.to_string())),
        };
        if let Some(found) = find_in(&file, &place, repository, ask)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Looks into the bytes of one file, named `place` in errors; `ask` asks a helper program for a key.
///
/// # Errors
/// If it is not an auth file, or asking fails.
pub(super) fn find_in(
    file: &[u8],
    place: &str,
    repository: &Repository,
    ask: impl Fn(&str, &str) -> Result<Option<Credentials>, SourceError>,
) -> Result<Option<Credentials>, SourceError> {
    let refuse = |reason: String| refusal(repository, place, reason);
    // The parser's own message would show a piece of the file.
    let file: AuthFile =
        serde_json::from_slice(file).map_err(|error| refuse(format!("not an auth file (line {})", error.line())))?;
    file.find(repository, ask, refuse)
}

fn refusal(repository: &Repository, place: &str, reason: String) -> SourceError {
    RegistryFault::Credentials { place: place.to_owned(), reason }.at(repository.host())
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match open_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(Some(bytes))
}

impl AuthFile {
    fn find(
        &self,
        repository: &Repository,
        ask: impl Fn(&str, &str) -> Result<Option<Credentials>, SourceError>,
        refuse: impl Fn(String) -> SourceError,
    ) -> Result<Option<Credentials>, SourceError> {
        for wanted in keys(repository) {
            let named = self.cred_helpers.iter().find(|(key, _)| normal(key) == wanted);
            if let Some(found) = named.map(|(key, program)| ask(program, key)).transpose()?.flatten() {
                return Ok(Some(found));
            }
            for (key, entry) in self.auths.iter().filter(|(key, _)| normal(key) == wanted) {
                let entry = entry.as_ref().map_or(Ok(None), Entry::credentials);
                if let Some(found) = entry.map_err(|reason| refuse(format!("{key}: {reason}")))? {
                    return Ok(Some(found));
                }
            }
        }
        let Some(program) = &self.creds_store else { return Ok(None) };
        let host = repository.host();
        let key = self.auths.keys().find(|key| normal(key) == host).map(String::as_str);
        ask(program, key.unwrap_or(if host == "docker.io" { DOCKER_KEY } else { host }))
    }
}

impl Entry {
    fn credentials(&self) -> Result<Option<Credentials>, &'static str> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::Identity(self.identitytoken.clone())));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credentials::Token(self.registrytoken.clone())));
        }
        if self.auth.is_empty() {
            let (user, secret) = (self.username.clone(), self.password.clone());
            return Ok((!user.is_empty()).then(|| password(user, secret)));
        }
        let malformed = "auth is not the base64 of USER:PASSWORD";
        let bytes = STANDARD.decode(self.auth.trim()).map_err(|_| malformed)?;
        let text = String::from_utf8(bytes).map_err(|_| malformed)?;
        // Docker pads with NUL.
        let (user, secret) = text.trim_end_matches('\0').split_once(':').ok_or(malformed)?;
        Ok(Some(password(user.to_owned(), secret.to_owned())))
    }
}

/// Tells a password from an identity token.
pub(super) fn password(user: String, secret: String) -> Credentials {
    if user == TOKEN_USER { Credentials::Identity(secret) } else { Credentials::Password { user, secret } }
}

/// Returns the keys under which a repository's credentials may stand, the most specific first.
fn keys(repository: &Repository) -> impl Iterator<Item = String> {
    let whole = repository.to_string();
    std::iter::successors(Some(whole), |key| key.rsplit_once('/').map(|(shorter, _)| shorter.to_owned()))
}

/// Returns a key as references have it: docker writes addresses, and `docker.io` under other names.
fn normal(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (host, path) = key.split_once('/').map_or((key, None), |(host, path)| (host, Some(path)));
    let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host };
    path.map_or_else(|| host.to_owned(), |path| format!("{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(files: &[(&str, &str)], name: &str) -> Result<Option<Credentials>, SourceError> {
        let dir = tempfile::tempdir().unwrap();
        let write = |(name, text): &(&str, &str)| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut paths: Vec<_> = files.iter().map(write).collect();
        paths.insert(0, dir.path().join("absent"));
        let (repository, _) = dimsum_source::parse_image_name(name).unwrap();
        find(&paths, &repository, Duration::from_secs(5))
    }

    fn user(name: &str) -> Option<Credentials> {
        Some(Credentials::Password { user: name.into(), secret: "p:w".into() })
    }

    #[test]
    fn the_most_specific_key_counts_and_the_first_file() {
        let auth = |name: &str| STANDARD.encode(format!("{name}:p:w"));
        let (host, space, repo) = (auth("host"), auth("space"), auth("repo"));
        let file = format!(
            r#"{{"auths": {{"h.io": {{"auth": "{host}"}}, "h.io/a": {{"auth": "{space}"}},
            "h.io/a/b": {{"auth": "{repo}"}}, "https://index.docker.io/v1/": {{"auth": "{host}"}}, "x.io": null, "y.io": {{}}}},
            "unknown": [1]}}"#
        );
        let second = r#"{"auths": {"y.io": {"username": "plain", "password": "p:w"}, "h.io": {"identitytoken": "t"}}}"#;
        let files = [("1", &*file), ("2", second)];
        for (name, must) in [
            ("h.io/a/b:1", user("repo")),
            ("h.io/a/c", user("space")),
            ("h.io/ab", user("host")),
            ("redis", user("host")),
            ("y.io/a", user("plain")),
            ("x.io/a", None),
            ("h.io:5000/a", None),
        ] {
            assert_eq!(look(&files, name).unwrap(), must, "{name}");
        }
        assert_eq!(look(&files[1..], "h.io/a").unwrap(), Some(Credentials::Identity("t".into())));
    }

    #[test]
    fn a_malformed_file_is_named_and_not_shown() {
        for text in [r#"{"auths": {"h.io": {"auth": "c2VjcmV0"}}}"#, r#"{"auths": {"h.io": "secret"}}"#, "secret"] {
            let error = look(&[("config.json", text)], "h.io/a").unwrap_err().to_string();
            assert!(error.contains("config.json"), "{error}");
            assert!(!error.contains("secret") && !error.contains("c2VjcmV0"), "{error}");
        }
    }
}
