"""The owner process: one process, one connection, one epoch.

                        commands, answers (control socket)
    supervisor <======================================> command_socket
        ^                                                    |
        | records (pipe)                                     v
        |                              owner/loop: the current phase of owner/phase <-- connect_thread: connect/
        |                                                    |                          names, TCP, proxy, TLS, handshake
        |            +------------ owner/serving ------------+
        |            v                                       v
        |    socket --> byte_stream --> reader --> session --> sender --> byte_stream --> socket
        |                  (bytes)    (messages)      |      (frames)
        |                                             |  heartbeat, login, subscriptions
        |                                             v
        +-- outbox <-- decode_stage and decode_thread, if there is a hook

Decided in pure code, with the clock passed in: `websocket/frames`, `websocket/reader`, all of `session/` and `subscription/`.
Done by thin shells: `owner/`, `websocket/connection`, `websocket/byte_stream`, `websocket/sender`, `outbox`, `hooks/`,
`contract/ipc/command_socket`.

Read in this order: `main`, `owner/phase`, `owner/loop`, `owner/serving`, `session/session`, `websocket/reader`,
`websocket/byte_stream`, `outbox`; then `connect/dial`, `connect/handshake`, `session/heartbeat`, `subscription/subscriptions`
with dialects/README.md, `hooks/decode_thread`. `preload` is what a fork server imports.

Nothing here imports the parent's modules; both sides know `wsadapter.contract` only.
"""
