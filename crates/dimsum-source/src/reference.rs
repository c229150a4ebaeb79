//! What a user writes to name an image or a place: `docker://HOST/REPO:TAG` (or only `HOST/REPO:TAG`), `oci:DIR[:TAG]`,
//! `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:NAME]`, `dir:PATH`; names and defaults as docker and skopeo spell them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use dimsum_format::Digest;

use crate::SourceError;

/// Longest name of an image in a layout; the annotation has no limit of its own, a repository name with a tag stays below.
const MAX_NAME: usize = 512;
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

/// A parsed source or target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reference {
    /// An image in a registry.
    Registry {
        /// Where.
        repository: Repository,
        /// Which.
        name: ImageName,
    },
    /// An OCI image layout on disk, and which of its images.
    OciLayout {
        /// The layout's directory.
        dir: PathBuf,
        /// The image; none if there is only one, or where it does not matter.
        name: Option<ImageName>,
    },
    /// An OCI image layout in a tar.
    OciArchive {
        /// The tar.
        file: PathBuf,
        /// The image, as in a layout.
        name: Option<ImageName>,
    },
    /// What `docker save` writes.
    DockerArchive {
        /// The tar.
        file: PathBuf,
        /// The image, as `REPO:TAG`; none if there is only one.
        name: Option<String>,
    },
    /// A file tree.
    Directory {
        /// Its root.
        path: PathBuf,
    },
}

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
    fn parse(text: &str) -> Result<Self, &'static str> {
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

impl Reference {
    /// Parses a reference.
    ///
    /// As with skopeo the first `:` ends the directory or file of a layout or archive, and the name behind it may have
    /// colons and slashes (`oci:/images:library/redis:7`): a layout's reference names are not only tags. Text without a
    /// known `KIND:` is an image in a registry, with docker's defaults.
    ///
    /// # Errors
    /// If the kind is unknown, or a part is empty or malformed.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let refuse = |reason: &'static str| SourceError::Reference { text: text.to_owned(), reason };
        match text.split_once(':') {
            Some(("oci", rest)) => layout(rest).map(|(dir, name)| Self::OciLayout { dir, name }).map_err(refuse),
            Some(("oci-archive", rest)) => {
                layout(rest).map(|(file, name)| Self::OciArchive { file, name }).map_err(refuse)
            }
            Some(("docker-archive", rest)) => docker_archive(rest).map_err(refuse),
            Some(("dir", "")) => Err(refuse("the path is empty")),
            Some(("dir", rest)) => Ok(Self::Directory { path: PathBuf::from(rest) }),
            Some(("docker", rest)) => match rest.strip_prefix("//") {
                Some(rest) => registry(rest).map_err(refuse),
                None => registry(text).map_err(refuse),
            },
            Some((_, rest)) if rest.starts_with("//") => {
                Err(refuse("the kind is not known; there is docker://, oci:, oci-archive:, docker-archive: and dir:"))
            }
            _ if text.starts_with(['/', '.']) => {
                Err(refuse("this looks like a path; write oci:DIR[:TAG], oci-archive:FILE or dir:PATH"))
            }
            _ => registry(text).map_err(refuse),
        }
    }

    /// Says whether it names its image by a digest (or is a file tree, which has none): nothing else than these bytes.
    #[must_use]
    pub const fn is_pinned(&self) -> bool {
        match self {
            Self::Registry { name, .. } => matches!(name, ImageName::Digest(_)),
            Self::OciLayout { name, .. } | Self::OciArchive { name, .. } => matches!(name, Some(ImageName::Digest(_))),
            Self::DockerArchive { .. } => false,
            Self::Directory { .. } => true,
        }
    }
}

fn registry(text: &str) -> Result<Reference, &'static str> {
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
    Ok(Reference::Registry { repository, name })
}

fn docker_archive(rest: &str) -> Result<Reference, &'static str> {
    let (file, name) = match rest.split_once(':') {
        Some((file, name)) => (file, Some(check_name(name)?.to_owned())),
        None => (rest, None),
    };
    if file.is_empty() {
        return Err("the file is empty");
    }
    Ok(Reference::DockerArchive { file: PathBuf::from(file), name })
}

fn layout(rest: &str) -> Result<(PathBuf, Option<ImageName>), &'static str> {
    let (place, digest) = match rest.rsplit_once('@') {
        Some((place, digest)) if digest.starts_with("sha256:") => {
            let digest = digest.parse().map_err(|_| "the digest behind @ is not sha256: and 64 hexadecimal digits")?;
            (place, Some(digest))
        }
        _ => (rest, None),
    };
    let (dir, tag) = match place.split_once(':') {
        Some((dir, tag)) => (dir, Some(tag)),
        None => (place, None),
    };
    if dir.is_empty() {
        return Err("the directory is empty");
    }
    let name = match (tag, digest) {
        (Some(_), Some(_)) => return Err("it has a tag and a digest; give one of them"),
        (Some(tag), None) => Some(ImageName::Tag(check_name(tag)?.to_owned())),
        (None, Some(digest)) => Some(ImageName::Digest(digest)),
        (None, None) => None,
    };
    Ok((PathBuf::from(dir), name))
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

