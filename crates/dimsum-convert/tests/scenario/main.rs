//! Whole conversions, of images and directories made here, read back by the format's own parsers and by stock tools.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests panic")]

mod canonical;
mod damage;
mod lost;
mod model;
mod packs;
mod places;
mod platforms;
mod reader;
mod share;
mod sharing;
mod sources;
mod stock_tools;
mod tags;
mod tar;
