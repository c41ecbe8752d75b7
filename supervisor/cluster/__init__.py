"""Many machines on NATS JetStream: hosts share the endpoints of one configuration.

A lease decides which host connects. It never decides what is true: the log refuses a writer whose lease has moved on, because
each append names the sequence of the message that it follows, and the term of the lease under which it writes.
"""
