"""Metas, layer metas, packs and their maps (docs/format.md sections 2 to 5): bytes in, proven bytes out.

    meta blob --index--> meta --meta root--> device table, maps --chunk digests--> device bytes of each pack

What this module gives out was compared with a digest that was proven before.
"""

import hashlib
import mmap
import os
import struct
from dataclasses import dataclass

import b3
import hashing
import limits
import zstd_frames
from errors import require, require_equal
from limits import BLOCK

FRAME_INPUT = 128 * limits.KIB  # meta bytes in each frame of a meta or layer meta
HASH_BATCH = 32 * limits.MIB    # bytes of chunks hashed together

META_FOOTER = struct.Struct("<8sIIIIQQ24s")
LAYER_FOOTER = struct.Struct("<8sIIIIIII28s")
PACK_FOOTER = struct.Struct("<8sIIQQII32s")
INDEX_END = struct.Struct("<8sQII")
DEVICE_ROW = struct.Struct("<32sIIQ")
MAP_ROW = struct.Struct("<I32s")
REFERENCE_ROW = struct.Struct("<32sI")
FILE_ROW = struct.Struct("<32sII")


@dataclass
class Device:
    """A row of the device table with its maps."""
    name: str
    id: bytes
    blocks: int
    chunks: list        # of (blocks, digest)
    frames: list        # of compressed lengths
    frame_bytes: int


@dataclass
class Meta:
    data: memoryview
    erofs_blocks: int
    devices: list


@dataclass
class LayerMeta:
    data: memoryview
    erofs_blocks: int
    device: Device
    references: list    # of (device id, blocks)
    files: list         # of (digest, first block, length)


def open_meta(blob, meta_root):
    """The uncompressed meta, proven against the meta root, with the maps that it holds."""
    length, groups, end = _check_index(blob, meta_root)
    zstd_frames.check_frames(blob.data[:end], blob.name, length, FRAME_INPUT)
    data = _map(zstd_frames.decompress_file(blob.path, blob.name, 0, end))
    require_equal(blob.name, "uncompressed length", len(data), length)
    require_equal(blob.name, "diff_id", "sha256:" + hashlib.sha256(data).hexdigest(), blob.diff_id)
    for number, (found, expected) in enumerate(zip(b3.group_values(data), groups)):
        require_equal(f"meta, group {number}", "chaining value", found, expected)
    require_equal(blob.name, "BLAKE3", hashing.digest(data), meta_root)
    return parse_meta(data)


