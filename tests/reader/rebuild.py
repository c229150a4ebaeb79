"""Builds an EROFS image a second time, from the tree that was read and section 6 alone, and compares.

That proves that the writer's rules in docs/format.md are exact: one tree has one image. The steps are the
order of the section: number the inodes (the walk did), vote for the common mtime, choose forms and layouts,
share attributes, give places, write bytes, seal with uuid and checksum.
"""

import stat
import struct
from dataclasses import dataclass, field

import erofs as format
import hashing
from errors import require, require_equal
from limits import BLOCK, MAP_ENTRIES

INLINE_MOST = 3072
COMPACT_ID, COMPACT_SIZE = 0xFFFF, 2**32
SHARED_IDS = 255
TYPE_OF = {kind: number for number, kind in format.FILE_TYPES.items()}


@dataclass
class Item:
    """One inode of the new image."""
    inode: format.Inode
    path: bytes
    xattrs: list
    names: list = field(default_factory=list)   # of a directory: (name, old nid, type)
    content: bytes = b""                        # of a directory or symlink; a directory gets it when nids are known
    length: int = 0                             # of that content
    extended: bool = False
    layout: int = 0
    union: int = 0
    body: bytes = b""
    tail: int = 0                               # inline bytes
    map: list = field(default_factory=list)
    at: int = 0

    @property
    def fixed(self):
        """Bytes of inode, attributes and inline tail: all that may not cross a block boundary."""
        return (64 if self.extended else 32) + len(self.body) + self.tail


