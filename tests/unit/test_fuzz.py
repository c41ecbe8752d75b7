"""The fuzzing of `tests/fuzz` in short, all inputs that failed before, and what the fuzzing itself must find."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator

import pytest

from tests.fuzz.run import CASES, Unbounded, cases_of, check, reduced, run
from tests.fuzz.targets import TARGETS, ReaderTarget, RecordTarget, sealed
from wsadapter.contract.ipc.record import BATCH, CorruptRecord, RecordReader, encode
from wsadapter.worker.websocket.reader import Reader, ReadResult

_INPUTS = 300
"""Of each target, besides the corpus and the cases."""


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_few_inputs_of_each_target(name: str) -> None:
    target = TARGETS[name]()
    first = len(target.seeds()) + len(cases_of(name))
    count, findings = run(target, seed="suite", more=lambda count: count < first + _INPUTS)
    assert not findings, f"{findings[0].data!r}\n{findings[0].error}"
    assert count == first + _INPUTS


def test_every_folder_of_cases_is_a_targets() -> None:
    assert {folder.name for folder in CASES.iterdir()} <= set(TARGETS)


class Planted:
    """A parser with a fault: it raises, spins or swells."""

    name = "planted"
    words = (b"boom", b"spin")
    longest = 100

    def seeds(self) -> list[bytes]:
        return [b"harmless", b"right"]

    def check(self, data: bytes) -> Hashable:
        if b"boom" in data:
            raise KeyError("boom")
        if data == b"spin":
            while True:
                pass
        if data == b"swell":
            bytearray(200 << 20)
        return len(data) > 8


def test_a_fault_is_found_by_its_word_and_reduced_to_it() -> None:
    count, (finding,) = run(Planted(), seed=1, more=lambda count: count < 2000)
    assert count < 2000
    assert finding.data == b"boom"
    assert "KeyError" in finding.error


def test_the_same_seed_finds_the_same_and_another_one_elsewhere() -> None:
    counts = [run(Planted(), seed=seed, more=lambda count: count < 2000)[0] for seed in (1, 1, 2, 3)]
    assert counts[0] == counts[1]
    assert len(set(counts)) > 1


def test_an_input_without_end_and_one_without_bound_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.run.CPU_BOUND", 0.1)
    with pytest.raises(Unbounded, match="CPU time"):
        check(Planted(), b"spin")
    peaks = iter([0, 200 << 20])
    monkeypatch.setattr("tests.fuzz.run._peak", lambda: next(peaks))
    with pytest.raises(Unbounded, match="200 MiB"):
        check(Planted(), b"right")


def test_an_input_is_not_reduced_to_one_that_fails_elsewhere() -> None:
    assert reduced(Planted(), b"xxboomyy", "KeyError elsewhere") == b"xxboomyy"


def test_a_reader_that_depends_on_the_cuts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Reader.feed

    def forgetful(self: Reader, chunk: bytes) -> ReadResult:
        return feed(self, chunk if len(chunk) != 1 or chunk != b"\x7e" else b"")

    monkeypatch.setattr(Reader, "feed", forgetful)
    with pytest.raises(AssertionError, match="in pieces"):
        ReaderTarget().check(bytes(9) + b"\x81\x7e\x00\x7e" + b"a" * 126)


def test_what_stands_behind_the_checksums_is_reached() -> None:
    """Without right checksums every change of a record would be refused for them."""
    changed = bytearray(encode(b"abcd", kind=BATCH, sequence=1, received_at=1, layout="0x4s", count=1))
    changed[changed.index(b"0x4s") + 2] = ord("5")
    with pytest.raises(CorruptRecord, match="checksum"):
        list(RecordReader().feed(bytes(changed)))
    with pytest.raises(CorruptRecord, match="outside its record"):
        list(RecordReader().feed(sealed(bytes(changed))))
    assert RecordTarget().check(bytes([1]) + bytes(8) + bytes(changed))
