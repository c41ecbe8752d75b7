"""Consumers of a journal in separate processes: `attach`.

feed.py             the object that users iterate, blocking and by asyncio
cursor.py           which items were read, delivered and committed
commands.py         send, request, subscribe ...
supervisor_link.py  the control socket of the supervisor
"""
