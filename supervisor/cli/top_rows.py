"""What `wsadapter top` shows of a reading, as text. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from wsadapter.cli import table
from wsadapter.cli.table import duration, per_second, size
from wsadapter.exporter.history import History
from wsadapter.exporter.reading import Reading, last_exit
from wsadapter.status import EndpointStatus, JournalStatus, Status

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_HISTORY: Final = 20
"""Seconds of the small history."""
_WORST: Final = ("fatal", "cooling_down", "backoff", "connecting", "starting", "stopping", "stopped", "up")
COLUMNS: Final = (
    "ENDPOINT", "STATE", "MSG/S", "HISTORY", "BYTES/S", "RTT", "SILENCE", "BUFFERED", "RESTARTS", "GAPS", "MEMORY", "CPU",
    "LAST END",
)  # fmt: skip
SORTS: Final = ("configuration", "name", "state", "rate", "silence", "buffered", "restarts", "gaps", "memory", "cpu")
"""By what rows can be sorted."""


class Row(NamedTuple):
    """One endpoint."""

    name: str
    status: EndpointStatus
    rate: float | None
    history: str
    memory: int | None
    cpu: float | None
    """Percent of a core."""

    @property
    def cells(self) -> tuple[str, ...]:
        """As `COLUMNS`."""
        status = self.status
        return (
            _printable(self.name), status["state"].replace("_", " "), per_second(self.rate), self.history,
            size(status["byte_rate"]), duration(status["rtt"]), duration(status["silence"]), size(status["buffered"]),
            f"{status['restarts']:,}", f"{status['gaps']:,}", size(self.memory),
            "-" if self.cpu is None else f"{self.cpu:.0f}%",
            _printable(last_exit(status["last_exit"]))[:60],
        )  # fmt: skip

    def sort_key(self, by: str) -> tuple[float | str, ...]:
        """The key to sort rows by; the row with the worst state, or the highest value, is the first."""
        match by:
            case "name":
                return (self.name,)
            case "state":
                return (_WORST.index(self.status["state"]) if self.status["state"] in _WORST else len(_WORST),)
            case "rate":
                return (-(self.rate or 0.0),)
            case "memory":
                return (-(self.memory or 0),)
            case "cpu":
                return (-(self.cpu or 0.0),)
            case "silence":
                return (-(self.status["silence"] or 0.0),)
            case "buffered":
                return (-self.status["buffered"],)
            case "restarts":
                return (-self.status["restarts"],)
            case "gaps":
                return (-self.status["gaps"],)
        return ()


def make_rows(reading: Reading, before: Reading | None, history: History) -> list[Row]:
    """A row for each endpoint, in the order of the configuration. `before`: the reading before, for the CPU time between."""
    if reading.status is None:
        return []
    return [_row(name, status, reading, before, history) for name, status in reading.status["endpoints"].items()]


def _row(name: str, status: EndpointStatus, reading: Reading, before: Reading | None, history: History) -> Row:
    rates = list(history.rates.get(name, ()))
    usage = reading.usage.get(status["pid"] or 0)
    return Row(
        name, status, rates[-1] if rates and rates[-1] is not None else status["rate"], small_history(rates),
        None if usage is None else usage.memory, _cpu(status["pid"], reading, before),
    )  # fmt: skip


def _cpu(pid: int | None, reading: Reading, before: Reading | None) -> float | None:
    now = reading.usage.get(pid or 0)
    earlier = before.usage.get(pid or 0) if before is not None else None
    if now is None or earlier is None or before is None or reading.answered_at is None or before.answered_at is None:
        return None
    seconds = reading.answered_at - before.answered_at
    return max(0.0, 100 * (now.cpu - earlier.cpu) / seconds) if seconds > 0 else None


def small_history(rates: Sequence[float | None]) -> str:
    """The last rates as blocks; the highest rate is a full block, an unknown rate a space."""
    shown = rates[-_HISTORY:]
    most = max((rate for rate in shown if rate is not None), default=0.0)
    return "".join(" " if rate is None else _BLOCKS[round(rate / most * (len(_BLOCKS) - 1)) if most else 0] for rate in shown)


def chosen(rows: Iterable[Row], words: str, by: str) -> list[Row]:
    """The rows whose name, state, address or last exit contains all `words`, sorted."""
    wanted = words.lower().split()
    fitting = [row for row in rows if all(word in _searched(row) for word in wanted)]
    return sorted(fitting, key=lambda row: row.sort_key(by))


def _searched(row: Row) -> str:
    return f"{row.name} {row.status['state']} {row.status['url']} {last_exit(row.status['last_exit'])}".lower()


def journal_line(status: Status) -> str:
    """The journal, its consumers and the sinks in one line; "" without a journal."""
    if "journal" not in status:
        return ""
    consumers, sinks = status["journal"]["consumers"], status.get("sinks", {})
    lags = [consumer["lag"]["messages"] for consumer in consumers.values()]
    behind = f", {max(lags):,} items behind at most" if lags else ""
    running = sum(sink["state"] == "running" for sink in sinks.values())
    texts = [_journal(status["journal"]), f"consumers: {len(lags)}{behind}"]
    return "; ".join([*texts, *([f"sinks: {running} of {len(sinks)} running"] if sinks else [])])


def _journal(journal: JournalStatus) -> str:
    wrong = f", cannot be written: {_printable(journal['error'])}" if journal["error"] else ""
    return f"journal: {duration(journal['lag'])} behind, {size(journal['waiting'])} wait{wrong}"


def readers(status: Status) -> str:
    """Consumers and sinks with their lag, as `wsadapter consumers` and `wsadapter sinks` show them."""
    if "journal" not in status:
        return "this supervisor has no journal, so nothing is attached to it: add a table [journal]"
    consumers, sinks = status["journal"]["consumers"], status.get("sinks", {})
    lines = table.consumers(consumers) if consumers else ["no consumer has a position in this journal yet"]
    return "\n".join([*lines, *(["", *table.sinks(sinks)] if sinks else [])]).strip("\n")


def details(row: Row, supervisor: Status | None = None) -> list[tuple[str, str]]:
    """All of one endpoint, line by line. `supervisor`: whose it is; its journal concerns every endpoint."""
    status, streams = row.status, row.status["subscriptions"]
    lines = [
        ("address", status["url"]), ("state", status["state"]), ("connected for", duration(status["uptime"])),
        ("owner", "-" if status["pid"] is None else f"pid {status['pid']}, epoch {status['epoch']}"),
        ("messages", f"{status['messages']:,}, {status['filtered']:,} filtered, {status['dropped']:,} dropped"),
        ("streams", f"{streams['wanted']} wanted, {streams['confirmed']} confirmed, {streams['live']} live"),
        *((f"rejected {stream}", error) for stream, error in streams["rejected"].items()),
        ("restarts", ", ".join(f"{kind} {times}" for kind, times in status["counts"]["downs"].items()) or "none"),
        ("gaps", ", ".join(f"{cause} {times}" for cause, times in status["counts"]["gaps"].items()) or "none"),
        ("handoffs", _handoffs(status)),
        ("last end", last_exit(status["last_exit"]) or "-"),
        *((f"replica {member['member']}", f"{member['state']}, pid {member['pid']}") for member in status.get("members", ())),
    ]  # fmt: skip
    if supervisor is not None and (journal := journal_line(supervisor)):
        lines.append(("journal", journal.removeprefix("journal: ")))
    return [(label, _printable(text)) for label, text in lines]


def _handoffs(status: EndpointStatus) -> str:
    last = status["counts"]["handoff"]
    return f"{status['handoffs']:,}" if last is None else f"{status['handoffs']:,}, the last within {duration(last)}"


def _printable(text: str) -> str:
    """The text without control characters: parts of it may come from a peer, and a terminal must not interpret them."""
    return "".join(character if character.isprintable() else "?" for character in text)
