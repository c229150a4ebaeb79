//! Tree and content to packs and meta: split, deduplicate, hash, compress, merge.

#![forbid(unsafe_code)]
