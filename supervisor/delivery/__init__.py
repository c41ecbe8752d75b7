"""From records to the consumer: the inbox, its backlogs, overflow, and the ordered stream."""
