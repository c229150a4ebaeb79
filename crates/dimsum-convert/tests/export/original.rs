//! With its recipes an image gives back the layers that were converted, bit by bit.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use dimsum_convert::export::{ExportOptions, Exported, LayerCompression, Reached, export_original};
use dimsum_convert::{ConvertError, Converted, Gives, Input, KnownImage, PackReuse, Sharing, convert_as};
use dimsum_format::manifest::Manifest;
use dimsum_format::{Digest, media};
use dimsum_layout::OciLayout;
use dimsum_source::{ImageName, Place as _, Role};

use crate::image::{Layout, blob, blob_path};
use crate::round_trip::{directory, gnu_tar, plain, upper_layers};
use crate::sources::{Case, Layer, noise, small_options};
use crate::tar::{Entry, Packing, archive, dir, file, hard_link, whiteout};

pub(crate) fn keeping() -> dimsum_convert::ConvertOptions {
    dimsum_convert::ConvertOptions { keep_original: true, ..small_options() }
}

fn options() -> ExportOptions {
    ExportOptions { temp_dir: std::env::temp_dir(), ..ExportOptions::default() }
}

/// Finds the recipes of the image and exports with them.
pub(crate) fn export_with(
    case: &Case,
    converted: &Converted,
    to: &Path,
    options: &ExportOptions,
) -> Result<Exported, ConvertError> {
    let image = Layout::open(&case.target(), converted.manifest);
    let place = OciLayout::open(case.target(), None).unwrap();
    let referrers = place.referrers(converted.manifest, Some(media::ORIGINAL)).unwrap();
    assert_eq!(referrers.len(), 1);
    let target = OciLayout::create(to, Some(ImageName::Tag("out".into()))).unwrap();
    export_original(&image, &place, referrers[0].digest, &target, options, &())
}

