"""From records to the consumer: the inbox, what waits in it, overflow, and the ordered stream."""
