//! What a user writes to name an image or a place: `oci:DIR[:TAG]`, `oci:DIR@sha256:…`, `dir:PATH`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use dimsum_format::Digest;

use crate::SourceError;

/// Longest name of an image in a layout; the annotation has no limit of its own, a repository name with a tag stays below.
const MAX_NAME: usize = 512;

/// A parsed source or target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reference {
    /// An OCI image layout on disk, and which of its images.
    OciLayout {
        /// The layout's directory.
        dir: PathBuf,
        /// The image; none if there is only one, or where it does not matter.
        name: Option<ImageName>,
    },
    /// A file tree.
    Directory {
        /// Its root.
        path: PathBuf,
    },
}

/// Names one image of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageName {
    /// By the tag, which may be moved.
    Tag(String),
    /// By the digest of the manifest (or index), which cannot.
    Digest(Digest),
}

impl Reference {
    /// Parses a reference. As with skopeo the first `:` ends the directory, and the name behind it may have
    /// colons and slashes (`oci:/images:library/redis:7`): a layout's reference names are not only tags.
    ///
    /// # Errors
    /// If the kind is unknown or not supported, or a part is empty or malformed.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let refuse = |reason: &'static str| SourceError::Reference { text: text.to_owned(), reason };
        let Some((kind, rest)) = text.split_once(':') else {
            return Err(refuse("it does not start with oci: or dir:"));
        };
        match kind {
            "oci" => oci(rest).map_err(refuse),
            "dir" if rest.is_empty() => Err(refuse("the path is empty")),
            "dir" => Ok(Self::Directory { path: PathBuf::from(rest) }),
            "docker" | "oci-archive" | "docker-archive" => {
                Err(refuse("this kind of reference is not in this version; use oci:DIR[:TAG] or dir:PATH"))
            }
            _ => Err(refuse("it does not start with oci: or dir:")),
        }
    }
}

fn oci(rest: &str) -> Result<Reference, &'static str> {
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
    Ok(Reference::OciLayout { dir: PathBuf::from(dir), name })
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
            Self::Directory { path } => write!(f, "dir:{}", path.display()),
            Self::OciLayout { dir, name } => {
                write!(f, "oci:{}", dir.display())?;
                match name {
                    Some(ImageName::Tag(tag)) => write!(f, ":{tag}"),
                    Some(ImageName::Digest(digest)) => write!(f, "@{digest}"),
                    None => Ok(()),
                }
            }
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
            "docker://x/y:z",
            "oci-archive:x.tar",
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