fn check_name(name: &str) -> Result<&str, &'static str> {
    let first = name.bytes().next().ok_or("the name behind the directory is empty")?;
    let separator = |byte: u8| matches!(byte, b'_' | b'.' | b'-' | b'+' | b':' | b'@' | b'/');
    if name.len() > MAX_NAME {
        return Err("the name behind the directory has more than 512 characters");
    }
    if !first.is_ascii_alphanumeric() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || separator(byte)) {
        return Err("a name in a layout has letters, digits, _ . - + : @ / and starts with a letter or a digit");
    }
    Ok(name)
}

impl FromStr for Reference {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { repository, name } => write!(f, "docker://{repository}{name}"),
            Self::Directory { path } => write!(f, "dir:{}", path.display()),
            Self::OciLayout { dir, name: None } => write!(f, "oci:{}", dir.display()),
            Self::OciLayout { dir, name: Some(name) } => write!(f, "oci:{}{name}", dir.display()),
            Self::OciArchive { file, name: None } => write!(f, "oci-archive:{}", file.display()),
            Self::OciArchive { file, name: Some(name) } => write!(f, "oci-archive:{}{name}", file.display()),
            Self::DockerArchive { file, name: None } => write!(f, "docker-archive:{}", file.display()),
            Self::DockerArchive { file, name: Some(name) } => write!(f, "docker-archive:{}:{name}", file.display()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(dir: &str, name: Option<ImageName>) -> Reference {
        Reference::OciLayout { dir: dir.into(), name }
    }

    #[test]
    fn the_first_colon_ends_the_directory() {
        let tag = |tag: &str| Some(ImageName::Tag(tag.into()));
        assert_eq!(Reference::parse("oci:/a/b").unwrap(), layout("/a/b", None));
        assert_eq!(Reference::parse("oci:b:v1").unwrap(), layout("b", tag("v1")));
        assert_eq!(Reference::parse("oci:/a/c:redis:7").unwrap(), layout("/a/c", tag("redis:7")));
        assert_eq!(Reference::parse("oci:/a:b/c:d").unwrap(), layout("/a", tag("b/c:d")));
        assert_eq!(Reference::parse("dir:/x:y").unwrap(), Reference::Directory { path: "/x:y".into() });
    }

    fn registry(host: &str, path: &str, name: ImageName) -> Reference {
        Reference::Registry { repository: Repository { host: host.into(), path: path.into() }, name }
    }

    #[test]
    fn names_without_a_kind_are_dockers() {
        let tag = |tag: &str| ImageName::Tag(tag.into());
        let digest = Digest::of(b"manifest");
        for (text, must) in [
            ("redis", registry("docker.io", "library/redis", tag("latest"))),
            ("redis:7", registry("docker.io", "library/redis", tag("7"))),
            ("a/b", registry("docker.io", "a/b", tag("latest"))),
            ("index.docker.io/a/b:c", registry("docker.io", "a/b", tag("c"))),
            ("localhost/b", registry("localhost", "b", tag("latest"))),
            ("docker://127.0.0.1:5000/a/b-c__d:V_1.x", registry("127.0.0.1:5000", "a/b-c__d", tag("V_1.x"))),
            ("h.io/x", registry("h.io", "x", tag("latest"))),
            (&*format!("h.io/x:y@{digest}"), registry("h.io", "x", ImageName::Digest(digest))),
            ("docker:27", registry("docker.io", "library/docker", tag("27"))),
        ] {
            let parsed = Reference::parse(text).unwrap();
            assert_eq!(parsed, must, "{text}");
            assert_eq!(Reference::parse(&parsed.to_string()).unwrap(), must, "{text}");
        }
    }

    #[test]
    fn archives_are_named_like_layouts() {
        for text in ["oci-archive:/a.tar", "oci-archive:/a.tar:x:y", "docker-archive:/a.tar", "docker-archive:a:b/c:d"]
        {
            assert_eq!(Reference::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_digest_pins_an_image() {
        let digest = Digest::of(b"manifest");
        let parsed = Reference::parse(&format!("oci:/a@b/c@{digest}")).unwrap();
        assert_eq!(parsed, layout("/a@b/c", Some(ImageName::Digest(digest))));
        assert_eq!(parsed.to_string().parse::<Reference>().unwrap(), parsed);
    }

    #[test]
    fn what_is_no_reference_is_refused_with_the_reason() {
        let digest = Digest::of(b"");
        for text in [
            "",
            "/a/b",
            "oci:",
            "oci::v1",
            "oci:/a:",
            "oci:/a:-x",
            "oci:/a: x",
            "dir:",
            "docker://",
            "docker://X/Y",
            "ftp://x/y",
            "./images",
            "Redis",
            "a//b",
            "a/b-",
            "redis:7@sha256:12",
            "redis:",
            "redis:a/b:-c",
            "host:port:5000/x",
            "host:/x",
            "h.io:port/x",
            "oci-archive:",
            "docker-archive::x",
            "oci:/a@sha256:12",
            "oci:a:/é",
            &format!("oci:/a:v1@{digest}"),
            &format!("oci:a:{}", "x".repeat(513)),
        ] {
            let parsed = Reference::parse(text);
            assert!(parsed.is_err(), "{text}: {parsed:?}");
        }
    }
}
