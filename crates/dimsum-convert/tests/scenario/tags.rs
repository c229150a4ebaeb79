//! Cache tags: what is re-used from elsewhere is found in the repository itself the next time, and nothing is
//! that nobody proved.

use dimsum_convert::{Converted, Input, KnownImage, PackReuse, Sharing, convert_as};
use dimsum_format::Digest;
use dimsum_layout::OciLayout;
use dimsum_source::Role;

use crate::places::Repository;
use crate::reader::read;
use crate::sharing::{layout, release, shows};
use crate::sources::{Case, noise, small_options};
use crate::tar::{Entry, file};

/// Two layers whose large files stand in the order of their names, and one of its own.
fn layers(app: u64) -> Vec<Vec<Entry>> {
    let second =
        vec![file("lib/a", noise(150_000, 7)), file("lib/b", noise(90_000, 8)), file("lib/c", noise(3_000, 9))];
    vec![release(1), second, vec![file("app", noise(80_000, 100 + app))]]
}

/// Converts an image of these layers into a repository.
fn convert(layers: &[Vec<Entry>], to: &Repository, reuse: PackReuse, from: &[(&OciLayout, Digest)]) -> Converted {
    let case = Case::new(layers);
    let source = case.source();
    let input = Input::Image { source: &source, manifest: case.manifest };
    let reuse_from = from.iter().map(|&(source, manifest)| KnownImage { source, manifest }).collect();
    let sharing = Sharing { reuse, reuse_from, ..Sharing::default() };
    convert_as(input, to, Role::Root, &small_options(), &sharing, &()).unwrap()
}

fn packs(converted: &Converted) -> Vec<Digest> {
    converted.layers.iter().map(|layer| layer.pack.unwrap().digest).collect()
}

#[test]
fn packs_taken_from_an_image_that_was_named_are_found_by_their_tags_the_next_time() {
    let old = Case::new(&layers(0));
    let before = old.convert(&small_options());
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::create(dir.path());
    let first = convert(&layers(1), &repository, PackReuse::Verify, &[(&layout(&old), before.manifest)]);
    assert_eq!(first.shared.reused.len(), 2);
    assert_eq!(repository.tagged(), packs(&first), "of packs that were taken, and of those that were made");
    let second = convert(&layers(2), &repository, PackReuse::Verify, &[]);
    assert_eq!((second.shared.reused.len(), second.shared.refused.len()), (2, 0), "{:?}", second.shared.refused);
    shows(&read(dir.path(), second.manifest), &layers(2)[0]);
    assert_eq!(second.manifest, Case::new(&layers(2)).convert(&small_options()).manifest);
}

#[test]
fn a_pack_taken_unseen_gets_no_tag_and_neither_do_those_above_it() {
    let old = Case::new(&layers(0));
    let before = old.convert(&small_options());
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::create(dir.path());
    let from = layout(&old);
    let trusting = convert(&layers(1), &repository, PackReuse::Trust, &[(&from, before.manifest)]);
    assert_eq!((trusting.shared.reused.len(), repository.tagged()), (2, vec![]));
    // Nothing to trust: it is made here, and may be told.
    let made = convert(&layers(1), &repository, PackReuse::Trust, &[]);
    assert_eq!((made.shared.reused.len(), repository.tagged()), (0, packs(&made)));
}

#[test]
fn a_pack_is_proven_and_gets_its_tag_in_whatever_order_the_files_came() {
    // The SHA-256 of the device cannot be made while the layer is read, only from the pack.
    let mut layers = layers(0);
    layers[1].reverse();
    let old = Case::new(&layers);
    let before = old.convert(&small_options());
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::create(dir.path());
    let converted = convert(&layers, &repository, PackReuse::Verify, &[(&layout(&old), before.manifest)]);
    assert_eq!((converted.manifest, converted.shared.reused.len()), (before.manifest, 3));
    let packs = packs(&converted);
    assert_eq!(repository.tagged(), packs);
}

#[test]
fn a_tag_whose_pack_is_gone_is_refused_and_set_right() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::create(dir.path());
    let first = convert(&layers(0), &repository, PackReuse::Verify, &[]);
    for reuse in [PackReuse::Verify, PackReuse::Trust] {
        // As a registry's owner does it, who knows nothing of tags.
        std::fs::remove_file(dir.path().join("blobs/sha256").join(packs(&first)[0].hex())).unwrap();
        let without = convert(&layers(0), &repository, reuse, &[]);
        assert_eq!(without.manifest, first.manifest, "{reuse:?}");
        assert_eq!(without.shared.reused.len(), 2, "{reuse:?}");
        let [refused] = &*without.shared.refused else { panic!("{:?}", without.shared.refused) };
        assert!(refused.what.starts_with("cache tag "), "{refused:?}");
        shows(&read(dir.path(), without.manifest), &layers(0)[0]);
        let healed = convert(&layers(0), &repository, reuse, &[]);
        assert_eq!((healed.shared.reused.len(), healed.shared.refused.len()), (3, 0), "{reuse:?}");
    }
}

#[test]
fn no_tags_are_written_where_nothing_may_be_reused() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::create(dir.path());
    convert(&layers(0), &repository, PackReuse::Never, &[]);
    assert_eq!(repository.tagged(), []);
}
