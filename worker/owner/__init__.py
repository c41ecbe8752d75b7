"""The owner's loop, and the thread that connects."""
