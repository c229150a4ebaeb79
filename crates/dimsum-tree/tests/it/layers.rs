//! Layers as the OCI image specification and container runtimes take them.

use dimsum_tree::{LayerTree, OverlayEntries, Policy, Tree, merge, read_layer};

use crate::memory_sink::MemorySink;
use crate::tar_writer::{Entry, char_device, dir, file, hard, of_type, symlink, tar};

/// Reads layers one over the other; returns the last layer's own tree and the merged one, in short.
fn apply(layers: &[&[Entry]]) -> (String, String) {
    let (layer, merged, sink) = apply_with(layers, Policy::default());
    (sink.short(&layer.tree), sink.short(&merged))
}

fn apply_with(layers: &[&[Entry]], policy: Policy) -> (LayerTree, Tree, MemorySink) {
    let mut sink = MemorySink::default();
    let mut merged: Option<Tree> = None;
    let mut last = None;
    for entries in layers {
        let layer = read_layer(&tar(entries)[..], merged.as_ref(), &mut sink, policy).unwrap();
        merged = Some(match merged {
            None => layer.tree.clone().into_base().unwrap(),
            Some(lower) => merge(lower, &layer.tree).unwrap(),
        });
        last = Some(layer);
    }
    (last.unwrap(), merged.unwrap(), sink)
}

fn error(layers: &[&[Entry]]) -> String {
    let (below, last) = layers.split_at(layers.len() - 1);
    let lower = if below.is_empty() { None } else { Some(apply_with(below, Policy::default()).1) };
    let mut sink = MemorySink::default();
    read_layer(&tar(last[0])[..], lower.as_ref(), &mut sink, Policy::default()).unwrap_err().to_string()
}

#[test]
fn a_whiteout_hides_what_is_below_and_nothing_of_its_own_layer() {
    let lower = [file("gone", "1"), dir("d"), file("d/old", "1"), file("both", "1")];
    let upper = [
        of_type(".wh.gone", b'0'),
        file("both", "2"),
        of_type(".wh.both", b'0'),
        of_type(".wh.d", b'0'),
        file("d/new", "2"),
    ];
    assert_eq!(apply(&[&lower, &upper]), ("both=2 d/* d/new=2 gone!".into(), "both=2 d/ d/new=2".into()));
    let turned: Vec<Entry> = upper.iter().rev().cloned().collect();
    assert_eq!(apply(&[&lower, &turned]), apply(&[&lower, &upper]));
}

#[test]
fn an_opaque_mark_hides_the_lower_names_wherever_it_stands() {
    let lower = [dir("d").uid(7), file("d/old", "1"), dir("d/sub"), file("d/sub/old", "1")];
    for upper in [
        [of_type("d/.wh..wh..opq", b'0'), file("d/sub/new", "2")],
        [file("d/sub/new", "2"), of_type("d/.wh..wh..opq", b'0')],
    ] {
        assert_eq!(apply(&[&lower, &upper]).0, "d/* d/sub/ d/sub/new=2");
        let (_, merged, sink) = apply_with(&[&lower, &upper], Policy::default());
        assert_eq!(sink.short(&merged), "d/ d/sub/ d/sub/new=2");
        assert_eq!(merged.inode(merged.lookup_path(b"d").unwrap()).uid(), 7, "only names are hidden");
    }
}

#[test]
fn what_hides_nothing_leaves_no_trace() {
    let upper =
        [of_type("d/.wh..wh..opq", b'0'), of_type(".wh.never", b'0'), dir("e"), of_type("e/.wh..wh..opq", b'0')];
    assert_eq!(apply(&[&upper]).0, "d/ e/");
    assert_eq!(apply(&[&[file("x", ""), file("e", "a file")], &upper]), ("d/ e/".into(), "d/ e/ x=".into()));
}

#[test]
fn whiteouts_of_every_writer_are_known() {
    let lower = [file("a", "1"), file("b", "1"), file("c", "1"), file("wh.x", "1")];
    let upper = [
        file(".wh.a", "with content"),
        hard(".wh.b", ".wh.a"),
        of_type(".wh..wh.aufs", b'0'),
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/1.2", "x"),
    ];
    let (layer, merged, sink) = apply_with(&[&lower, &upper], Policy::default());
    assert_eq!(sink.short(&merged), "c=1 wh.x=1");
    assert_eq!(layer.report.aufs_entries, 3);
    for (entry, word) in [
        (dir(".wh.d"), ".wh.d"),
        (file(".wh.", ""), ".wh."),
        (file(".wh...", ""), ".wh..."),
        (file(".wh.d/x", ""), ".wh.d/x"),
    ] {
        assert!(error(&[&[entry]]).starts_with(&format!("{word}: ")));
    }
}

