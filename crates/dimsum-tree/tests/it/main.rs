//! Library scenarios of the file tree, one file each.
//!
//! `cfg(test)` is always set here; it tells the lints that helpers are test code too.

#[cfg(test)]
mod core;
#[cfg(test)]
mod difference;
#[cfg(test)]
mod directory;
#[cfg(test)]
mod gnu_tar;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod memory_sink;
#[cfg(test)]
mod model;
#[cfg(test)]
mod need;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tar_writer;
#[cfg(test)]
mod to_directory;
#[cfg(test)]
mod to_tar;
#[cfg(test)]
mod umoci;
