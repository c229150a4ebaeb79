//! Errors meet the user here, once: kind, object, what happened, the chain of causes, and what to do next.

mod hint;
mod kind;
mod request;

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dimsum_engine::container::RunError;
use dimsum_engine::{CancelReason, EngineError};
use dimsum_node::ServerFailure;
use serde_json::json;

use crate::json::write_json;
use crate::options::Format;
use dimsum_engine::text::Tame;

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
    /// The command line does not fit the grammar.
    #[error("{text}")]
    Grammar {
        /// What the parser says, over several lines.
        text: String,
    },
    /// The engine's word.
    #[error(transparent)]
    Engine(EngineError),
    /// A check that found something.
    #[error("the check of {object} has {count} findings")]
    Findings {
        /// The image.
        object: String,
        /// How many.
        count: u64,
    },
    /// An image that could not be brought into the store.
    #[error("cannot fetch all of {object}")]
    Fill {
        /// The image.
        object: String,
        /// Why.
        source: dimsum_engine::FillError,
    },
    /// A container that could not be started.
    #[error("cannot run a container of {object}")]
    Run {
        /// The image.
        object: String,
        /// Why.
        source: Box<RunError>,
    },
    /// A run that failed because bytes of the image could not be proven.
    #[error("bytes of {object} could not be proven: {figures}")]
    Unproven {
        /// The image.
        object: String,
        /// What the server counted.
        figures: String,
        /// What failed for that reason.
        source: Box<Self>,
    },
    /// Standard output cannot be written to.
    #[error("cannot write the result to standard output")]
    Output {
        /// Why.
        source: io::Error,
    },
    /// The server of the store could not do it, and says why.
    #[error(transparent)]
    Server(Box<ServerFailure>),
    /// The server of the store cannot be used.
    #[error("{}", node_headline(object, source))]
    Node {
        /// The image or directory.
        object: String,
        /// Why.
        source: Box<dimsum_node::Error>,
    },
    /// A signal asked this command to end.
    #[error("{reason}{}", if *is_kept { "; what was fetched is kept" } else { "" })]
    Interrupted {
        /// Which signal.
        reason: CancelReason,
        /// Whether the next run of the command finds the bytes that were fetched.
        is_kept: bool,
    },
    /// A run of this program, of which this one is the other half, has failed and said why.
    #[error("the run ended with status {status}")]
    Said {
        /// Its status.
        status: u8,
    },
    /// The operating system's word.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Request { object, fault } => request::refused(object, fault),
            other => Self::Engine(other),
        }
    }
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Wraps an error of the node; what the engine or the server said of an object keeps it.
    pub(crate) fn node(object: impl Into<String>) -> impl FnOnce(dimsum_node::Error) -> Self {
        let object = object.into();
        move |error| match error {
            dimsum_node::Error::Engine(error) => error.into(),
            dimsum_node::Error::Server(failure) => Self::Server(Box::new(failure)),
            error => Self::Node { object, source: Box::new(error) },
        }
    }

    /// Makes an interruption of the cancelled work of a command; others stay.
    #[must_use]
    pub fn interrupted(self, is_kept: bool) -> Self {
        match self {
            Self::Engine(EngineError::Cancelled { reason }) => Self::Interrupted { reason, is_kept },
            other => other,
        }
    }

    /// Gives the engine's refusal of two equal places the hint of a command.
    pub(crate) fn advised(error: EngineError, hint: &'static str) -> Self {
        match error {
            EngineError::SamePlace { .. } => Self::Usage { object: error.object(), reason: error.to_string(), hint },
            other => other.into(),
        }
    }

    /// Returns what it is about.
    #[must_use]
    pub fn object(&self) -> String {
        match self {
            Self::Engine(error) => error.object(),
            Self::Server(failure) => failure.object.clone(),
            Self::Usage { object, .. }
            | Self::Findings { object, .. }
            | Self::Node { object, .. }
            | Self::Fill { object, .. }
            | Self::Unproven { object, .. }
            | Self::Run { object, .. } => object.clone(),
            Self::Grammar { .. } => "the command line".to_owned(),
            Self::Interrupted { .. } => "this command".to_owned(),
            Self::Said { .. } => "the run".to_owned(),
            Self::Output { .. } => "standard output".to_owned(),
            Self::Io { path, .. } => path.display().to_string(),
        }
    }

    /// Returns the exit status.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            // As a shell shows a command that the signal ended.
            Self::Engine(EngineError::Cancelled { reason: CancelReason::Signal(signal) })
            | Self::Interrupted { reason: CancelReason::Signal(signal), .. } => {
                u8::try_from(128 + signal).unwrap_or(u8::MAX)
            }
            Self::Said { status } => *status,
            _ => kind::status(self.kind()),
        }
    }

    /// Writes the error to standard error and returns the exit status.
    pub fn render(&self, format: Format) -> ExitCode {
        if let Self::Said { status } = self {
            return ExitCode::from(*status);
        }
        let text = match format {
            Format::Text => self.text(),
            Format::Json => self.json_text(),
        };
        // Nobody to tell if standard error is gone; the status still says it.
        let _unread = io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.status())
    }

    fn text(&self) -> String {
        // Causes quote the words of registries, archives and images.
        let mut text = format!("dimsum: {}: {}\n", kind::word(self.kind()), Tame(&self.headline()));
        for cause in causes(self) {
            let _infallible = writeln!(text, "  because: {}", Tame(&cause));
        }
        if let Some(hint) = self.hint() {
            let _infallible = writeln!(text, "  next: {hint}");
        }
        text
    }

    /// Returns the sentence that stands first. It names the object, in front if its words do not.
    fn headline(&self) -> String {
        let (object, words) = (self.object(), self.to_string());
        match self {
            Self::Interrupted { .. } | Self::Grammar { .. } => words,
            _ if words.contains(&object) => words,
            _ => format!("{object}: {words}"),
        }
    }

    fn json_text(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory cannot fail.
        let _infallible = write_json(&self.json(), &mut text).and_then(|()| text.write_all(b"\n"));
        String::from_utf8_lossy(&text).into_owned()
    }

    fn json(&self) -> serde_json::Value {
        json!({ "error": {
            "kind": self.kind().name(),
            "object": self.object(),
            "message": self.to_string(),
            "causes": causes(self),
            "hint": self.hint(),
            "status": self.status(),
        }})
    }
}

