"""A strategy that runs in a separate process, and over history with the same code.

    python strategy.py prices                   # the name of the supervisor, or the path of its journal
    python strategy.py --backtest /var/lib/prices

It follows the last price of each endpoint (`{"p": ...}`) and prints a signal when a price is above the mean of its last ten.
Kill it, start it again: it continues behind the last message that it has finished.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterable, Iterator

from wsadapter import Dropped, Gap, Item, Journal, Message, attach


def signals(items: Iterable[Item]) -> Iterator[str]:
    """The signals of the strategy for a stream, live or not."""
    prices: dict[str, deque[float]] = {}
    for item in items:
        match item:
            case Message(endpoint=name):
                recent = prices.setdefault(name, deque(maxlen=10))
                price = float(item.json()["p"])
                if len(recent) == recent.maxlen and price > sum(recent) / len(recent):
                    yield f"{name} {item.number} above at {price:g}"
                recent.append(price)
            case Gap(endpoint=name) | Dropped(endpoint=name):
                prices.pop(name, None)  # values that were derived from earlier messages are not valid any more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("journal", help="name of the supervisor, or path of the journal")
    parser.add_argument("--backtest", action="store_true", help="over what the journal at this path holds, and end")
    parser.add_argument("--consumer", default="strategy", help="name under which the position is kept")
    options = parser.parse_args()
    if options.backtest:
        for signal in signals(Journal(options.journal)):
            print(signal, flush=True)
        return
    with attach(options.journal, options.consumer, start="earliest") as feed:
        for signal in signals(feed):
            print(signal, flush=True)


if __name__ == "__main__":
    main()
