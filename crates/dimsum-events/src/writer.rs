//! The thread that writes the log.
//!
//! Lines and events come from threads that readers wait for. The caller's thread puts them into a bounded queue and
//! does nothing else. If the queue is full, because the disk is slow or dead, further lines are lost. They are counted,
//! and the count is written as soon as the disk takes lines again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use jiff::Timestamp;

use crate::limit::{RateLimit, Suppressed, WINDOW};
use crate::log::LogFile;
use crate::{Event, EventSeverity, EventSink, EventsError};

/// Entries that wait to be written. A line has some hundred bytes, so this is a MiB or two of memory when the disk hangs.
pub(crate) const QUEUE: usize = 4096;

/// Bytes that are collected before they are written, while more entries wait.
const BATCH: usize = 64 << 10;

/// How long the end of the process waits for the rest of the queue.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

enum LogEntry {
    Line {
        at: Timestamp,
        text: String,
    },
    Event {
        at: Timestamp,
        event: Box<Event>,
    },
    /// Whole lines that are written as they are, without a limit on how often.
    Raw(Vec<u8>),
    /// Answered when everything before it is written; if it is the last entry, held lines, too.
    Flush {
        written: Sender<()>,
        is_last: bool,
    },
}

/// Owns the thread. When it is dropped, what waits is written first, for [`FLUSH_DEADLINE`] at most.
#[derive(Debug)]
pub struct LogWriter {
    handle: LogHandle,
    thread: Option<JoinHandle<()>>,
}

/// The way to the thread, for callers with a line or an event. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogHandle {
    queue: Sender<LogEntry>,
    lost: Arc<AtomicU64>,
}

impl LogWriter {
    /// Starts the thread. Signal masks and capabilities are inherited by it.
    ///
    /// # Errors
    /// [`EventsError::Thread`].
    pub fn start(file: LogFile) -> Result<Self, EventsError> {
        let (queue, entries) = bounded(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let writing = Writing {
            file,
            limit: RateLimit::default(),
            lost: Arc::clone(&lost),
            batch: String::new(),
            close_at: None,
            unwritten: 0,
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || writing.run(&entries));
        let thread = thread.map_err(|source| EventsError::Thread { source })?;
        Ok(Self { handle: LogHandle { queue, lost }, thread: Some(thread) })
    }

    /// Returns a handle.
    #[must_use]
    pub fn handle(&self) -> LogHandle {
        self.handle.clone()
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.handle.send_flush(true);
        // Other handles may live on in threads that never end; the thread ends with the last of them.
        drop(self.thread.take());
    }
}

impl LogHandle {
    /// Adds a line. Never waits.
    pub fn line(&self, text: impl std::fmt::Display) {
        self.push(LogEntry::Line { at: Timestamp::now(), text: text.to_string() });
    }

    /// Adds whole lines as they are. Never waits.
    pub fn raw(&self, lines: Vec<u8>) {
        self.push(LogEntry::Raw(lines));
    }

    /// Returns how many entries found no room and are not reported in the log yet.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything said so far is written. Says whether it was, before a deadline of two seconds.
    pub fn flush(&self) -> bool {
        self.send_flush(false)
    }

    fn send_flush(&self, is_last: bool) -> bool {
        let deadline = Instant::now() + FLUSH_DEADLINE;
        let (written, answer) = bounded(1);
        let flush = LogEntry::Flush { written, is_last };
        self.queue.send_deadline(flush, deadline).is_ok() && answer.recv_deadline(deadline).is_ok()
    }