/// Returns the first sentence about a failure of the server: its own words, or the mount that cannot be made.
fn node_headline(object: &str, source: &dimsum_node::Error) -> String {
    use dimsum_node::Error as E;
    match source {
        E::FirstLookup { .. } | E::Mount(_) | E::Fuse(_) => format!("cannot mount {object}"),
        _ => source.to_string(),
    }
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

#[cfg(test)]
mod tests {
    use dimsum_engine::ErrorKind;
    use dimsum_format::FormatError;
    use dimsum_source::{SourceError, SourceFault};

    use super::*;

    fn digest_error() -> Error {
        let (is, must) = (dimsum_format::Digest::of(b"is"), dimsum_format::Digest::of(b"must"));
        let source = SourceFault::Digest { object: "manifest", is, must }.at("oci:x");
        EngineError::Source { object: "oci:x:v1".into(), source: Box::new(source) }.into()
    }

    #[test]
    fn wrong_bytes_end_with_status_3_and_everything_else_does_not() {
        assert_eq!(digest_error().status(), 3);
        let missing = Error::io("open", Path::new("/x"), io::ErrorKind::NotFound.into());
        assert_eq!((missing.kind(), missing.status()), (ErrorKind::NotFound, 1));
        let usage = Error::Run { object: "i".into(), source: Box::new(RunError::NoCommand) };
        assert_eq!(usage.status(), 2);
    }

    #[test]
    fn text_and_json_say_kind_object_cause_and_next_step() {
        let error = digest_error();
        let text = error.text();
        for part in [
            "dimsum: integrity: cannot read image oci:x:v1\n",
            "  because: oci:x: manifest: digest is",
            "  next: `dimsum check",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let json = error.json();
        assert_eq!(json["error"]["kind"], "integrity");
        assert_eq!(json["error"]["status"], 3);
        assert_eq!(json["error"]["causes"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn what_a_source_says_cannot_steer_a_terminal() {
        let reason = "there is: \x1b[2J\u{9b}1m\nfake".to_owned();
        let source = Box::new(SourceFault::Name { reason }.at("oci:x"));
        let error = Error::from(EngineError::Source { object: "oci:\u{202e}x".into(), source });
        for text in [error.text(), error.json_text()] {
            assert!(!text.trim_end().contains(['\x1b', '\u{9b}', '\u{202e}']), "{text:?}");
            assert!(!text.contains("\nfake"), "{text:?}");
        }
    }

    fn unreachable() -> Box<SourceError> {
        Box::new(dimsum_engine::RegistryFault::Unreachable { reason: "refused".to_owned() }.at("h.io"))
    }

    #[test]
    fn fetched_bytes_are_promised_only_to_a_command_that_fetches() {
        let object = || "h.io/a:v1".to_owned();
        let reads = Error::from(EngineError::Source { object: object(), source: unreachable() });
        assert!(reads.hint().is_some_and(|hint| hint.contains("fetched is kept")));
        let copy = EngineError::Copy { object: "oci:x".to_owned(), target: object(), source: unreachable() }.into();
        let target = Error::from(EngineError::Target { object: object(), source: unreachable() });
        for pushes in [copy, target] {
            let hint = pushes.hint().unwrap();
            assert!(hint.contains("when the registry answers") && !hint.contains("kept"), "{hint}");
        }
    }

    #[test]
    fn an_interruption_names_its_signal_and_ends_as_shells_show_it() {
        let ended = |signal| Error::from(EngineError::Cancelled { reason: CancelReason::Signal(signal) });
        let (term, int) = (ended(15).interrupted(false), ended(2).interrupted(true));
        assert_eq!((&*term.text(), term.status()), ("dimsum: failed: interrupted by SIGTERM\n", 143));
        assert_eq!((&*int.text(), int.status()), ("dimsum: failed: interrupted; what was fetched is kept\n", 130));
    }

    #[test]
    fn a_headline_names_its_object_once() {
        for (error, headline) in [
            (digest_error(), "cannot read image oci:x:v1"),
            (Error::io("open", Path::new("/x"), io::ErrorKind::NotFound.into()), "cannot open /x"),
            (EngineError::Ordinary { object: "a".into() }.into(), "a is an ordinary image, not a Dimsum image"),
            (EngineError::Path { path: b"/etc".to_vec(), reason: "not a file" }.into(), "/etc: not a file"),
            (Error::Usage { object: "--uid".into(), reason: "too large".into(), hint: "" }, "--uid: too large"),
        ] {
            assert_eq!(error.headline(), headline);
        }
    }

    #[test]
    fn a_cause_is_said_once() {
        let source = FormatError::NotDimsum { reason: "r" };
        let error = Error::from(EngineError::Source {
            object: String::new(),
            source: Box::new(SourceFault::Format { source }.at("s")),
        });
        assert_eq!(causes(&error), ["s: not a Dimsum image: r"]);
    }
}
