"""Owners change supervisors: a new one receives every connection from the running one, without closing any.

    new                                             running
    {"command": "takeover", "contract": 8}  ──>     what is not up is stopped; what is up is left unread (frozen);
                                                    all that was read goes to the output, and that is flushed
                                <── state, then the descriptors: pipes, control sockets, pidfds, duplicates, lock, listener
    builds all of it, reads nothing
    ready                                   ──>     lets go of everything it gave: it reads nothing ever again
                                <── gone            its spares leave, it exits with 0
    reads on, numbers on; then its own configuration is applied, as a reload

Until it has heard `ready` the running one can go on as if nothing had been: what it gave are duplicates, and nobody has read
from them. It does so whatever fails, and if it is stopped meanwhile; who asks during another takeover is refused. The two are
never both reading. The new one, should it hear nothing after its `ready`, goes on only if the other is dead.

`old_side` and `new_side` are the two ends, and `transfer` is what goes through the control socket between them. The state is
a `SupervisorSnapshot` (`supervisor_state`), which has an `EndpointSnapshot` (`endpoint_state`) for each endpoint, a
`LinkSnapshot` for each link that has an owner, and a `ProcessSnapshot` for each process. Each class makes its own snapshot.
"""

from typing import Final

CONTRACT: Final = 8
"""Of all that two supervisors must agree on: what travels here, records in the pipes, commands on the control sockets."""
