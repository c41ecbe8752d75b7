"""The owner process: one process, one connection, one epoch.

                        commands, answers (control socket)
    supervisor <=====================================================> control
        ^                                                                 |
        | records (pipe)                                                  v
        |                                                               owner  <-- connector (thread): transport, handshake, tls
        |                                                                 |          names, TCP, proxy, TLS, WebSocket handshake
        |                                                                 |
        |                    +-------------------- wire ------------------+
        |                    v                                            v
        |    socket --> channel --> reader --> session --> sender --> channel --> socket
        |               (bytes)    (messages)     |        (frames)
        |                                         |  heartbeat, subscriptions
        |                                         v
        +-- outbox <-- decode stage and decode thread, if there is a hook

Decided in pure code, with the clock passed in: `frames`, `reader`, `session`, `heartbeat`, `subscriptions`, `streams`,
`templates`, `text`, `paths`. Done by thin shells: `owner` (the loop), `wire`, `channel`, `sender`, `outbox`, `decode_stage`,
`control`, `connector`.

To be read in this order: `main`, `owner`, `session`, `reader`, `channel`, `outbox`; then `transport` and `handshake`,
`heartbeat`, `subscriptions` and `streams` with dialects/README.md, `decode`. `template` is what a forkserver preloads.

Nothing here imports the parent's modules; both sides know `wsadapter.contract` only.
"""
