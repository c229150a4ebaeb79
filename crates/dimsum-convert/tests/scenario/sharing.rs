//! Packs of other images: what is there is not stored again, what is little used is, and what lies is found out.

use dimsum_convert::{ConvertOptions, Converted, Input, KnownImage, PackReuse, Sharing, convert_as};
use dimsum_format::manifest::{Blob, ImageConfig, Manifest};
use dimsum_format::pack::{FILE_ROW, FOOTER_BYTES, LayerMetaFooter, META_FOOTER_BYTES, PackFooter, skippable_header};
use dimsum_format::pack::{META_FRAME, REFERENCE_ROW, SKIPPABLE_HEADER, SKIPPABLE_LAYER_META};
use dimsum_format::{BLOCK, Blake3, Digest, media};
use dimsum_layout::OciLayout;
use dimsum_source::{ImageName, Role, Target};
use serde_json::Value;

use crate::reader::{Node, blob, read, zstd_dc};
use crate::sources::{Case, noise, small_options};
use crate::tar::{Entry, dir, file, whiteout};

/// Converts a case while some converted cases are known.
pub(crate) fn with(case: &Case, known: &[(&OciLayout, Digest)], options: &ConvertOptions) -> Converted {
    let known = known.iter().map(|&(source, manifest)| KnownImage { source, manifest }).collect();
    sharing(case, Sharing { with: known, ..Sharing::default() }, options)
}

pub(crate) fn sharing(case: &Case, sharing: Sharing<'_>, options: &ConvertOptions) -> Converted {
    let target = OciLayout::create(case.target(), Some(ImageName::Tag("out".into()))).unwrap();
    let source = case.source();
    let input = Input::Image { source: &source, manifest: case.manifest };
    convert_as(input, &target, Role::Root, options, &sharing, &()).unwrap()
}

pub(crate) fn layout(case: &Case) -> OciLayout {
    OciLayout::open(case.target(), None).unwrap()
}

/// Big and small files; `version` changes one of each.
pub(crate) fn release(version: u64) -> Vec<Entry> {
    let mut entries = vec![dir("d"), file("big", noise(300_000, 1)), file("changes", noise(100_000, 100 + version))];
    entries.extend((0..40).map(|i| file(&format!("d/{i:02}"), noise(3_000 + 100 * i as usize, 10 + i))));
    entries.push(file("d/version", noise(2_000, 200 + version)));
    entries
}

/// Everything that the image of some entries shows.
pub(crate) fn shows(image: &crate::reader::Read, entries: &[Entry]) {
    let tree = image.tree();
    for entry in entries.iter().filter(|entry| entry.flag == b'0') {
        assert!(tree[&entry.path] == Node::File(entry.content.clone()), "{}", entry.path);
    }
}

#[test]
fn what_another_image_has_is_listed_not_stored_and_reads_back() {
    let old = Case::new(&[release(1)]);
    let before = old.convert(&small_options());
    let new = Case::new(&[release(2)]);
    let converted = with(&new, &[(&layout(&old), before.manifest)], &small_options());
    // `read` proves every chunk of every pack that is listed from the target alone.
    let image = read(&new.target(), converted.manifest);
    shows(&image, &release(2));
    assert_eq!(converted.shared.foreign.len(), 1);
    assert_eq!(converted.shared.foreign[0].blob, before.layers[0].pack.unwrap());
    assert_eq!(converted.shared.copied_bytes, before.layers[0].pack.unwrap().size);
    let own = converted.layers[0].device_bytes as usize;
    // The changed file (two slices of at most 64 KiB and a tail) and the changed small file, in blocks.
    assert_eq!(own, 100_000usize.next_multiple_of(BLOCK) + BLOCK);
    let listed = &image.manifest.layers[0].annotations;
    assert_eq!(listed[media::ANNOTATION_FOREIGN], before.manifest.to_string());
    assert!(!listed.contains_key(media::ANNOTATION_SOURCE_CHAIN_ID));
    assert_eq!(image.manifest.annotations[media::ANNOTATION_DEDUP], before.manifest.to_string());
}

#[test]
fn the_same_images_give_the_same_bytes_whatever_the_order_of_entries_and_the_threads() {
    let old = Case::new(&[release(1)]);
    let before = old.convert(&small_options());
    let mut shuffled = release(2);
    shuffled[1..].reverse();
    let one = ConvertOptions { jobs: std::num::NonZeroUsize::MIN, ..small_options() };
    let packs = [(release(2), small_options()), (shuffled, one)].map(|(entries, options)| {
        let case = Case::new(&[entries]);
        let converted = with(&case, &[(&layout(&old), before.manifest)], &options);
        read(&case.target(), converted.manifest).dimsum
    });
    assert_eq!((&packs[0].packs, packs[0].meta), (&packs[1].packs, packs[1].meta));
}

