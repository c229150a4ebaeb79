//! The engine of Dimsum: from the name of an image to its files, every byte proven.
//!
//! ```text
//!   EngineConfig ─→ Engine ── "HOST/REPO:TAG" ─→ Located ─→ Opened ─→ read a file, list, check
//!                     │             │               └─→ a server mounts it (dimsum-node)
//!                     │             └─ an ordinary image is converted into the store first
//!                     └─ shares connections, tokens, the store and its caches among clones
//! ```
//!
//! - [`EngineConfig`] says where the store, the node key and temporary files are and how registries are reached.
//! - [`Engine`] is cheap to clone. [`Engine::with_progress`] and [`Engine::with_cancel`] make one for a single job.
//! - [`Progress`] hears phases, notes and explanations; [`CancelToken`] ends work early.
//! - [`EngineError`] has a [`kind`](EngineError::kind) for programs, an object and causes for people.
//!
//! ```
//! use dimsum_engine::{Engine, EngineConfig};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let scratch = tempfile::tempdir_in("/var/tmp")?;
//!     let path = |name: &str| scratch.path().join(name);
//!     let engine = Engine::new(EngineConfig::new(path("store"), path("node.key")));
//!
//!     // A directory becomes an image in an OCI layout.
//!     std::fs::create_dir(path("tree"))?;
//!     std::fs::write(path("tree/hello"), "proven\n")?;
//!     let name = format!("oci:{}:v1", path("images").display());
//!     let digest = engine.convert_directory(&path("tree"), &name)?;
//!
//!     // Its name leads to files again; a registry's name would do the same.
//!     let image = engine.open(&name)?;
//!     assert_eq!(image.located.digest, digest);
//!     let names: Vec<_> = image.list("/")?.into_iter().map(|file| file.name).collect();
//!     assert_eq!(names, [b"hello".to_vec()]);
//!     let mut bytes = Vec::new();
//!     image.read("/hello", &mut bytes)?;
//!     assert_eq!(bytes, b"proven\n");
//!
//!     // An error has a kind for programs.
//!     let error = image.read("/missing", &mut bytes).unwrap_err();
//!     assert_eq!(error.kind(), dimsum_engine::ErrorKind::NotFound);
//!     Ok(())
//! }
//! ```
//!
//! `examples/read_a_file.rs`, `examples/mount.rs` and `examples/run.rs` are small programs that need this crate alone.
//!
//! The engine never prints, never reads the environment, never exits and knows no terminal.

#![forbid(unsafe_code)]

pub mod analysis;
mod cancel;
pub mod check;
mod config;
pub mod container;
pub mod conversion;
pub mod copy;
pub mod diff;
mod engine;
mod error;
pub mod estimate;
pub mod export;
pub mod image;
pub mod inspect;
pub mod listing;
mod mount;
mod origin;
mod output_file;
mod progress;
mod request;
pub mod text;
mod transports;

// Words of the parts that the engine's own signatures and errors use.
pub use dimsum_convert::export::{ExportMode, LayerCompression, Owners};
pub use dimsum_convert::{ConvertError, ConvertOptions, OverlayEntries, PackReuse};
pub use dimsum_erofs::ErofsInode;
pub use dimsum_erofs::limits::MAX_DEPTH;
pub use dimsum_format::codec::DEFAULT_LEVEL;
pub use dimsum_format::manifest::{Blob, ImageConfig, Platform};
pub use dimsum_format::meta::MetaMaps;
pub use dimsum_format::{BLOCK_U64, Digest};
pub use dimsum_registry::{Access, RegistryFault, RegistryReason, Timing};
pub use dimsum_source::{
    BlobWriter, BoxFuture, CopyProgress, Document, ImageName, Outcome, Place, Reference, Referrers, Runtime, Scheme,
    Schemes, Source, SourceError, SourceFault, Target, Transport, Transports, parse_platform,
};
pub use dimsum_store::{
    EventSink, FillError, FillPolicy, FillProgress, Image, Joining, Store, StoreBudget, StoreOptions,
};
pub use dimsum_tree::{EntryFault, FileType, TreeError};

pub use cancel::{CancelReason, CancelToken};
pub use config::{CallerSettings, EngineConfig};
pub use engine::Engine;
pub use error::{EngineError, ErrorKind};
pub use mount::ImageMount;
pub use origin::ImageOrigin;
pub use output_file::write_whole;
pub use progress::{Progress, ProgressPhase, Quiet};
pub use request::RequestFault;
pub use transports::built_in_transports;