def _check_index(blob, meta_root):
    """(length of the meta, chaining values of its groups, end of its frames) by the index in the blob."""
    what = "index of the meta"
    require(len(blob.data) >= 8 + INDEX_END.size, what, "the blob is too short for an index")
    magic, length, frames, groups = INDEX_END.unpack(blob.data[-INDEX_END.size:])
    require_equal(what, "magic", magic, b"DIMSUMI1")
    require(0 < length <= limits.META_BYTES and length % BLOCK == 0, what, f"length {length} of the meta")
    require_equal(what, "frames", frames, -(-length // FRAME_INPUT))
    require_equal(what, "groups", groups, -(-length // b3.GROUP))
    payload = 4 * frames + 32 * groups + INDEX_END.size
    end = len(blob.data) - payload - 8
    require(end >= 0, what, "is longer than the blob")
    index = zstd_frames.skippable(blob.data, end, zstd_frames.SKIPPABLE_META_INDEX, what)
    require_equal(what, "length", len(index), payload)
    lengths = struct.unpack(f"<{frames}I", index[:4 * frames])
    found = zstd_frames.check_frames(blob.data[:end], blob.name, length, FRAME_INPUT)
    require_equal(what, "frame lengths", list(lengths), found)
    values = [bytes(index[at:at + 32]) for at in range(4 * frames, 4 * frames + 32 * groups, 32)]
    require_equal(what, "BLAKE3 of the chaining values", b3.combine(values), meta_root)
    return length, values, end


def parse_meta(data):
    """The parts of a proven meta, every count checked before it is used."""
    what = "meta"
    require(len(data) >= BLOCK and len(data) % BLOCK == 0, what, "is not a whole number of blocks")
    magic, version, flags, erofs_blocks, count, chunks, length, zeros = META_FOOTER.unpack(data[-64:])
    require_equal("meta footer", "magic", magic, b"DIMSUMM1")
    require_equal("meta footer", "version, flags", (version, flags), (1, 0))
    require_equal("meta footer", "zeros", zeros, bytes(24))
    require_equal("meta footer", "length of the meta", length, len(data))
    require(erofs_blocks > 0, "meta footer", "erofs_blocks is 0")
    require(count <= limits.PACKS and chunks <= count * limits.CHUNKS_PER_PACK, "meta footer", "too many chunks")
    at = erofs_blocks * BLOCK
    maps = at + DEVICE_ROW.size * count
    frames_at = maps + MAP_ROW.size * chunks
    _check_end(data, frames_at + 4 * chunks, what)
    devices = []
    for number in range(count):
        identity, blocks, own, frame_bytes = DEVICE_ROW.unpack_from(data, at + DEVICE_ROW.size * number)
        name = f"device {number}"
        require(own <= limits.CHUNKS_PER_PACK and maps + MAP_ROW.size * own <= len(data), name, "too many chunks")
        device = _device(name, data[maps:maps + MAP_ROW.size * own], data[frames_at:frames_at + 4 * own], blocks)
        require_equal(name, "device id", device.id, identity)
        require_equal(name, "length of all frames", device.frame_bytes, frame_bytes)
        maps, frames_at = maps + MAP_ROW.size * own, frames_at + 4 * own
        devices.append(device)
    require_equal("meta footer", "chunks of all devices", sum(len(d.chunks) for d in devices), chunks)
    total = len(data) // BLOCK + sum(d.blocks for d in devices)
    require(total <= limits.FLAT_BLOCKS, what, "flat image is too large")
    return Meta(data, erofs_blocks, devices)


def _device(name, rows, frame_rows, blocks):
    """A device from its two maps. Its id is computed here, from the rows."""
    chunks = list(MAP_ROW.iter_unpack(rows))
    for number, (length, _) in enumerate(chunks):
        require(1 <= length <= limits.CHUNK_BLOCKS, f"{name}, chunk {number}", f"has {length} blocks")
    require_equal(name, "blocks of all chunks", sum(length for length, _ in chunks), blocks)
    frames = [length for length, in struct.iter_unpack("<I", frame_rows)]
    for number, length in enumerate(frames):
        require(1 <= length <= limits.CHUNK_FRAME, f"{name}, frame {number}", f"has {length} bytes")
    return Device(name, hashing.digest(rows), blocks, chunks, frames, sum(frames))


def _check_end(data, end, what):
    """Between the last part and the footer there are only the zeros that fill the block."""
    footer = len(data) - 64
    require(end <= footer < end + BLOCK, what, "its parts and its length disagree")
    require(not any(data[end:footer]), what, "bytes before the footer are not zero")


def open_device(blob, device):
    """The device bytes of a pack, every chunk and the diff_id proven."""
    require(device.frame_bytes <= len(blob.data), blob.name, "its frames are longer than the blob")
    at = 0
    for number, ((blocks, _), length) in enumerate(zip(device.chunks, device.frames)):
        zstd_frames.check_frame(blob.data[at:at + length], f"{blob.name}, chunk {number}", blocks * BLOCK)
        at += length
    data = _map(zstd_frames.decompress_file(blob.path, blob.name))
    require_equal(blob.name, "device length", len(data), device.blocks * BLOCK)
    _check_chunks(blob.name, device, data)
    require_equal(blob.name, "diff_id", "sha256:" + hashlib.sha256(data).hexdigest(), blob.diff_id)
    return data


def _check_chunks(name, device, data):
    batch, size, at = [], 0, 0
    for number, (blocks, digest) in enumerate(device.chunks):
        batch.append((number, data[at:at + blocks * BLOCK], digest))
        at, size = at + blocks * BLOCK, size + blocks * BLOCK
        if size >= HASH_BATCH or number == len(device.chunks) - 1:
            for (chunk, _, expected), found in zip(batch, hashing.digests([entry[1] for entry in batch])):
                require_equal(f"{name}, chunk {chunk}", "BLAKE3", found, expected)
            batch, size = [], 0


def open_layer_meta(blob):
    """The layer meta of a pack, proven by the footer of the pack."""
    what = f"{blob.name}, footer"
    start = len(blob.data) - 8 - PACK_FOOTER.size
    require(start >= 0, what, "the blob is too short for a footer")
    footer = zstd_frames.skippable(blob.data, start, zstd_frames.SKIPPABLE_PACK_FOOTER, what)
    require_equal(what, "length", len(footer), PACK_FOOTER.size)
    magic, version, flags, offset, length, stored, reserved, digest = PACK_FOOTER.unpack(footer)
    require_equal(what, "magic", magic, b"DIMSUMP1")
    require_equal(what, "version, flags, reserved", (version, flags, reserved), (1, 0, 0))
    require_equal(what, "end of the layer meta", offset + 8 + stored, start)
    require(length <= limits.META_BYTES, what, "layer meta is too long")
    what = f"{blob.name}, layer meta"
    frames = zstd_frames.skippable(blob.data, offset, zstd_frames.SKIPPABLE_LAYER_META, what)
    require_equal(what, "compressed length", len(frames), stored)
    zstd_frames.check_frames(frames, what, length, FRAME_INPUT)
    data = _map(zstd_frames.decompress_file(blob.path, what, offset + 8, stored))
    require_equal(what, "uncompressed length", len(data), length)
    require_equal(what, "BLAKE3", hashing.digest(data), digest)
    layer = parse_layer_meta(data, what)
    require_equal(f"{blob.name}, footer", "offset of the layer meta", offset, layer.device.frame_bytes)
    return layer


def parse_layer_meta(data, what):
    """The parts of a proven layer meta."""
    require(len(data) >= BLOCK and len(data) % BLOCK == 0, what, "is not a whole number of blocks")
    (magic, version, flags, erofs_blocks, blocks, chunks, references, files,
     zeros) = LAYER_FOOTER.unpack(data[-64:])
    require_equal(what, "magic of the footer", magic, b"DIMSUML1")
    require_equal(what, "version, flags of the footer", (version, flags), (1, 0))
    require_equal(what, "zeros of the footer", zeros, bytes(28))
    require(chunks <= limits.CHUNKS_PER_PACK, what, "too many chunks")
    require(erofs_blocks > 0, what, "erofs_blocks is 0")
    cuts = [erofs_blocks * BLOCK]
    for width in (MAP_ROW.size * chunks, 4 * chunks, REFERENCE_ROW.size * references, FILE_ROW.size * files):
        cuts.append(cuts[-1] + width)
    _check_end(data, cuts[-1], what)
    device = _device(f"{what}, own device", data[cuts[0]:cuts[1]], data[cuts[1]:cuts[2]], blocks)
    return LayerMeta(data, erofs_blocks, device, list(REFERENCE_ROW.iter_unpack(data[cuts[2]:cuts[3]])),
                     list(FILE_ROW.iter_unpack(data[cuts[3]:cuts[4]])))


def _map(file):
    """The contents of a temporary file as memory; an empty file cannot be mapped."""
    with file:
        size = os.fstat(file.fileno()).st_size
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
