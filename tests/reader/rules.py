"""What a reader refuses about a whole tree (docs/format.md section 6.7).

erofs.py refuses what one inode or directory shows; here are the rules that need all names: link counts,
inode numbers, and where file data lies.
"""

import stat

from erofs import NULL, device_number
from errors import ReaderError, require, require_equal

OVERLAY = (b"trusted.overlay.", b"user.overlay.")


def check_tree(erofs, nodes, is_layer):
    """Refuses a tree that breaks section 6.7. A layer meta may hold whiteouts and opaque marks."""
    names, children, order = {}, {}, {}
    for node in nodes:
        nid = node.inode.nid
        order.setdefault(nid, (len(order), node))
        names[nid] = names.get(nid, 0) + 1
        if node.inode.kind == stat.S_IFDIR and node.path:
            children[node.parent.nid] = children.get(node.parent.nid, 0) + 1
    require_equal(f"{erofs.name}, superblock", "inos", erofs.super.inos, len(order))
    for nid, (number, node) in order.items():
        what = f"{erofs.name}, {node.path!r}"
        inode = node.inode
        links = 2 + children.get(nid, 0) if inode.kind == stat.S_IFDIR else names[nid]
        require_equal(what, "nlink", inode.nlink, links)
        require_equal(what, "i_ino", inode.ino, number + 1)
        xattrs = erofs.xattrs(inode)
        if inode.kind == stat.S_IFREG:
            _check_data(erofs, inode, what)
        if not is_layer:
            require(inode.kind != stat.S_IFCHR or device_number(inode.union) != (0, 0), what, "is a whiteout")
            bad = [name for name, _, _ in xattrs if name.startswith(OVERLAY)]
            require(not bad, what, f"has the overlayfs attribute {bad[:1]}")


def _check_data(erofs, inode, what):
    """Every run lies in one device."""
    for length, block in erofs.runs(inode):
        if block == NULL:
            continue
        try:
            erofs.flat.check_run(block, -(-length // 4096))
        except ReaderError as error:
            raise ReaderError(what, str(error)) from error
