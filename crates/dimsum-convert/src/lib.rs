//! Tree and content to packs and meta: split, deduplicate, hash, compress, merge.
//!
//! [`convert`] makes a Dimsum image (`docs/format.md`) of one OCI image or directory. [`convert_all`] also
//! takes an index. [`export`] is the way back. Layers are read once, from the lowest. The tables of files stay
//! small in memory, and the bytes of files go through temporary files. One pool of threads compresses for the
//! whole conversion:
//!
//! ```text
//!   blob ─ SHA-256 ─ decode ─ SHA-256 ─ layer tree ┐
//!                                                  ├ content sink ┬ small files → spool ──────────────┐
//!   directory ──────────────────────────────────── ┘              └ slices → pool: BLAKE3, zstd → spool│
//!                                                                                                      ▼
//!   image tree ◂─ merge ◂─ layer tree, places of its content ◂─ device layout (canonical) ─▸ bundles → pool → spool
//!        │                                                                    and the next layer is read meanwhile
//!        ▼  all layers read: side by side
//!   EROFS image, maps ─▸ meta;  frames from the spool, layer meta ─▸ pack, pack, …;  then config, manifest
//! ```
//!
//! The target shows nothing before every digest of the source has been checked and the whole image is written.
//! The manifest comes last. The same source and [`ConvertOptions`] give the same bytes with any number of threads.

#![forbid(unsafe_code)]

mod assemble;
mod blob;
mod chunked;
mod content;
mod conversion;
mod convert;
mod erofs;
mod error;
pub mod export;
#[doc(hidden)]
pub mod fuzzing;
mod hashing;
mod image;
mod input;
mod known;
mod layer;
mod manifest;
mod options;
mod ordered_sink;
mod ordered_tasks;
mod original;
mod outcome;
mod platforms;
mod progress;
mod publish;
mod reuse;
mod sharing;
mod source;
mod stream;
mod task;
mod trusted;
mod worker_pool;

pub use convert::{convert, convert_as};
pub use dimsum_recipe::RecipeError;
pub use dimsum_tree::{LayerReport, OverlayEntries};
pub use error::{ConvertError, tree_kind};
pub use input::Input;
pub use options::ConvertOptions;
pub use original::{Gives, KeptLayer, KeptOriginal};
pub use outcome::{Converted, LayerSummary};
pub use platforms::{Choice, ConvertedImage, ConvertedRoot, SkipReason, SkippedImage, convert_all};
pub use progress::{ConversionPhase, ConversionProgress};
pub use sharing::{ForeignPack, KnownImage, PackReuse, RefusedPack, ReusedPack, SharedContent, Sharing, SharingFrom};
