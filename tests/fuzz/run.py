"""Runs inputs through a target within bounds, and reports those that fail."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

from tests.fuzz.mutation import Mutator

CASES: Final = Path(__file__).parent / "cases"
CPU_BOUND: Final = 5.0
"""Seconds of CPU time that one input may take; CPU time, because the machine may be busy."""
MEMORY_BOUND: Final = 64 << 20
"""Bytes by which one input may raise the resident memory of the process."""
_KIB: Final = 1024
_LARGEST_POOL: Final = 2000


class Target(Protocol):
    """One parser, or several that read the same bytes."""

    name: str
    words: Sequence[bytes]
    """What inputs consist of."""
    longest: int
    """Bytes of an input, at most."""

    def seeds(self) -> list[bytes]:
        """The corpus: inputs that are right, or nearly."""
        ...

    def check(self, data: bytes) -> Hashable:
        """Gives `data` to the parser. Returns how the parser behaved: equal values for inputs that it treated alike. Raises
        if the parser raised anything but its own error, or if a rule of the target does not hold."""
        ...


class Unbounded(BaseException):
    """An input took too long or too much memory. No parser may catch this as an error of the input."""


@dataclass(frozen=True)
class Finding:
    """An input that failed."""

    target: str
    data: bytes
    error: str
    """The traceback."""

    @property
    def file_name(self) -> str:
        """The same for the same input."""
        return sha256(self.data).hexdigest()[:16]


def run(
    target: Target, *, seed: int | str, more: Callable[[int], bool], most_findings: int = 1, reduce: bool = True
) -> tuple[int, list[Finding]]:
    """Runs the corpus, the cases and then new inputs while `more(number of inputs so far)`; the number of inputs, and the
    findings, each of another place in the code. Ends after `most_findings`."""
    mutator = Mutator(f"{target.name} {seed}", target.words, target.longest)
    pool = [*target.seeds(), *cases_of(target.name)]
    known: set[Hashable] = set()
    findings: dict[str, Finding] = {}
    count = 0
    waiting = iter(list(pool))
    while (given := next(waiting, None)) is not None or more(count):
        data = given if given is not None else mutator.next(pool)
        count += 1
        try:
            behaviour = check(target, data)
        except (Exception, Unbounded) as error:  # noqa: BLE001  every one of them is a finding
            place = _place_of(error)
            if place not in findings:
                data = reduced(target, data, place) if reduce and not isinstance(error, Unbounded) else data
                findings[place] = Finding(target.name, data, "".join(traceback.format_exception(error)))
            if len(findings) >= most_findings:
                break
            continue
        if behaviour not in known:
            known.add(behaviour)
            if given is None and len(pool) < _LARGEST_POOL:
                pool.append(data)
    return count, list(findings.values())


def cases_of(name: str) -> list[bytes]:
    """The inputs that failed before."""
    folder = CASES / name
    return [file.read_bytes() for file in sorted(folder.iterdir())] if folder.is_dir() else []


def check(target: Target, data: bytes) -> Hashable:
    """`target.check` within the bounds. Raises `Unbounded` besides."""
    before = _peak()
    with _cpu_bound():
        behaviour = target.check(data)
    if (grown := _peak() - before) > MEMORY_BOUND:
        raise Unbounded(f"an input of {len(data)} bytes took {grown >> 20} MiB of memory")
    return behaviour


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else _KIB)


@contextlib.contextmanager
def _cpu_bound() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # no signal handler there
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Unbounded(f"an input took more than {CPU_BOUND:g} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_BOUND)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _place_of(error: BaseException) -> str:
    """What tells one finding from another: the type of the error, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames and not isinstance(error, Unbounded) else str(error)[:30]
    return f"{type(error).__name__} {where}"


def reduced(target: Target, data: bytes, place: str, attempts: int = 2000) -> bytes:
    """A shorter input that fails at the same place."""
    size = max(1, len(data) // 2)
    while size and attempts > 0:
        at = 0
        while at < len(data) and attempts > 0:
            attempts -= 1
            shorter = data[:at] + data[at + size :]
            if _fails_at(target, shorter) == place:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def _fails_at(target: Target, data: bytes) -> str:
    try:
        check(target, data)
    except (Exception, Unbounded) as error:  # noqa: BLE001  it is compared
        return _place_of(error)
    return ""
