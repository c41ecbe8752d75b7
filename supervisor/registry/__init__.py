"""All endpoints of a supervisor: names, order, shards, reloads."""
