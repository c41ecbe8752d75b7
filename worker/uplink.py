"""What goes up to the supervisor, in order: messages and reports, through the decode hook where there is one."""

from __future__ import annotations

from wsadapter.contract.ipc.commands import Assignment
from wsadapter.contract.ipc.reports import Report
from wsadapter.contract.quarantine import Quarantine
from wsadapter.worker.hooks.decode_thread import Decoder, Hook, Payloads
from wsadapter.worker.loop.wakeup import Wakeup
from wsadapter.worker.outbox import Outbox
from wsadapter.worker.session.actions import Deliver
from wsadapter.worker.websocket.reader import Batch


class Uplink:
    """Outbox and decoder. Not thread-safe. Once the supervisor has closed the pipe, all that is written is thrown away."""

    def __init__(self, pipe_fd: int) -> None:
        self._outbox = Outbox(pipe_fd)
        self._decoder: Decoder | None = None
        self.gone = False
        """The supervisor no longer reads."""
        self.is_direct = True
        """What is delivered goes into the pipe as it is: no hook looks at it first."""

    def use_hook(self, hook: Hook, assignment: Assignment, wakeup: Wakeup) -> None:
        """From now on everything takes the way through the hook's queue."""
        self.is_direct = False
        self._decoder = Decoder(hook, Quarantine(assignment.quarantine, assignment.endpoint.name), wakeup)

    @property
    def blocked(self) -> bool:
        """Whether so much waits that no more data should be read."""
        return self.backlog or (self._decoder is not None and self._decoder.full and not self.gone)

    @property
    def backlog(self) -> bool:
        """Whether something waits for the pipe to be writable."""
        return self._outbox.backlog and not self.gone

    @property
    def drained(self) -> bool:
        """Whether everything is in the pipe."""
        return not self.backlog and (self._decoder is None or self._decoder.idle)

    def stuck_for(self, now: float) -> float:
        """Seconds that the decode hook has been at one message."""
        return 0.0 if self._decoder is None else self._decoder.stuck_for(now)

    def report(self, report: Report) -> None:
        """A report at this place in the stream."""
        if self._decoder is not None:
            self._decoder.put(report)
        else:
            self._write_report(report)

    def lone_text(self, frame: bytes, size: int, received_at: int, position: int) -> None:
        """A read that was one whole text message of `size` bytes, where the uplink is direct."""
        try:
            if not self.gone:
                self._outbox.lone_text(frame, size, received_at, position)
        except BrokenPipeError:
            self.gone = True

    def pass_on(self, batch: Batch, received_at: int, position: int) -> None:
        """All messages of a read, where the uplink is direct."""
        try:
            if not self.gone:
                self._outbox.messages(batch, received_at, position, 0, batch.count)
        except BrokenPipeError:
            self.gone = True

    def deliver(self, what: Deliver, received_at: int, position: int) -> None:
        """Messages at this place in the stream; `position` is that of the beginning of the batch's data."""
        batch = what.batch
        self._outbox.filtered(what.filtered)
        if self._decoder is None:
            try:
                if not self.gone:
                    self._outbox.messages(
                        batch, received_at, position, what.first, what.last, what.skipped, what.streams, what.identities
                    )
            except BrokenPipeError:
                self.gone = True
            return
        kept = [i for i in range(what.first, what.last) if i not in what.skipped]
        binary = set(batch.binary)
        payloads = [batch.payload(i) for i in kept]
        end = batch.consumed if what.last == batch.count else batch.ends[what.last - 1]
        streams = [0] * len(kept) if what.streams is None else [what.streams[i] for i in kept]
        identities = None if what.identities is None else [what.identities[i] for i in kept]
        self._decoder.put(Payloads(received_at, position + end, payloads, [i in binary for i in kept], streams, identities))

    def tell_all(self, position: int, tail: int) -> None:
        """From stream `position` on every byte that is read is told, see `Outbox.tell_all`. Not with a hook: what is in its
        queue would be in no pipe."""
        self._outbox.tell_all(position, tail)

    def cork(self) -> None:
        """What goes up until `uncork` goes up as one."""
        self._outbox.cork()

    def uncork(self) -> None:
        """See `cork`."""
        try:
            if not self.gone:
                self._outbox.uncork()
        except BrokenPipeError:
            self.gone = True

    def cover(self, batch: Batch, received_at: int, position: int) -> None:
        """What of a read no message's record told, where everything is to be told."""
        try:
            if not self.gone:
                self._outbox.cover(batch, received_at, position)
        except BrokenPipeError:
            self.gone = True

    def tell_filtered(self) -> None:
        """Tells how many messages were removed where no record has told it yet, for there may be none for long."""
        try:
            if not self.gone:
                self._outbox.tell_filtered()
        except BrokenPipeError:
            self.gone = True

    def pump(self) -> None:
        """Moves on what can be moved."""
        try:
            if self._outbox.backlog and not self.gone and not self._outbox.flush():
                return
        except BrokenPipeError:
            self.gone = True
        while self._decoder is not None and not self.backlog and (results := self._decoder.take()):
            for result in results:
                self._write(result)

    def _write(self, result: Payloads | Report) -> None:
        if isinstance(result, Report):
            self._write_report(result)
            return
        self._outbox.filtered(result.filtered)
        try:
            if result.payloads and not self.gone:
                self._outbox.payloads(
                    result.payloads, result.binary, result.received_at, result.position, result.streams, result.identities
                )
        except BrokenPipeError:
            self.gone = True

    def _write_report(self, report: Report) -> None:
        try:
            if not self.gone:
                self._outbox.report(report)
        except BrokenPipeError:
            self.gone = True
