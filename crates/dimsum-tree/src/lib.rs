//! The file tree, from OCI layer tars and from directories.

#![forbid(unsafe_code)]
