"""Functions for what the bundled dialects can't express as data: signatures, tokens, listen keys. One module per exchange.

An owner imports such a module only if its endpoint needs it. The arguments of the functions: see `wsadapter.worker.hooks`.
"""