#[test]
fn a_later_entry_of_a_name_replaces_an_earlier_one() {
    let entries = [
        file("f", "1"),
        file("f", "2"),
        dir("d").uid(1),
        file("d/x", "x"),
        dir("d").uid(2),
        dir("gone"),
        file("gone/x", "x"),
        file("gone", "now a file"),
        file("dir", "a file"),
        dir("dir"),
        file("dir/y", "y"),
        symlink("s", "one"),
        symlink("s", "two"),
    ];
    let (layer, _, sink) = apply_with(&[&entries], Policy::default());
    assert_eq!(sink.short(&layer.tree), r"d/ d/x=x dir/ dir/y=y f=2 gone=now a file s->two");
    assert_eq!(layer.tree.inode(layer.tree.lookup_path(b"d").unwrap()).uid(), 2);
}

#[test]
fn directories_nobody_names_are_those_below_or_plain() {
    let lower = [
        dir(".").uid(9),
        dir("usr").uid(5).mode(0o2751).mtime(77).record("SCHILY.xattr.user.k", "v"),
        file("usr/a", "1"),
    ];
    let upper = [file("usr/bin/x", "2")];
    let (layer, merged, _) = apply_with(&[&lower, &upper], Policy::default());
    for tree in [&layer.tree, &merged] {
        let lines: Vec<String> = tree.dump().map(|entry| entry.to_string()).collect();
        assert!(lines[0].contains(" 9:0 "), "the root too: {}", lines[0]);
        assert_eq!(lines[1], "/usr #1 042751 5:0 links=3 mtime=77+0 user.k=v");
        assert!(lines.iter().any(|line| line.contains("/usr/bin") && line.contains("040755 0:0 links=2 mtime=0+0")));
    }
    // A whiteout behind it takes the lower directory's attributes away again.
    let (_, merged, _) = apply_with(&[&lower, &[file("usr/bin/x", "2"), of_type(".wh.usr", b'0')]], Policy::default());
    assert_eq!(merged.inode(merged.lookup_path(b"usr").unwrap()).uid(), 0);
}

#[test]
fn parents_are_found_through_symbolic_links_inside_the_root() {
    let lower = [
        dir("usr"),
        dir("usr/lib"),
        symlink("lib", "usr/lib"),
        symlink("up", "../../../usr"),
        symlink("abs", "/usr/lib/../lib"),
        file("f", "1"),
    ];
    let upper = [
        file("lib/a", "a"),
        file("up/b", "b"),
        file("abs/c", "c"),
        symlink("usr/own", "../new/dir"),
        file("usr/own/d", "d"),
        file("f/x", "x"),
    ];
    assert_eq!(
        apply(&[&lower, &upper]).0,
        "f/ f/x=x new/ new/dir/ new/dir/d=d usr/ usr/b=b usr/lib/ usr/lib/a=a usr/lib/c=c usr/own->../new/dir"
    );
    // A link that this layer hides is not followed.
    assert_eq!(apply(&[&lower, &[of_type(".wh.lib", b'0'), file("lib/a", "a")]]).0, "lib/ lib/a=a");
    let lower = [dir("d"), symlink("d/s", "../e"), dir("e")];
    assert_eq!(apply(&[&lower, &[of_type("d/.wh..wh..opq", b'0'), file("d/s/x", "x")]]).0, "d/* d/s/ d/s/x=x");
    assert!(error(&[&[symlink("a", "b"), symlink("b", "a"), file("a/x", "")]]).starts_with("a/x: more than 40"));
    assert!(error(&[&[file("f", ""), file("f/x", "")]]).starts_with("f/x: the parent is not a directory"));
}

