"""Consumers of a journal in processes of their own: `attach`.

feed.py             what users hold: iteration, blocking and by asyncio
cursor.py           what was read, given and committed
commands.py         send, request, subscribe ...
supervisor_link.py  the control socket of the supervisor
"""
