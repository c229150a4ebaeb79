//! Drivers (FUSE) and the keeper that holds the mounts.

#![forbid(unsafe_code)]
