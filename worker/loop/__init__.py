"""The parts of the owner's loop: poller, wake-up, alarm, and the end of the fork server."""
