//! The EROFS image: on-disk structs, writer, reader, validator.

#![forbid(unsafe_code)]