    fn push(&self, entry: LogEntry) {
        if self.queue.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl EventSink for LogHandle {
    fn event(&self, event: Event) {
        self.push(LogEntry::Event { at: Timestamp::now(), event: Box::new(event) });
    }
}

/// Takes whole lines, one or more with each write, as a formatter of traces gives them.
impl io::Write for LogHandle {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.raw(lines.to_vec());
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The state of the thread.
struct Writing {
    file: LogFile,
    limit: RateLimit,
    lost: Arc<AtomicU64>,
    /// Lines that are not written yet.
    batch: String,
    /// When windows of the limit are to be looked at: some line is held.
    close_at: Option<Instant>,
    /// Batches that the file did not take.
    unwritten: u64,
}

impl Writing {
    fn run(mut self, entries: &Receiver<LogEntry>) {
        loop {
            let next = match self.close_at {
                Some(at) => entries.recv_deadline(at),
                None => entries.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(entry) => self.take(entry),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while self.batch.len() < BATCH
                && let Ok(entry) = entries.try_recv()
            {
                self.take(entry);
            }
            if self.close_at.is_some_and(|at| at <= Instant::now()) {
                self.close(Some(Instant::now()));
            }
            self.write();
        }
        self.close(None);
        self.write();
    }

    fn take(&mut self, entry: LogEntry) {
        let now = Instant::now();
        match entry {
            LogEntry::Line { at, text } => {
                if !self.file.shows(EventSeverity::Info) {
                    return;
                }
                if self.limit.passes_text(&text, now) {
                    self.batch.push_str(&self.file.text_line(at, EventSeverity::Info, &text));
                } else {
                    self.close_at.get_or_insert(now + WINDOW);
                }
            }
            LogEntry::Event { at, event } => {
                if !self.file.shows(event.severity()) {
                    return;
                }
                if self.limit.passes_event(&event, now) {
                    self.batch.push_str(&self.file.event_line(at, &event));
                } else {
                    self.close_at.get_or_insert(now + WINDOW);
                }
            }
            LogEntry::Raw(lines) => self.batch.push_str(&String::from_utf8_lossy(&lines)),
            LogEntry::Flush { written, is_last } => {
                if is_last {
                    self.close(None);
                }
                self.write();
                // Whoever asked may have given up.
                let _ = written.try_send(());
            }
        }
    }

    /// Writes the held events of windows that are over, or of all.
    fn close(&mut self, now: Option<Instant>) {
        for Suppressed { count, example } in self.limit.close(now) {
            self.say(
                EventSeverity::Warning,
                &format!("{count} more within {} s, the last: {example}", WINDOW.as_secs()),
            );
        }
        self.close_at = now.map(|now| now + WINDOW);
    }

    fn write(&mut self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.say(
                EventSeverity::Error,
                &format!("{lost} lines are lost: the log is written more slowly than they came"),
            );
        }
        if self.batch.is_empty() {
            return;
        }
        if self.unwritten > 0 {
            let text = format!("lines are lost: the log could not be written, {} times", self.unwritten);
            self.say(EventSeverity::Error, &text);
        }
        match self.file.append(self.batch.as_bytes()) {
            Ok(()) => self.unwritten = 0,
            Err(_) => self.unwritten += 1,
        }
        self.batch.clear();
    }

    fn say(&mut self, severity: EventSeverity, text: &str) {
        self.batch.push_str(&self.file.text_line(Timestamp::now(), severity, text));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader};

    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

    use super::*;
    use crate::log::{LOG_NAME, LogFormat, OLD_LOG_NAME};
    use crate::{EventKind, FileRef};

    #[test]
    fn the_first_cause_survives_a_storm_of_failed_reads() {
        let store = tempfile::tempdir().unwrap();
        let writer = LogWriter::start(LogFile::open(store.path(), "server", LogFormat::Text).unwrap()).unwrap();
        let log = writer.handle();
        log.line("the registry is gone");
        for read in 0..20_000_u64 {
            let file = FileRef { inode: read % 7, path: None };
            let event = Event::new(EventKind::ReadFailed).mount(1, "/mnt").file(file).reason("x".repeat(500));
            // As fast as the writer, so that it is the limit that keeps the log short.
            if read % 1000 == 0 {
                assert!(log.flush());
            }
            log.event(event);
        }
        drop(writer);
        let text = std::fs::read_to_string(store.path().join(LOG_NAME)).unwrap();
        assert!(text.lines().next().unwrap().ends_with("the registry is gone"));
        assert!(text.lines().any(|line| line.contains(" more within 60 s, the last: mount 1: EIO for inode")));
        assert!(!store.path().join(OLD_LOG_NAME).exists());
    }

    #[test]
    fn nobody_waits_for_a_log_that_hangs_and_what_is_lost_is_counted() {
        let store = tempfile::tempdir().unwrap();
        let path = store.path().join(LOG_NAME);
        // A pipe without a reader: the writer hangs in its first full buffer.
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let reader = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let writer = LogWriter::start(LogFile::open(store.path(), "server", LogFormat::Text).unwrap()).unwrap();
        let log = writer.handle();
        let lines = 3 * QUEUE;
        for line in 0..lines {
            log.line(format_args!("{line} {}", "x".repeat(100)));
        }
        let mut pipe = BufReader::new(File::from(reader));
        let (mut seen, mut lost) = (0, 0);
        let mut text = String::new();
        while seen + lost < lines {
            text.clear();
            pipe.read_line(&mut text).unwrap();
            let said = text.split_once("]: ").unwrap().1;
            let number: usize = said.split(' ').next().unwrap().parse().unwrap();
            if said.contains("lines are lost") {
                lost += number;
            } else {
                seen += 1;
            }
        }
        assert_eq!(seen + lost, lines);
        assert!(seen >= QUEUE && lost > 0, "{seen} seen, {lost} lost");
    }

    #[test]
    fn events_in_json_are_one_object_a_line() {
        let store = tempfile::tempdir().unwrap();
        let writer = LogWriter::start(LogFile::open(store.path(), "server", LogFormat::Json).unwrap()).unwrap();
        writer.handle().event(Event::new(EventKind::MountEnded).mount(3, "/mnt"));
        writer.handle().line("a line\nof text");
        drop(writer);
        let text = std::fs::read_to_string(store.path().join(LOG_NAME)).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["type"], "dev.dimsum.mount.ended.v1");
        assert_eq!((&lines[0]["mount"], &lines[0]["severity"]), (&3.into(), &"info".into()));
        assert_eq!(lines[1]["message"], "a line\nof text");
    }
}
