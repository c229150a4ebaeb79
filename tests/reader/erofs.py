"""EROFS as docs/format.md section 6 describes it: superblock, inodes, attributes, directories, file data.

Nothing here knows where the bytes come from: `flat` (flat.py) gives bytes that were already proven. What is
found wrong while reading is refused here; the rules that need the whole tree are in rules.py.
"""

import stat
import struct
from dataclasses import dataclass

from errors import ReaderError, require, require_equal
from limits import BLOCK, DEPTH, FILE_BYTES, MAP_ENTRIES, NAME_BYTES, TARGET_BYTES

SUPER = struct.Struct("<IIIBBHQQIIII16s16sI44s")
COMPACT = struct.Struct("<HHHHIIIIHHI")
EXTENDED = struct.Struct("<HHHHQIIIIqII16s")
DIRENT = struct.Struct("<QHBB")
SUPER_AT = 1024
INODES_AT = 1152
MAGIC = 0xE0F5E1E2
FLAT_PLAIN, FLAT_INLINE, CHUNK_BASED = 0, 2, 4
NULL = 0xFFFFFFFF
PREFIXES = {1: b"user.", 2: b"system.posix_acl_access", 3: b"system.posix_acl_default", 4: b"trusted.", 6: b"security."}
FILE_TYPES = {1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFCHR, 4: stat.S_IFBLK, 5: stat.S_IFIFO,
              6: stat.S_IFSOCK, 7: stat.S_IFLNK}


@dataclass
class Super:
    checksum: int
    root_nid: int
    inos: int
    mtime: tuple
    blocks: int
    xattr_blkaddr: int
    uuid: bytes
    incompat: int


@dataclass
class Inode:
    nid: int
    at: int             # byte position
    size_of_inode: int  # 32 or 64
    layout: int
    body: int           # bytes of the xattr body
    mode: int
    nlink: int
    size: int
    union: int          # `i_u`
    ino: int
    uid: int
    gid: int
    mtime: tuple        # (seconds, nanoseconds)

    @property
    def kind(self):
        return stat.S_IFMT(self.mode)

    @property
    def name(self):
        return f"inode {self.nid}"

    @property
    def after(self):
        """Position behind the xattr body: of the inline tail or the block map."""
        return self.at + self.size_of_inode + self.body


@dataclass
class Node:
    """A name in the tree."""
    path: bytes
    inode: Inode
    parent: Inode


def crc32c(data):
    """CRC-32C, start value 0xFFFFFFFF, no final inversion."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


def device_number(encoded):
    """(major, minor) of the kernel's new_encode_dev."""
    return encoded >> 8 & 0xFFF, encoded & 0xFF | encoded >> 12 & 0xFFF00


