//! Every counter, in one table.
//!
//! A row of a table makes the atomic that is counted on and the field of the snapshot for the wire and JSON. It also
//! makes the row for text and metrics. A new counter is one new row here.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// The unit of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Bytes since the start.
    Bytes,
    /// Things since the start.
    Count,
    /// Things that are there now; may fall.
    Now,
}

/// A counter's name and meaning, for printing and export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CounterRow {
    /// Its name on the wire and in JSON.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Its meaning.
    pub help: &'static str,
}

/// Adds to a counter. Counters order nothing, so the cheapest ordering is right.
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Takes one from a counter of [`Unit::Now`].
pub fn fall(counter: &AtomicU64) {
    counter.fetch_sub(1, Ordering::Relaxed);
}

macro_rules! counter_table {
    (
        $(#[$counters_doc:meta])* $counters:ident,
        $(#[$stats_doc:meta])* $stats:ident {
            $($name:ident $unit:ident $help:literal;)*
        }
    ) => {
        $(#[$counters_doc])*
        #[derive(Debug, Default)]
        pub struct $counters {
            $(#[doc = $help] pub $name: AtomicU64,)*
        }

        $(#[$stats_doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $stats {
            $(#[doc = $help] pub $name: u64,)*
        }

        impl $counters {
            /// Returns the values of now. Each is exact; together they are not one moment.
            #[must_use]
            pub fn snapshot(&self) -> $stats {
                $stats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl $stats {
            /// The rows of the table.
            pub const ROWS: &[CounterRow] =
                &[$(CounterRow { name: stringify!($name), unit: Unit::$unit, help: $help },)*];

            /// Returns each row with its value.
            pub fn rows(&self) -> impl Iterator<Item = (CounterRow, u64)> + use<> {
                Self::ROWS.iter().copied().zip([$(self.$name,)*])
            }
        }
    };
}

counter_table! {
    /// The live counters of an open image.
    ImageCounters,
    /// Counters of one image since it was opened.
    ImageStats {
        bytes_fetched Bytes "Compressed bytes from sources, to open the image and for readers; local packs are not counted.";
        bytes_bridged Bytes "Of the bytes fetched, those between wanted frames that saved a round trip; they are kept.";
        bytes_filled Bytes "Compressed bytes from sources, for fills.";
        bytes_shared Bytes "Compressed bytes that were not fetched because another device of this node had the chunks.";
        local_bytes Bytes "Compressed bytes from the store's own packs.";
        source_requests Count "Requests to sources, to open the image and for readers.";
        fill_requests Count "Requests to sources, for fills.";
        local_requests Count "Frames that the store's own packs gave.";
        chunks_shared Count "Chunks that were taken from other devices of this node.";
        chunks_verified Count "Chunks and meta frames that were fetched or taken from another device, and whose digest was right.";
        groups_verified Count "16 KiB groups that were read from disk and whose hash was right.";
        repairs Count "Damaged chunks and meta frames on disk that were written again with right bytes.";
        damage Count "Damaged chunks, chaining values and meta frames that were found on disk.";
        source_failures Count "Answers of sources that were wrong, cut off or late.";
        read_errors Count "Reads of the store that failed.";
        write_errors Count "Writes to the store that failed; the reader got its bytes all the same.";
    }
}

counter_table! {
    /// The live counters of a driver, for one mount.
    DriverCounters,
    /// Counters of one mount's driver since this server serves it.
    DriverStats {
        reads Count "READ requests that were answered with bytes.";
        bytes_read Bytes "Bytes of these answers.";
        errors Count "Requests that got EIO.";
    }
}

counter_table! {
    /// The live counters of a session with the kernel.
    SessionCounters,
    /// Counters of one session with the kernel since this server serves it.
    SessionStats {
        requests Count "Requests that the kernel sent, those without an answer included.";
        resent Count "Requests that the kernel sent again after a restart of the server.";
        parked Now "Requests that wait for their answer.";
        refused Count "Answers of wrong length, or that the kernel did not accept; the caller got EIO.";
        late Count "Answers that came after the kernel had given the request up.";
        undecodable Count "Requests that could not be decoded.";
        panics Count "Handlers that panicked.";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_counted_serialized_and_listed_under_one_name() {
        let counters = ImageCounters::default();
        add(&counters.bytes_fetched, 7);
        add(&counters.write_errors, 1);
        let stats = counters.snapshot();
        let json = serde_json::to_value(stats).unwrap();
        assert_eq!(json.as_object().unwrap().len(), ImageStats::ROWS.len());
        for (row, value) in stats.rows() {
            assert_eq!(json[row.name], value, "{}", row.name);
        }
        assert_eq!(serde_json::from_value::<ImageStats>(json).unwrap(), stats);
    }

    /// One answer of the server holds all tables side by side.
    #[test]
    fn no_name_stands_in_two_tables() {
        let tables = [ImageStats::ROWS, DriverStats::ROWS, SessionStats::ROWS];
        let mut names: Vec<&str> = tables.iter().flat_map(|table| table.iter()).map(|row| row.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_snapshot_of_another_version_is_read_as_far_as_it_is_known() {
        let stats: ImageStats = serde_json::from_str(r#"{"damage": 2, "a_counter_of_tomorrow": 5}"#).unwrap();
        assert_eq!(stats, ImageStats { damage: 2, ..ImageStats::default() });
    }
}
