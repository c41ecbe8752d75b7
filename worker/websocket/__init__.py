"""RFC 6455 after the opening handshake: bytes, frames, messages, compression."""
