"""What the bundled dialects can't say as data: signatures, tokens, listen keys. One module per exchange, named in its file.

An owner imports none of it unless its endpoint needs it. What these functions are given: see `wsadapter.worker.hooks`.
"""
