"""Iterates under load while somebody sends it SIGINT; says how it went. Arguments: url, count of interrupts.

Standard output: "caught N" when it iterates again behind interrupt N, at the end a JSON line with what was delivered.
"""

import json
import os
import sys
import threading

from wsadapter import Dropped, Endpoint, Gap, Message, Supervisor

url, wanted = sys.argv[1], int(sys.argv[2])
seen = []
caught = 0
threading.Thread(target=threading.Event().wait, name="a thread of the program's own", daemon=True).start()
feed = Supervisor([Endpoint("a", url=url)]).start()
feed.monitor("a").wait_up(20)
while not feed.status()["spares"]:
    pass  # processes that are being started are another story
while caught < wanted:
    try:
        os.write(1, b"caught %d\n" % caught)  # in here, for the next interrupt is sent when this is read
        for item in feed:
            seen.append(item)  # the one instruction behind the taking: nothing can fall in between
    except KeyboardInterrupt:
        caught += 1
os.write(1, b"caught %d\n" % caught)
target = feed.insert("a", b"the end")
while not (seen and isinstance(seen[-1], Message) and seen[-1].number >= target):
    seen.append(feed.get(10))
owner = feed.status()["endpoints"]["a"]
feed.stop()
numbers = [item.number for item in seen if isinstance(item, Message)]
payloads = [int(item.data) for item in seen if isinstance(item, Message) and item.data != b"the end"]
print(
    json.dumps(
        {
            "epoch": owner["epoch"],
            "count": len(numbers),
            "contiguous": numbers == list(range(1, len(numbers) + 1)),
            "payloads": payloads == list(range(len(payloads))),
            "losses": [repr(item) for item in seen if isinstance(item, Gap | Dropped)],
        }
    )
)