#[test]
fn a_hard_link_to_a_lower_file_brings_it_up_under_both_names() {
    let lower = [dir("d").uid(3), file("d/f", "low").uid(4), hard("d/g", "d/f"), symlink("s", "d/f")];
    let upper = [hard("new", "d/f"), hard("again", "new"), hard("s2", "s")];
    let (layer, merged) = apply(&[&lower, &upper]);
    assert_eq!(layer, "again~=low d/ d/f~=low new~=low s~->d/f s2~->d/f");
    assert_eq!(merged, "again~=low d/ d/f~=low d/g=low new~=low s~->d/f s2~->d/f");
    let (_, tree, _) = apply_with(&[&lower, &upper], Policy::default());
    let inode = tree.inode(tree.lookup_path(b"again").unwrap());
    assert_eq!((inode.nlink(), inode.uid()), (3, 4));
    assert_eq!(tree.inode(tree.lookup_path(b"d").unwrap()).uid(), 3);
}

/// What the layer deletes stays deleted, though a hard link of the layer keeps its content under another name.
#[test]
fn a_lower_file_that_is_linked_and_deleted_is_gone() {
    let lower = [file("f", "1"), dir("d"), file("d/old", "1"), dir("d/sub"), file("d/sub/x", "2"), file("h", "1")];
    let opaque = || of_type("d/.wh..wh..opq", b'0');
    for (upper, layer, merged) in [
        (vec![hard("g", "f"), of_type(".wh.f", b'0')], "f! g=1", "d/ d/old=1 d/sub/ d/sub/x=2 g=1 h=1"),
        (vec![hard("g", "d/old"), of_type(".wh.d", b'0')], "d! g=1", "f=1 g=1 h=1"),
        (vec![hard("g", "d/sub/x"), of_type(".wh.d", b'0')], "d! g=2", "f=1 g=2 h=1"),
        (vec![hard("g", "d/old"), opaque()], "d/* g=1", "d/ f=1 g=1 h=1"),
        (vec![hard("g", "d/sub/x"), opaque()], "d/* g=2", "d/ f=1 g=2 h=1"),
        (vec![hard("g", "d/sub/x"), of_type("d/.wh.sub", b'0')], "d/ d/sub! g=2", "d/ d/old=1 f=1 g=2 h=1"),
        // The link itself does not last.
        (
            vec![dir("a"), hard("a/x", "f"), file("a", "no link"), of_type(".wh.f", b'0')],
            "a=no link f!",
            "a=no link d/ d/old=1 d/sub/ d/sub/x=2 h=1",
        ),
        // An entry of the layer in the place of the linked file, or of its directory.
        (vec![hard("g", "f"), file("f", "new")], "f=new g=1", "d/ d/old=1 d/sub/ d/sub/x=2 f=new g=1 h=1"),
        (vec![hard("g", "d/old"), file("d", "f")], "d=f g=1", "d=f f=1 g=1 h=1"),
        (
            vec![hard("g", "d/old"), of_type(".wh.d", b'0'), file("d/new", "3")],
            "d/* d/new=3 g=1",
            "d/ d/new=3 f=1 g=1 h=1",
        ),
        (
            vec![hard("g", "f"), hard("k", "f"), of_type(".wh.f", b'0')],
            "f! g~=1 k~=1",
            "d/ d/old=1 d/sub/ d/sub/x=2 g~=1 h=1 k~=1",
        ),
    ] {
        assert_eq!(apply(&[&lower, &upper]), (layer.to_owned(), merged.to_owned()), "{upper:?}");
    }
    // A mark that stands before the link: there is nothing to link to any more, for extraction tools as well.
    assert!(error(&[&lower, &[of_type(".wh.f", b'0'), hard("g", "f")]]).starts_with("g: a hard link to f"));
}

#[test]
fn hard_links_of_both_layers_are_counted_by_the_names_that_are_left() {
    let lower = [file("a", "1"), hard("b", "a"), hard("c", "a")];
    let upper = [file("b", "2"), hard("x", "b"), of_type(".wh.c", b'0')];
    let (_, tree, sink) = apply_with(&[&lower, &upper], Policy::default());
    assert_eq!(sink.short(&tree), "a=1 b~=2 x~=2");
    assert_eq!(tree.inode(tree.lookup_path(b"x").unwrap()).nlink(), 2);
}

