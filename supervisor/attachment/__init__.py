"""Consumers of a journal in separate processes: `attach`.

feed.py             the object that users iterate, blocking and by asyncio
cursor.py           which items were read, delivered and committed
commands.py         send, request, subscribe ...
stream_source.py    the stream of a cluster in place of a journal: the connection (a drawing)
stream_cursor.py    what was read, given and committed of it
supervisor_link.py  the control socket of the supervisor
"""