class Erofs:
    """A reader of one image. `strict` is off only to read images of other writers, in tests."""

    def __init__(self, flat, name, strict=True):
        self.flat, self.name, self.strict = flat, name, strict
        self.inodes = {}
        self.super = self._read_super()

    def _read_super(self):
        what = f"{self.name}, superblock"
        raw = bytes(self.flat.read_meta(SUPER_AT, SUPER.size))
        (magic, checksum, compat, blkszbits, extslots, root_nid, inos, seconds, nanos, blocks, meta_blkaddr,
         xattr_blkaddr, uuid, volume, incompat, rest) = SUPER.unpack(raw)
        require_equal(what, "magic", magic, MAGIC)
        require_equal(what, "blkszbits", blkszbits, 12)
        block = bytearray(self.flat.read_meta(SUPER_AT, BLOCK - SUPER_AT))
        block[4:8] = bytes(4)
        require_equal(what, "checksum", checksum, crc32c(block))
        seconds = struct.unpack("<q", struct.pack("<Q", seconds))[0]
        if self.strict:
            require_equal(what, "feature_compat", compat, 3)
            require_equal(what, "feature_incompat", incompat, 4)
            require_equal(what, "meta_blkaddr, sb_extslots", (meta_blkaddr, extslots), (0, 0))
            require_equal(what, "volume_name and reserved fields", volume + rest, bytes(60))
            require_equal(what, "root_nid", root_nid, INODES_AT // 32)
            require_equal(what, "blocks", blocks, self.flat.blocks)
            require(nanos < 10**9, what, f"build_time_nsec is {nanos}")
        return Super(checksum, root_nid, inos, (seconds, nanos), blocks, xattr_blkaddr, uuid, incompat)

    def inode(self, nid):
        """The inode of this number; its place was checked."""
        if nid not in self.inodes:
            self.inodes[nid] = self._read_inode(nid)
        return self.inodes[nid]

    def _read_inode(self, nid):
        what, at = f"{self.name}, inode {nid}", nid * 32
        require(not self.strict or at >= INODES_AT, what, "lies before the inode area")
        form, = struct.unpack("<H", self.flat.read_meta(at, 2))
        require(form & ~0xF == 0, what, f"unknown bits in i_format {form:#x}")
        layout = form >> 1
        require(layout in (FLAT_PLAIN, FLAT_INLINE, CHUNK_BASED), what, f"data layout {layout}")
        if form & 1:
            (_, icount, mode, reserved, size, union, ino, uid, gid, seconds, nanos, nlink,
             rest) = EXTENDED.unpack(self.flat.read_meta(at, EXTENDED.size))
            mtime, reserved = (seconds, nanos), (reserved, rest.strip(b"\0"))
        else:
            (_, icount, mode, nlink, size, reserved, union, ino, uid, gid,
             rest) = COMPACT.unpack(self.flat.read_meta(at, COMPACT.size))
            mtime, reserved = self.super.mtime, (reserved, rest)
        require(not any(reserved), what, "reserved fields are not zero")
        require(mtime[1] < 10**9, what, f"mtime has {mtime[1]} nanoseconds")
        require(stat.S_IFMT(mode) in FILE_TYPES.values(), what, f"mode {mode:o} has no known file type")
        body = 12 + 4 * (icount - 1) if icount else 0
        inode = Inode(nid, at, 64 if form & 1 else 32, layout, body, mode, nlink, size, union, ino, uid, gid, mtime)
        self._check_form(inode, what)
        return inode

    def _check_form(self, inode, what):
        """The data layout and the size that the file type allows (table in section 6.2)."""
        kind = inode.kind
        require(inode.size <= FILE_BYTES, what, f"size {inode.size}")
        if kind == stat.S_IFREG:
            require(not self.strict or inode.layout != FLAT_INLINE, what, "file data is inline")
        else:
            require(inode.layout != CHUNK_BASED, what, "only regular files have block maps")
        if kind == stat.S_IFLNK:
            require(0 < inode.size <= TARGET_BYTES, what, f"symlink of {inode.size} bytes")
        if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            require_equal(what, "size, data layout", (inode.size, inode.layout), (0, FLAT_PLAIN))

    def xattrs(self, inode):
        """[(full name, value, is it shared)] in stored order."""
        if not inode.body:
            return []
        what = f"{self.name}, inode {inode.nid}, xattrs"
        body = self.flat.read_meta(inode.at + inode.size_of_inode, inode.body)
        shared = body[4]
        require(body[:4] == bytes(4) or not self.strict, what, "name filter is not 0")
        require(body[5:12] == bytes(7), what, "reserved bytes are not zero")
        at = 12 + 4 * shared
        require(at <= len(body), what, "more shared ids than the body holds")
        found = []
        for number, in struct.iter_unpack("<I", body[12:at]):
            require(self.super.xattr_blkaddr > 0 or not self.strict, what, "shared id without a shared area")
            start = self.super.xattr_blkaddr * BLOCK + 4 * number
            head = self.flat.read_meta(start, 4)
            length = 4 + head[0] + int.from_bytes(head[2:4], "little")
            found.append((*self._xattr(self.flat.read_meta(start, length), what), True))
        while at < len(body):
            require(at + 4 <= len(body), what, "entry leaves the body")
            length = 4 + body[at] + int.from_bytes(body[at + 2:at + 4], "little")
            end = at + (length + 3 & ~3)
            require(end <= len(body), what, "entry leaves the body")
            require(not any(body[at + length:end]), what, "padding of an entry is not zero")
            found.append((*self._xattr(body[at:at + length], what), False))
            at = end
        require(len({name for name, _, _ in found}) == len(found), what, "a name occurs twice")
        return found

    def _xattr(self, entry, what):
        require(entry[1] in PREFIXES, what, f"unknown prefix index {entry[1]}")
        prefix, rest = PREFIXES[entry[1]], bytes(entry[4:4 + entry[0]])
        require((rest == b"") == (entry[1] in (2, 3)) and b"\0" not in rest, what, f"name {rest!r} after {prefix!r}")
        require(len(prefix + rest) <= NAME_BYTES, what, "name is too long")
        return prefix + rest, bytes(entry[4 + entry[0]:])

    def content(self, inode):
        """The bytes of a directory or symlink (or, of other writers, of an inline file)."""
        what = f"{self.name}, inode {inode.nid}"
        require(self.strict is False or inode.size <= len(self.flat.parts[0][3]), what, f"size {inode.size}")
        if inode.layout == FLAT_PLAIN:
            return bytes(self._blocks(inode, inode.size, what))
        tail = inode.size % BLOCK
        full = inode.size - tail
        require(tail > 0, what, "FLAT_INLINE without a tail")
        require(inode.after // BLOCK == (inode.after + tail - 1) // BLOCK, what, "inline tail crosses a block")
        return bytes(self._blocks(inode, full, what)) + bytes(self.flat.read_meta(inode.after, tail))

    def _blocks(self, inode, length, what):
        if not length:
            return b""
        start = inode.union * BLOCK
        padded = self.flat.read_meta(start, -(-length // BLOCK) * BLOCK)
        require(not any(padded[length:]) or not self.strict, what, "bytes behind the end are not zero")
        return padded[:length]

    def runs(self, inode):
        """[(bytes of the file, first block or NULL)] of a regular file, a run for each map entry."""
        what = f"{self.name}, inode {inode.nid}"
        if inode.size == 0:
            return []
        if inode.layout == FLAT_PLAIN:
            return [(inode.size, inode.union)]
        require(inode.layout == CHUNK_BASED, what, "file data is inline")
        require(inode.union & ~0x1F == 0, what, f"unknown bits in the chunk format {inode.union:#x}")
        step = BLOCK << inode.union
        count = -(-inode.size // step)
        require(count <= MAP_ENTRIES, what, f"block map with {count} entries")
        at = inode.after + 3 & ~3
        entries = [entry for entry, in struct.iter_unpack("<I", self.flat.read_meta(at, 4 * count))]
        return [(min(step, inode.size - i * step), entry) for i, entry in enumerate(entries)]

    def pieces(self, inode, most=1 << 20):
        """The bytes of a regular file in pieces; None for a piece whose device is not at hand."""
        if inode.layout == FLAT_INLINE:
            yield self.content(inode)
            return
        zeros = bytes(most)
        for length, block in self.runs(inode):
            whole = None if block == NULL else self.flat.read_data(block, length)
            for at in range(0, length, most):
                size = min(most, length - at)
                yield zeros[:size] if block == NULL else None if whole is None else whole[at:at + size]

    def dirents(self, inode):
        """[(name, nid, file type)] in stored order, with . and .."""
        what, data = f"{self.name}, inode {inode.nid}", self.content(inode)
        found = []
        for start in range(0, len(data), BLOCK):
            found.extend(self._dirent_block(data[start:start + BLOCK], what, start + BLOCK >= len(data)))
        names = [name for name, _, _ in found]
        require(all(a < b for a, b in zip(names, names[1:])), what, "directory entries are not sorted")
        return found

    def _dirent_block(self, block, what, last):
        require(len(block) >= 12, what, "directory block without an entry")
        first, = struct.unpack("<H", block[8:10])
        require(first % 12 == 0 and 12 <= first <= len(block), what, f"first name of a directory block at {first}")
        rows = list(DIRENT.iter_unpack(block[:first]))
        ends = [row[1] for row in rows[1:]] + [len(block)]
        require_equal(what, "start of the names", rows[0][1], first)
        for number, (nid, start, kind, reserved) in enumerate(rows):
            require(first <= start <= ends[number], what, "names of a directory are not in order")
            name = block[start:ends[number]]
            if number == len(rows) - 1 and not (last and self.strict):
                name = name.rstrip(b"\0")
            require(1 <= len(name) <= NAME_BYTES and b"\0" not in name and b"/" not in name, what, f"name {name!r}")
            require(kind in FILE_TYPES and reserved == 0, what, f"entry {name!r} has file type {kind}")
            yield name, nid, kind

    def walk(self):
        """All names in path order (section 6.1), the root first. Each directory is visited once."""
        root = self.inode(self.super.root_nid)
        require_equal(f"{self.name}, root", "file type", root.kind, stat.S_IFDIR)
        seen, stack = {root.nid}, [Node(b"", root, root)]
        while stack:
            node = stack.pop()
            yield node
            if node.inode.kind != stat.S_IFDIR:
                continue
            require(node.path.count(b"/") < DEPTH, f"{self.name}, {node.path!r}", "the tree is too deep")
            for child in reversed(list(self._children(node))):
                if child.inode.kind == stat.S_IFDIR:
                    require(child.inode.nid not in seen, f"{self.name}, {child.path!r}", "directory has two parents")
                    seen.add(child.inode.nid)
                stack.append(child)

    def _children(self, node):
        what, dots = f"{self.name}, directory {node.path!r}", set()
        for name, nid, kind in self.dirents(node.inode):
            if name in (b".", b".."):
                expected = node.inode.nid if name == b"." else node.parent.nid
                require_equal(what, f"nid of {name!r}", nid, expected)
                require_equal(what, f"type of {name!r}", kind, 2)
                dots.add(name)
                continue
            inode = self.inode(nid)
            require_equal(what, f"type of {name!r}", FILE_TYPES[kind], inode.kind)
            yield Node(node.path + b"/" + name if node.path else name, inode, node.inode)
        require_equal(what, "entries . and ..", len(dots), 2)
