"""BLAKE3 in plain Python, from the specification, fast enough for images of some hundred megabytes.

Why our own: the reader needs values of subtrees (section 2 of docs/format.md, "groups"), which no hash
program prints, and it must run where only Python is installed.

Why it is fast: a Python integer has any length. One integer holds one 32-bit state word of *many* BLAKE3
chunks ("lanes"), 64 bits apart. Addition, xor and shifts then work on all lanes at once, and the spare 32
bits of each lane catch carries until a mask drops them. The work is: split every input into chunks of 1024
bytes, compress all chunks of equal block count together, then merge the chaining values level by level.
"""

import sys

CHUNK = 1024
BLOCK = 64
GROUP = 16 * 1024  # the group of docs/format.md section 2: a complete subtree of 16 chunks
LANES = 512  # lanes per run: integers of 4 KiB stay in the processor's cache

CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)

# State words mixed by the eight quarter-rounds of a round: four columns, then four diagonals.
QUARTERS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)


def _schedule():
    """Message word order of each of the seven rounds: the permutation applied again and again."""
    order, rounds = list(range(16)), []
    for _ in range(7):
        rounds.append(tuple(order))
        order = [order[i] for i in PERMUTATION]
    return tuple(rounds)


SCHEDULE = _schedule()


def digest(data):
    """The BLAKE3 hash of `data`, 32 bytes."""
    return digest_many([data])[0]


def digest_many(items):
    """The BLAKE3 hashes of many byte strings; hashing them together is what makes this fast."""
    return _trees([(item, 0, True) for item in items])


def group_values(data):
    """The chaining value of each 16 KiB group of `data`; of a single group it is the digest itself."""
    view = memoryview(data)
    if len(view) <= GROUP:
        return [digest(view)]
    return _trees([(view[at:at + GROUP], at // CHUNK, False) for at in range(0, len(view), GROUP)])


def combine(values):
    """The digest of the input whose groups have these chaining values."""
    if len(values) == 1:
        return values[0]
    return _merge([list(values)], [True])[0]


def _trees(jobs):
    """The subtree value of each job (bytes, number of its first chunk, is it the root of a hash)."""
    by_blocks = {}  # blocks of a chunk -> [(job, chunk in the job, chunk bytes, counter, root flag)]
    trees = []
    for number, (data, counter, root) in enumerate(jobs):
        view = memoryview(data)
        count = max(1, -(-len(view) // CHUNK))
        trees.append([None] * count)
        for i in range(count):
            chunk = view[i * CHUNK:(i + 1) * CHUNK]
            blocks = max(1, -(-len(chunk) // BLOCK))
            flag = ROOT if root and count == 1 else 0
            by_blocks.setdefault(blocks, []).append((number, i, chunk, counter + i, flag))
    for blocks, chunks in by_blocks.items():
        for at in range(0, len(chunks), LANES):
            part = chunks[at:at + LANES]
            for entry, value in zip(part, _compress_chunks(part, blocks)):
                trees[entry[0]][entry[1]] = value
    return _merge(trees, [root for _, _, root in jobs])


def _merge(trees, roots):
    """Merges neighbours level by level; a last one without a neighbour rises unchanged, so that the left
    subtree always holds the largest possible power of two of chunks."""
    while True:
        pairs = []
        for number, values in enumerate(trees):
            flag = PARENT | (ROOT if roots[number] and len(values) == 2 else 0)
            pairs.extend((number, values[i] + values[i + 1], flag) for i in range(0, len(values) - 1, 2))
        if not pairs:
            return [values[0] for values in trees]
        merged = [[] for _ in trees]
        for at in range(0, len(pairs), LANES):
            part = pairs[at:at + LANES]
            words = _words(b"".join(pair[1] for pair in part))
            values = _compress(len(part), _iv(len(part)), words, 16, 0, 0,
                               _lanes([BLOCK] * len(part)), _lanes([pair[2] for pair in part]))
            for pair, value in zip(part, _values(len(part), values)):
                merged[pair[0]].append(value)
        for number, values in enumerate(trees):
            if len(values) % 2:
                merged[number].append(values[-1])
        trees = merged


def _compress_chunks(chunks, blocks):
    """The chaining values of chunks that all have `blocks` blocks."""
    n = len(chunks)
    words = _words(b"".join(bytes(c[2]).ljust(blocks * BLOCK, b"\0") for c in chunks))
    low = _lanes([c[3] & 0xFFFFFFFF for c in chunks])
    high = _lanes([c[3] >> 32 for c in chunks])
    full = _lanes([BLOCK] * n)
    last = _lanes([len(c[2]) - (blocks - 1) * BLOCK for c in chunks])
    value = _iv(n)
    for i in range(blocks):
        end = i == blocks - 1
        common = (CHUNK_START if i == 0 else 0) | (CHUNK_END if end else 0)
        flags = _lanes([common | (c[4] if end else 0) for c in chunks])
        value = _compress(n, value, words[i * 16:], blocks * 16, low, high, last if end else full, flags)
    return _values(n, value)


def _compress(n, cv, words, stride, low, high, length, flags):
    """The compression function on n lanes. Lane j reads its 16 message words at words[stride * j]."""
    mask = _repeat(n, 0xFFFFFFFF)
    m = [_spread(words[i::stride], n) for i in range(16)]
    v = list(cv) + _iv(n)[:4] + [low, high, length, flags]
    for order in SCHEDULE:
        for q, (ia, ib, ic, id_) in enumerate(QUARTERS):
            a, b, c, d = v[ia], v[ib], v[ic], v[id_]
            a = (a + b + m[order[2 * q]]) & mask
            d ^= a
            d = (d >> 16 | d << 16) & mask
            c = (c + d) & mask
            b ^= c
            b = (b >> 12 | b << 20) & mask
            a = (a + b + m[order[2 * q + 1]]) & mask
            d ^= a
            d = (d >> 8 | d << 24) & mask
            c = (c + d) & mask
            b ^= c
            b = (b >> 7 | b << 25) & mask
            v[ia], v[ib], v[ic], v[id_] = a, b, c, d
    return [v[i] ^ v[i + 8] for i in range(8)]


def _words(buffer):
    """The buffer as 32-bit words in the order of the machine, which has to be little-endian."""
    if sys.byteorder != "little":
        raise NotImplementedError("this BLAKE3 needs a little-endian machine")
    return memoryview(buffer).cast("I")


def _spread(words, n):
    """One integer with the first n words, 64 bits apart."""
    wide = bytearray(8 * n)
    memoryview(wide).cast("I")[::2] = words[:n]
    return int.from_bytes(wide, "little")


def _lanes(numbers):
    return int.from_bytes(b"".join(number.to_bytes(8, "little") for number in numbers), "little")


def _repeat(n, number, cache={}):
    if (n, number) not in cache:
        cache[n, number] = int.from_bytes(number.to_bytes(8, "little") * n, "little")
    return cache[n, number]


def _iv(n):
    return [_repeat(n, word) for word in IV]


def _values(n, lanes):
    """The chaining value of every lane as 32 bytes."""
    out = bytearray(32 * n)
    words = memoryview(out).cast("I")
    for i, lane in enumerate(lanes):
        words[i::8] = memoryview(lane.to_bytes(8 * n, "little")).cast("I")[::2]
    return [bytes(out[at:at + 32]) for at in range(0, len(out), 32)]
