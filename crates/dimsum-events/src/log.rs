//! The log file of keeper and server.
//!
//! Both outlive the terminal that started them, so they report to a file in the store. A client that finds something
//! broken shows its last lines. The file is bounded: at [`MAX_LOG`] bytes it is copied to [`OLD_LOG_NAME`] and starts
//! anew. It is copied and not renamed, because other processes and the standard streams of children have it open, too.
//! A line that another process writes between copy and cut is lost.
//!
//! [`LogFile`] writes on the caller's thread: it is for the keeper, which has one thread and serves no reader, and for
//! clients. The server writes through [`crate::LogWriter`].

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use crate::trace::LogLevel;
use crate::{Event, EventSeverity, EventsError};

/// Name of the file inside the store.
pub const LOG_NAME: &str = "server.log";

/// Name of the file that holds the lines before those of [`LOG_NAME`].
pub const OLD_LOG_NAME: &str = "server.log.1";

/// The most bytes the file may have when a line is added. Some ten thousand lines: a day of trouble, no disk filled.
pub const MAX_LOG: u64 = 1 << 20;

/// The most bytes of one line. Longer texts come from a hostile source or image; their start is enough to recognise
/// them.
pub const MAX_LINE: usize = 4096;

/// The most bytes [`last_lines`] looks at in each of the two files.
const TAIL: u64 = 8 << 10;

/// The form of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, process and text.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// What is written to a log, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// Lines of less importance are left out.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
}

impl From<LogFormat> for LogSettings {
    fn from(format: LogFormat) -> Self {
        Self { format, ..Self::default() }
    }
}

/// A log that several processes append to.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    path: PathBuf,
    /// The process that writes: `keeper`, `server` or `client`.
    process: &'static str,
    settings: LogSettings,
}

/// The fields of a line in JSON.
#[derive(Serialize)]
struct JsonLine<'a, T: Serialize> {
    time: String,
    process: &'a str,
    pid: u32,
    severity: EventSeverity,
    #[serde(flatten)]
    content: T,
}

#[derive(Serialize)]
struct LogMessage<'a> {
    message: &'a str,
}

impl LogFile {
    /// Opens the log in a store's directory; `process` stands in front of each line.
    ///
    /// # Errors
    /// [`EventsError::Log`] if the file cannot be opened.
    pub fn open(store: &Path, process: &'static str, settings: impl Into<LogSettings>) -> Result<Self, EventsError> {
        let path = store.join(LOG_NAME);
        let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(&path);
        match file {
            Ok(file) => Ok(Self { file, path, process, settings: settings.into() }),
            Err(source) => Err(EventsError::Log { path, action: "open", source }),
        }
    }

    /// Adds a line now, on this thread. A log that cannot be written changes nothing for the caller.
    pub fn line(&self, text: impl std::fmt::Display) {
        if self.shows(EventSeverity::Info) {
            drop(self.append(self.text_line(Timestamp::now(), EventSeverity::Info, &text.to_string()).as_bytes()));
        }
    }

    /// Says whether lines of this importance are written.
    pub(crate) const fn shows(&self, severity: EventSeverity) -> bool {
        self.settings.level.shows(severity)
    }

    /// Returns another handle to the file, for the standard streams of a child.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn duplicate(&self) -> std::io::Result<File> {
        self.file.try_clone()
    }

    /// Returns the line of a text.
    pub(crate) fn text_line(&self, at: Timestamp, severity: EventSeverity, text: &str) -> String {
        match self.settings.format {
            LogFormat::Text => {
                let mut line = format!("{at:.3} {}[{}]: ", self.process, std::process::id());
                push_plain(&mut line, text);
                line.push('\n');
                line
            }
            LogFormat::Json => self.json_line(at, severity, LogMessage { message: cut(text) }),
        }
    }

    /// Returns the line of an event.
    pub(crate) fn event_line(&self, at: Timestamp, event: &Event) -> String {
        match self.settings.format {
            LogFormat::Text => self.text_line(at, event.severity(), &event.to_string()),
            LogFormat::Json => self.json_line(at, event.severity(), event),
        }
    }

    fn json_line(&self, at: Timestamp, severity: EventSeverity, content: impl Serialize) -> String {
        let (time, pid) = (format!("{at:.3}"), std::process::id());
        let line = JsonLine { time, process: self.process, pid, severity, content };
        // It can only fail for a path that is not UTF-8; the line is then the reason.
        let mut line = serde_json::to_string(&line).unwrap_or_else(|error| format!("{{\"message\":\"{error}\"}}"));
        line.push('\n');
        line
    }

    /// Appends whole lines with one write, so that lines of other processes stay whole.
    pub(crate) fn append(&self, lines: &[u8]) -> std::io::Result<()> {
        self.bound();
        let mut file = &self.file;
        file.write_all(lines)
    }

    /// Starts anew if the file is full.
    fn bound(&self) {
        let is_full = || self.file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > MAX_LOG);
        if !is_full() {
            return;
        }
        // The lock is of a descriptor of its own: one that children inherit would keep it when this process is killed.
        let Ok(lock) = File::open(&self.path) else {
            return;
        };
        // Another process is about it, or has done it meanwhile.
        if lock.try_lock().is_err() || !is_full() {
            return;
        }
        let old = self.path.with_file_name(OLD_LOG_NAME);
        let copy = self.path.with_extension("log.copy");
        if std::fs::copy(&self.path, &copy).and_then(|_| std::fs::rename(&copy, &old)).is_err() {
            // No room for two: the bound counts more than the older lines.
            drop(std::fs::remove_file(&copy));
        }
        // Opened for appending, so the next write goes to the new end.
        drop(self.file.set_len(0));
    }
}

