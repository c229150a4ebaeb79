//! The node's verified chunk store: fetch, verify, repair.

#![forbid(unsafe_code)]
