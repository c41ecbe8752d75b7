"""The stage in front of the outbox if the endpoint has a decode hook. Reports go through the hook's queue too, so that reports
and messages keep their order."""

from __future__ import annotations

from wsadapter.contract.ipc.reports import Report
from wsadapter.worker.hooks.decode_thread import Decoder, Payloads
from wsadapter.worker.outbox import Outbox
from wsadapter.worker.session.actions import Deliver


class DecodeStage:
    """An `Output` that passes everything to the decoder and writes the decoder's results to the outbox. Not thread-safe."""

    def __init__(self, decoder: Decoder, outbox: Outbox) -> None:
        self._decoder = decoder
        self._outbox = outbox

    @property
    def full(self) -> bool:
        """True if no more data should be read, because too many bytes wait for the pipe or for the hook."""
        return bool(self._outbox.backlog) or (self._decoder.full and not self._outbox.closed)

    @property
    def drained(self) -> bool:
        """True if everything is in the pipe."""
        return not self._outbox.backlog and self._decoder.idle

    def stuck_for(self, now: float) -> float:
        """Seconds since the hook was called with the message that it has not returned yet; 0 if there is none."""
        return self._decoder.stuck_for(now)

    def report(self, report: Report) -> None:
        """Queues a report at this place in the stream."""
        self._decoder.put(report)

    def deliver(self, what: Deliver, received_at: int, position: int) -> None:
        """Queues messages at this place in the stream; `position`: the stream position at the beginning of the read's data."""
        read = what.read
        self._outbox.filtered(what.filtered)
        kept = [i for i in range(what.first, what.last) if i not in what.skipped]
        binary = set(read.binary)
        payloads = [read.payload(i) for i in kept]
        end = read.consumed if what.last == read.count else read.ends[what.last - 1]
        streams = [0] * len(kept) if what.streams is None else [what.streams[i] for i in kept]
        identities = None if what.identities is None else [what.identities[i] for i in kept]
        self._decoder.put(Payloads(received_at, position + end, payloads, [i in binary for i in kept], streams, identities))

    def flush(self) -> bool:
        """Writes the waiting bytes, then results of the decoder until the pipe is full; true if nothing is left for the
        pipe."""
        if not self._outbox.flush():
            return False
        while not self._outbox.backlog and (results := self._decoder.take()):
            for result in results:
                self._write(result)
        return not self._outbox.backlog

    def _write(self, result: Payloads | Report) -> None:
        if isinstance(result, Report):
            self._outbox.report(result)
            return
        self._outbox.filtered(result.filtered)
        if result.payloads:
            self._outbox.payloads(
                result.payloads, result.binary, result.received_at, result.position, result.streams, result.identities
            )
