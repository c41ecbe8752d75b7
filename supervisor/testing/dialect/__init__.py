"""Dialects from the exchange's side: what a client's frames mean, what is answered, and what a client owes.

    client's frame ──> inverse (templates backwards) ──> talk ──> compose (answers by the rules) ──> client
    recorded message ──> market (is it data, of which stream) ──> outlet (what this client gets of it) ──> client

All but `line` is pure: values in, values out, the clock passed in.
"""
