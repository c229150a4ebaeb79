//! What names an image or a place: a scheme, a location in it, and which of the images there.
//!
//! ```text
//!   docker://HOST/REPO:TAG      oci:DIR:TAG      oci-archive:FILE@sha256:…      dir:PATH      SCHEME:LOCATION[:TAG]
//!   └scheme  └location └name
//! ```
//!
//! A reference does not say how it is opened: its scheme stands in the table of [`Transports`](crate::Transports), which
//! has the grammar too. Everything else asks a reference by its accessors, so that a new scheme changes none of it.

mod names;

use std::fmt;
use std::path::{Path, PathBuf};

use dimsum_format::Digest;

pub use self::names::{ImageName, Repository, parse_image_name};

/// A parsed source or target. Its text, by [`Display`](fmt::Display), parses to the same reference again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    scheme: &'static str,
    location: Location,
    name: Option<ImageName>,
}

/// The part between scheme and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Location {
    /// A repository of a registry.
    Repository(Repository),
    /// A file or directory that holds images.
    Path(PathBuf),
    /// A directory that is no image yet: a file tree.
    Tree(PathBuf),
    /// Text that only the transport understands.
    Other(String),
}

impl Reference {
    /// Makes a reference to an image in a registry: `SCHEME://HOST/REPO`.
    #[must_use]
    pub const fn in_registry(scheme: &'static str, repository: Repository, name: ImageName) -> Self {
        Self { scheme, location: Location::Repository(repository), name: Some(name) }
    }

    /// Makes a reference to an image in a local file or directory: `SCHEME:PATH`. Without a name it is the only image there.
    #[must_use]
    pub fn in_files(scheme: &'static str, path: impl Into<PathBuf>, name: Option<ImageName>) -> Self {
        Self { scheme, location: Location::Path(path.into()), name }
    }

    /// Makes a reference to a file tree, which is no image yet: `SCHEME:PATH`.
    #[must_use]
    pub fn to_tree(scheme: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { scheme, location: Location::Tree(path.into()), name: None }
    }

    /// Makes a reference to anything else: `SCHEME:LOCATION`, where only the transport understands the location.
    #[must_use]
    pub fn elsewhere(scheme: &'static str, location: impl Into<String>, name: Option<ImageName>) -> Self {
        Self { scheme, location: Location::Other(location.into()), name }
    }

    /// Returns the scheme without its colon.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Returns the repository, if the image is in a registry.
    #[must_use]
    pub const fn repository(&self) -> Option<&Repository> {
        match &self.location {
            Location::Repository(repository) => Some(repository),
            _ => None,
        }
    }

    /// Returns the local file or directory, if there is one: of images, or a file tree.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.location {
            Location::Path(path) | Location::Tree(path) => Some(path),
            _ => None,
        }
    }

    /// Returns the file tree, if this names one and not an image.
    #[must_use]
    pub fn tree(&self) -> Option<&Path> {
        match &self.location {
            Location::Tree(path) => Some(path),
            _ => None,
        }
    }

    /// Returns the location as text: what stands between the scheme's colon and the name.
    #[must_use]
    pub fn location(&self) -> String {
        self.location.to_string()
    }

    /// Returns the name of the image at its location; none if it is the only one there.
    #[must_use]
    pub const fn name(&self) -> Option<&ImageName> {
        self.name.as_ref()
    }

    /// Returns the digest by which the image is named, if it is.
    #[must_use]
    pub const fn digest(&self) -> Option<Digest> {
        match &self.name {
            Some(ImageName::Digest(digest)) => Some(*digest),
            _ => None,
        }
    }

    /// Says whether it names its image by a digest (or is a file tree, which has none): nothing else than these bytes.
    #[must_use]
    pub const fn is_pinned(&self) -> bool {
        matches!(self.name, Some(ImageName::Digest(_))) || matches!(self.location, Location::Tree(_))
    }

    /// Returns a reference to another image at the same location.
    #[must_use]
    pub fn with_name(&self, name: Option<ImageName>) -> Self {
        Self { name, ..self.clone() }
    }

    /// Returns the same reference with another path; one that has no path stays as it is. Callers make paths absolute so.
    #[must_use]
    pub fn with_path(self, path: impl Into<PathBuf>) -> Self {
        let location = match self.location {
            Location::Path(_) => Location::Path(path.into()),
            Location::Tree(_) => Location::Tree(path.into()),
            other => other,
        };
        Self { location, ..self }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(repository) => write!(f, "//{repository}"),
            Self::Path(path) | Self::Tree(path) => write!(f, "{}", path.display()),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, self.location)?;
        self.name.iter().try_for_each(|name| write!(f, "{name}"))
    }
}
