//! One thing that happened, and the trait of those who want to know.

use std::fmt;
use std::path::PathBuf;

use dimsum_format::Digest;
use serde::Serialize;

use crate::{EventKind, EventSeverity, ReadObject};

/// A file of an image, as a driver knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct FileRef {
    /// Number of the inode in the image's tree.
    pub inode: u64,
    /// Path from the root of the image, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Something that an operator should hear of. Fields that do not apply, or are not known where it happened, are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// The type.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// Manifest of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// Number of the mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<u64>,
    /// Directory that the mount was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// File of the image that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileRef>,
    /// Part of the image that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ReadObject>,
    /// Name of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// File of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Event {
    /// Returns an event that says no more than its type.
    #[must_use]
    pub const fn new(kind: EventKind) -> Self {
        Self {
            kind,
            image: None,
            mount: None,
            target: None,
            file: None,
            object: None,
            source: None,
            path: None,
            reason: None,
        }
    }

    /// Adds the image.
    #[must_use]
    pub const fn image(mut self, image: Digest) -> Self {
        self.image = Some(image);
        self
    }

    /// Adds the mount and its directory.
    #[must_use]
    pub fn mount(mut self, mount: u64, target: impl Into<String>) -> Self {
        self.mount = Some(mount);
        self.target = Some(target.into());
        self
    }

    /// Adds the file that was read.
    #[must_use]
    pub fn file(mut self, file: FileRef) -> Self {
        self.file = Some(file);
        self
    }

    /// Adds the part of the image.
    #[must_use]
    pub const fn object(mut self, object: ReadObject) -> Self {
        self.object = Some(object);
        self
    }

    /// Adds the name of the source.
    #[must_use]
    pub fn source(mut self, name: impl Into<String>) -> Self {
        self.source = Some(name.into());
        self
    }

    /// Adds the file of the store.
    #[must_use]
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Adds the reason.
    #[must_use]
    pub fn reason(mut self, reason: impl fmt::Display) -> Self {
        self.reason = Some(reason.to_string());
        self
    }

    /// Returns how bad it is.
    #[must_use]
    pub const fn severity(&self) -> EventSeverity {
        self.kind.severity()
    }
}

/// One line: the headline, the object, and the reason.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(mount) = self.mount {
            write!(f, "mount {mount}: ")?;
        }
        f.write_str(self.kind.headline())?;
        if let Some(file) = &self.file {
            write!(f, " for inode {}", file.inode)?;
            if let Some(path) = &file.path {
                write!(f, " ({path})")?;
            }
        }
        if let Some(target) = self.target.as_ref().filter(|target| !target.is_empty()) {
            write!(f, " on {target}")?;
        }
        if let Some(path) = &self.path {
            write!(f, " {}", path.display())?;
        }
        if let Some(object) = &self.object {
            write!(f, ": {object}")?;
        }
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        match &self.image {
            Some(image) => write!(f, " (image {image})"),
            None => Ok(()),
        }
    }
}

/// Takes events.
///
/// Called on threads of the store and of drivers, between a reader and its bytes. An implementation must not block,
/// write a file or read from the store.
pub trait EventSink: fmt::Debug + Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_read_names_mount_file_object_and_image() {
        let image = Digest::of(b"image");
        let event = Event::new(EventKind::ReadFailed)
            .image(image)
            .mount(3, "/mnt")
            .file(FileRef { inode: 42, path: Some("/usr/bin/app".to_owned()) })
            .reason("no source to get it from");
        let text = "mount 3: EIO for inode 42 (/usr/bin/app) on /mnt: no source to get it from";
        assert_eq!(event.to_string(), format!("{text} (image {image})"));
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["type"], "dev.dimsum.read.failed.v1");
        assert_eq!(json["file"]["inode"], 42);
        assert_eq!(json.get("source"), None);
    }

    #[test]
    fn types_have_unique_names() {
        let mut names: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.full_name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), EventKind::ALL.len());
    }
}
