//! Library scenarios of the way back, one file each.
//!
//! `cfg(test)` is always set here; it tells the lints that helpers are test code too.

#[cfg(test)]
mod damage;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod image;
#[cfg(test)]
mod original;
#[cfg(test)]
mod places;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod share;
#[cfg(test)]
mod stock_tools;
#[cfg(test)]
mod trees;
#[cfg(test)]
mod work;

#[cfg(test)]
#[path = "../scenario/sources.rs"]
mod sources;
#[cfg(test)]
#[path = "../scenario/tar.rs"]
mod tar;
