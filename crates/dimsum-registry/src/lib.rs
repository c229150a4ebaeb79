//! Where blobs come from and go to: OCI layouts (registries later).

#![forbid(unsafe_code)]
