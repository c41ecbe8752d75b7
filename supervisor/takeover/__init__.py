"""Owners change supervisors: a new one receives every connection from the running one, without closing any.

    new                                             running
    {"command": "takeover", "contract": 10} ──>     stops endpoints that are not up; freezes those that are up (reads nothing);
                                                    all that was read goes to the output, and the output is flushed
                                <── state, then the descriptors: pipes, control sockets, pidfds, duplicates, lock, listener
    builds all of it, reads nothing
    ready                                   ──>     disowns everything that it passed, and never reads it again
                                <── gone            ends its spares, exits with 0
    reads on, numbers on; then applies its own configuration, as a reload does

Until the running supervisor has received `ready`, it can continue as before: it passed duplicates of its descriptors, and no
process has read from them. It continues if any step fails, and if it is stopped meanwhile. A second takeover at the same time
is refused. The two supervisors never read at the same time. If the new supervisor receives nothing after its `ready`, it
continues only if the other is dead.

`old_side` and `new_side` are the two ends, and `transfer` is what goes through the control socket between them. The state is
a `SupervisorSnapshot` (`supervisor_state`), which has an `EndpointSnapshot` (`endpoint_state`) for each endpoint, a
`LinkSnapshot` for each link that has an owner, and a `ProcessSnapshot` for each process. Each class makes its own snapshot.
"""

from typing import Final

CONTRACT: Final = 10
"""The version of all that two supervisors must agree on: the state, the records in the pipes, the commands on the control
sockets."""
