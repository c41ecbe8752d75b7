"""A connection between two owners: held by the parent, continued by the next owner, without a message that owners die of."""
