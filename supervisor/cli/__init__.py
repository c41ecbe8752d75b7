"""What a person starts and sees: the runner of `python -m wsadapter.supervise`, signals, log lines, tables, the demo."""
