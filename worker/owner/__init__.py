"""The owner's loop, the phases of its life, and the thread that connects."""
