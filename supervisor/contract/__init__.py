"""Definitions that the supervisor and its owners share. They import nothing else of wsadapter, and only the standard library
and orjson.

`endpoint`   the settings of one endpoint `items`      what a user receives: messages, batches and events `reasons`    why an
epoch ended `errors`     the tree of errors `hooks`      the import of a user's functions `dialect`    the language that
dialects are written in `ipc`        the pipe (`record`, `reports`) and the control socket (`commands`, `assignment`,
`command_socket`) between both sides
"""
