"""What runs in the program's own thread lets go of what it holds, at whichever instruction an interrupt strikes.

From CPython 3.12 on, the jump back of a conditional loop is outside of the `try` that the loop stands in, and signals are
looked at just there. Seen here in the compiled code: running into it takes many thousands of interrupts.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import CodeType

import pytest

pytestmark = pytest.mark.version

UNSHIELDED = [
    "delivery.stream",
    "endpoint.monitor",
    "endpoint.requests",
    "loop.dispatcher",
    "loop.reactor",
    "loop.signal_guard",
    "pool",
    "registry.registry",
    "supervisor",
]


def functions(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from functions(constant)


def unprotected(source: str) -> list[str]:
    """The loops whose way back has less protection than their last instruction."""
    found = []
    for function in functions(compile(source, "source", "exec")):
        instructions = {instruction.offset: instruction for instruction in dis.Bytecode(function)}
        protectors = [
            (range(entry.start, entry.end), entry.target)
            for entry in dis.Bytecode(function).exception_entries
            if instructions[entry.target].opname != "CALL_INTRINSIC_1"  # around each generator, it lets go of nothing
        ]

        def protector(at: int, protectors: list[tuple[range, int]] = protectors) -> int | None:
            return next((target for covered, target in protectors if at in covered), None)

        last = None
        for instruction in instructions.values():
            jumps = "JUMP_BACKWARD" in instruction.opname and "NO_INTERRUPT" not in instruction.opname
            if jumps and last is not None and protector(instruction.offset) != protector(last.offset):
                assert instruction.positions is not None
                found.append(f"{function.co_qualname}, line {instruction.positions.lineno}")
            last = instruction
    return found


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the interpreter's loops are whole there")
def test_the_look_itself_finds_such_a_loop() -> None:
    source = "def f(n):\n    try:\n        while n:\n            n.pop()\n    finally:\n        n.clear()\n"
    assert unprotected(source) == ["f, line 3"]


@pytest.mark.parametrize("module", UNSHIELDED)
def test_no_loop_lets_an_interrupt_pass_by_its_finally(module: str) -> None:
    path = import_module(f"wsadapter.{module}").__file__
    assert path is not None
    assert unprotected(Path(path).read_text("utf-8")) == []
