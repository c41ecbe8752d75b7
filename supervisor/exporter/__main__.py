"""`python -m wsadapter.exporter --name NAME --listen HOST:PORT`: the exporter of a running supervisor.

The runner starts it where a configuration has `[exporter] listen`. Start it by hand for a supervisor that runs inside
another program.
"""

from __future__ import annotations

from wsadapter.import_path import forget_program_folder

if __name__ == "__main__":
    forget_program_folder()  # before other modules are imported: a file in the working folder may have the name of one

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from wsadapter.config.listen_address import ListenAddress, listen_address
from wsadapter.exporter.server import PATHS, ExporterServer
from wsadapter.exporter.watch import Watch

CANNOT_LISTEN: Final = 1
_NICENESS: Final = 10
"""What is added to the niceness (nice(2)). If the cores are busy, an answer to a scrape comes later, and no message does: a
scrape of 200 endpoints takes a core for a quarter of a second."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m wsadapter.exporter",
        description="Shows a running supervisor to Prometheus, to orchestrators and to browsers.",
        epilog="paths:\n" + "\n".join(f"  {path:14}{meaning}" for path, meaning in PATHS.items())
        + "\n\nexample:\n  python -m wsadapter.exporter --name feeds --listen 127.0.0.1:9464\n\n"
        "exit codes: 0 stopped, 1 the address can't be listened on, 2 wrong arguments.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--name", required=True, metavar="SUPERVISOR", help="which supervisor")
    add("--runtime-dir", default="", metavar="DIR", help="where its control socket is, if that was configured")
    add("--listen", required=True, type=_address, metavar="HOST:PORT", help="address and port; port 0: one that is free")
    add("--until-eof", action="store_true", help="end when standard input ends, because the parent has ended")
    options = parser.parse_args(arguments)
    os.nice(_NICENESS)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        asyncio.run(_run(options))
    except OSError as error:
        print(f"the exporter can't listen on {options.listen}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return CANNOT_LISTEN
    return 0


def _address(text: str) -> ListenAddress:
    try:
        return listen_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


async def _run(options: argparse.Namespace) -> None:
    watch = Watch(options.name, options.runtime_dir)
    server = ExporterServer(watch, options.listen)
    address = await server.open()
    logging.getLogger("wsadapter.exporter").info(
        "status page: http://%s/ (metrics at /metrics, probes at /live and /ready)", address
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if options.until_eof:
        loop.add_reader(0, _read_to_the_end, ended)
    watching = asyncio.create_task(watch.run())
    await asyncio.wait([watching, asyncio.create_task(ended.wait())], return_when=asyncio.FIRST_COMPLETED)
    if watching.done():
        watching.result()  # a fault of ours: the runner starts the exporter anew
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching


def _read_to_the_end(ended: asyncio.Event) -> None:
    if not os.read(0, 4096):
        ended.set()


if __name__ == "__main__":
    sys.exit(main())
