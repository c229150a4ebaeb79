"""The tree of an image as lines of JSON, one for each name: the form in which two readers can be compared."""

import hashlib
import json
import stat

from erofs import device_number
from errors import ReaderError

KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFCHR: "c", stat.S_IFBLK: "b",
         stat.S_IFIFO: "p", stat.S_IFSOCK: "s"}


def escape(raw):
    """Every byte that is %, <= 0x20 or >= 0x7f becomes %XX; the result is plain ASCII."""
    return "".join(f"%{byte:02X}" if byte == 0x25 or byte <= 0x20 or byte >= 0x7F else chr(byte) for byte in raw)


def lines(erofs):
    """The lines of the whole tree, sorted by path."""
    nodes = sorted(erofs.walk(), key=lambda node: escape(node.path))
    first, hashes = {}, {}
    for node in nodes:
        first.setdefault(node.inode.nid, escape(node.path))
    for node in nodes:
        yield json.dumps(_line(erofs, node, first, hashes), separators=(",", ":"))


def _line(erofs, node, first, hashes):
    inode = node.inode
    kind = KINDS[inode.kind]
    if kind == "f" and inode.nid not in hashes:
        hashes[inode.nid] = content_hash(erofs, inode)
    return {
        "path": escape(node.path),
        "kind": kind,
        "mode": f"{inode.mode & 0o7777:04o}",
        "uid": inode.uid,
        "gid": inode.gid,
        "size": inode.size if kind in "fl" else 0,
        "rdev": "{}:{}".format(*device_number(inode.union)) if kind in "cb" else "",
        "nlink": 0 if kind == "d" else inode.nlink,
        "mtime": "{}.{:09d}".format(*inode.mtime),
        "xattrs": dict(sorted((escape(name), value.hex()) for name, value, _ in erofs.xattrs(inode))),
        "sha256": hashes.get(inode.nid, ""),
        "target": escape(erofs.content(inode)) if kind == "l" else "",
        "same_as": first[inode.nid] if kind != "d" and inode.nlink > 1 else "",
    }


def content_hash(erofs, inode):
    """SHA-256 of a regular file, hexadecimal."""
    total = hashlib.sha256()
    for piece in erofs.pieces(inode):
        if piece is None:
            raise ReaderError(f"{erofs.name}, inode {inode.nid}", "its device is not at hand")
        total.update(piece)
    return total.hexdigest()
