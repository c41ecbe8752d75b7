"""From a URL to an open WebSocket connection: addresses, proxies, TLS, the opening handshake."""
