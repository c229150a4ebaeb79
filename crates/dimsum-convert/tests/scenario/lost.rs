//! Packs of others that vanish, or turn out to be damaged, at any moment of a conversion.

use dimsum_convert::{ConvertError, ConvertOptions, Converted, Input, KnownImage, PackReuse, Sharing, convert_as};
use dimsum_format::Digest;
use dimsum_format::manifest::Manifest;
use dimsum_format::media;
use dimsum_layout::OciLayout;
use dimsum_source::{ImageName, Place as _, Role, Target as _};

use crate::places::{Fading, Loss};
use crate::reader::{blob, read};
use crate::sharing::{layout, release, shows};
use crate::sources::{Case, noise, small_options};
use crate::tar::{Entry, file};

/// More times than a pack is read in these conversions.
const ENOUGH: u32 = 100;

fn try_convert(case: &Case, sharing: &Sharing<'_>, options: &ConvertOptions) -> Result<Converted, ConvertError> {
    let target = OciLayout::create(case.target(), Some(ImageName::Tag("out".into()))).unwrap();
    let source = case.source();
    let input = Input::Image { source: &source, manifest: case.manifest };
    convert_as(input, &target, Role::Root, options, sharing, &())
}

/// Converts with an image whose first pack can be read 0, 1, 2 … times, until `judge` says that it was enough.
/// Its packs may be re-used, or else be referred to.
fn with_fewer_and_more_reads(
    old: (&Case, &Converted),
    new: &[Vec<Entry>],
    loss: Loss,
    reuse: Option<PackReuse>,
    judge: impl Fn(&Case, Result<Converted, ConvertError>) -> bool,
) -> u32 {
    let (old, before) = old;
    for times in 0..ENOUGH {
        let source = Fading::new(layout(old), before.layers[0].pack.unwrap().digest, times, loss);
        let case = Case::new(new);
        let known = vec![KnownImage { source: &source, manifest: before.manifest }];
        let sharing = match reuse {
            None => Sharing { with: known, ..Sharing::default() },
            Some(reuse) => Sharing { reuse, reuse_from: known, ..Sharing::default() },
        };
        let converted = try_convert(&case, &sharing, &small_options());
        if judge(&case, converted) {
            return times;
        }
    }
    panic!("a pack is not read {ENOUGH} times");
}

/// Two ways to need the pack of another image: it is referred to, or what it has must be fetched and stored after all.
fn updates() -> [(Vec<Entry>, Vec<Entry>, usize); 2] {
    let big = |count: u64| (0..count).map(|i| file(&format!("{i}"), noise(65_536, i + 1))).collect::<Vec<_>>();
    [(release(1), release(2), 1), (big(20), big(4), 0)]
}

#[test]
fn a_pack_of_another_image_that_is_lost_midway_is_refused_and_all_is_done_without_it() {
    for (old_entries, new_entries, foreign) in updates() {
        let old = Case::new(&[old_entries]);
        let before = old.convert(&small_options());
        let new = [new_entries];
        let alone = Case::new(&new);
        let alone = read(&alone.target(), alone.convert(&small_options()).manifest);
        for loss in [Loss::Gone, Loss::Damaged] {
            let reads = with_fewer_and_more_reads((&old, &before), &new, loss, None, |case, converted| {
                let converted = converted.unwrap();
                let image = read(&case.target(), converted.manifest);
                shows(&image, &new[0]);
                let Some(refused) = converted.shared.refused.first() else {
                    assert_eq!(converted.shared.foreign.len(), foreign);
                    return true;
                };
                assert_eq!(converted.shared.refused.len(), 1, "{:?}", converted.shared.refused);
                let pack = before.layers[0].pack.unwrap().digest.to_string();
                assert!(refused.what.contains(&pack), "{refused:?}");
                assert_eq!((image.dimsum.packs, image.dimsum.meta), (alone.dimsum.packs.clone(), alone.dimsum.meta));
                false
            });
            assert!(reads >= 3, "described, then proven or fetched, and copied: {reads}");
        }
    }
}

#[test]
fn a_source_that_cannot_be_reached_any_more_ends_the_conversion_and_nothing_is_visible() {
    for (old_entries, new_entries, _) in updates() {
        let old = Case::new(&[old_entries]);
        let before = old.convert(&small_options());
        let reads =
            with_fewer_and_more_reads((&old, &before), &[new_entries], Loss::Broken, None, |case, converted| {
                match converted {
                    Ok(converted) => assert!(converted.shared.refused.is_empty()),
                    Err(error) => {
                        assert!(error.to_string().contains("no way there"), "{error}");
                        let target = OciLayout::open(case.target(), Some(ImageName::Tag("out".into()))).unwrap();
                        assert!(target.root().is_err());
                        let left = std::fs::read_dir(case.target().join("blobs/sha256")).unwrap();
                        assert_eq!(left.count(), 0, "nothing was there before the pack");
                        return false;
                    }
                }
                true
            });
        assert!(reads >= 3, "{reads}");
    }
}

#[test]
fn a_pack_to_be_reused_that_is_lost_midway_is_made_instead() {
    let layers = [release(1), vec![file("app", noise(90_000, 3))]];
    let old = Case::new(&layers);
    let before = old.convert(&small_options());
    for (loss, reuse) in
        [Loss::Gone, Loss::Damaged].into_iter().flat_map(|loss| [(loss, PackReuse::Verify), (loss, PackReuse::Trust)])
    {
        let reads = with_fewer_and_more_reads((&old, &before), &layers, loss, Some(reuse), |case, converted| {
            let converted = converted.unwrap();
            assert_eq!(converted.manifest, before.manifest);
            read(&case.target(), converted.manifest);
            let refused = converted.shared.refused.len();
            assert_eq!(converted.shared.reused.len() + refused, 2, "{:?}", converted.shared);
            refused == 0
        });
        assert!(reads >= 2, "described, and copied: {reads}");
    }
}

#[test]
fn lies_without_end_are_not_followed_without_end() {
    let layers: Vec<_> = (0..12).map(|i| vec![file(&format!("{i}"), noise(9_000, i + 1))]).collect();
    let old = Case::new(&layers);
    let before = old.convert(&small_options());
    // Each pack stands where the one above it should.
    let mut forged = Manifest::parse(&blob(&old.target(), before.manifest)).unwrap();
    let marks: Vec<_> = forged.layers.iter().take(12).map(|layer| layer.annotations.clone()).collect();
    for (layer, mark) in forged.layers.iter_mut().zip(marks.iter().cycle().skip(1)).take(12) {
        layer.annotations.clone_from(mark);
    }
    let target = OciLayout::create(old.target(), Some(ImageName::Tag("forged".into()))).unwrap();
    let manifest: Digest = target.put_manifest(media::MANIFEST, &forged.to_bytes(), Role::Root).unwrap();
    let source = layout(&old);
    let sharing = Sharing { reuse_from: vec![KnownImage { source: &source, manifest }], ..Sharing::default() };
    let new = Case::new(&layers);
    let converted = try_convert(&new, &sharing, &small_options()).unwrap();
    assert_eq!((converted.manifest, converted.shared.reused.len()), (before.manifest, 0));
    let last = converted.shared.refused.last().unwrap();
    assert_eq!((converted.shared.refused.len(), &*last.what), (9, "everything else"), "{:?}", converted.shared.refused);
}
