"""The reactor: one loop for all descriptors, timers and calls, and what connects it to threads, signals and asyncio."""
