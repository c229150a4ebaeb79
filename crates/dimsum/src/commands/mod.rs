//! One file per command: its flags, and what it does. What several commands take as flags is a group of its own (`*_arg.rs`, `*_args.rs`).

pub mod cat;
pub mod check;
pub mod completions;
pub mod conversion_args;
pub mod convert;
pub mod copy;
pub mod debug;
pub mod diff;
pub mod estimate;
mod estimate_text;
pub mod export;
pub mod hook;
pub mod image_arg;
pub mod info;
pub mod inspect;
pub mod keeper;
pub mod ls;
pub mod man;
pub mod mount;
pub mod run;
pub mod serve;
pub mod sharing_args;
pub mod sharing_text;
pub mod store;
pub mod umount;
