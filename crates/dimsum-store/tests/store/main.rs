//! Scenarios of the store as a library, on small images and sources in memory.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests panic")]

mod away;
mod budgets;
mod check;
mod common;
mod contract;
mod damage;
mod disk_full;
mod fill;
mod gate;
mod guest;
mod joining;
mod meta;
mod open;
mod packs;
mod records;
mod siblings;
mod sources;
mod together;
mod two_processes;