#[test]
fn a_pack_of_which_less_than_a_quarter_is_used_is_not_listed_and_its_slices_are_stored_after_all() {
    let big = |count: u64| (0..count).map(|i| file(&format!("{i}"), noise(65_536, i + 1))).collect::<Vec<_>>();
    let old = Case::new(&[big(20)]);
    let before = old.convert(&small_options());
    for (count, foreign) in [(4, 0), (5, 1)] {
        let mut entries = big(count);
        entries.push(file("own", noise(9_000, 99)));
        let new = Case::new(std::slice::from_ref(&entries));
        let converted = with(&new, &[(&layout(&old), before.manifest)], &small_options());
        assert_eq!(converted.shared.foreign.len(), foreign, "{count} of 20");
        let image = read(&new.target(), converted.manifest);
        shows(&image, &entries);
        if foreign == 0 {
            let alone = Case::new(&[entries]);
            let alone_image = read(&alone.target(), alone.convert(&small_options()).manifest);
            assert_eq!(image.dimsum.packs, alone_image.dimsum.packs, "as if nothing had been known");
        }
    }
}

#[test]
fn a_layer_that_another_image_has_too_keeps_its_place() {
    let base = vec![dir("etc"), file("etc/base", noise(200_000, 1)), file("etc/small", noise(4_000, 2))];
    let old = Case::new(&[base.clone(), vec![file("app", noise(90_000, 3))]]);
    let before = old.convert(&small_options());
    let new = Case::new(&[base.clone(), vec![file("app", noise(90_000, 4))]]);
    let converted = with(&new, &[(&layout(&old), before.manifest)], &small_options());
    let image = read(&new.target(), converted.manifest);
    shows(&image, &base);
    let [first, second, _meta] = &*image.manifest.layers else { panic!("{:?}", image.manifest.layers) };
    assert_eq!(first.digest, before.layers[0].pack.unwrap().digest);
    let diff_id = before.layers[0].diff_id.unwrap().to_string();
    assert_eq!(first.annotations[media::ANNOTATION_SOURCE_DIFF_ID], diff_id);
    assert!(first.annotations.contains_key(media::ANNOTATION_FOREIGN));
    assert!(!second.annotations.contains_key(media::ANNOTATION_FOREIGN));
    assert_eq!(converted.layers[0].pack.unwrap().digest, first.digest);
    let history = image.config.object()["history"].as_array().unwrap();
    assert!(history.iter().all(|entry| entry.get("empty_layer").is_none()), "{history:?}");
}

#[test]
fn content_deleted_and_added_again_and_content_of_a_parent_is_stored_once() {
    let data = vec![file("a", noise(100_000, 1)), file("b", noise(5_000, 2))];
    let first = Case::new(&[vec![file("base", noise(5_000, 3))], data.clone()]);
    let v1 = first.convert(&small_options());
    let layers = [vec![file("base", noise(5_000, 3))], data.clone(), vec![whiteout("a"), whiteout("b")], data.clone()];
    let second = Case::new(&layers);
    let converted = with(&second, &[(&layout(&first), v1.manifest)], &small_options());
    assert_eq!(converted.layers.iter().map(|layer| layer.device_bytes).sum::<u64>(), 0, "nothing is new");
    shows(&read(&second.target(), converted.manifest), &data);
}

/// Swaps the first two rows' digests that have equal lengths, so that each of the two files is said to be where
/// the other is.
fn forge_files(case: &Case, converted: &Converted) -> Digest {
    let target = case.target();
    let pack = blob(&target, converted.layers[0].pack.unwrap().digest);
    let forged = with_layer_meta(&pack, |meta| {
        let footer = LayerMetaFooter::parse(&meta[meta.len() - META_FOOTER_BYTES..], meta.len() as u64).unwrap();
        let rows = footer.chunks as usize * 40 + footer.references as usize * REFERENCE_ROW;
        let at = footer.erofs_blocks as usize * BLOCK + rows;
        let table = &mut meta[at..at + footer.files as usize * FILE_ROW];
        let (mut a, mut b) = ([0; 32], [0; 32]);
        a.copy_from_slice(&table[..32]);
        b.copy_from_slice(&table[FILE_ROW..FILE_ROW + 32]);
        assert_eq!(table[36..40], table[FILE_ROW + 36..FILE_ROW + 40], "files of one length");
        table[..32].copy_from_slice(&b);
        table[FILE_ROW..FILE_ROW + 32].copy_from_slice(&a);
    });
    publish(case, converted, &forged)
}

