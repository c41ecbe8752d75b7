"""Fuzzing of every parser whose input comes from another process or another machine.

    python -m tests.fuzz                                  # a minute of each target
    python -m tests.fuzz reader record --seconds 600      # these targets, ten minutes each
    python -m tests.fuzz --seed 7 --findings /tmp/found   # other inputs; where the inputs that failed are written
    python -m tests.fuzz record --input FILE              # one input again

`targets.py` says which parsers there are, what each one may raise and what else must hold. `mutation.py` makes the inputs:
it changes inputs of a corpus that is made from the bundled recordings, dialects and examples, and keeps each input that made
a parser behave in a new way. `run.py` bounds the CPU time and the memory of one input, and reduces an input that fails.

An input that failed is kept as a case: copy its file from the folder of findings to `cases/TARGET/`. The suite
(`tests/unit/test_fuzz.py`) runs all cases, and a fixed number of inputs of each target.
"""
