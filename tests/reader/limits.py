"""The limits of docs/format.md section 9, by their names there. A reader checks a count before it uses it."""

KIB = 1024
MIB = 1024 * KIB
BLOCK = 4 * KIB

FLAT_BLOCKS = 2**32 - 2
PACKS = 128
CHUNK_BLOCKS = 2048
CHUNK_FRAME = 16 * MIB
CHUNKS_PER_PACK = 2**22
META_BYTES = 2**32 - 1
MANIFEST_BYTES = 4 * MIB
CONFIG_BYTES = 8 * MIB
FILE_BYTES = 2**44
MAP_ENTRIES = 2**24
NAME_BYTES = 255
TARGET_BYTES = 4095
XATTR_BODY = 65535 * 4
DEPTH = 1024
