//! Getting what is not on this disk: flights of the core carried out, requests to sources, answers decoded and written.
//!
//! ```text
//! traffic.rs   the core under its lock; carries out its effects by the trait `Crew`
//! fetcher.rs   what one open image has: sources, feeds, counters
//! crew.rs      what a fetcher does when the core says so: look on this disk (land.rs, share.rs), send a request (request.rs)
//! land.rs      decode, prove, answer, write       answer.rs, cutter.rs   an answer in pieces and the frames in it
//! filler.rs    the rest of an image, behind its readers               arrivals.rs            frames that come in unasked
//! ```

pub(crate) mod answer;
pub(crate) mod arrivals;
pub(crate) mod crew;
pub(crate) mod cutter;
pub(crate) mod feed;
pub(crate) mod fetcher;
pub(crate) mod fill;
pub(crate) mod filler;
pub(crate) mod index;
pub(crate) mod land;
pub(crate) mod link;
pub(crate) mod mend;
pub(crate) mod origin;
pub(crate) mod progress;
pub(crate) mod request;
pub(crate) mod share;
pub(crate) mod trace;
pub(crate) mod traffic;
pub(crate) mod whole_pack;