def check(old, nodes, erofs_blocks, slice_size, device_ids):
    """Refuses an image that the rules of section 6 would not have written."""
    items = _items(old, nodes)
    mtime = _common_mtime(items)
    shared = _share(items)
    for item in items:
        _choose(old, item, mtime, slice_size)
    end = _place(items)
    shared_block = -(-end // BLOCK) if shared else 0
    area = b"".join(shared)
    block = -(-end // BLOCK) + -(-len(area) // BLOCK)
    image = bytearray(block * BLOCK)
    image[shared_block * BLOCK:shared_block * BLOCK + len(area)] = area if shared else b""
    nids = {item.inode.nid: item.at // 32 for item in items}
    for number, item in enumerate(items):
        if item.inode.kind == stat.S_IFDIR:
            item.content = b"".join(_pack(part, nids) for part in _split(item.names))[:item.length]
        full = item.content[:len(item.content) - item.tail]
        if full:
            item.union = block
            padded = full + bytes(-len(full) % BLOCK)
            image += padded
            block += len(padded) // BLOCK
        _write(image, item, number, mtime)
    _seal(image, items, mtime, old.flat.blocks, shared_block, device_ids)
    _compare(old, image, items, erofs_blocks)


def _items(old, nodes):
    """The inodes in the order of their first names, with what they hold."""
    items = {}
    for node in nodes:
        inode = node.inode
        if inode.nid in items:
            continue
        xattrs = sorted((name, value) for name, value, _ in old.xattrs(inode))
        item = items[inode.nid] = Item(inode, node.path, xattrs)
        if inode.kind == stat.S_IFDIR:
            item.names = sorted(old.dirents(inode))
            parts = list(_split(item.names))
            item.length = BLOCK * (len(parts) - 1) + sum(12 + len(name) for name, _, _ in parts[-1])
        elif inode.kind == stat.S_IFLNK:
            item.content = old.content(inode)
            item.length = len(item.content)
    return list(items.values())


def _common_mtime(items):
    """The majority vote of section 6.2."""
    candidate, counter = None, 0
    for item in items:
        if counter == 0:
            candidate, counter = item.inode.mtime, 1
        else:
            counter += 1 if item.inode.mtime == candidate else -1
    return candidate


def _share(items):
    """Writes the xattr body of every item; gives the entries of the shared area."""
    count, ids, area, offset = {}, {}, [], 0
    for item in items:
        for pair in item.xattrs:
            count[pair] = count.get(pair, 0) + 1
    for item in items:
        numbers, inline = [], []
        for pair in item.xattrs:
            if count[pair] < 2 or len(numbers) == SHARED_IDS:
                inline.append(_entry(*pair))
                continue
            if pair not in ids:
                ids[pair] = offset // 4
                area.append(_entry(*pair))
                offset += len(area[-1])
            numbers.append(ids[pair])
        if item.xattrs:
            head = struct.pack("<IB7x", 0, len(numbers))
            item.body = head + struct.pack(f"<{len(numbers)}I", *numbers) + b"".join(inline)
    return area


def _entry(name, value):
    """An attribute entry, padded to 4 bytes."""
    index = next(i for i, prefix in format.PREFIXES.items() if name.startswith(prefix))
    rest = name[len(format.PREFIXES[index]):]
    entry = struct.pack("<BBH", len(rest), index, len(value)) + rest + value
    return entry + bytes(-len(entry) % 4)


def _choose(old, item, mtime, slice_size):
    """Form and data layout of the inode (section 6.2), tail (6.3) and map (6.6)."""
    inode = item.inode
    size = item.length or inode.size
    item.extended = (inode.mtime != mtime or max(inode.uid, inode.gid, inode.nlink) > COMPACT_ID
                     or size >= COMPACT_SIZE)
    if inode.kind in (stat.S_IFDIR, stat.S_IFLNK):
        tail = item.length % BLOCK
        if tail and item.fixed + tail <= INLINE_MOST:
            item.layout, item.tail = format.FLAT_INLINE, tail
    elif inode.kind in (stat.S_IFCHR, stat.S_IFBLK):
        item.union = inode.union
    elif inode.kind == stat.S_IFREG and inode.size:
        segments = _segments(old, inode)
        if len(segments) == 1 and segments[0][2] != format.NULL:
            item.union = segments[0][2]
        else:
            item.layout = format.CHUNK_BASED
            item.union, item.map = _block_map(segments, inode.size, slice_size)


def _segments(old, inode):
    """[(first block of the file, end, flat address or NULL)]: the longest runs, each null or in one device."""
    found, at = [], 0
    for length, block in old.runs(inode):
        end = at + -(-length // BLOCK)
        start, _, address = found[-1] if found else (0, 0, None)
        follows = found and (block == address if format.NULL in (block, address) else
                             block == address + at - start and old.flat.part(block) == old.flat.part(address))
        if follows:
            found[-1] = (start, end, address)
        else:
            found.append((at, end, block))
        at = end
    return found


def _block_map(segments, size, slice_size):
    """(k, entries): pieces of 2^k blocks as large as every piece can be one run."""
    blocks = -(-size // BLOCK)
    k = (slice_size // BLOCK).bit_length() - 1
    cuts = [start for start, _, _ in segments[1:]]
    while k < 31 and blocks > 1 << k and all(cut % (2 << k) == 0 for cut in cuts):
        k += 1
    entries, number = [], 0
    require(-(-blocks >> k) <= MAP_ENTRIES, "block map", "too many entries")
    for at in range(0, blocks, 1 << k):
        while segments[number][1] <= at:
            number += 1
        start, _, address = segments[number]
        entries.append(address if address == format.NULL else address + at - start)
    return k, entries


def _place(items):
    """Gives every item its place; the end of the inode area."""
    at = format.INODES_AT
    for item in items:
        at = -(-at // 32) * 32
        if at // BLOCK != (at + item.fixed - 1) // BLOCK:
            at = -(-at // BLOCK) * BLOCK
        item.at = at
        at += item.fixed + 4 * len(item.map)
    return at


def _split(names):
    """The entries of each directory block."""
    part, used = [], 0
    for entry in names:
        if used + 12 + len(entry[0]) > BLOCK:
            yield part
            part, used = [], 0
        part.append(entry)
        used += 12 + len(entry[0])
    yield part


def _pack(part, nids):
    """A directory block, filled up with zeros; the caller cuts the last one off where its names end."""
    at, head, tail = 12 * len(part), b"", b""
    for name, nid, kind in part:
        head += format.DIRENT.pack(nids[nid], at + len(tail), kind, 0)
        tail += name
    return (head + tail).ljust(BLOCK, b"\0")


def _write(image, item, number, mtime):
    """The bytes of the inode, its attributes, its tail or map."""
    inode = item.inode
    size = item.length or inode.size
    count = (len(item.body) - 12) // 4 + 1 if item.body else 0
    form = item.layout << 1 | item.extended
    if item.extended:
        raw = format.EXTENDED.pack(form, count, inode.mode, 0, size, item.union, number + 1, inode.uid, inode.gid,
                                   *inode.mtime, inode.nlink, bytes(16))
    else:
        raw = format.COMPACT.pack(form, count, inode.mode, inode.nlink, size, 0, item.union, number + 1, inode.uid,
                                  inode.gid, 0)
    raw += item.body + (item.content[len(item.content) - item.tail:] if item.tail else b"")
    raw += struct.pack(f"<{len(item.map)}I", *item.map)
    image[item.at:item.at + len(raw)] = raw


def _seal(image, items, mtime, flat_blocks, shared_block, device_ids):
    """The superblock; uuid and checksum last, because they cover the rest."""
    def put(checksum, uuid):
        seconds, = struct.unpack("<Q", struct.pack("<q", mtime[0]))
        image[format.SUPER_AT:format.SUPER_AT + format.SUPER.size] = format.SUPER.pack(
            format.MAGIC, checksum, 3, 12, 0, format.INODES_AT // 32, len(items), seconds, mtime[1], flat_blocks, 0,
            shared_block, uuid, bytes(16), 4, bytes(44))

    put(0, bytes(16))
    uuid = bytearray(hashing.digest(bytes(image) + b"".join(device_ids))[:16])
    uuid[6] = uuid[6] & 0x0F | 0x80
    uuid[8] = uuid[8] & 0x3F | 0x80
    put(0, bytes(uuid))
    put(format.crc32c(image[format.SUPER_AT:BLOCK]), bytes(uuid))


def _compare(old, image, items, erofs_blocks):
    """Names the first inode, or region, where the images differ."""
    what = f"{old.name}, compared with the image that section 6 describes"
    for item in items:
        require_equal(f"{what}, {item.path!r}", "nid", item.inode.nid, item.at // 32)
    require_equal(what, "erofs_blocks", erofs_blocks, len(image) // BLOCK)
    given = bytes(old.flat.read_meta(0, len(image)))
    # The superblock holds the uuid of everything, so a difference elsewhere is the better message.
    if given[format.INODES_AT:] != image[format.INODES_AT:]:
        at = next(i for i in range(format.INODES_AT, len(image)) if given[i] != image[i])
        owner = max((item for item in items if item.at <= at), key=lambda item: item.at)
        place = f"byte {at} (behind the start of {owner.path!r} by {at - owner.at})"
        require_equal(what, place, given[at], image[at])
    for at in range(format.INODES_AT):
        require_equal(what, f"byte {at}", given[at], image[at])
