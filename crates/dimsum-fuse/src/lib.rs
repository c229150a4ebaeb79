//! The FUSE wire protocol: sessions, thread pool, parked requests, resend, take-over.

#![forbid(unsafe_code)]
