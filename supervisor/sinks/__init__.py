"""Sinks: processes that carry the journal to files, to Parquet, to NATS, to Kafka, or to a class of the user's own.

    journal ──Reader──> JournalFeed ──SinkBatch──> Sink.write ──> the target
       ^                                             │ position: what is durable in the target
       └── JOURNAL/sinks/NAME.json <── now and then ─┘

    supervisor                                      sink process (python -m wsadapter.sinks), one for each [[sink]]
      thread of SinkProcess ── standard input ──>   the task as one JSON line; its end: write what is there, then exit
                            <── standard output ──  reports: position, last of all the reason of the end
                            <── standard error ──   log lines

Who owns what, and what can die when:

- The **target** owns the position. Whenever a sink process is killed, the next one reads the position from the target and
  continues behind it. The file in the journal's folder only shortens the search.
- The **sink process** has no retry loop. If its target fails, the process exits with a typed reason, and the restart policy of
  the supervisor decides when the next one starts.
- Each commit of the journal wakes the sink, as it wakes an attached consumer; in the status a sink is the consumer `sink:NAME`.
- The **supervisor** waits for no sink, and a sink shares nothing with the supervisor but the journal's files.
"""
