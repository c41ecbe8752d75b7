"""The module that a fork server imports first; after that it can fork an owner in milliseconds."""

from __future__ import annotations

from wsadapter.contract.ipc.bootstrap import accept_signals, hold_standard_descriptors, leave_standard_descriptors

hold_standard_descriptors()
accept_signals()  # before the imports below: the fork server must receive SIGCHLD, and must ignore Ctrl-C

import atexit  # noqa: E402
import multiprocessing.popen_forkserver  # noqa: E402, F401 - needed to unpickle an owner's arguments

import wsadapter.worker.main  # noqa: E402
from wsadapter.worker.loop import children  # noqa: E402

children.continue_without_parent()
atexit.register(children.wait_for_children)  # runs in the fork server only: owners end with os._exit

wsadapter.worker.main.warm_up()
leave_standard_descriptors()  # last: what fails before is said on the supervisor's standard error
