//! Errors meet the user here, once: kind, object, what happened, the chain of causes, and what to do next.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dimsum_format::FormatError;
use dimsum_registry::SourceError;
use dimsum_store::{ReadError, StoreError};
use serde_json::json;

use crate::check::against::AgainstError;
use crate::cli::Format;
use crate::output::Name;
use crate::run::RunError;

/// What went wrong, as far as a script needs to know. Decides the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line does not make sense.
    Usage,
    /// Something that was named is not there.
    NotFound,
    /// This user may not do that.
    Permission,
    /// Bytes do not match the digest they must have.
    Integrity,
    /// Anything else.
    Failed,
}

impl Kind {
    /// The word that names the kind in messages and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::NotFound => "not found",
            Self::Permission => "permission",
            Self::Integrity => "integrity",
            Self::Failed => "failed",
        }
    }

    /// The exit status.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Integrity => 3,
            Self::NotFound | Self::Permission | Self::Failed => 1,
        }
    }
}

/// Why a command could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line makes no sense in a way that its grammar does not say.
    #[error("{reason}")]
    Usage {
        /// The argument.
        object: String,
        /// Why.
        reason: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// An image or source cannot be read.
    #[error("cannot read the image")]
    Source {
        /// The reference.
        object: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// A place cannot be written to.
    #[error("cannot write the image")]
    Target {
        /// The reference.
        object: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// A conversion failed.
    #[error("cannot convert it")]
    Convert {
        /// The source.
        object: String,
        /// Why.
        source: Box<dimsum_convert::Error>,
    },
    /// A document or blob that is not in the format.
    #[error("the image is not in the format")]
    Format {
        /// The image.
        object: String,
        /// Why.
        source: Box<FormatError>,
    },
    /// The store's word.
    #[error("the store cannot do it")]
    Store {
        /// The image, or the store's directory.
        object: String,
        /// Why.
        source: Box<StoreError>,
    },
    /// Data that cannot be read.
    #[error("cannot read the data")]
    Read {
        /// The file in the image.
        object: String,
        /// Why.
        source: Box<ReadError>,
    },
    /// The image's file system cannot be read.
    #[error("cannot read the image's file system")]
    Erofs {
        /// The image or the file in it.
        object: String,
        /// Why.
        source: Box<dimsum_erofs::Error<ReadError>>,
    },
    /// A path that the image does not have, or that is something else.
    #[error("{reason}")]
    Path {
        /// The path.
        path: Vec<u8>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A source that cannot be compared with.
    #[error("cannot compare with it")]
    Against {
        /// The source.
        object: String,
        /// Why.
        source: Box<AgainstError>,
    },
    /// A check that found something.
    #[error("{count} findings")]
    Findings {
        /// The image.
        object: String,
        /// How many.
        count: u64,
    },
    /// A container that could not be started.
    #[error("cannot run the container")]
    Run {
        /// The image.
        object: String,
        /// Why.
        source: Box<RunError>,
    },
    /// Standard output cannot be written to.
    #[error("cannot write the result")]
    Output {
        /// Why.
        source: io::Error,
    },
    /// The server of the store could not do it.
    #[error("the server of this store cannot do it")]
    Node {
        /// The image or directory.
        object: String,
        /// Why.
        source: Box<dimsum_node::Error>,
    },
    /// A signal asked to end.
    #[error("signal {signal} asked to end")]
    Interrupted {
        /// Its number.
        signal: i32,
    },
    /// The operating system's word.
    #[error("cannot {action} it")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Returns what it is about.
    #[must_use]
    pub fn object(&self) -> String {
        match self {
            Self::Usage { object, .. }
            | Self::Source { object, .. }
            | Self::Target { object, .. }
            | Self::Convert { object, .. }
            | Self::Format { object, .. }
            | Self::Store { object, .. }
            | Self::Read { object, .. }
            | Self::Erofs { object, .. }
            | Self::Against { object, .. }
            | Self::Findings { object, .. }
            | Self::Node { object, .. }
            | Self::Run { object, .. } => object.clone(),
            Self::Path { path, .. } => Name(path).to_string(),
            Self::Interrupted { .. } => "this command".to_owned(),
            Self::Output { .. } => "standard output".to_owned(),
            Self::Io { path, .. } => path.display().to_string(),
        }
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Usage { .. } => Kind::Usage,
            Self::Source { source, .. } | Self::Target { source, .. } => source_kind(source),
            Self::Convert { source, .. } => convert_kind(source),
            Self::Format { source, .. } => format_kind(source),
            Self::Store { source, .. } => store_kind(source),
            Self::Read { source, .. } => read_kind(source),
            Self::Erofs { source, .. } => match &**source {
                dimsum_erofs::Error::Read { source, .. } => read_kind(source),
                // Proven bytes that make no sense: the image was made so.
                _ => Kind::Failed,
            },
            Self::Against { source, .. } => match &**source {
                AgainstError::Digest { .. } | AgainstError::Chunk { .. } => Kind::Integrity,
                _ => Kind::Failed,
            },
            Self::Findings { .. } => Kind::Integrity,
            Self::Path { .. } => Kind::NotFound,
            Self::Run { source, .. } => run_kind(source),
            Self::Node { source, .. } => node_kind(source),
            Self::Interrupted { .. } => Kind::Failed,
            Self::Output { source } | Self::Io { source, .. } => io_kind(source),
        }
    }

    /// Returns the exit status.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            // As a shell shows a command that the signal ended.
            Self::Interrupted { signal } => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            _ => self.kind().status(),
        }
    }

    /// Returns what the user can do next.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        let special = match self {
            Self::Usage { hint, .. } => Some(*hint),
            Self::Path { .. } => Some("`dimsum ls IMAGE` lists what the image has"),
            Self::Findings { .. } => {
                Some("convert it again, or copy it again from where it was right; a store mends itself when it is read")
            }
            Self::Source { source, .. } | Self::Target { source, .. } => match &**source {
                SourceError::Reference { .. } => Some("name an image as oci:DIR[:TAG], a directory tree as dir:PATH"),
                _ => None,
            },
            Self::Convert { source, .. } => match &**source {
                dimsum_convert::Error::AlreadyDimsum { .. } => Some("run, mount or copy it as it is"),
                error if is_overlay_entry(error) => {
                    Some("leave such entries out with `dimsum convert --overlay-entries drop`")
                }
                _ => None,
            },
            Self::Node { source, .. } => match &**source {
                dimsum_node::Error::Busy { .. } => {
                    Some("end those who use it, or take it away at once and for good with --lazy")
                }
                dimsum_node::Error::NotStarted { .. } => Some("`dimsum serve` shows in the foreground what goes wrong"),
                _ => None,
            },
            Self::Run { source, .. } => run_hint(source),
            _ => None,
        };
        special.or_else(|| match (self, self.kind()) {
            (_, Kind::Integrity) => Some(
                "`dimsum check IMAGE --data` names all that is damaged in the source, `--store` in this node's copy",
            ),
            (Self::Store { .. } | Self::Io { .. }, Kind::Permission) => {
                Some("give a store that this user may write: --store DIR or DIMSUM_STORE")
            }
            (Self::Source { .. }, Kind::NotFound) => Some("see that the layout is there and has this tag"),
            _ => None,
        })
    }

    /// Writes the error to standard error and returns the exit status.
    pub fn render(&self, format: Format) -> ExitCode {
        let text = match format {
            Format::Text => self.text(),
            Format::Json => format!("{}\n", self.json()),
        };
        // Nobody to tell if standard error is gone; the status still says it.
        let _unread = io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.status())
    }

    fn text(&self) -> String {
        let mut text = format!("dimsum: {}: {}: {self}\n", self.kind().word(), self.object());
        for cause in causes(self) {
            let _infallible = writeln!(text, "  because: {cause}");
        }
        if let Some(hint) = self.hint() {
            let _infallible = writeln!(text, "  next: {hint}");
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        json!({ "error": {
            "kind": self.kind().word(),
            "object": self.object(),
            "message": self.to_string(),
            "causes": causes(self),
            "hint": self.hint(),
            "status": self.status(),
        }})
    }
}

