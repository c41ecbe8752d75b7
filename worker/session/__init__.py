"""The conversation on an open connection, without I/O: readiness, login, heartbeats, requests, gaps."""
