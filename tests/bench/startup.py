"""Row 13: from the start of the program to the first message on its standard output, wss://.

python -m tests.bench.startup [--quick]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.bench.generator import Generator
from tests.bench.table import Figure, Outcome, Row, load_now, show, write


def measure(*, quick: bool = False) -> Outcome:
    """The program several times, on a server that echoes the greeting it is sent."""
    outcome = Outcome(load={"startup": load_now()})
    with Generator(tls=True) as generator, tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "startup.toml"
        tls = f'tls.ca_file = "{generator.ca_file}"'
        endpoint = f'[endpoints.e]\nurl = "{generator.urls(1)[0]}"\nsend_on_up = ["hello"]\n{tls}\n'
        config.write_text(f'[supervisor]\nruntime_dir = "{folder}"\n{endpoint}')
        times = [_first_message(config) for _ in range(3 if quick else 11)]
    outcome.figures["start of the program to first message, s"] = Figure.of(times)
    outcome.rows.append(Row("13", "start of the program to first message on standard output", Figure.of(times), "s", 0.6, 0.25))
    return outcome


def _first_message(config: Path) -> float:
    begun = time.monotonic()
    program = subprocess.Popen(
        [sys.executable, "-m", "wsadapter.supervise", str(config)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    watch = threading.Timer(30, program.kill)
    watch.start()
    assert program.stdout is not None
    with program, program.stdout:
        if not any(b'"number":' in line for line in iter(program.stdout.readline, b"")):
            raise RuntimeError("it ended without a message")
        seconds = time.monotonic() - begun
        program.terminate()
        program.stdout.read()
    watch.cancel()
    return seconds


if __name__ == "__main__":
    found = measure(quick="--quick" in sys.argv[1:])
    show(found)
    write(found)
