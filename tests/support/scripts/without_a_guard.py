"""A program as a beginner writes it: no guard. It notes each import of itself in the file that is its second argument."""

import os
import sys

from wsadapter import Endpoint, Message, Supervisor

with open(sys.argv[2], "a") as notes:
    notes.write(f"{os.getpid()}\n")

with Supervisor([Endpoint("a", url=sys.argv[1])], start_method=sys.argv[3]) as feed:
    for item in feed:
        if isinstance(item, Message):
            print(item.number, item.text)
            if item.number == 3:
                break
