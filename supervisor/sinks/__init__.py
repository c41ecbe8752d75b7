"""Sinks: processes that carry the journal to files, to Parquet, to NATS, to Kafka, or to a class of the user's own.

    journal ──Reader──> JournalFeed ──SinkBatch──> Sink.write ──> the target
       ^                                             │ position: what is durable in the target
       └── JOURNAL/sinks/NAME.json <── now and then ─┘

    supervisor                                      sink process (python -m wsadapter.sinks), one for each [[sink]]
      thread of SinkProcess ── standard input ──>   the task as one JSON line; its end: write what is there, then exit
                            <── standard output ──  reports: position, last of all the reason of the end
                            <── standard error ──   log lines

Who owns what, and what can die when:

- The **target** owns the position. Whatever the instant of a kill, the next process of the sink asks the target what is there
  and goes on behind it. The file in the journal's folder only says where to begin to look.
- The **sink process** has no retry loop. If its target fails, the process exits with a typed reason, and the restart policy of
  the supervisor decides when the next one starts.
- Each commit of the journal wakes the sink, as it wakes an attached consumer; in the status a sink is the consumer `sink:NAME`.
- The **supervisor** waits for no sink, and a sink shares nothing with the supervisor but the journal's files.
"""
