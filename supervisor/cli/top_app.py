"""The terminal view, on textual (extra `console`). It asks as the exporter does: once a second, in a thread."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import ClassVar, Final

from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

from wsadapter.cli.table import headline
from wsadapter.cli.top_rows import COLUMNS, SORTS, Row, chosen, details, journal_line, make_rows, readers
from wsadapter.contract.errors import ControlError
from wsadapter.control.server import ask
from wsadapter.exporter.reading import Reading
from wsadapter.exporter.watch import Watch

_RESTART_WITHIN: Final = 60.0
_TONES: Final = {"up": "green", "backoff": "red", "cooling down": "red", "fatal": "bold red"}


class Page(ModalScreen[None]):
    """Text over the table; any of its keys leaves it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape", "dismiss", "back"),
        ("q", "dismiss", "back"),
        ("enter", "dismiss", "back"),
    ]
    DEFAULT_CSS = """
    Page { align: center middle; }
    Page > Vertical {
        width: 90%; height: auto; max-height: 90%; border: round $primary; padding: 1 2; background: $surface; overflow-y: auto;
    }
    """

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(f"[b]{_plain(self._title)}[/b]\n")
            yield Static(self._text, markup=False, id="page")


class Question(ModalScreen[bool]):
    """Yes or no."""

    BINDINGS: ClassVar[list[BindingType]] = [("y", "answer(True)", "yes"), ("n,escape,q", "answer(False)", "no")]
    DEFAULT_CSS = """
    Question { align: center middle; }
    Question > Static { width: auto; padding: 1 3; border: round $warning; background: $surface; }
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        yield Static(f"{self._text}\n\ny: yes   n: no", markup=False, id="question")

    def action_answer(self, yes: bool) -> None:
        """It was answered."""
        self.dismiss(yes)


class Top(App[None]):
    """All endpoints of one supervisor."""

    TITLE = "wsadapter"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #headline { height: auto; padding: 0 1; }
    #journal { height: auto; padding: 0 1; color: $text-muted; }
    #problem { color: $error; height: auto; padding: 0 1; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "quit"), ("slash", "filter", "filter"), ("s", "sort", "sort"), ("g", "events", "gaps and restarts"),
        ("l", "log", "log"),
        ("c", "readers", "consumers and sinks"), ("r", "restart", "restart"),
    ]  # fmt: skip

    def __init__(self, name: str, runtime_dir: str) -> None:
        super().__init__()
        self._supervisor = name
        self._runtime_dir = runtime_dir
        self._watched = Watch(name, runtime_dir)
        self._before: Reading | None = None
        self._rows: list[Row] = []
        self._by: str = SORTS[0]

    def compose(self) -> ComposeResult:
        yield Static("waiting for the supervisor ...", id="headline", markup=False)
        yield Static("", id="journal", markup=False)
        yield Static("", id="problem", markup=False)
        yield Input(placeholder="filter by name, state, address or last end; Enter keeps it, Escape clears it", id="filter")
        yield DataTable(id="endpoints", cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin."""
        table = self._table
        for heading in COLUMNS:
            table.add_column(heading, key=heading)
        self.query_one(Input).display = False
        table.focus()
        self.run_worker(self._watched.run(), name="watch", exit_on_error=True)
        self.run_worker(self._follow(), name="follow", exit_on_error=True)

    async def _follow(self) -> None:
        while True:
            before = self._watched.reading
            await self._watched.next()
            self._rows = make_rows(self._watched.reading, before, self._watched.history)
            self._show()

    @property
    def _table(self) -> DataTable[str]:
        return self.query_one("#endpoints", DataTable)

    def _show(self) -> None:
        reading = self._watched.reading
        if reading.status is not None:
            self.query_one("#headline", Static).update(f"{headline(reading.status)}; sorted by {self._by}")
            self._show_journal(journal_line(reading.status))
        age = reading.age(monotonic())
        late = "" if age is None else f" The data are {age:.0f} s old."
        self.query_one("#problem", Static).update(f"{reading.problem}.{late}" if reading.problem else "")
        self._fill(chosen(self._rows, self.query_one(Input).value, self._by))

    def _show_journal(self, line: str) -> None:
        """Without a journal there is no empty line for it."""
        shown = self.query_one("#journal", Static)
        shown.display = bool(line)
        shown.update(line)

    def _fill(self, rows: list[Row]) -> None:
        """Cell by cell while the order stays: the cursor and the scroll position stay too."""
        table = self._table
        if [key.value for key in table.rows] == [row.name for row in rows]:
            for row in rows:
                for heading, cell in zip(COLUMNS, _styled(row.cells), strict=True):
                    table.update_cell(row.name, heading, cell, update_width=True)
            return
        here = self._current()
        table.clear()
        for row in rows:
            table.add_row(*_styled(row.cells), key=row.name)
        if here is not None and here in table.rows:
            table.move_cursor(row=table.get_row_index(here))

    def _current(self) -> str | None:
        table = self._table
        return None if not table.row_count else table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    def action_filter(self) -> None:
        """Write a filter."""
        field = self.query_one(Input)
        field.display = True
        field.focus()

    def on_input_changed(self, _event: Input.Changed) -> None:
        """Show what fits, at each letter."""
        self._show()

    def on_input_submitted(self, _event: Input.Submitted) -> None:
        """Back to the table."""
        self._table.focus()

    def key_escape(self) -> None:
        """No filter any more."""
        field = self.query_one(Input)
        field.value = ""
        field.display = False
        self._table.focus()

    def action_sort(self) -> None:
        """By the next column."""
        self._by = SORTS[(SORTS.index(self._by) + 1) % len(SORTS)]
        self._show()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Enter: one endpoint."""
        row = next((row for row in self._rows if row.name == event.row_key.value), None)
        if row is not None:
            lines = details(row, self._watched.reading.status)
            width = max(len(label) for label, _ in lines)
            self.push_screen(Page(row.name, "\n".join(f"{label.ljust(width)}  {text}" for label, text in lines)))

    def action_events(self) -> None:
        """What happened since this view was opened."""
        marks = reversed(self._watched.history.marks())
        text = "\n".join(f"{_clock(mark.at)}  {mark.endpoint}  {mark.kind}  {mark.text}" for mark in marks)
        self.push_screen(Page("Gaps, drops and restarts since this view was opened", text or "none"))

    def action_readers(self) -> None:
        """Who reads the journal."""
        status = self._watched.reading.status
        if status is not None:
            self.push_screen(Page("Consumers and sinks", readers(status)))

    def action_log(self) -> None:
        """The last lines of the supervisor's log."""
        self.run_worker(self._fetch_log(), name="log", exit_on_error=True)

    async def _fetch_log(self) -> None:
        try:
            answer = await asyncio.to_thread(ask, self._supervisor, {"command": "log"}, runtime_dir=self._runtime_dir)
        except ControlError as error:
            # A supervisor inside a program has no runner: the program decides where its log goes.
            self.notify(str(error), title="the log cannot be shown", severity="error", markup=False)
        else:
            self.push_screen(Page("The supervisor's log, newest first", "\n".join(reversed(answer["lines"])) or "no lines yet"))

    def action_restart(self) -> None:
        """Start a new owner for the endpoint under the cursor, after a confirmation."""
        name = self._current()
        if name is not None:
            self.push_screen(Question(f"Restart {name}?"), lambda yes: self._restart(name) if yes else None)

    def _restart(self, name: str) -> None:
        self.run_worker(self._restarted(name), name="restart", exit_on_error=True)

    async def _restarted(self, name: str) -> None:
        request = {"command": "restart", "endpoint": name}
        try:
            await asyncio.to_thread(ask, self._supervisor, request, runtime_dir=self._runtime_dir, timeout=_RESTART_WITHIN)
        except ControlError as error:
            self.notify(str(error), title=f"{name} was not restarted", severity="error", markup=False)
        else:
            self.notify(f"{name} is up", markup=False)


def _styled(cells: tuple[str, ...]) -> list[str]:
    """Markup of the state alone; of the others nothing is markup."""
    name, state, *rest = map(_plain, cells)
    tone = _TONES.get(cells[1], "yellow")
    return [name, f"[{tone}]{state}[/]", *rest]


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def _clock(milliseconds: int) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%H:%M:%S")
