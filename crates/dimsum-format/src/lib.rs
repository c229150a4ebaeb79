//! The Dimsum format: digests, maps, pack and meta framing, media types, limits.

#![forbid(unsafe_code)]
