//! The FUSE wire protocol: sessions, thread pool, parked requests, resend, take-over.
//!
//! A small read-only FUSE server over `/dev/fuse` that knows nothing of images. It exists because the server process
//! must be replaceable under live mounts. Another process holds the descriptor of a session, and a successor goes on
//! where a killed predecessor stopped.
//!
//! ```text
//!             mount::open_detached                     Pool::serve
//! keeper ──► /dev/fuse fd + mount fd ──(SCM_RIGHTS)──► Session ──► epoll ──► fixed threads
//!                                                                              │ Request::decode
//!                                                                              ▼
//! kernel ◄── Reply::data / entry / error … (any thread, any time later) ◄── Filesystem::handle
//! ```
//!
//! - [`Request::decode`] turns bytes into an [`Operation`]; it is pure and never panics.
//! - [`Filesystem`] is what a user implements. A thread of the pool never waits: what cannot be answered at
//!   once is *parked* by moving its [`Reply`] elsewhere.
//! - [`Reply`] is consumed by exactly one answer. Dropped unanswered, it answers `EIO`: no reader hangs
//!   because of a lost closure.
//! - [`Pool`] has a fixed number of threads for all sessions. [`Session`] is one mount.
//! - [`InitReply`] is the agreement with the kernel; a keeper stores it, [`Session::adopt`] takes it.
//! - [`mount`] makes mounts that no path leads to yet, and attaches them.

#![forbid(unsafe_code)]

mod attr;
mod directory;
mod error;
mod filesystem;
mod init;
pub mod mount;
mod opcode;
mod pool;
mod reply;
mod request;
mod session;
mod wire;

pub use attr::{Attr, Entry, FOREVER, StatFs, Timestamp, encode_device};
pub use directory::{DirBuffer, DirEntry, DirPlusBuffer};
pub use error::{DecodeError, Error};
pub use filesystem::Filesystem;
pub use init::{InitReply, InitRequest, SessionOptions};
pub use opcode::{Class, Opcode};
pub use pool::{MAX_THREADS, Pool};
pub use reply::{OpenFlags, Reply};
pub use request::{ForgetList, Header, Operation, Request, Whence};
pub use rustix::io::Errno;
pub use session::Session;

/// The node id of the root directory; the kernel knows it without a lookup.
pub const ROOT_NODE: u64 = 1;

/// The longest file name and the longest xattr name of Linux in bytes (`NAME_MAX`, `XATTR_NAME_MAX`).
pub const MAX_NAME: usize = 255;

/// The most bytes one READ, READDIR or READDIRPLUS may ask for: `fs.fuse.max_pages_limit` of 256 pages of 4 KiB.
pub const MAX_READ: u32 = 1 << 20;

/// The most bytes of one xattr value or name list (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
pub const MAX_XATTR: u32 = 64 << 10;
