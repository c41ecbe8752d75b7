"""Searches for an order of faults that breaks the rules of a cluster: `python -m tests.tools.cluster_search [--minutes 10]`.

The state machines of `tests/unit/test_cluster_rules.py` run on random faults until the time is over. A step is a fault, the end
of one, or time that passes. Then the search must find each rule that is broken on purpose. Exit code 1 if it finds a
counterexample to the real rules, or none to a broken one.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from time import monotonic
from typing import Final

from hypothesis.stateful import invariant

from tests.unit.test_cluster_rules import BROKEN, Faults, Hands, search

_EXAMPLES: Final = 50
_MOST_SECONDS: Final = 600.0
"""For a rule that is broken."""


def counted(faults: type[Faults]) -> tuple[type[Faults], list[int]]:
    """The same, with the number of its steps."""
    steps = [0]

    class Counted(faults):  # type: ignore[valid-type,misc]
        @invariant()
        def count(self) -> None:
            """A step was taken."""
            steps[0] += 1

    return Counted, steps


def run(faults: type[Faults], seconds: float) -> tuple[int, float, str]:
    """Until a counterexample is found or the time is over: steps, seconds, and what is wrong; "": nothing."""
    machine, steps = counted(faults)
    begun = monotonic()
    for _ in itertools.count():
        try:
            search(machine, examples=_EXAMPLES, fresh=True)
        except AssertionError as error:
            return steps[0], monotonic() - begun, str(error)[:200] or "an assertion failed"
        if monotonic() - begun >= seconds:
            break
    return steps[0], monotonic() - begun, ""


def main() -> int:
    """Runs the command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.cluster_search")
    parser.add_argument("--minutes", type=float, default=10.0)
    seconds = parser.parse_args().minutes * 60
    failed = False
    for faults in (Faults, Hands):
        steps, took, wrong = run(faults, seconds / 2)
        print(f"{faults.__name__}: {steps:,} steps in {took:.0f} s: {wrong or 'no counterexample'}", flush=True)
        failed |= bool(wrong)
    for broken in BROKEN:
        steps, took, wrong = run(broken, _MOST_SECONDS)
        print(f"broken, {broken.__name__}: {'found' if wrong else 'NOT FOUND'} after {steps:,} steps, {took:.0f} s", flush=True)
        failed |= not wrong
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
