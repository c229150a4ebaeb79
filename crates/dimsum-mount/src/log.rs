//! The log file of keeper and server.
//!
//! Both outlive the terminal they were started from, so what they have to say goes to a file in the store; a client
//! that finds something broken shows its last lines. The file is bounded: at [`MAX_LOG`] bytes it starts anew.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::Error;

/// Name of the file inside the store.
pub const LOG_NAME: &str = "server.log";

/// The most bytes the file may have when a line is added. Some ten thousand lines: a day of trouble, no disk filled.
pub const MAX_LOG: u64 = 1 << 20;

/// The most bytes [`last_lines`] looks at.
const TAIL: u64 = 8 << 10;

/// A log that several threads and processes append to.
#[derive(Debug)]
pub struct Log {
    file: Mutex<File>,
    /// Who speaks: `keeper` or `server`.
    speaker: &'static str,
}

impl Log {
    /// Opens the log of a store; `speaker` stands in front of each line.
    ///
    /// # Errors
    /// [`Error::Store`] if the file cannot be opened.
    pub fn open(store: &Path, speaker: &'static str) -> Result<Self, Error> {
        let path = store.join(LOG_NAME);
        let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(&path);
        let file = file.map_err(|source| Error::Store { path, action: "open", source })?;
        let log = Self { file: Mutex::new(file), speaker };
        log.bound(&log.file.lock());
        Ok(log)
    }

    /// Adds a line. A log that cannot be written changes nothing for the one who speaks.
    pub fn line(&self, text: impl std::fmt::Display) {
        let line = format!("{} {}[{}]: {text}\n", now(), self.speaker, std::process::id());
        let mut file = self.file.lock();
        self.bound(&file);
        // One write: lines of other processes stay whole.
        drop(file.write_all(line.as_bytes()));
    }

    /// Returns another handle to the file, for the standard streams of a child.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn duplicate(&self) -> std::io::Result<File> {
        self.file.lock().try_clone()
    }

    fn bound(&self, file: &File) {
        if file.metadata().is_ok_and(|metadata| metadata.len() > MAX_LOG) {
            // Opened for appending, so the next write goes to the new end.
            drop(file.set_len(0));
        }
    }
}

/// Returns the last lines of a store's log, at most `count`; empty if there is none.
#[must_use]
pub fn last_lines(store: &Path, count: usize) -> Vec<String> {
    let mut tail = Vec::new();
    let read = File::open(store.join(LOG_NAME)).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        file.take(TAIL).read_to_end(&mut tail)
    });
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(count)).map(|&line| line.to_owned()).collect()
}

/// Returns the time as UTC, to the second.
fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    utc(seconds)
}

fn utc(seconds: u64) -> String {
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from March of the year 0, so that the leap day is the last of a year, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (era * 400 + year, month + 3) } else { (era * 400 + year + 1, month - 9) };
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", clock / 3600, clock / 60 % 60, clock % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_shown_as_a_date() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_732_550_141), "2024-11-25T15:55:41Z");
    }

    #[test]
    fn the_log_is_bounded_and_shows_its_last_lines() {
        let store = tempfile::tempdir().unwrap();
        let log = Log::open(store.path(), "keeper").unwrap();
        let filler = "x".repeat(4096);
        for _ in 0..300 {
            log.line(&filler);
        }
        log.line("the last word");
        assert!(std::fs::metadata(store.path().join(LOG_NAME)).unwrap().len() <= MAX_LOG + 8192);
        let lines = last_lines(store.path(), 1);
        assert!(lines[0].ends_with("the last word"), "{lines:?}");
        assert_eq!(last_lines(&store.path().join("none"), 3), Vec::<String>::new());
    }
}
