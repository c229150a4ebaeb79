//! A pack describes itself: its footer, layer meta, tree, maps and file table can be read without the image.

use dimsum_erofs::ImageKind;
use dimsum_format::map::{DEVICE_ROW, DeviceMap, FRAME_ROW, FrameMap};
use dimsum_format::pack::{
    FILE_ROW, FOOTER_BYTES, LayerMetaFooter, META_FOOTER_BYTES, META_FRAME, PackFooter, REFERENCE_ROW, SKIPPABLE_HEADER,
};
use dimsum_format::{BLOCK, Blake3, DeviceId};

use crate::reader::{Node, Read, blob, read, tree, zstd_dc};
use crate::sources::{Case, noise, small_options};
use crate::tar::{dir, file, hard_link, symlink, whiteout};

/// A layer meta taken apart.
struct LayerMeta {
    bytes: Vec<u8>,
    footer: LayerMetaFooter,
    map: DeviceMap,
    frames: FrameMap,
    references: Vec<(DeviceId, u32)>,
    files: Vec<(Blake3, u32, u32)>,
}

fn parse(pack: &[u8]) -> LayerMeta {
    let footer = PackFooter::parse(&pack[pack.len() - FOOTER_BYTES..], pack.len() as u64).unwrap();
    let start = footer.layer_meta_offset as usize + SKIPPABLE_HEADER;
    let compressed = &pack[start..start + footer.layer_meta_compressed as usize];
    let bytes = zstd_dc(compressed);
    assert_eq!(bytes.len() as u64, footer.layer_meta_length);
    assert_eq!(Blake3::of(&bytes), footer.layer_meta_digest);
    let first = zstd::zstd_safe::find_frame_compressed_size(compressed).unwrap();
    assert_eq!(zstd_dc(&compressed[..first]).len(), bytes.len().min(META_FRAME));
    let footer = LayerMetaFooter::parse(&bytes[bytes.len() - META_FOOTER_BYTES..], bytes.len() as u64).unwrap();
    let mut rest = &bytes[footer.erofs_blocks as usize * BLOCK..];
    let mut take = |length: usize| {
        let (now, later) = rest.split_at(length);
        rest = later;
        now.to_vec()
    };
    let chunks = footer.chunks as usize;
    let map = DeviceMap::parse(&take(chunks * DEVICE_ROW)).unwrap();
    let frames = FrameMap::parse(&take(chunks * FRAME_ROW)).unwrap();
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let digest = |row: &[u8]| <[u8; 32]>::try_from(&row[..32]).unwrap();
    let references = take(footer.references as usize * REFERENCE_ROW);
    let references =
        references.chunks(REFERENCE_ROW).map(|row| (DeviceId::new(digest(row)), number(&row[32..]))).collect();
    let files = take(footer.files as usize * FILE_ROW);
    let files = files
        .chunks(FILE_ROW)
        .map(|row| (Blake3::new(digest(row)), number(&row[32..36]), number(&row[36..])))
        .collect();
    assert!(rest[..rest.len() - META_FOOTER_BYTES].iter().all(|&byte| byte == 0));
    LayerMeta { footer, map, frames, references, files, bytes }
}

fn image() -> (Case, Read) {
    let case = Case::new(&[
        vec![
            dir("d"),
            file("d/big", noise(200_000, 1)),
            file("d/small", noise(5_000, 2)),
            file("gone", noise(70_000, 3)),
            file("linked", noise(3_000, 4)),
        ],
        vec![
            whiteout("gone"),
            file("copy of small", noise(5_000, 2)),
            file("new", noise(6_000, 5)),
            symlink("s", "d/big"),
            hard_link("again", "linked"),
            file("more", noise(300_000, 6)),
            file("nul", vec![0; 100_000]),
            file("twice", noise(6_000, 5)),
            file("empty", ""),
        ],
    ]);
    let read = {
        let converted = case.convert(&small_options());
        read(&case.target(), converted.manifest)
    };
    (case, read)
}

#[test]
fn a_pack_reads_back_alone() {
    let (case, image) = image();
    let packs: Vec<_> = image.dimsum.packs.iter().map(|pack| blob(&case.target(), pack.digest)).collect();
    let metas: Vec<_> = packs.iter().map(|pack| parse(pack)).collect();
    for ((meta, device), bytes) in metas.iter().zip(&image.maps.devices).zip(&image.devices) {
        assert_eq!((&meta.map, &meta.frames), (&device.map, &device.frames));
        assert_eq!(meta.footer.blocks as usize * BLOCK, bytes.len());
        let mut next = 0;
        for &(digest, block, length) in &meta.files {
            assert!(block >= next, "ascending, not overlapping");
            next = block + length.div_ceil(BLOCK as u32);
            assert_eq!(Blake3::of(&bytes[block as usize * BLOCK..][..length as usize]), digest);
        }
    }
    let [lower, upper] = &*metas else { panic!("two packs") };
    assert_eq!(lower.references, []);
    assert_eq!((lower.files.len(), upper.files.len()), (2, 1));
    let lower_id = image.maps.devices[0].id;
    assert_eq!(upper.references, [(lower_id, lower.footer.blocks)]);
    // The layer meta's own flat image: itself, its device, the device it refers to.
    let flat = [&*upper.bytes, &image.devices[1], &image.devices[0]].concat();
    let erofs = &upper.bytes[..upper.footer.erofs_blocks as usize * BLOCK];
    let blocks = [upper.footer.blocks, lower.footer.blocks];
    let nodes = tree(erofs, &flat, (upper.bytes.len() / BLOCK) as u32, &blocks, ImageKind::Layer);
    assert_eq!(nodes["copy of small"], Node::File(noise(5_000, 2)));
    assert_eq!(nodes["again"], Node::File(noise(3_000, 4)));
    assert_eq!(nodes["linked"], Node::File(noise(3_000, 4)), "copied up with its new name");
    assert_eq!(nodes["more"], Node::File(noise(300_000, 6)));
    assert_eq!(nodes["gone"], Node::Other, "a whiteout");
    assert!(!nodes.contains_key("d"));
}

#[test]
fn the_image_has_every_file_of_its_layers() {
    let (_case, image) = image();
    let tree = image.tree();
    let expected = [
        ("again", noise(3_000, 4)),
        ("copy of small", noise(5_000, 2)),
        ("d/big", noise(200_000, 1)),
        ("d/small", noise(5_000, 2)),
        ("empty", Vec::new()),
        ("linked", noise(3_000, 4)),
        ("more", noise(300_000, 6)),
        ("new", noise(6_000, 5)),
        ("nul", vec![0; 100_000]),
        ("twice", noise(6_000, 5)),
    ];
    for (path, bytes) in expected {
        assert!(tree[path] == Node::File(bytes), "{path}");
    }
    assert_eq!(tree["s"], Node::Symlink(b"d/big".to_vec()));
    assert_eq!(tree.len(), 12, "{:?}", tree.keys());
}

#[test]
fn the_config_keeps_what_it_had() {
    let (_case, image) = image();
    let keys: Vec<_> = image.config.object().keys().map(String::as_str).collect();
    assert_eq!(keys, ["created", "architecture", "config", "os", "rootfs", "history", "zebra"]);
    assert_eq!(image.config.object()["config"]["X-Unknown"], serde_json::json!([1, 2]));
    let history = image.config.object()["history"].as_array().unwrap();
    let full = history.iter().filter(|entry| entry.get("empty_layer") != Some(&true.into())).count();
    assert_eq!(full, image.manifest.layers.len());
}