/// Converts, exports, and compares with the source: all that can be is the same, byte for byte.
pub(crate) fn comes_back(layers: Vec<Layer>, what: &str) -> (Case, Converted, Exported) {
    let case = Case::of(layers);
    let converted = case.convert(&keeping());
    let to = case.dir.path().join("exported");
    let exported = export_with(&case, &converted, &to, &options()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let source = Manifest::parse(&blob(&case.dir.path().join("source"), case.manifest)).unwrap();
    let made = Manifest::parse(&blob(&to, exported.manifest)).unwrap();
    assert_eq!(made.config.digest, source.config.digest, "{what}: the config, and so every diff_id");
    let kept = converted.original.as_ref().unwrap();
    assert_eq!(kept.layers.len(), source.layers.len());
    for ((kept, layer), (out, made)) in
        kept.layers.iter().zip(&source.layers).zip(exported.layers.iter().zip(&made.layers))
    {
        match kept.gives {
            Gives::Blob => assert_eq!((out.reached, made.digest), (Reached::Blob, layer.digest), "{what}"),
            Gives::Tar(_) => assert_eq!(out.reached, Reached::Tar, "{what}"),
        }
        assert_eq!(blob(&to, made.digest).len() as u64, made.size);
    }
    let all = kept.layers.iter().all(|layer| layer.gives == Gives::Blob);
    assert_eq!((exported.original, exported.manifest == case.manifest), (all, all), "{what}");
    (case, converted, exported)
}

pub(crate) fn pipe(tar: &[u8], program: &str, arguments: &[&str]) -> Layer {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut input = child.stdin.take().unwrap();
    let bytes = tar.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let (digest, diff_id) = (Digest::of(&output.stdout), Digest::of(tar));
    Layer { blob: output.stdout, digest, diff_id, media_type: media::LAYER_GZIP }
}

/// A tar like those of layers: text, binary, repetition.
fn usual_tar() -> Vec<u8> {
    let mut entries = vec![dir("bin"), dir("etc")];
    for number in 0..300usize {
        let text: String = (0..number).map(|line| format!("line {} of file {number}\n", line * 7 % 31)).collect();
        entries.push(file(&format!("etc/{number:03}"), text));
    }
    entries.push(file("bin/one", noise(700_000, 1)));
    entries.push(file("bin/two", [noise(200_000, 2), noise(200_000, 2)].concat()));
    archive(&entries)
}

#[test]
fn layers_of_every_dialect_come_back_bit_by_bit() {
    let place = tempfile::tempdir().unwrap();
    directory(place.path());
    let formats: [&[&str]; 5] = [
        &["--format=gnu"],
        &["--format=gnu", "--sparse"],
        &["--format=pax"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
    ];
    for format in formats {
        let mut layers = vec![gnu_tar(place.path(), format)];
        layers.extend(upper_layers().iter().map(|entries| plain(archive(entries))));
        let (_, _, exported) = comes_back(layers, &format.join(" "));
        assert!(exported.original);
    }
}

#[test]
fn what_no_tree_keeps_comes_back_too() {
    let entries = |seed| vec![file("small", noise(3_000, seed)), file("large", noise(300_000, seed + 1))];
    let zeros = vec![file("zeros", vec![0; 500_000]), file("half", [vec![0; 200_000], noise(9_000, 3)].concat())];
    // Names that come twice, the first content being nowhere else; an entry that is ignored; links.
    let mut twice = [entries(10), zeros, entries(20), entries(20)].concat();
    twice.extend([file(".wh..wh.plnk", noise(5_000, 4)), hard_link("link", "small"), dir("d"), file("d/e", "")]);
    // Everything of the first and second layer is deleted: their packs are in no image.
    let layers = [
        twice,
        vec![file("gone", noise(200_000, 30)), file("gone too", noise(2_000, 31))],
        vec![whiteout("gone"), whiteout("gone too"), whiteout("small"), whiteout("large"), whiteout("link")],
        vec![whiteout("half"), file("gone", noise(200_000, 30)), file("stays", "1")],
        vec![whiteout("gone")],
    ];
    let layers = layers.iter().map(|entries| plain(archive(entries))).collect();
    let (_, converted, exported) = comes_back(layers, "nowhere");
    assert!(exported.original);
    assert!(!converted.original.unwrap().packs.is_empty(), "packs that the image does not list");
}

#[test]
fn odd_ends_of_archives_come_back() {
    let tar = archive(&[file("a", noise(1_000, 1)), file("b", noise(100, 2))]);
    let blocks = tar.iter().rposition(|&byte| byte != 0).unwrap() / 512 * 512 + 512;
    let ends = [
        tar[..blocks].to_vec(),
        tar[..blocks + 512].to_vec(),
        [&tar[..blocks + 1024], &[0; 70_000][..]].concat(),
        [&tar[..blocks + 1024], &noise(300_000, 3)[..]].concat(),
        Vec::new(),
        vec![0; 10_240],
    ];
    for (number, tar) in ends.into_iter().enumerate() {
        let (_, _, exported) = comes_back(vec![plain(tar)], &format!("end {number}"));
        assert!(exported.original);
    }
}

#[test]
fn gzip_by_usual_tools_comes_back_bit_by_bit() {
    let tar = usual_tar();
    for (program, arguments) in [
        ("gzip", &["-n", "-6"][..]),
        ("gzip", &["-1"]),
        ("gzip", &["-9"]),
        ("pigz", &["-p", "3", "-6"]),
        ("pigz", &["-n", "-9", "-b", "64", "-i"]),
        (
            "python3",
            &["-c", "import sys,gzip; sys.stdout.buffer.write(gzip.compress(sys.stdin.buffer.read(), 6, mtime=7))"],
        ),
    ] {
        let what = format!("{program} {arguments:?}");
        let (_, converted, exported) = comes_back(vec![pipe(&tar, program, arguments)], &what);
        assert!(exported.original, "{what}: {:?}", converted.original);
    }
}

#[test]
fn the_smallest_tars_come_back_bit_by_bit() {
    for blocks in [1, 2, 3, 10, 20, 40] {
        for level in ["-1", "-6", "-9"] {
            let layers = vec![pipe(&usual_tar(), "gzip", &["-6"]), pipe(&vec![0; blocks * 512], "gzip", &[level])];
            comes_back(layers, &format!("{blocks} blocks of zeros, gzip {level}"));
        }
    }
}

#[test]
fn several_members_and_names_in_headers_come_back() {
    let tar = usual_tar();
    let (one, two) = tar.split_at(333_333);
    let members = [pipe(one, "gzip", &["-6"]).blob, pipe(b"", "gzip", &["-n"]).blob, pipe(two, "gzip", &["-9"]).blob];
    let mut blob = members.concat();
    // A name in the first header.
    blob[3] |= 8;
    blob.splice(10..10, *b"layer.tar\0");
    let layer = Layer { digest: Digest::of(&blob), diff_id: Digest::of(&tar), blob, media_type: media::LAYER_GZIP };
    assert!(comes_back(vec![layer], "members").2.original);
}

#[test]
fn a_layer_whose_compression_is_unknown_comes_back_as_its_tar() {
    let entries = vec![file("a", noise(300_000, 1)), dir("d")];
    let layers = vec![Layer::new(&entries, Packing::Plain), Layer::new(&entries, Packing::Zstd)];
    let (case, converted, exported) = comes_back(layers, "zstd");
    assert!(matches!(converted.original.as_ref().unwrap().layers[1].gives, Gives::Tar(_)));
    assert_eq!(exported.layers[0].reached, Reached::Blob);
    for compression in [LayerCompression::None, LayerCompression::Zstd] {
        let to = case.dir.path().join(format!("{compression:?}"));
        let exported = export_with(&case, &converted, &to, &ExportOptions { compression, ..options() }).unwrap();
        assert_eq!(exported.layers[1].diff_id, exported.layers[0].diff_id);
    }
}

#[test]
fn recipes_change_nothing_of_the_image() {
    let layers = || vec![Layer::new(&[file("a", noise(100_000, 1))], Packing::Gzip), plain(archive(&[whiteout("a")]))];
    let (with, without) = (Case::of(layers()), Case::of(layers()));
    let (with, without) = (with.convert(&keeping()), without.convert(&small_options()));
    assert_eq!((with.manifest, without.original), (without.manifest, None));
}

fn assert_nothing(target: &Path) {
    let left: Vec<_> = fs::read_dir(target.join("blobs/sha256")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Replaces the recipe of the only layer by `recipe`, under its own digest, in a referrer that says so.
pub(crate) fn with_recipe(case: &Case, converted: &Converted, recipe: &[u8]) -> Result<Exported, ConvertError> {
    let target = case.target();
    let kept = converted.original.as_ref().unwrap();
    let mut manifest = Manifest::parse(&blob(&target, kept.manifest)).unwrap();
    let place = manifest.layers.iter_mut().find(|layer| layer.media_type == media::ORIGINAL_RECIPE).unwrap();
    (place.digest, place.size) = (Digest::of(recipe), recipe.len() as u64);
    let manifest = manifest.to_bytes();
    for bytes in [recipe, &manifest] {
        fs::write(blob_path(&target, Digest::of(bytes)), bytes).unwrap();
    }
    let to = case.dir.path().join("lies");
    if to.exists() {
        fs::remove_dir_all(&to).unwrap();
    }
    let layout = OciLayout::create(&to, None).unwrap();
    let image = Layout::open(&target, converted.manifest);
    let place = OciLayout::open(&target, None).unwrap();
    let exported = export_original(&image, &place, Digest::of(&manifest), &layout, &options(), &());
    if exported.is_err() {
        assert_nothing(&to);
    }
    exported
}

#[test]
fn a_recipe_that_lies_gives_an_error_and_nothing_else() {
    let entries: Vec<Entry> = vec![file("a", noise(100_000, 1)), file("b", noise(3_000, 2)), dir("c")];
    let case = Case::of(vec![pipe(&archive(&entries), "gzip", &["-6"])]);
    let converted = case.convert(&keeping());
    let recipe = blob(&case.target(), converted.original.as_ref().unwrap().layers[0].recipe.digest);
    assert!(with_recipe(&case, &converted, &recipe).unwrap().original);
    for length in (0..recipe.len()).step_by(recipe.len() / 40 + 1) {
        let error = with_recipe(&case, &converted, &recipe[..length]).unwrap_err();
        assert!(matches!(error, ConvertError::Original { .. }), "{length}: {error}");
    }
    let mut tars = 0;
    for at in (0..recipe.len()).step_by(recipe.len() / 120 + 1) {
        let mut bad = recipe.clone();
        bad[at] ^= 0x10;
        match with_recipe(&case, &converted, &bad) {
            // The notes of the compression are wrong, and the tar is right; or the bit means nothing to zstd.
            Ok(exported) => tars += u32::from(exported.layers[0].reached == Reached::Tar),
            Err(ConvertError::Original { .. }) => {}
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(tars > 0, "the notes of the compression have bytes too");
}

#[test]
fn packs_that_were_reused_serve_recipes_as_well() {
    // The second layer is deleted whole: its pack is in no image, and comes with the recipes.
    let layers = || {
        let first = [file("a", noise(200_000, 1)), file("b", noise(3_000, 2))];
        let second = [file("c", noise(150_000, 3)), file("d", noise(4_000, 4))];
        let third = [whiteout("c"), whiteout("d"), file("e", noise(5_000, 5))];
        vec![pipe(&archive(&first), "gzip", &["-6"]), plain(archive(&second)), plain(archive(&third))]
    };
    let old = Case::of(layers());
    let before = old.convert(&keeping());
    let from = OciLayout::open(old.target(), None).unwrap();
    for reuse in [PackReuse::Verify, PackReuse::Trust] {
        let new = Case::of(layers());
        let target = OciLayout::create(new.target(), Some(ImageName::Tag("out".into()))).unwrap();
        let source = new.source();
        let input = Input::Image { source: &source, manifest: new.manifest };
        let reuse_from = vec![KnownImage { source: &from, manifest: before.manifest }];
        let sharing = Sharing { reuse, reuse_from, ..Sharing::default() };
        let converted = convert_as(input, &target, Role::Root, &keeping(), &sharing, &()).unwrap();
        assert_eq!(converted.manifest, before.manifest, "{reuse:?}");
        assert_eq!(converted.shared.reused.len(), 2, "{reuse:?}: {:?}", converted.shared.refused);
        assert_eq!(converted.original, before.original, "{reuse:?}: the same recipes");
        assert_eq!(converted.original.as_ref().unwrap().packs.len(), 1, "{reuse:?}");
        let to = new.dir.path().join("exported");
        let exported = export_with(&new, &converted, &to, &options()).unwrap();
        assert_eq!((exported.original, exported.manifest), (true, new.manifest), "{reuse:?}");
        for layer in layers() {
            assert!(blob(&to, layer.digest) == layer.blob, "{reuse:?}");
        }
    }
}

#[test]
fn a_referrer_of_another_image_is_refused() {
    let cases = [1, 2].map(|seed| Case::of(vec![plain(archive(&[file("a", noise(10_000, seed))]))]));
    let converted = [cases[0].convert(&keeping()), cases[1].convert(&keeping())];
    let image = Layout::open(&cases[0].target(), converted[0].manifest);
    let other = OciLayout::open(cases[1].target(), None).unwrap();
    let to = cases[0].dir.path().join("out");
    let target = OciLayout::create(&to, None).unwrap();
    let referrer = converted[1].original.as_ref().unwrap().manifest;
    let error = export_original(&image, &other, referrer, &target, &options(), &()).unwrap_err();
    assert!(matches!(error, ConvertError::Original { .. }), "{error}");
    assert_nothing(&to);
}
