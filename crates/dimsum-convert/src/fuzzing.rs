//! Entry points for the fuzz targets that read packs of other images, and for instruction counts. Not part of the API.

use std::num::NonZeroUsize;
use std::path::Path;

use dimsum_format::manifest::Blob;
use dimsum_recipe::temporary::TemporaryFiles;
use dimsum_source::Source;
use dimsum_tree::OverlayEntries;

use crate::content::ContentTable;
use crate::known::describe;
use crate::layer::BundleCutter;
use crate::{ConvertOptions, trusted};

/// Reads what a pack says of itself, then its layer as if it were trusted. Says how far that went: not at all,
/// described, read.
///
/// # Panics
/// If an accepted layer has no consistent tree.
pub fn pack_description(source: &dyn Source, pack: Blob, temp_dir: &Path) -> u8 {
    let temporaries = TemporaryFiles::new(temp_dir.to_owned());
    let Ok(described) = describe(source, pack, &temporaries) else { return 0 };
    let options = ConvertOptions {
        // The least: more slices, more bundles.
        slice_size: 64 << 10,
        bundle_size: 32 << 10,
        level: 1,
        jobs: NonZeroUsize::MIN,
        overlay_entries: OverlayEntries::Refuse,
        keep_original: false,
        temp_dir: temp_dir.to_owned(),
    };
    let mut contents = ContentTable::new(&temporaries, options.slice_size).expect("temporary files can be made");
    // Whatever it refers to is there.
    let lower = described.references.iter().zip(1..).map(|(&(id, blocks), number)| (number, id, blocks));
    let lower: Vec<_> = lower.collect();
    let Ok(tree) = trusted::read(&described, 0, &lower, &mut contents, &options, "fuzz") else { return 1 };
    assert!(tree.walk().count() + 1 >= tree.len(), "every inode has a path");
    2
}

/// Cuts a sequence of small files, each with its blocks and the first bytes of its digest; returns the number of bundles.
#[must_use]
pub fn bundles(files: &[(u64, u32)], half: u64) -> usize {
    let mut cutter = BundleCutter::new(half);
    let cuts = files.iter().map(|&(blocks, fragment)| cutter.file(blocks, fragment));
    1 + cuts.map(|cut| usize::from(cut.before) + usize::from(cut.after)).sum::<usize>()
}
