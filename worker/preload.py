"""What a forkserver preloads: importing it leaves a process from which an owner can be forked in milliseconds."""

from __future__ import annotations

from wsadapter.contract.ipc.bootstrap import accept_signals, hold_standard_descriptors, leave_standard_descriptors

hold_standard_descriptors()
accept_signals()  # first: the fork server must hear of its children's ends, and not of Ctrl-C

import atexit  # noqa: E402
import multiprocessing.popen_forkserver  # noqa: E402, F401 - an owner's arguments need it to be unpickled

import wsadapter.worker.main  # noqa: E402
from wsadapter.worker.loop import children  # noqa: E402

children.continue_without_parent()
atexit.register(children.wait_for_children)  # of the fork server alone: owners end without it (os._exit)

wsadapter.worker.main.warm_up()
leave_standard_descriptors()  # last: what fails before is said on the supervisor's standard error
