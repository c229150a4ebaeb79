#!/usr/bin/env python3
"""An independent reader of Dimsum images, written from docs/format.md alone.

It shares no code with the implementation, so it proves that the document is exact, and it is slow but plain.

    dimsum_reader.py tree LAYOUT NAME           the tree, one JSON object a line, sorted by path
    dimsum_reader.py extract LAYOUT NAME DIR    directories, regular files and symlinks
    dimsum_reader.py verify LAYOUT NAME         everything there is to verify; prints a summary

LAYOUT is an OCI image layout directory, NAME a reference name (or digest) of its index.json. Every command
proves each byte it uses, starting from the digest of the manifest. Exit codes: 0 good, 2 usage, 3 refused.

Where to read on: layout.py (OCI) -> parts.py (packs, metas, maps) -> flat.py (addresses) -> erofs.py (the
tree); rules.py, rebuild.py and chunking.py check what a reader must refuse and what a writer must do.
"""

import argparse
import json
import os
import shutil
import stat
import sys

import chunking
import layout
import parts
import rebuild
import rules
import tree_json
from erofs import Erofs
from errors import ReaderError, require_equal
from flat import Flat
from limits import BLOCK


class Opened:
    """An image with its proven meta, devices and tree."""

    def __init__(self, folder, name):
        self.image = layout.open_image(folder, name)
        self.meta = parts.open_meta(self.image.meta, self.image.meta_root)
        require_equal("meta", "devices", len(self.meta.devices), len(self.image.packs))
        self.devices = [parts.open_device(*pair) for pair in zip(self.image.packs, self.meta.devices)]
        rows = self.meta.devices
        flat = Flat([("the meta", self.meta.data, len(self.meta.data) // BLOCK),
                     *((row.name, data, row.blocks) for row, data in zip(rows, self.devices))])
        self.erofs = Erofs(flat, "image")
        self.nodes = list(self.erofs.walk())
        rules.check_tree(self.erofs, self.nodes, is_layer=False)


def tree(folder, name):
    for line in tree_json.lines(Opened(folder, name).erofs):
        print(line)


def extract(folder, name, target):
    """Names come in path order, so a directory exists before its entries; its mode and time are set last."""
    opened = Opened(folder, name)
    os.makedirs(target, exist_ok=True)
    first, directories = {}, []
    for node in opened.nodes:
        path, inode = os.path.join(os.fsencode(target), node.path), node.inode
        if inode.kind == stat.S_IFDIR:
            os.makedirs(path, exist_ok=True)
            directories.append((path, inode))
        elif inode.kind not in (stat.S_IFREG, stat.S_IFLNK):
            print(f"skipped: {tree_json.escape(node.path)} is no file, directory or symlink", file=sys.stderr)
        elif inode.nid in first:
            os.link(first[inode.nid], path, follow_symlinks=False)
        else:
            first[inode.nid] = path
            _extract_one(opened.erofs, inode, path)
    for path, inode in reversed(directories):
        os.chmod(path, inode.mode & 0o7777)
        _set_time(path, inode)


def _extract_one(erofs, inode, path):
    if inode.kind == stat.S_IFLNK:
        os.symlink(erofs.content(inode), path)
    else:
        with open(path, "xb") as file:
            for piece in erofs.pieces(inode):
                file.write(piece)
        os.chmod(path, inode.mode & 0o7777)
    _set_time(path, inode)


def _set_time(path, inode):
    time = inode.mtime[0] * 10**9 + inode.mtime[1]
    os.utime(path, ns=(time, time), follow_symlinks=False)


def verify(folder, name):
    """The image as `tree` proves it; then, beyond what a reader needs, every promise about the writer."""
    opened = Opened(folder, name)
    image, meta = opened.image, opened.meta
    content = {node.inode.nid: tree_json.content_hash(opened.erofs, node.inode)
               for node in opened.nodes if node.inode.kind == stat.S_IFREG}
    rebuild.check(opened.erofs, opened.nodes, meta.erofs_blocks, image.slice_size, [d.id for d in meta.devices])
    chunking.check_listed(opened.erofs, opened.nodes, len(opened.devices))
    stores = chunking.Stores(image.slice_size, image.bundle_size)
    layers = [_verify_layer(opened, number, stores) for number in range(len(opened.devices))]
    print(json.dumps({
        "manifest": image.manifest_digest,
        "meta_root": "blake3:" + image.meta_root.hex(),
        "names": len(opened.nodes),
        "inodes": len(opened.erofs.inodes),
        "files_read": len(content),
        "blocks": opened.erofs.flat.blocks,
        "erofs_blocks": meta.erofs_blocks,
        "packs": layers,
    }, indent=1))


def _verify_layer(opened, number, stores):
    """The layer meta of a pack: its maps, its own tree with all file bytes, its references and file table."""
    blob, device = opened.image.packs[number], opened.meta.devices[number]
    layer = parts.open_layer_meta(blob)
    what = f"{blob.name}, layer meta"
    require_equal(what, "device id", layer.device.id, device.id)
    require_equal(what, "frame map", layer.device.frames, device.frames)
    by_id = {row.id: position for position, row in enumerate(opened.meta.devices)}
    referenced = []
    for identity, blocks in layer.references:
        position = by_id.get(identity)
        if position is not None:
            require_equal(f"{what}, reference {identity.hex()}", "blocks", blocks, opened.meta.devices[position].blocks)
        referenced.append((f"device {identity.hex()}", None if position is None else opened.devices[position], blocks))
    flat = Flat([("the layer meta", layer.data, len(layer.data) // BLOCK),
                 ("its own device", opened.devices[number], device.blocks), *referenced])
    erofs = Erofs(flat, what)
    nodes = list(erofs.walk())
    rules.check_tree(erofs, nodes, is_layer=True)
    ids = [device.id, *(identity for identity, _ in layer.references)]
    rebuild.check(erofs, nodes, layer.erofs_blocks, opened.image.slice_size, ids)
    chunking.check_files(what, layer.files, opened.devices[number])
    skipped = chunking.check_device(erofs, nodes, layer, opened.devices[number], stores)
    return {"blob": blob.digest, "device": "blake3:" + device.id.hex(), "blocks": device.blocks,
            "chunks": len(device.chunks), "references": len(layer.references),
            "unlisted_references": sum(data is None for _, data, _ in referenced),
            "files": len(layer.files), "names": len(nodes), "canonical": skipped or "checked"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for command, more in ((tree, ()), (extract, ("dir",)), (verify, ())):
        sub = commands.add_parser(command.__name__)
        for argument in ("layout", "name", *more):
            sub.add_argument(argument)
        sub.set_defaults(run=command, arguments=("layout", "name", *more))
    options = parser.parse_args()
    try:
        options.run(*(getattr(options, argument) for argument in options.arguments))
    except ReaderError as error:
        print(f"refused: {error}", file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
