//! The grammar of the schemes of this crate: `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:NAME]`,
//! and `dir:PATH`, a file tree.

use std::borrow::Cow;

use dimsum_format::Digest;
use dimsum_source::{ImageName, Reference, Scheme, Schemes};

/// An OCI image layout on disk, and which of its images.
///
/// The first `:` ends the directory, and the name behind it may have colons and slashes (`oci:/images:library/redis:7`): a
/// layout's reference names are not only tags.
pub const OCI_LAYOUT: Scheme = Scheme {
    name: "oci",
    usage: "oci:DIR[:TAG]",
    parse: |rest| named(rest).map(|(dir, name)| Reference::in_files(OCI_LAYOUT.name, dir, name)).map_err(Cow::from),
};
/// An OCI image layout in a tar.
pub const OCI_ARCHIVE: Scheme = Scheme {
    name: "oci-archive",
    usage: "oci-archive:FILE[:TAG]",
    parse: |rest| named(rest).map(|(file, name)| Reference::in_files(OCI_ARCHIVE.name, file, name)).map_err(Cow::from),
};
/// What `docker save` writes. The image is named as `REPO:TAG`.
pub const DOCKER_ARCHIVE: Scheme = Scheme {
    name: "docker-archive",
    usage: "docker-archive:FILE[:NAME]",
    parse: |rest| docker_archive(rest).map_err(Cow::from),
};
/// A file tree. It holds no images: a conversion reads it.
pub const DIRECTORY: Scheme = Scheme {
    name: "dir",
    usage: "dir:PATH",
    parse: |rest| match rest {
        "" => Err("the path is empty".into()),
        path => Ok(Reference::to_tree(DIRECTORY.name, path)),
    },
};

/// Longest name of an image in a layout; the annotation has no limit of its own, a repository name with a tag stays below.
const MAX_NAME: usize = 512;

/// Adds all schemes of this crate, for parsing alone.
pub fn add_schemes(schemes: &mut Schemes) {
    [OCI_LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE, DIRECTORY].into_iter().for_each(|scheme| schemes.add(scheme));
}

fn docker_archive(rest: &str) -> Result<Reference, &'static str> {
    let (file, name) = match rest.split_once(':') {
        Some((file, name)) => (file, Some(ImageName::Tag(check_name(name)?.to_owned()))),
        None => (rest, None),
    };
    if file.is_empty() {
        return Err("the file is empty");
    }
    Ok(Reference::in_files(DOCKER_ARCHIVE.name, file, name))
}

/// Parses `PATH[:TAG]` or `PATH@DIGEST`.
fn named(rest: &str) -> Result<(&str, Option<ImageName>), &'static str> {
    let (place, digest) = match rest.rsplit_once('@') {
        Some((place, digest)) if digest.starts_with("sha256:") => {
            let digest: Result<Digest, _> = digest.parse();
            let digest = digest.map_err(|_| "the digest behind @ is not sha256: and 64 hexadecimal digits")?;
            (place, Some(digest))
        }
        _ => (rest, None),
    };
    let (dir, tag) = match place.split_once(':') {
        Some((dir, tag)) => (dir, Some(tag)),
        None => (place, None),
    };
    if dir.is_empty() {
        return Err("the path is empty");
    }
    let name = match (tag, digest) {
        (Some(_), Some(_)) => return Err("it has a tag and a digest; give one of them"),
        (Some(tag), None) => Some(ImageName::Tag(check_name(tag)?.to_owned())),
        (None, Some(digest)) => Some(ImageName::Digest(digest)),
        (None, None) => None,
    };
    Ok((dir, name))
}

fn check_name(name: &str) -> Result<&str, &'static str> {
    let first = name.bytes().next().ok_or("the name behind the path is empty")?;
    let separator = |byte: u8| matches!(byte, b'_' | b'.' | b'-' | b'+' | b':' | b'@' | b'/');
    if name.len() > MAX_NAME {
        return Err("the name behind the path has more than 512 characters");
    }
    if !first.is_ascii_alphanumeric() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || separator(byte)) {
        return Err("a name in a layout has letters, digits, _ . - + : @ / and starts with a letter or a digit");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use dimsum_source::SourceError;

    use super::*;

    fn parse(text: &str) -> Result<Reference, SourceError> {
        let mut schemes = Schemes::default();
        add_schemes(&mut schemes);
        schemes.parse(text)
    }

    fn layout(dir: &str, name: Option<ImageName>) -> Reference {
        Reference::in_files("oci", dir, name)
    }

    #[test]
    fn the_first_colon_ends_the_directory() {
        let tag = |tag: &str| Some(ImageName::Tag(tag.into()));
        assert_eq!(parse("oci:/a/b").unwrap(), layout("/a/b", None));
        assert_eq!(parse("oci:b:v1").unwrap(), layout("b", tag("v1")));
        assert_eq!(parse("oci:/a/c:redis:7").unwrap(), layout("/a/c", tag("redis:7")));
        assert_eq!(parse("oci:/a:b/c:d").unwrap(), layout("/a", tag("b/c:d")));
        assert_eq!(parse("dir:/x:y").unwrap(), Reference::to_tree("dir", "/x:y"));
    }

    #[test]
    fn archives_are_named_like_layouts() {
        for text in ["oci-archive:/a.tar", "oci-archive:/a.tar:x:y", "docker-archive:/a.tar", "docker-archive:a:b/c:d"]
        {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_digest_pins_an_image() {
        let digest = Digest::of(b"manifest");
        let parsed = parse(&format!("oci:/a@b/c@{digest}")).unwrap();
        assert_eq!(parsed, layout("/a@b/c", Some(ImageName::Digest(digest))));
        assert!(parsed.is_pinned());
        assert_eq!(parse(&parsed.to_string()).unwrap(), parsed);
    }

    #[test]
    fn what_is_no_reference_is_refused_with_the_reason() {
        let digest = Digest::of(b"");
        for text in [
            "oci:",
            "oci::v1",
            "oci:/a:",
            "oci:/a:-x",
            "oci:/a: x",
            "dir:",
            "oci-archive:",
            "docker-archive::x",
            "oci:/a@sha256:12",
            "oci:a:/é",
            &format!("oci:/a:v1@{digest}"),
            &format!("oci:a:{}", "x".repeat(513)),
        ] {
            let parsed = parse(text);
            assert!(parsed.is_err(), "{text}: {parsed:?}");
        }
    }
}
