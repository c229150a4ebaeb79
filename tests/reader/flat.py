"""The address space of an EROFS image: one meta (or layer meta), then devices (sections 1 and 3.1).

An address that leaves its part is refused: file data never lies in the meta nor across two devices.
"""

from errors import ReaderError, require
from limits import BLOCK


class Flat:
    """Parts in order, each (name, bytes or None, blocks). None is a device that is named but not at hand."""

    def __init__(self, parts):
        self.parts = []
        at = 0
        for name, data, blocks in parts:
            self.parts.append((at, at + blocks, name, data))
            at += blocks
        self.blocks = at

    def part(self, block):
        """The number of the part that holds this block."""
        for number, (start, end, _, _) in enumerate(self.parts):
            if start <= block < end:
                return number
        raise ReaderError(f"flat address {block}", f"is past the end ({self.blocks} blocks)")

    def read_meta(self, offset, length):
        """Bytes of the first part, by byte offset."""
        data = self.parts[0][3]
        require(0 <= offset and offset + length <= len(data), f"meta offset {offset}", f"+ {length} is past its end")
        return data[offset:offset + length]

    def read_data(self, block, length):
        """Bytes of a device from this block on; None if the device is not at hand."""
        start, end, name, data = self.parts[self.check_run(block, -(-length // BLOCK))]
        return None if data is None else data[(block - start) * BLOCK:(block - start) * BLOCK + length]

    def check_run(self, block, blocks):
        """The number of the device that holds this run of blocks."""
        number = self.part(block)
        require(number > 0, f"flat address {block}", "file data lies in the meta")
        require(block + blocks <= self.parts[number][1], f"flat address {block}",
                f"+ {blocks} blocks leaves {self.parts[number][2]}")
        return number
