"""Conversations with exchanges, as files: what is subscribed, what the exchange sends, what must come out. README.md beside
this file has every key.

The files are driven by `driver.py` through a session without a socket, and played by `server.py` to a real owner.
"""
