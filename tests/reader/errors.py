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
        if isinstance(found, list) and isinstance(expected, list):
            raise ReaderError(what, _first_difference(field, found, expected))
        raise ReaderError(what, f"{field} is {_show(found)}, expected {_show(expected)}")


def _first_difference(field, found, expected):
    """Lists can be long: only the first entry that differs is worth printing."""
    at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
    shown = [_show(values[at]) if at < len(values) else "the end" for values in (found, expected)]
    return f"{field}: entry {at} of {len(found)} is {shown[0]}, expected {shown[1]}"


def _show(value):
    return value.hex() if isinstance(value, (bytes, bytearray)) else value
