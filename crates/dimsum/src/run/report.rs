//! `run --report`: how little was read, that all of it was verified, and how long it took.

use std::io::{self, Write};
use std::time::{Instant, SystemTime};

use dimsum_engine::Digest;
use dimsum_node::{MountHandle, MountStats};
use serde::Serialize;

use crate::output::{Report, Size};
use crate::views::count::Count;

/// The milestones of a run, in seconds since the start of this program.
#[derive(Debug, Clone)]
pub struct Clock {
    start: Instant,
    /// The same moment as another process sees it.
    wall: SystemTime,
}

impl Clock {
    /// Starts.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), wall: SystemTime::now() }
    }

    /// Returns the seconds since the start.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Returns the seconds from the start to a moment that another process saw; none if it was before.
    #[must_use]
    pub fn until(&self, moment: SystemTime) -> Option<f64> {
        moment.duration_since(self.wall).ok().map(|since| since.as_secs_f64())
    }
}

/// The figures of a run.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// As the user wrote it.
    pub image: String,
    /// Digest of the Dimsum manifest.
    pub digest: Digest,
    /// The ordinary image that it was converted from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub converted_from: Option<Digest>,
    /// How it was mounted.
    pub driver: &'static str,
    /// The command's exit status.
    pub exit_status: u8,
    /// Bytes of the image, uncompressed: file system and data.
    pub image_bytes: u64,
    /// Bytes of the image as stored: packs and meta.
    pub stored_bytes: u64,
    /// Compressed bytes that sources gave for readers.
    pub fetched_bytes: u64,
    /// Of these, bytes between wanted chunks, fetched to save a round trip.
    pub bridged_bytes: u64,
    /// Compressed bytes that sources gave to fill the store.
    pub filled_bytes: u64,
    /// Compressed bytes that were not fetched because another image of this node had the chunks.
    pub shared_bytes: u64,
    /// Chunks of these.
    pub shared_chunks: u64,
    /// Requests to sources outside of the store, for readers.
    pub source_requests: u64,
    /// Requests to sources to fill the store.
    pub fill_requests: u64,
    /// Requests to packs in the store.
    pub local_requests: u64,
    /// Chunks that were fetched, or taken from another image, decoded and proven.
    pub chunks_verified: u64,
    /// Groups of 16 KiB that were read from disk and proven.
    pub groups_verified: u64,
    /// Bytes that readers got.
    pub read_bytes: u64,
    /// Damaged places that were found on disk.
    pub damage: u64,
    /// Of these, written again with right bytes.
    pub repairs: u64,
    /// Answers of sources that were wrong, cut off or late.
    pub source_failures: u64,
    /// Requests of readers that failed.
    pub errors: u64,
    /// Until the image was found (and converted, if need be).
    pub seconds_to_image: f64,
    /// Until the first file could be read.
    pub seconds_to_mount: f64,
    /// Until the command was about to start; none if it did not.
    pub seconds_to_exec: Option<f64>,
    /// Until the command had ended.
    pub seconds_to_exit: f64,
}

impl RunReport {
    /// Returns the figures of a run whose image was mounted just now.
    #[must_use]
    pub fn new(name: &str, mounted: &MountHandle, clock: &Clock) -> Self {
        let (image, seconds) = (mounted.image(), clock.seconds());
        Self {
            image: name.to_owned(),
            digest: image.digest,
            converted_from: image.converted_from,
            driver: image.driver.name(),
            exit_status: 0,
            image_bytes: 0,
            stored_bytes: image.stored_bytes,
            fetched_bytes: 0,
            bridged_bytes: 0,
            filled_bytes: 0,
            shared_bytes: 0,
            shared_chunks: 0,
            source_requests: 0,
            fill_requests: 0,
            local_requests: 0,
            chunks_verified: 0,
            groups_verified: 0,
            read_bytes: 0,
            damage: 0,
            repairs: 0,
            source_failures: 0,
            errors: 0,
            seconds_to_image: (seconds - mounted.since_open().as_secs_f64()).max(0.0),
            seconds_to_mount: seconds,
            seconds_to_exec: None,
            seconds_to_exit: 0.0,
        }
    }

    /// Fills in what the server counted.
    pub fn count(&mut self, stats: &MountStats) {
        self.fetched_bytes = stats.image.bytes_fetched;
        self.bridged_bytes = stats.image.bytes_bridged;
        self.filled_bytes = stats.image.bytes_filled;
        self.shared_bytes = stats.image.bytes_shared;
        self.shared_chunks = stats.image.chunks_shared;
        self.fill_requests = stats.image.fill_requests;
        self.source_requests = stats.image.source_requests;
        self.local_requests = stats.image.local_requests;
        self.chunks_verified = stats.image.chunks_verified;
        self.groups_verified = stats.image.groups_verified;
        self.read_bytes = stats.driver.bytes_read;
        self.damage = stats.image.damage;
        self.repairs = stats.image.repairs;
        self.source_failures = stats.image.source_failures;
        self.errors = stats.driver.errors;
    }

    /// Returns what the user must hear of, whatever the exit status: bytes that were wrong somewhere.
    #[must_use]
    pub fn integrity(&self) -> Option<String> {
        let Self { damage, repairs, source_failures, errors, .. } = self;
        (damage + source_failures + errors > 0).then(|| {
            format!(
                "{damage} damaged places in the store, {repairs} repaired; {source_failures} wrong answers of sources; \
                 {errors} reads failed. No wrong byte was given to a reader."
            )
        })
    }
}

impl Report for RunReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let percent = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
        writeln!(out, "image      {} {}", self.image, self.digest)?;
        let (image, stored, fetched) = (Size(self.image_bytes), Size(self.stored_bytes), Size(self.fetched_bytes));
        writeln!(out, "size       {image}, stored {stored}")?;
        let share = percent(self.fetched_bytes, self.stored_bytes);
        let (source, local) = (self.source_requests, self.local_requests);
        writeln!(out, "fetched    {fetched} ({share:.1} %) in {source} requests, {local} to packs in the store")?;
        if self.fill_requests > 0 {
            writeln!(out, "filled     {} in {} requests", Size(self.filled_bytes), self.fill_requests)?;
        }
        if self.shared_chunks > 0 {
            let (shared, count) = (Size(self.shared_bytes), Count(self.shared_chunks, "chunk"));
            writeln!(out, "shared     {shared} in {count} from other images of this node, not fetched")?;
        }
        let (chunks, groups) = (self.chunks_verified, self.groups_verified);
        writeln!(out, "verified   {chunks} chunks, {groups} groups; readers got {}", Size(self.read_bytes))?;
        let Self { damage, repairs, source_failures, errors, .. } = self;
        writeln!(
            out,
            "damage     {damage}, repaired {repairs}; wrong answers {source_failures}, failed reads {errors}"
        )?;
        let exec = self.seconds_to_exec.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.3} s"));
        let Self { seconds_to_image: image, seconds_to_mount: mount, seconds_to_exit: exit, .. } = self;
        writeln!(out, "time       image {image:.3} s, mount {mount:.3} s, exec {exec}, exit {exit:.3} s")?;
        writeln!(out, "status     {}", self.exit_status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_that_another_process_saw_is_seconds_since_the_start() {
        let clock = Clock::start();
        let seconds = clock.until(SystemTime::now()).unwrap();
        assert!((0.0..60.0).contains(&seconds), "{seconds}");
        assert_eq!(clock.until(SystemTime::UNIX_EPOCH), None);
    }
}
