//! What goes to standard output: data and nothing else.
//!
//! A result is one value that can be shown in two ways ([`Report`]). Text from outside, such as names in images, may
//! hold any byte. In texts it is escaped ([`Name`], [`Tame`]), and in JSON in the way of JSON ([`json`](crate::json)).
//! Only a listing of names, which other programs take as it is, has them as they are, and not on a terminal
//! ([`write_name`]).

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use dimsum_engine::EngineError;
pub use dimsum_engine::text::{Name, Size, Tame, hex_unless_utf8, total};

use crate::error::Error;
use crate::json::write_json;
use crate::options::Format;

/// A result of a command.
pub trait Report: Serialize {
    /// Writes it for people.
    ///
    /// # Errors
    /// What the writer says.
    fn text(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
    terminal: bool,
}

impl Output {
    /// Looks at standard output.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, terminal: io::stdout().is_terminal() }
    }

    /// Whether results are JSON.
    #[must_use]
    pub const fn is_json(self) -> bool {
        matches!(self.format, Format::Json)
    }

    /// Whether a person may be looking at the bytes.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Writes one result.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn write(self, report: &impl Report) -> Result<(), Error> {
        self.with(|out| self.write_to(report, out))
    }

    /// Writes one result of many to a writer from [`with`](Self::with).
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_to(self, report: &impl Report, out: &mut dyn Write) -> io::Result<()> {
        if self.is_json() {
            write_json(report, out)?;
            out.write_all(b"\n")
        } else {
            report.text(out)
        }
    }

    /// Gives standard output, buffered, to a function.
    ///
    /// # Errors
    /// If it cannot be written to. A reader that went away is no error of ours: what it did not want is not written.
    pub fn with(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        let written = write(&mut out).and_then(|()| out.flush());
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output { source: error }),
            _ => Ok(()),
        }
    }

    /// As [`with`](Self::with), for a function that reads an image while it writes. Standard output and the image fail
    /// differently: writing ends at the image's first error, and what was written before it is shown.
    ///
    /// # Errors
    /// If standard output cannot be written to, or the image's error.
    pub fn with_image(self, write: impl FnOnce(&mut dyn Write) -> Result<(), Stop>) -> Result<(), Error> {
        let mut failed = None;
        self.with(|out| match write(out) {
            Err(Stop::Image(error)) => {
                failed = Some(*error);
                Ok(())
            }
            Err(Stop::Output(error)) => Err(error),
            Ok(()) => Ok(()),
        })?;
        failed.map_or(Ok(()), Err)
    }
}

/// What ends an output: an image's error or that of the output itself.
#[derive(Debug)]
pub enum Stop {
    /// The image's.
    Image(Box<Error>),
    /// The output's.
    Output(io::Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Image(Box::new(error))
    }
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Error::from(error).into()
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Writes a name: escaped for a terminal, as it is for a pipe.
///
/// # Errors
/// What the writer says.
pub fn write_name(out: &mut dyn Write, name: &[u8], terminal: bool) -> io::Result<()> {
    if terminal { write!(out, "{}", Name(name)) } else { out.write_all(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_names_as_they_are() {
        let mut out = Vec::new();
        write_name(&mut out, b"a\nb\xff", false).unwrap();
        assert_eq!(out, b"a\nb\xff");
    }
}
