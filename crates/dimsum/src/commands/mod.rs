//! One file per command: its flags, and what it does.

pub mod cat;
pub mod check;
pub mod completions;
pub mod convert;
pub mod copy;
pub mod diff;
pub mod estimate;
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
pub mod store;
pub mod umount;
