//! The options of a conversion: of `convert`, which makes it, and of `estimate`, which tells what it would make.

use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};
use dimsum_engine::{ConvertOptions, DEFAULT_LEVEL};

use crate::context::Context;

/// How layers become packs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Conversion")]
pub struct ConversionArgs {
    /// Cut large files into slices of so many bytes: a power of two, 64K to 4M
    #[arg(long, value_name = "BYTES", value_parser = size, default_value = "256K")]
    slice_size: u32,
    /// Pack small files into bundles of so many bytes on average: a power of two, 32K to 1M
    #[arg(long, value_name = "BYTES", value_parser = size, default_value = "128K")]
    bundle_size: u32,
    /// Compress with this zstd level, 1 to 19
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LEVEL)]
    level: i32,
    /// Hash and compress with so many threads, at most 256 [default: all processors]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Refuse or drop entries that overlayfs gives a meaning: trusted.overlay.* and user.overlay.* attributes,
    /// character devices 0:0
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = OverlayEntries::Refuse)]
    overlay_entries: OverlayEntries,
}

/// As [`dimsum_engine::OverlayEntries`].
#[derive(Debug, Clone, Copy, ValueEnum)]
enum OverlayEntries {
    /// Refuse the source and name the entry.
    Refuse,
    /// Leave them out and report them.
    Drop,
}

impl ConversionArgs {
    /// Returns what a conversion is told.
    #[must_use]
    pub fn options(&self, context: &Context) -> ConvertOptions {
        let defaults = context.engine.convert_options();
        ConvertOptions {
            slice_size: self.slice_size,
            bundle_size: self.bundle_size,
            level: self.level,
            jobs: self.jobs.unwrap_or(defaults.jobs),
            overlay_entries: match self.overlay_entries {
                OverlayEntries::Refuse => dimsum_engine::OverlayEntries::Refuse,
                OverlayEntries::Drop => dimsum_engine::OverlayEntries::Drop,
            },
            ..defaults
        }
    }
}

/// Parses `256K`, `1M` or plain bytes.
fn size(text: &str) -> Result<u32, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (text.get(..text.len() - 1), 10),
        Some(b'M' | b'm') => (text.get(..text.len() - 1), 20),
        _ => (Some(text), 0),
    };
    let number: u32 = digits.unwrap_or_default().parse().map_err(|_| "a number of bytes, such as 256K".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_an_optional_unit() {
        assert_eq!(size("256K"), Ok(256 << 10));
        assert_eq!(size("1m"), Ok(1 << 20));
        assert_eq!(size("65536"), Ok(65536));
        for text in ["", "K", "-1", "4096M", "1G"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
