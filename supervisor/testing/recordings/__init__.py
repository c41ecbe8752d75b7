"""Excerpts of what real exchanges sent, see NOTICE for whose they are and `wsadapter.testing.recording` for the format."""
