//! Names of images in registries, as docker spells them: `[HOST/]REPO[:TAG][@DIGEST]`.

use std::fmt;

use dimsum_format::Digest;

/// Longest repository path, as the distribution specification and docker have it.
const MAX_REPOSITORY: usize = 255;
/// Longest tag, as the distribution specification has it.
const MAX_TAG: usize = 128;
/// The registry of names without a host, as docker has it.
const DEFAULT_HOST: &str = "docker.io";
/// Where docker keeps names of one part.
const DEFAULT_NAMESPACE: &str = "library";
/// The tag of names without one.
const DEFAULT_TAG: &str = "latest";

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Repository {
    host: String,
    path: String,
}

/// Names one image of several.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ImageName {
    /// By the tag, which may be moved.
    Tag(String),
    /// By the digest of the manifest (or index), which cannot.
    Digest(Digest),
}

impl Repository {
    /// Returns the registry's host, with `:PORT` if it was written.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the path in the registry, for example `library/redis`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Parses `[HOST/]PATH`. As docker has it the first part is a host if it has a dot or a colon or is `localhost`.
    ///
    /// # Errors
    /// If host or path are malformed: the text says how they look.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
        let (host, path) = match text.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path.to_owned()),
            Some(_) => (DEFAULT_HOST, text.to_owned()),
            None => (DEFAULT_HOST, format!("{DEFAULT_NAMESPACE}/{text}")),
        };
        let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
        let host_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
        let (name, port) = match host.rsplit_once(':') {
            // An IPv6 address has colons of its own, in brackets.
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (host, None),
        };
        let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let bracketed = name.starts_with('[') && name.ends_with(']');
        let colons = name.contains(':') && !bracketed;
        if name.is_empty() || colons || !name.bytes().all(host_byte) || !port.is_none_or(is_port) {
            return Err("the host has letters, digits, . and - and perhaps a port");
        }
        if path.len() > MAX_REPOSITORY {
            return Err("the repository has more than 255 characters");
        }
        let part_byte =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let part =
            |part: &str| part.bytes().all(part_byte) && edge(part.bytes().next()) && edge(part.bytes().next_back());
        if !path.split('/').all(part) {
            return Err("the repository has lower-case letters and digits, separated by . _ - and /");
        }
        Ok(Self { host: host.to_owned(), path })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

impl fmt::Display for ImageName {
    /// With the separator that stands before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, ":{tag}"),
            Self::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// Parses `[HOST/]REPO[:TAG][@DIGEST]`, with docker's defaults for the host and the tag. Of a tag and a digest the digest counts.
///
/// # Errors
/// If a part is empty or malformed: the text says how it looks.
pub fn parse_image_name(text: &str) -> Result<(Repository, ImageName), &'static str> {
    let (text, digest) = match text.split_once('@') {
        Some((text, digest)) => {
            let digest = digest.parse().map_err(|_| "the digest behind @ is not sha256: and 64 hexadecimal digits")?;
            (text, Some(digest))
        }
        None => (text, None),
    };
    // The colon of a port stands before a slash.
    let (place, tag) = match text.rsplit_once(':') {
        Some((place, tag)) if !tag.contains('/') => (place, Some(tag)),
        _ => (text, None),
    };
    if place.is_empty() {
        return Err("the repository is empty");
    }
    let repository = Repository::parse(place)?;
    let tag = check_tag(tag.unwrap_or(DEFAULT_TAG))?.to_owned();
    // With both, the digest says which bytes are meant and the tag is for people, as docker has it.
    let name = digest.map_or(ImageName::Tag(tag), ImageName::Digest);
    Ok((repository, name))
}

fn check_tag(tag: &str) -> Result<&str, &'static str> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = tag.bytes().next().is_some_and(word);
    if tag.len() > MAX_TAG {
        return Err("the tag has more than 128 characters");
    }
    if !first || !tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-')) {
        return Err("a tag has letters, digits, _ . - and starts with a letter, a digit or _");
    }
    Ok(tag)
}
