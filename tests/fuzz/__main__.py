"""The command, see the package's docstring."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.run import Finding, check, run
from tests.fuzz.targets import TARGETS


def main() -> int:
    """The number of findings, 100 at most."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the parsers of foreign bytes.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all without one")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--findings", type=Path, help="folder for the inputs that failed; a new one without it")
    parser.add_argument("--input", type=Path, help="run this file alone, through one target")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    logging.disable()  # what the targets log is of no interest
    chosen = [TARGETS[name] for name in asked.targets or TARGETS]
    if asked.input is not None:
        if len(asked.targets) != 1:
            parser.error("--input needs one target")
        print(check(chosen[0](), asked.input.read_bytes()))
        return 0
    found = 0
    for make in chosen:
        target = make()
        end = time.monotonic() + asked.seconds
        began = time.process_time()
        count, findings = run(target, seed=asked.seed, more=lambda _, end=end: time.monotonic() < end, most_findings=20)
        spent = time.process_time() - began
        print(f"{target.name}: {count:,} inputs, {spent:.0f} s of CPU time, {len(findings)} findings", flush=True)
        for finding in findings:
            _report(finding, asked.findings or Path(tempfile.mkdtemp(prefix="wsadapter-fuzz-")))
        found += len(findings)
    return min(found, 100)


def _report(finding: Finding, folder: Path) -> None:
    file = folder / finding.target / finding.file_name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(finding.data)
    file.with_suffix(".txt").write_text(finding.error)
    print(f"\n{file} ({len(finding.data)} bytes): {finding.data[:200]!r}\n{finding.error}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
