"""The control socket of a running supervisor, the lock on its name, and the commands that ask it."""
