"""Cuts the files of a layer into chunks a second time, by section 7 alone, and compares with its pack.

That proves that the rules are exact: which slices and small files are new, where they lie, where bundles end.
Only what a layer meta and lower packs of the image show is known here. A pack that the image does not list may
have been referenced too; then the layer meta names a device that is not at hand and the layer is not checked.
"""

import stat
from dataclasses import dataclass, field

import hashing
from erofs import NULL
from errors import require, require_equal
from limits import BLOCK, MIB

HASH_BATCH = 32 * MIB


@dataclass
class Stores:
    """What the layers so far hold: digest -> (device id, block in the device), the lowest place first."""
    slice_size: int
    bundle_size: int
    slices: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)


def check_listed(erofs, nodes, devices):
    """Every pack of the image is used by its tree."""
    used = set()
    for node in nodes:
        if node.inode.kind == stat.S_IFREG:
            used.update(erofs.flat.part(block) for _, block in erofs.runs(node.inode) if block != NULL)
    for number in range(devices):
        require(number + 1 in used, f"pack {number}", "no block of it is used by the image")


def check_files(what, files, data):
    """Each row of the file table against the device bytes, padding included."""
    at, previous = 0, -1
    for number, (_, block, length) in enumerate(files):
        row = f"{what}, file table row {number}"
        require(length > 0 and block * BLOCK + length <= len(data), row, "lies outside the device")
        require(block > previous, row, "is out of order")
        previous = block + (length - 1) // BLOCK
        end = block * BLOCK + length
        require(not any(data[end:end + -end % BLOCK]), row, "padding is not zero")
    while at < len(files):
        batch, size = at, 0
        while at < len(files) and size < HASH_BATCH:
            size, at = size + files[at][2], at + 1
        found = hashing.digests([data[b * BLOCK:b * BLOCK + n] for _, b, n in files[batch:at]])
        for number, digest in enumerate(found, batch):
            require_equal(f"{what}, file table row {number}", "BLAKE3", digest, files[number][0])


def check_device(erofs, nodes, layer, data, stores):
    """Refuses a device that section 7 would not have made of this layer tree. Gives why it was not checked,
    or None. Adds what the layer holds to the stores."""
    inodes = list({node.inode.nid: node.inode for node in nodes if node.inode.kind == stat.S_IFREG}.values())
    missing = any(part[3] is None for part in erofs.flat.parts)
    if not missing:
        plan = _Plan(layer.device.id, stores)
        for inode, identities in _identities(erofs, inodes, stores):
            plan.add(inode, identities)
        plan.finish()
        plan.compare(erofs, layer)
    first_file = layer.files[0][1] if layer.files else layer.device.blocks
    at = 0
    for blocks, digest in layer.device.chunks:
        if at < first_file:
            stores.slices.setdefault(digest, (layer.device.id, at))
        at += blocks
    for digest, block, _ in layer.files:
        stores.files.setdefault(digest, (layer.device.id, block))
    return "not checked: it references packs that the image does not list" if missing else None


