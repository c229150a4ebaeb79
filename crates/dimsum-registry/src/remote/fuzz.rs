//! Parsers of what registries and auth files say, for the fuzz targets: no part of the API.

use std::ops::Range;

use super::challenge::{self, Challenge};
use super::credentials::{self, Credentials};
use super::range;
use dimsum_source::{Repository, SourceError};

/// A way to authenticate, in plain types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// User and password.
    Basic,
    /// A token.
    Bearer {
        /// The token server's address.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What it must allow, a text for each resource.
        scopes: Vec<String>,
    },
}

/// Parses a `WWW-Authenticate` header.
#[must_use]
pub fn challenge(header: &str) -> Vec<Asked> {
    let plain = |challenge| match challenge {
        Challenge::Basic => Asked::Basic,
        Challenge::Bearer { realm, service, scope } => {
            Asked::Bearer { realm, service, scopes: scope.texts().collect() }
        }
    };
    challenge::parse(header).into_iter().map(plain).collect()
}

/// Looks for the secret of a repository in an auth file; `ask` hears of each helper program that would be run, and for which key.
///
/// # Errors
/// If the file is malformed.
pub fn auth_file(
    file: &[u8],
    repository: &Repository,
    ask: impl Fn(&str, &str),
) -> Result<Option<String>, SourceError> {
    let found = credentials::find_in(file, "auth.json", repository, |program, key| {
        ask(program, key);
        Ok(None)
    })?;
    Ok(found.map(|found| match found {
        Credentials::Password { secret, .. } | Credentials::Identity(secret) | Credentials::Token(secret) => secret,
    }))
}

/// Parses a `Content-Range` header into the bytes and the blob's length.
#[must_use]
pub fn content_range(header: &str) -> Option<(Range<u64>, Option<u64>)> {
    range::parse_content_range(header).map(|given| (given.bytes, given.total))
}
