"""Owner processes: how they are started, watched, commanded and stopped."""
