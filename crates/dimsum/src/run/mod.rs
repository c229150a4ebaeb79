//! `run` of the command line: mounts the image, starts the container by `dimsum-run`, reports the figures.

pub mod report;
pub mod session;