#[test]
fn hard_links_that_lead_nowhere_are_refused_by_name() {
    for (entries, word) in [
        (vec![hard("l", "missing")], "l: a hard link to missing"),
        (vec![hard("l", "later"), file("later", "")], "l: a hard link to later"),
        (vec![dir("d"), hard("l", "d")], "l: a hard link to a directory"),
        (vec![hard("l", "/")], "l: a hard link to a directory"),
        (vec![file("f", ""), hard("l", "../f")], "l: a name with .."),
        (vec![of_type(".wh.f", b'0'), hard("l", "f")], "l: a hard link to f"),
    ] {
        let message = error(&[&[file("f", "low"), dir("d")], &entries]);
        assert!(message.starts_with(word), "{message}");
    }
}

#[test]
fn a_hard_link_ignores_its_own_attributes_and_content() {
    let link = Entry { data: Vec::new(), ..hard("l", "f") }.uid(99).mtime(99).record("SCHILY.xattr.user.x", "y");
    let (layer, _, sink) = apply_with(&[&[file("f", "1").uid(5), link, file("z", "2")]], Policy::default());
    assert_eq!(sink.short(&layer.tree), "f~=1 l~=1 z=2");
    let id = layer.tree.lookup_path(b"l").unwrap();
    assert_eq!((layer.tree.inode(id).uid(), layer.tree.xattrs(id).len()), (5, 0));
}

#[test]
fn xattrs_files_have_on_linux_are_kept_and_others_counted() {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let entries = [
        file("f", "")
            .record("SCHILY.xattr.user.empty", "")
            .record("SCHILY.xattr.security.capability", capability)
            .record("SCHILY.xattr.system.posix_acl_access", "\x02\0\0\0")
            .record("SCHILY.xattr.trusted.t", "1")
            .record("SCHILY.xattr.com.apple.quarantine", "1")
            .record("LIBARCHIVE.xattr.user.ignored", "MQ=="),
        symlink("s", "f").record("SCHILY.xattr.user.no", "1").record("SCHILY.xattr.security.selinux", "label\0"),
    ];
    let (layer, _, _) = apply_with(&[&entries], Policy::default());
    let names = |path: &[u8]| {
        layer
            .tree
            .xattrs(layer.tree.lookup_path(path).unwrap())
            .iter()
            .map(|x| x.name.escape_ascii().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(b"f"), ["security.capability", "system.posix_acl_access", "trusted.t", "user.empty"]);
    assert_eq!(names(b"s"), ["security.selinux"]);
    assert_eq!((layer.report.dropped_xattrs, layer.report.dropped.len()), (2, 2));
}

#[test]
fn what_overlayfs_takes_for_its_own_is_refused_by_name_or_dropped_with_a_report() {
    let entries = [
        char_device("dev/zero00", 0, 0),
        char_device("dev/null", 1, 3),
        dir("d").record("SCHILY.xattr.trusted.overlay.opaque", "y").record("SCHILY.xattr.user.k", "v"),
        file("f", "1").record("SCHILY.xattr.user.overlay.whiteout", ""),
    ];
    for at in [0, 2, 3] {
        let message = error(&[&entries[at..]]);
        assert!(message.starts_with(&*entries[at].path.escape_ascii().to_string()), "{message}");
    }
    let (layer, _, sink) = apply_with(&[&entries], Policy { overlay_entries: OverlayEntries::Drop });
    assert_eq!(sink.short(&layer.tree), "d/ dev/ dev/null:CharDevice f=1");
    assert_eq!((layer.report.dropped_overlay, layer.report.dropped.len()), (3, 3));
}

#[test]
fn global_headers_speak_for_all_entries_that_follow() {
    let mut bytes = file("before", "").bytes();
    let records = [crate::tar_writer::record(b"uid", b"77"), crate::tar_writer::record(b"comment", b"x")].concat();
    bytes.extend(crate::tar_writer::header(&of_type("g", b'g'), records.len()));
    bytes.extend(crate::tar_writer::padded(&records));
    bytes.extend(tar(&[file("after", ""), file("own", "").record("uid", "5"), file("back", "").record("uid", "")]));
    let tree = read_layer(&bytes[..], None, &mut MemorySink::default(), Policy::default()).unwrap().tree;
    let uid = |path: &[u8]| tree.inode(tree.lookup_path(path).unwrap()).uid();
    assert_eq!((uid(b"before"), uid(b"after"), uid(b"own"), uid(b"back")), (0, 77, 5, 0));
}