def cut(size, slice_size):
    """The lengths of the slices of a file, tail rule included."""
    lengths = [slice_size] * (size // slice_size)
    tail = size % slice_size
    if tail and lengths and tail < slice_size // 4:
        lengths[-1] += tail
    elif tail:
        lengths.append(tail)
    return lengths


def _identities(erofs, inodes, stores):
    """For each file its slices (a small file is one) as (length, BLAKE3 or None for zeros), hashed in batches."""
    waiting, size = [], 0
    for inode in inodes:
        content = b"".join(erofs.pieces(inode))
        small = inode.size <= stores.bundle_size // 2
        lengths = [inode.size] if small else cut(inode.size, stores.slice_size)
        at, pieces = 0, []
        for length in lengths if inode.size else []:
            piece = content[at:at + length]
            at += length
            zero = piece.count(0) == length
            pieces.append((length, None if zero else piece if small else piece + bytes(-length % BLOCK)))
        waiting.append((inode, pieces))
        size += len(content)
        if size >= HASH_BATCH:
            yield from _hashed(waiting)
            waiting, size = [], 0
    yield from _hashed(waiting)


def _hashed(waiting):
    found = iter(hashing.digests([data for _, pieces in waiting for _, data in pieces if data is not None]))
    for inode, pieces in waiting:
        yield inode, [(length, None if data is None else next(found)) for length, data in pieces]


class _Plan:
    """The device of a layer as section 7 makes it, and where each file finds its bytes."""

    def __init__(self, identity, stores):
        self.id, self.stores = identity, stores
        self.chunks = []        # new slices: (blocks, digest)
        self.slice_at = {}      # digest -> block in the device
        self.blocks = 0         # of the new slices, then of all
        self.small = []         # new small files: (digest, length)
        self.small_seen = set()
        self.files = []         # the file table
        self.small_at = {}
        self.uses = []          # (inode, [(length, None | ("slice" or "small", digest))])

    def add(self, inode, identities):
        small = inode.size <= self.stores.bundle_size // 2
        places = []
        for length, digest in identities:
            places.append((length, digest and ("small" if small else "slice", digest)))
            if digest is None:
                continue
            if small and digest not in self.stores.files and digest not in self.small_seen:
                self.small_seen.add(digest)
                self.small.append((digest, length))
            if not small and digest not in self.stores.slices and digest not in self.slice_at:
                self.slice_at[digest] = self.blocks
                self.chunks.append((-(-length // BLOCK), digest))
                self.blocks += self.chunks[-1][0]
        self.uses.append((inode, places))

    def finish(self):
        """The bundles, behind the slices."""
        self.slice_blocks = self.blocks
        m, open_blocks, self.bundles = self.stores.bundle_size // 8192, 0, []
        for digest, length in self.small:
            b = -(-length // BLOCK)
            if open_blocks and open_blocks + b > 3 * m:
                self.bundles.append(open_blocks)
                open_blocks = 0
            self.small_at[digest] = self.blocks
            self.files.append((digest, self.blocks, length))
            self.blocks += b
            open_blocks += b
            if open_blocks >= m and int.from_bytes(digest[:8], "little") % m < b:
                self.bundles.append(open_blocks)
                open_blocks = 0
        if open_blocks:
            self.bundles.append(open_blocks)

    def compare(self, erofs, layer):
        what = f"{erofs.name}, compared with section 7"
        slices, rest = layer.device.chunks[:len(self.chunks)], layer.device.chunks[len(self.chunks):]
        require_equal(what, "new slices", slices, self.chunks)
        require_equal(what, "bundles", [blocks for blocks, _ in rest], self.bundles)
        require_equal(what, "file table", layer.files, self.files)
        references = []
        for inode, places in self.uses:
            expected = []
            for length, place in places:
                identity, block = self._where(place) if place else (None, NULL)
                if identity not in (None, self.id, *references):
                    references.append(identity)
                expected.append((length, identity, block))
            self._compare_runs(erofs, inode, expected, [self.id, *references])
        require_equal(what, "references", [identity for identity, _ in layer.references], references)

    def _where(self, place):
        """(device id, block) of a slice or small file: a lower layer first, then this one."""
        kind, digest = place
        lower, own = (self.stores.files, self.small_at) if kind == "small" else (self.stores.slices, self.slice_at)
        return lower[digest] if digest in lower else (self.id, own[digest])

    def _compare_runs(self, erofs, inode, expected, devices):
        """The addresses of the file at the start of each slice; a run of the file may hold many."""
        runs, at, start = erofs.runs(inode), 0, 0
        number = 0
        for length, identity, block in expected:
            while start + runs[number][0] <= at:
                start += runs[number][0]
                number += 1
            found = runs[number][1]
            if found != NULL:
                found += (at - start) // BLOCK
            wanted = NULL if identity is None else erofs.flat.parts[1 + devices.index(identity)][0] + block
            require_equal(f"{erofs.name}, inode {inode.nid}", f"block at byte {at}", found, wanted)
            at += length
