"""What is said on an open connection, without I/O: login, heartbeats, requests, gaps, readiness."""
