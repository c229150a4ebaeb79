"""zstd frames: their boundaries read from the format, their contents from `zstd` (or python3-zstandard).

Boundaries are found without decompressing (frame header, then the 3-byte headers of the blocks), so that
lengths can be compared with the maps first: a frame that claims another length is never decompressed.
"""

import shutil
import subprocess
import tempfile

from errors import ReaderError, require, require_equal

MAGIC = 0xFD2FB528
SKIPPABLE_LAYER_META = 0x184D2A5C
SKIPPABLE_PACK_FOOTER = 0x184D2A5D
SKIPPABLE_META_INDEX = 0x184D2A5E


def check_frame(data, what, length):
    """Refuses `data` unless it is exactly one frame, without checksum and dictionary, that says in its
    header that it holds `length` bytes."""
    size, end = _frame_header(data, what)
    require_equal(what, "content size in the frame header", size, length)
    require_equal(what, "end of the zstd frame", end, len(data))


def _frame_header(data, what):
    """(content size, end of the frame) of the frame at the start of `data`."""
    number = lambda at, length: int.from_bytes(_take(data, at, length, what), "little")
    require_equal(what, "frame magic", number(0, 4), MAGIC)
    descriptor = number(4, 1)
    single_segment = descriptor >> 5 & 1
    require(descriptor & 0x08 == 0, what, "reserved bit of the frame header is set")
    require(descriptor & 0x04 == 0, what, "frame has a checksum")
    require(descriptor & 0x03 == 0, what, "frame names a dictionary")
    at = 5 + (0 if single_segment else 1)
    width = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    require(width > 0, what, "frame has no content size in its header")
    size = number(at, width) + (256 if width == 2 else 0)
    at += width
    while True:
        block = number(at, 3)
        kind, stored = block >> 1 & 3, block >> 3
        require(kind != 3, what, "reserved block type")
        at += 3 + (1 if kind == 1 else stored)  # an RLE block stores one byte
        if block & 1:
            require(at <= len(data), what, "frame is cut off")
            return size, at


def _take(data, at, length, what):
    require(at + length <= len(data), what, "frame is cut off")
    return bytes(data[at:at + length])


def skippable(data, at, magic, what):
    """The payload of the skippable frame at `at`."""
    require_equal(what, "magic of the skippable frame", int.from_bytes(_take(data, at, 4, what), "little"), magic)
    length = int.from_bytes(_take(data, at + 4, 4, what), "little")
    require(at + 8 + length <= len(data), what, "skippable frame is cut off")
    return data[at + 8:at + 8 + length]


def check_frames(data, what, total, piece):
    """Walks frames that hold `piece` bytes each (the last one less, `total` in all) and fill `data`.
    Gives the compressed lengths."""
    lengths, at, left = [], 0, total
    while at < len(data):
        name = f"{what}, frame {len(lengths)}"
        size, end = _frame_header(data[at:], name)
        require_equal(name, "content size in the frame header", size, min(piece, left))
        lengths.append(end)
        at, left = at + end, left - size
    require_equal(what, "bytes missing in its frames", left, 0)
    return lengths


def decompress_file(path, what, offset=0, length=None):
    """An unnamed temporary file with what `zstd -dc` prints for this part of a file."""
    out = tempfile.TemporaryFile(prefix="dimsum-reader-")
    try:
        with open(path, "rb") as source, _part(source, offset, length) as data:
            _decompress(data, out, what)
    except ReaderError:
        out.close()
        raise
    out.seek(0)
    return out


def _decompress(data, out, what):
    if not shutil.which("zstd"):
        _decompress_with_module(data, out, what)
        return
    run = subprocess.run(["zstd", "-dcq"], stdin=data, stdout=out, stderr=subprocess.PIPE)
    require(run.returncode == 0, what, f"zstd refuses it: {run.stderr.decode(errors='replace').strip()}")


def _decompress_with_module(data, out, what):
    import zstandard
    reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
    try:
        while piece := reader.read(1 << 20):
            out.write(piece)
    except zstandard.ZstdError as error:
        raise ReaderError(what, f"zstd refuses it: {error}") from error


def _part(source, offset, length):
    """`source` itself, or a temporary file with a part of it: a child process reads a file to its end."""
    if offset == 0 and length is None:
        return source
    source.seek(offset)
    part = tempfile.TemporaryFile(prefix="dimsum-reader-")
    part.write(source.read(length))
    part.seek(0)
    return part
