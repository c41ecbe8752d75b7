"""The language of dialects, as worker/dialects/README.md describes it: paths, templates, which stream a message belongs to.

The owner reads it from the client's side, the test exchange from the other.
"""