fn run_hint(error: &RunError) -> Option<&'static str> {
    match error {
        RunError::NoCommand => Some("give a command behind the image"),
        RunError::NoAccount { .. } => Some("give numbers, as in --user 1000:1000, or an account that the image has"),
        RunError::Runtime { .. } => Some("install runc (on Debian: apt-get install runc) and see that it is in PATH"),
        RunError::Privileges { .. } => Some("run it as root; `dimsum ls` and `dimsum cat` work for every user"),
        RunError::Mount { .. } => {
            Some("keep the store on a file system that overlayfs can write to, such as ext4 or xfs: --store DIR")
        }
        _ => None,
    }
}

fn is_overlay_entry(error: &dimsum_convert::Error) -> bool {
    use dimsum_tree::{Error as TreeError, Fault};
    let dimsum_convert::Error::Tree { source, .. } = error else { return false };
    matches!(source, TreeError::Entry { fault: Fault::DeviceZero | Fault::OverlayXattr { .. }, .. })
}

/// Returns the chain of causes. A cause that its effect has quoted already is not said twice.
fn causes(error: &dyn StdError) -> Vec<String> {
    let mut said = error.to_string();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            causes.push(text.clone());
            said = text;
        }
        next = cause.source();
    }
    causes
}

fn io_kind(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::PermissionDenied => Kind::Permission,
        _ => Kind::Failed,
    }
}

