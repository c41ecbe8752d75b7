"""The journal: everything that a supervisor receives, on disk, in the order of the stream, for any number of readers.

    reactor (supervisor)              writer's thread                  disk                       readers, any process
    ────────────────────              ───────────────                  ────                       ────────────────────
    numbered ─> JournaledInbox ─┬─> JournalQueue ─take─> rows ─commit─> segment ── segment ─> ... Reader ─> Message, Gap, Up ...
                                │   (Inbox: `buffer`           │          WAL        complete        │
                                │    and its policies)         └─ a byte to each attached consumer   position of a consumer
                                └─> the consumer's inbox

Who owns what, and what can die when:

- The **reactor** numbers items and puts them into both queues under its lock. It never waits for the disk.
- The **writer's thread** owns the open segment and the lock of the folder. A commit is one transaction of whole rows: a kill at
  any instruction leaves the rows of the last commit and those before, for each endpoint a prefix of its stream without a hole.
- A **segment** is written by one process, read by many, and complete when the next one exists. Complete segments never change;
  the oldest are removed whole.
- A **reader** owns its place. It opens segments for reading only, keeps the last number of each endpoint, and reports every
  number that is not there, whatever the reason: removed, damaged, never written.
- The **next supervisor** of the folder reads the state at the end (`State`) and goes on: the run, and of each endpoint the
  numbers and the epochs. It ends the epochs that the dead supervisor left open. A new run begins only if the end is not known:
  the last segment is damaged, or the power failed and `sync` is not "full".

States of the writer's thread: asleep, gathering, committing, failed (the rows wait, and are tried again every second), closing.
"""
