"""The language of dialects, as worker/dialects/README.md describes it: paths, templates, rules for the stream of a message.

The owner uses it as the client, the test exchange as the server.
"""
