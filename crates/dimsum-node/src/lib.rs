//! The server process: requests from the command line, mounts, statistics.

#![forbid(unsafe_code)]
