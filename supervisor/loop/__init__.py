"""The reactor: one thread that waits for all descriptors, and what ties it to signals and to asyncio."""