/// Cuts a text to [`MAX_LINE`] at the border of a character.
pub(crate) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_LINE)).unwrap_or(text)
}

/// Adds a text without line breaks and other control characters: texts of registries and images must not forge lines.
pub(crate) fn push_plain(line: &mut String, text: &str) {
    for character in cut(text).chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

/// Returns the last lines of a store's log, at most `count`; empty if there is none.
#[must_use]
pub fn last_lines(store: &Path, count: usize) -> Vec<String> {
    let mut lines = tail(&store.join(LOG_NAME));
    if lines.len() < count {
        let newer = std::mem::replace(&mut lines, tail(&store.join(OLD_LOG_NAME)));
        lines.extend(newer);
    }
    lines.split_off(lines.len().saturating_sub(count))
}

/// Returns the lines at the end of a file.
fn tail(path: &Path) -> Vec<String> {
    let mut tail = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        file.take(TAIL).read_to_end(&mut tail)
    });
    if read.is_err() {
        return Vec::new();
    }
    String::from_utf8_lossy(&tail).lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_keeps_what_was_before() {
        let store = tempfile::tempdir().unwrap();
        let log = LogFile::open(store.path(), "keeper", LogFormat::Text).unwrap();
        log.line("the first cause");
        let filler = "x".repeat(4000);
        for _ in 0..300 {
            log.line(&filler);
        }
        log.line("the last word");
        assert!(std::fs::metadata(store.path().join(LOG_NAME)).unwrap().len() <= MAX_LOG);
        let old = std::fs::read_to_string(store.path().join(OLD_LOG_NAME)).unwrap();
        assert!(old.lines().next().unwrap().ends_with("the first cause"));
        let lines = last_lines(store.path(), 1);
        assert!(lines[0].ends_with("the last word"), "{lines:?}");
        assert_eq!(last_lines(&store.path().join("none"), 3), Vec::<String>::new());
    }

    #[test]
    fn a_descriptor_from_before_the_file_was_full_writes_on_into_the_same_file() {
        let store = tempfile::tempdir().unwrap();
        let log = LogFile::open(store.path(), "keeper", LogFormat::Text).unwrap();
        let mut stream = log.duplicate().unwrap();
        log.append(&vec![b'x'; 2 << 20]).unwrap();
        log.line("anew");
        stream.write_all(b"a child's last words\n").unwrap();
        let lines = last_lines(store.path(), 2);
        assert!(lines[0].ends_with("anew") && lines[1] == "a child's last words", "{lines:?}");
    }

    #[test]
    fn a_log_of_failures_has_no_other_lines() {
        let store = tempfile::tempdir().unwrap();
        let settings = LogSettings { level: LogLevel::Error, format: LogFormat::Text };
        LogFile::open(store.path(), "keeper", settings).unwrap().line("server started");
        let writer = crate::LogWriter::start(LogFile::open(store.path(), "server", settings).unwrap()).unwrap();
        writer.handle().line("asked to end");
        crate::EventSink::event(&writer.handle(), Event::new(crate::EventKind::MountEnded));
        crate::EventSink::event(&writer.handle(), Event::new(crate::EventKind::ReadFailed).reason("no source"));
        drop(writer);
        let lines = last_lines(store.path(), 9);
        assert!(lines.len() == 1 && lines[0].contains("no source"), "{lines:?}");
    }

    #[test]
    fn last_lines_go_back_into_the_older_file() {
        let store = tempfile::tempdir().unwrap();
        std::fs::write(store.path().join(OLD_LOG_NAME), "one\ntwo\n").unwrap();
        std::fs::write(store.path().join(LOG_NAME), "three\n").unwrap();
        assert_eq!(last_lines(store.path(), 2), ["two", "three"]);
    }

    #[test]
    fn a_text_from_outside_cannot_forge_a_line() {
        let store = tempfile::tempdir().unwrap();
        for format in [LogFormat::Text, LogFormat::Json] {
            LogFile::open(store.path(), "server", format).unwrap().line("refused\n2026 server[1]: all is well\x1b[2J");
        }
        let lines = last_lines(store.path(), 9);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines.iter().all(|line| !line.contains('\x1b')), "{lines:?}");
    }
}
