"""A program with processes, handlers and a start method of its own, which must not notice the library.

Arguments: url, start method of the program's own `multiprocessing`. Prints one JSON line.
"""

import json
import logging
import multiprocessing
import signal
import sys
import threading

from wsadapter import Endpoint, Message, Supervisor


def square(n: int) -> int:
    return n * n


def handlers() -> list[str]:
    return [repr(signal.getsignal(n)) for n in sorted(signal.valid_signals())]


def in_thread(url: str, found: list[int]) -> None:
    with Supervisor([Endpoint("a", url=url)]) as feed:
        for item in feed:
            if isinstance(item, Message):
                found.append(item.number)
            if len(found) == 100:
                break


if __name__ == "__main__":
    url, method = sys.argv[1:]
    multiprocessing.set_start_method(method)
    multiprocessing.set_forkserver_preload(["json"])
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Not SIGTERM: a forked Pool worker would ignore it, and its Pool wait for ever.
    signal.signal(signal.SIGUSR1, lambda *_: None)
    before = (handlers(), logging.getLogger("wsadapter").handlers[:], logging.getLogger().handlers[:])
    with multiprocessing.Pool(1) as pool:
        first = pool.map(square, [2])
        with Supervisor([Endpoint("a", url=url)]) as feed:
            second = pool.map(square, [3])
            mine = [child.name for child in multiprocessing.active_children()]
            feed.get(20)
            while not isinstance(feed.get(20), Message):
                pass
            during = handlers()
        with multiprocessing.Pool(1) as other:
            third = other.map(square, [4])
    numbers: list[int] = []
    thread = threading.Thread(target=in_thread, args=(url, numbers))
    thread.start()
    thread.join(20)
    after = (handlers(), logging.getLogger("wsadapter").handlers[:], logging.getLogger().handlers[:])
    print(
        json.dumps(
            {
                "results": [first, second, third],
                "unchanged": before == after and during == before[0],
                "start_method": multiprocessing.get_start_method(),
                "foreign_children": [name for name in mine if "wsadapter" in name],
                "numbers": numbers == list(range(1, 101)),
            }
        )
    )
