//! The layer between two trees, merged over the one, gives the other.

use std::convert::Infallible;

use dimsum_tree::{
    ContentId, Metadata, NodeKind, Policy, TarOptions, Tree, TreeBuilder, difference, merge, read_layer, to_tar,
};
use proptest::prelude::*;

use crate::memory_sink::MemorySink;
use crate::random;

fn layer_between(lower: &Tree, wanted: &Tree, sink: &MemorySink) -> Option<Tree> {
    let content = |id: ContentId| &sink.files[id.get() as usize];
    difference(lower, wanted, |a, b| Ok::<_, Infallible>(content(a) == content(b))).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_becomes_any_other(
        (root, names) in random::names(),
        (other_root, other_names) in random::names(),
        shared in 0..25usize,
    ) {
        let mut sink = MemorySink::default();
        let lower = random::build(&root, &names, &mut sink);
        // Some of it is the same.
        let other_names = [&names[..shared.min(names.len())], &other_names[..]].concat();
        let wanted = random::build(if shared % 2 == 0 { &root } else { &other_root }, &other_names, &mut sink);
        let expected = sink.lines(&wanted);
        prop_assert!(layer_between(&wanted, &wanted, &sink).is_none());
        if let Some(layer) = layer_between(&lower, &wanted, &sink) {
            prop_assert_eq!(sink.lines(&merge(lower.clone(), &layer).unwrap()), &expected[..]);
            // And as a tar.
            let mut tar = Vec::new();
            to_tar(&layer, &mut sink, &mut tar, TarOptions::default()).unwrap();
            let read = read_layer(&tar[..], Some(&lower), &mut sink, Policy::default()).unwrap().tree;
            prop_assert_eq!(sink.lines(&merge(lower, &read).unwrap()), expected);
        } else {
            prop_assert_eq!(sink.lines(&lower), expected);
        }
    }
}

#[test]
fn what_is_there_already_is_not_brought_again() {
    let mut sink = MemorySink::default();
    sink.files = vec![b"x".to_vec(), b"y".to_vec()];
    let plain = Metadata { permissions: 0o644, ..Metadata::IMPLICIT_DIRECTORY };
    let build = |changed: bool, linked: bool| {
        let mut builder = TreeBuilder::new();
        let d = builder.insert(TreeBuilder::ROOT, b"d", NodeKind::Directory, &plain).unwrap();
        let file = |number| NodeKind::Regular { size: 1, content: ContentId::new(number) };
        builder.insert(d, b"stays", file(0), &plain).unwrap();
        let b = builder.insert(d, b"b", file(u32::from(changed)), &plain).unwrap();
        if linked {
            builder.link(TreeBuilder::ROOT, b"c", b).unwrap();
        } else {
            builder.insert(TreeBuilder::ROOT, b"c", file(u32::from(changed)), &plain).unwrap();
        }
        builder.insert(TreeBuilder::ROOT, b"e", NodeKind::Fifo, &plain).unwrap();
        builder.finish().unwrap()
    };
    let short = |from: &Tree, to: &Tree| layer_between(from, to, &sink).map(|layer| sink.short(&layer));
    assert_eq!(short(&build(false, false), &build(false, false)), None);
    assert_eq!(short(&build(false, false), &build(true, false)).unwrap(), "c=y d/ d/b=y");
    assert_eq!(short(&build(false, false), &build(false, true)).unwrap(), "c~=x d/ d/b~=x");
    // One of two names may stay what it is.
    assert_eq!(short(&build(false, true), &build(false, false)).unwrap(), "d/ d/b=x");
    sink.files.clear();
    let gone = build(false, false).retain(|_, inode| inode.file_type() != dimsum_tree::FileType::Fifo).unwrap();
    assert_eq!(gone.entry_count(), 4);
}
