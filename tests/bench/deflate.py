"""What `compression = "no_context_takeover"` costs in bytes: recordings, compressed as servers do it.

    python -m tests.bench.deflate [RECORDING ...]

Without arguments it takes the bundled recordings. The sizes are those on the wire, frame headers included, at zlib's default
level and the largest window. Messages that the exchange compresses itself are left out: deflate gains nothing there.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterable

from wsadapter.testing import bundled, load_recording

_END = b"\x00\x00\xff\xff"


def compressed(messages: Iterable[bytes], *, takeover: bool) -> int:
    """Bytes on the wire."""
    total, stream = 0, zlib.compressobj(wbits=-15)
    for message in messages:
        if not takeover:
            stream = zlib.compressobj(wbits=-15)
        total += framed(len(stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH)) - len(_END))
    return total


def framed(size: int) -> int:
    """A payload with the header of a server's frame (RFC 6455 §5.2)."""
    return size + (2 if size < 126 else 4 if size < 1 << 16 else 10)


def main() -> None:
    """One line for each recording, then all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", default=bundled())
    print(f"{'recording':22}{'messages':>9}{'mean size':>10}{'takeover':>10}{'none':>8}{'none/takeover':>15}")
    totals = [0, 0, 0, 0]
    for name in parser.parse_args().recordings:
        messages = [recorded.payload for recorded in load_recording(name) if not recorded.binary]
        if not messages:
            continue
        sizes = len(messages), sum(map(framed, map(len, messages)))
        row = [*sizes, compressed(messages, takeover=True), compressed(messages, takeover=False)]
        totals = [total + part for total, part in zip(totals, row, strict=True)]
        show(name.rpartition("/")[2], row)
    show("all", totals)


def show(name: str, row: list[int]) -> None:
    """How large it is in percent of what it is without compression."""
    count, plain, takeover, none = row
    print(f"{name:22}{count:9}{plain / count:10.0f}{takeover / plain:10.1%}{none / plain:8.1%}{none / takeover:15.2f}")


if __name__ == "__main__":
    main()