fn source_kind(error: &SourceError) -> Kind {
    match error {
        SourceError::Digest { .. } => Kind::Integrity,
        SourceError::NotFound { .. } | SourceError::Name { .. } => Kind::NotFound,
        SourceError::Reference { .. } | SourceError::Target { .. } => Kind::Usage,
        SourceError::Format { source, .. } => format_kind(source),
        SourceError::Io { source, .. } => io_kind(source),
        _ => Kind::Failed,
    }
}

fn convert_kind(error: &dimsum_convert::Error) -> Kind {
    use dimsum_convert::Error as E;
    match error {
        E::LayerDigest { .. } | E::DiffId { .. } => Kind::Integrity,
        E::Registry(source) => source_kind(source),
        E::Option { .. } | E::AlreadyDimsum { .. } => Kind::Usage,
        E::Temporary { source, .. } | E::Write { source, .. } => io_kind(source),
        E::Content { source, .. } => convert_kind(source),
        _ => Kind::Failed,
    }
}

const fn format_kind(error: &FormatError) -> Kind {
    match error {
        FormatError::Digest { .. } => Kind::Integrity,
        _ => Kind::Failed,
    }
}

fn store_kind(error: &StoreError) -> Kind {
    match error {
        _ if error.is_integrity() => Kind::Integrity,
        StoreError::Io { source, .. } => io_kind(source),
        StoreError::Unavailable { .. } => Kind::NotFound,
        _ => Kind::Failed,
    }
}

fn read_kind(error: &ReadError) -> Kind {
    if error.is_integrity() { Kind::Integrity } else { Kind::Failed }
}

fn node_kind(error: &dimsum_node::Error) -> Kind {
    use dimsum_node::Error as E;
    match error {
        _ if error.is_integrity() => Kind::Integrity,
        E::Store { source, .. } => store_kind(source),
        E::Target { .. } => Kind::Usage,
        E::System { source, .. } => io_kind(source),
        _ => Kind::Failed,
    }
}

fn run_kind(error: &RunError) -> Kind {
    match error {
        RunError::NoCommand | RunError::NoAccount { .. } | RunError::NotUtf8 { .. } => Kind::Usage,
        RunError::Privileges { .. } => Kind::Permission,
        RunError::Runtime { source, .. } | RunError::Io { source, .. } => io_kind(source),
        _ => Kind::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_error() -> Error {
        let (is, must) = (dimsum_format::Digest::of(b"is"), dimsum_format::Digest::of(b"must"));
        let source = SourceError::Digest { source_name: "oci:x".into(), object: "manifest", is, must };
        Error::Source { object: "oci:x:v1".into(), source: Box::new(source) }
    }

    #[test]
    fn wrong_bytes_end_with_status_3_and_everything_else_does_not() {
        assert_eq!(digest_error().kind().status(), 3);
        let missing = Error::io("open", Path::new("/x"), io::ErrorKind::NotFound.into());
        assert_eq!((missing.kind(), missing.kind().status()), (Kind::NotFound, 1));
        let usage = Error::Run { object: "i".into(), source: Box::new(RunError::NoCommand) };
        assert_eq!(usage.kind().status(), 2);
    }

    #[test]
    fn text_and_json_say_kind_object_cause_and_next_step() {
        let error = digest_error();
        let text = error.text();
        for part in ["dimsum: integrity: oci:x:v1: ", "  because: oci:x: manifest: digest is", "  next: `dimsum check"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let json = error.json();
        assert_eq!(json["error"]["kind"], "integrity");
        assert_eq!(json["error"]["status"], 3);
        assert_eq!(json["error"]["causes"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_cause_is_said_once() {
        let source = FormatError::NotDimsum { reason: "r" };
        let error = Error::Source {
            object: String::new(),
            source: Box::new(SourceError::Format { source_name: "s".into(), source }),
        };
        assert_eq!(causes(&error), ["s: not a Dimsum image: r"]);
    }
}
