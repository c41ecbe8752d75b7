"""Dialects from the exchange's side: what a client's frames mean, how they are answered, and which heartbeats a client must
send.

    client's frame ──> parse_request (templates backwards) ──> conversation ──> compose (answers by the rules) ──> client
    recorded message ──> recorded_market (is it data, of which stream) ──> client_view (does this client get it) ──> client

Everything except `client_driver` and the controls is pure: values in, values out, the clock passed in.
"""