/// A pack with another layer meta, whose footer says so.
fn with_layer_meta(pack: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut footer = PackFooter::parse(&pack[pack.len() - FOOTER_BYTES..], pack.len() as u64).unwrap();
    let start = footer.layer_meta_offset as usize;
    let compressed = &pack[start + SKIPPABLE_HEADER..][..footer.layer_meta_compressed as usize];
    let mut meta = zstd_dc(compressed);
    change(&mut meta);
    let frames: Vec<u8> = meta.chunks(META_FRAME).flat_map(|piece| zstd::bulk::compress(piece, 3).unwrap()).collect();
    footer.layer_meta_digest = Blake3::of(&meta);
    footer.layer_meta_compressed = frames.len() as u32;
    let header = skippable_header(SKIPPABLE_LAYER_META, frames.len() as u64).unwrap();
    [&pack[..start], &header, &frames, &footer.to_bytes()].concat()
}

/// Puts a pack in the place of an image's first and names it in a manifest: all digests fit.
fn publish(case: &Case, converted: &Converted, pack: &[u8]) -> Digest {
    let target = OciLayout::create(case.target(), Some(ImageName::Tag("forged".into()))).unwrap();
    let put = |bytes: &[u8]| {
        let mut writer = target.start_blob().unwrap();
        writer.write_all(bytes).unwrap();
        writer.commit(Digest::of(bytes), bytes.len() as u64, &|_| std::ops::ControlFlow::Continue(())).unwrap();
        Blob { digest: Digest::of(bytes), size: bytes.len() as u64 }
    };
    let pack = put(pack);
    let mut manifest = Manifest::parse(&blob(&case.target(), converted.manifest)).unwrap();
    (manifest.layers[0].digest, manifest.layers[0].size) = (pack.digest, pack.size);
    target.put_manifest(media::MANIFEST, &manifest.to_bytes(), Role::Root).unwrap()
}

/// Small files of one length, so that two rows can be exchanged.
fn equal_lengths(more: u64) -> Vec<Entry> {
    (0..12 + more).map(|i| file(&format!("{i:02}"), noise(4_000, i + 1))).collect()
}

#[test]
fn a_false_file_table_is_found_out_whether_the_bundle_is_made_again_or_fetched() {
    let old = Case::new(&[equal_lengths(0)]);
    let before = old.convert(&small_options());
    let forged = forge_files(&old, &before);
    // With all files of the bundles, and without one of each: then the bundle has to be fetched.
    let some: Vec<Entry> =
        equal_lengths(4).into_iter().filter(|entry| entry.path != "05" && entry.path != "11").collect();
    for entries in [equal_lengths(4), some] {
        let new = Case::new(std::slice::from_ref(&entries));
        let converted = with(&new, &[(&layout(&old), forged)], &small_options());
        shows(&read(&new.target(), converted.manifest), &entries);
        assert_eq!(converted.shared.refused.len(), 1, "{:?}", converted.shared.refused);
        assert!(converted.shared.foreign.is_empty());
    }
}

#[test]
fn whoever_trusts_a_false_file_table_gets_wrong_bytes() {
    let old = Case::new(&[equal_lengths(0)]);
    let before = old.convert(&small_options());
    let forged = forge_files(&old, &before);
    let new = Case::new(&[equal_lengths(4)]);
    let source = layout(&old);
    let known = vec![KnownImage { source: &source, manifest: forged }];
    let trusting = Sharing { with: known, reuse: PackReuse::Trust, ..Sharing::default() };
    let converted = sharing(&new, trusting, &small_options());
    let tree = read(&new.target(), converted.manifest).tree();
    assert!(tree["00"] == Node::File(noise(4_000, 2)), "this is what `trust` means");
}

/// Re-use: the same image with a known one of the same layers.
pub(crate) fn reusing(case: &Case, source: &OciLayout, manifest: Digest, reuse: PackReuse) -> Converted {
    let reuse_from = vec![KnownImage { source, manifest }];
    sharing(case, Sharing { reuse, reuse_from, ..Sharing::default() }, &small_options())
}

pub(crate) fn base() -> Vec<Vec<Entry>> {
    vec![
        release(1),
        vec![
            whiteout("d/07"),
            file("more", noise(150_000, 7)),
            file("d/08", noise(2_000, 8)),
            file("copy", noise(300_000, 1)),
            file("zeros", vec![0; 400_000]),
            file("holes", [noise(70_000, 2), vec![0; 300_000], noise(9_000, 3)].concat()),
        ],
    ]
}

