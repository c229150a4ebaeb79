//! What a user writes to name an image or a place: `oci:DIR[:TAG]`, `oci:DIR@sha256:…`, `dir:PATH`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use dimsum_format::Digest;

use crate::SourceError;

/// Longest tag: what the OCI distribution specification allows.
const MAX_TAG: usize = 128;

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
    /// Parses a reference. As with skopeo the last `:` behind the last `/` starts the tag, so a directory may have colons.
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
    let file_name = place.rfind('/').map_or(0, |slash| slash + 1);
    let colon = place.get(file_name..).and_then(|last| last.rfind(':')).map(|colon| file_name + colon);
    let (dir, tag) = match colon.and_then(|colon| Some((place.get(..colon)?, place.get(colon + 1..)?))) {
        Some((dir, tag)) => (dir, Some(tag)),
        None => (place, None),
    };
    if dir.is_empty() {
        return Err("the directory is empty");
    }
    let name = match (tag, digest) {
        (Some(_), Some(_)) => return Err("it has a tag and a digest; give one of them"),
        (Some(tag), None) => Some(ImageName::Tag(check_tag(tag)?.to_owned())),
        (None, Some(digest)) => Some(ImageName::Digest(digest)),
        (None, None) => None,
    };
    Ok(Reference::OciLayout { dir: PathBuf::from(dir), name })
}

fn check_tag(tag: &str) -> Result<&str, &'static str> {
    let first = tag.bytes().next().ok_or("the tag is empty")?;
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if tag.len() > MAX_TAG {
        return Err("the tag has more than 128 characters");
    }
    if !word(first) || !tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-' | b'+')) {
        return Err("a tag has letters, digits, _ . - + and starts with a letter, a digit or _");
    }
    Ok(tag)
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
    fn the_last_colon_behind_the_last_slash_starts_the_tag() {
        let tag = |tag: &str| Some(ImageName::Tag(tag.into()));
        assert_eq!(Reference::parse("oci:/a/b").unwrap(), layout("/a/b", None));
        assert_eq!(Reference::parse("oci:b:v1").unwrap(), layout("b", tag("v1")));
        assert_eq!(Reference::parse("oci:/a:b/c").unwrap(), layout("/a:b/c", None));
        assert_eq!(Reference::parse("oci:/a:b/c:d:e").unwrap(), layout("/a:b/c:d", tag("e")));
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
            &format!("oci:a:{}", "x".repeat(129)),
        ] {
            let parsed = Reference::parse(text);
            // A colon before a slash belongs to the directory.
            assert!(parsed.is_err() || text == "oci:a:/é", "{text}: {parsed:?}");
        }
    }
}
