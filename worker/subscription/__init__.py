"""Subscriptions, without I/O: the life of each as a table, frames that subscribe, answers and their consequences."""