#[test]
fn packs_of_a_base_are_taken_as_they_are_and_the_image_is_the_same() {
    let old = Case::new(&base());
    let before = old.convert(&small_options());
    let mut layers = base();
    layers.push(vec![file("app", noise(80_000, 9)), file("d/09", noise(3_000 + 900, 19))]);
    let alone = Case::new(&layers);
    let expected = alone.convert(&small_options());
    for reuse in [PackReuse::Verify, PackReuse::Trust] {
        let new = Case::new(&layers);
        let converted = reusing(&new, &layout(&old), before.manifest, reuse);
        assert_eq!(converted.manifest, expected.manifest, "{reuse:?}");
        assert_eq!(converted.shared.reused.len(), 2, "{reuse:?}");
        assert!(converted.shared.refused.is_empty(), "{:?}", converted.shared.refused);
        read(&new.target(), converted.manifest);
    }
    let never = Case::new(&layers);
    let converted = reusing(&never, &layout(&old), before.manifest, PackReuse::Never);
    assert_eq!((converted.manifest, converted.shared.reused.len()), (expected.manifest, 0));
}

#[test]
fn trust_reads_no_layer_of_the_base() {
    let old = Case::new(&base());
    let before = old.convert(&small_options());
    let new = Case::new(&base());
    let expected = Case::new(&base()).convert(&small_options()).manifest;
    let blobs = new.dir.path().join("source/blobs/sha256");
    for layer in &before.layers {
        std::fs::remove_file(blobs.join(layer.source.unwrap().hex())).unwrap();
    }
    assert_eq!(reusing(&new, &layout(&old), before.manifest, PackReuse::Trust).manifest, expected);
}

#[test]
fn a_pack_that_is_not_what_its_layer_gives_is_refused_and_the_image_is_as_if_it_were_not_there() {
    let old = Case::new(&[equal_lengths(0)]);
    let before = old.convert(&small_options());
    let expected = before.manifest;
    let other = Case::new(&[equal_lengths(3)]);
    let another = other.convert(&small_options());
    let pack = blob(&other.target(), another.layers[0].pack.unwrap().digest);
    let own = blob(&old.target(), before.layers[0].pack.unwrap().digest);
    let other_tree = with_layer_meta(&own, |meta| {
        // An inode's mode, somewhere behind the superblock.
        let at = meta.windows(2).skip(1152).position(|mode| mode == 0o100_644u16.to_le_bytes()).unwrap() + 1152;
        meta[at..at + 2].copy_from_slice(&0o104_755u16.to_le_bytes());
    });
    let false_table = forge_files(&old, &before);
    let mut damaged = own.clone();
    damaged[own.len() / 2] ^= 1;
    for (what, manifest) in [
        ("another device", publish(&old, &before, &pack)),
        ("another tree", publish(&old, &before, &other_tree)),
        ("another file table", false_table),
        ("damaged frames", publish(&old, &before, &damaged)),
    ] {
        let new = Case::new(&[equal_lengths(0)]);
        let converted = reusing(&new, &layout(&old), manifest, PackReuse::Verify);
        assert_eq!(converted.manifest, expected, "{what}");
        assert_eq!(converted.shared.refused.len(), 1, "{what}: {:?}", converted.shared.refused);
        assert!(converted.shared.reused.is_empty(), "{what}");
    }
}

#[test]
fn trust_is_not_for_a_pack_whose_description_makes_no_sense() {
    let old = Case::new(&base());
    let before = old.convert(&small_options());
    let own = blob(&old.target(), before.layers[0].pack.unwrap().digest);
    let nonsense = with_layer_meta(&own, |meta| meta[1024] ^= 1);
    let manifest = publish(&old, &before, &nonsense);
    let new = Case::new(&base());
    let converted = reusing(&new, &layout(&old), manifest, PackReuse::Trust);
    assert_eq!(converted.manifest, before.manifest);
    assert_eq!(converted.shared.refused.len(), 1, "{:?}", converted.shared.refused);
}

#[test]
fn a_pack_made_with_other_options_is_not_taken() {
    let old = Case::new(&base());
    let before = old.convert(&ConvertOptions { level: 4, ..small_options() });
    let new = Case::new(&base());
    let converted = reusing(&new, &layout(&old), before.manifest, PackReuse::Verify);
    assert!(converted.shared.reused.is_empty());
    assert!(converted.shared.refused[0].reason.contains("-4"), "{:?}", converted.shared.refused);
}

#[test]
fn the_config_of_an_image_that_shares_fits_its_layers() {
    let old = Case::new(&[release(1)]);
    let before = old.convert(&small_options());
    let new = Case::new(&[release(2), vec![file("x", "y")]]);
    let converted = with(&new, &[(&layout(&old), before.manifest)], &small_options());
    let config = ImageConfig::parse(&blob(&new.target(), converted.config.digest)).unwrap();
    let history = config.object()["history"].as_array().unwrap();
    let layers = history.iter().filter(|entry| entry.get("empty_layer") != Some(&Value::Bool(true))).count();
    let manifest = Manifest::parse(&blob(&new.target(), converted.manifest)).unwrap();
    assert_eq!((config.diff_ids().unwrap().len(), layers), (manifest.layers.len(), manifest.layers.len()));
}
