"""What the supervisor and its owners agree on. It imports nothing else of wsadapter, and only the standard library and orjson.

`endpoint`   what a user asks for: one endpoint and its settings
`items`      what a user gets: messages, batches of them, and events
`reasons`    why an epoch ended
`errors`     what goes wrong, as one tree
`record`     the batch record that travels through the pipe, owner to supervisor
`commands`   the frames of the control socket, both ways
`dialect`    the language that dialects are written in
`tcp`        where the kernel says that a connection's streams are
"""
