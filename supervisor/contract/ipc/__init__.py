"""The communication between supervisor and owner: records, commands, reports, and the start of an owner."""
