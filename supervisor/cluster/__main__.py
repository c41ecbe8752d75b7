"""`python -m wsadapter.cluster`: the agent of a host. A supervisor starts it; its first line of input is the task."""

from __future__ import annotations

from wsadapter.import_path import forget_program_folder

if __name__ == "__main__":
    forget_program_folder()  # before other modules are imported: a file in the working folder may have the name of one

import sys
from collections.abc import Callable
from pathlib import Path

from wsadapter.sinks.__main__ import main
from wsadapter.sinks.base import Sink, SinkMisconfigured
from wsadapter.sinks.carry import Ending
from wsadapter.sinks.task import Report, Task


def make(task: Task, report: Callable[[Report], None], ending: Ending) -> Sink:
    """The agent that the task asks for. Raises `SinkMisconfigured`."""
    try:
        from wsadapter.cluster.agent import Agent, AgentTask
    except ImportError as error:
        raise SinkMisconfigured(f'[cluster] needs nats-py: pip install "wsadapter[nats]" ({error})') from error
    assert task.cluster is not None
    return Agent(AgentTask.of(task.cluster), Path(task.journal), report, lambda: ending.said)


if __name__ == "__main__":
    sys.exit(main(make))
