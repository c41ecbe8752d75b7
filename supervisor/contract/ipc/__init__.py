"""What supervisor and owner exchange: records, commands, reports, and how an owner begins."""
