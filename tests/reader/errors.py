"""One error type, so that every refusal names the object that is wrong.

The command line turns it into exit code 3. Nothing else in this reader ends a run on bad data.
"""


class ReaderError(Exception):
    """`what` (a blob, a chunk, an inode, …) does not hold what docs/format.md promises."""

    def __init__(self, what, why):
        super().__init__(f"{what}: {why}")
        self.what = what
        self.why = why


def require(condition, what, why):
    """Refuses `what` for the reason `why` unless `condition` holds."""
    if not condition:
        raise ReaderError(what, why)


def require_equal(what, field, found, expected):
    """Refuses `what` unless its `field` has the expected value; both values stand in the message."""
    if found != expected:
        show = lambda v: v.hex() if isinstance(v, (bytes, bytearray)) else v
        raise ReaderError(what, f"{field} is {show(found)}, expected {show(expected)}")
