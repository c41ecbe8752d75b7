"""RFC 6455 without a connection's setup: bytes, frames, messages, compression."""
