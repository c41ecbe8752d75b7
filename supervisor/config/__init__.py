"""TOML to validated settings, and the same checks for endpoints made in Python.

    settings = load("config.toml")      # raises ConfigError with every problem at once
    endpoint = checked(Endpoint(...))   # the same for an object

msgspec checks types, value by value (its errors name the place). Unknown keys and everything else are checked here, because a
person who corrects a configuration needs the whole list of problems, each with its path, what was expected, and the nearest
known key.
"""

from __future__ import annotations

import os
import re
import tomllib
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from socket import gethostname
from typing import Any, Final

from wsadapter.config import values
from wsadapter.config.checks import Combined, Layer, Surroundings, combine, read_layer
from wsadapter.config.cluster import judge_cluster
from wsadapter.config.dialect import Dialects
from wsadapter.config.files import parse_toml, read_file
from wsadapter.config.listen_address import check_listen
from wsadapter.config.output_path import check_path
from wsadapter.config.schema import (
    CLUSTER,
    EXPORTER,
    JOURNAL,
    OUTPUT,
    SINK,
    SUPERVISOR,
    Mismatch,
    Setting,
    as_table,
    convert,
    got,
    unknown_key,
)
from wsadapter.config.settings import (
    ClusterSettings,
    ExporterSettings,
    JournalSettings,
    OutputSettings,
    Settings,
    SinkSettings,
)
from wsadapter.config.show import describe_settings, effective, show
from wsadapter.config.sinks import PATHS, judge_sinks
from wsadapter.contract.endpoint import Endpoint, Restart
from wsadapter.contract.errors import ConfigError, Problem
from wsadapter.import_path import working_folder

__all__ = [
    "ClusterSettings", "Dialects", "ExporterSettings", "JournalSettings", "OutputSettings", "Settings", "SinkSettings",
    "check_endpoint", "check_journal", "check_supervisor", "checked", "describe_settings", "effective", "load", "parse",
    "show",
]  # fmt: skip

_LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a configuration, at most."""
_PATIENCE: Final = 5.0
"""Seconds in which it must have been read."""
_TABLES: Final = ("supervisor", "output", "journal", "sink", "cluster", "exporter", "defaults", "endpoints")
_MOST_SPARES: Final = 64
_NO_WORKING_FOLDER: Final = "/(the working folder, which was deleted)"
"""The base of relative paths then, so that the errors about them give the reason."""
_LONGEST_BUSY_POLL = 1.0
_LEAST_SEGMENT: Final = 64 * 1024
_LONGEST_COMMIT: Final = 10.0
_POSITION: Final = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


def load(path: str | os.PathLike[str], *, secrets: bool = True) -> Settings:
    """The settings of a file. Relative paths in it start at its folder, except `output.path`, which starts at the working
    directory.

    `secrets=False`: no `${NAME}` and no `${file:PATH}` is read. Each counts as present, and values that contain one are not
    checked. Settings of [supervisor] and [output] that contain one have their defaults then.

    Raises `ConfigError` with all problems, also if the file can't be read or is not TOML.
    """
    source = str(path)
    try:
        content = read_file(path, most=_LARGEST, seconds=_PATIENCE).removeprefix(BOM_UTF8)
    except OSError as error:
        raise ConfigError([Problem("", f"the file can't be read: {error.strerror}")], source=source) from error
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem("", f"line {line}: not UTF-8 text")], source=source) from error
    folder = Path(path).absolute().parent
    return replace(parse(text, source=source, base_dir=folder, secrets=secrets), folder=str(folder))


def parse(
    text: str, *, source: str = "", base_dir: str | Path = "", environ: Mapping[str, str] = os.environ, secrets: bool = True
) -> Settings:
    """The settings of TOML text; `source` is what errors call it, `secrets` as for `load`.

    Raises `ConfigError` with all problems.
    """
    table = _parse_toml(text, source)
    try:
        return _read_tables(table, source=source, base_dir=base_dir, environ=environ, secrets=secrets)
    except RecursionError:
        raise ConfigError([Problem("", "a value is nested too deep")], source=source) from None


def _read_tables(
    table: dict[str, Any], *, source: str, base_dir: str | Path, environ: Mapping[str, str], secrets: bool
) -> Settings:
    around = Surroundings(Path(base_dir), environ, secrets)
    problems = [Problem(key, unknown_key(key, _TABLES)) for key in table if key not in _TABLES]
    sections = {name: _table(table, name, problems) for name in _TABLES if name != "sink"}
    own = _read_flat(sections["supervisor"], "supervisor", SUPERVISOR, around, problems)
    output = _read_flat(sections["output"], "output", OUTPUT, around, problems)
    exporter = _read_flat(sections["exporter"], "exporter", EXPORTER, around, problems)
    journal = _read_journal(table, sections["journal"], around, problems)
    sinks = _read_sinks(table, around, problems)
    if journal is not None and "output" not in table:
        output["kind"] = "none"
    if journal is not None and journal.keeper:
        problems += _judge_keeper(output, cluster="cluster" in table)
    own["name"] = own.get("name") or Path(source).stem
    _judge_supervisor(own, problems)
    _judge_output(output, problems)
    if wrong := check_listen(exporter.get("listen", "")):
        problems.append(Problem("exporter.listen", wrong))
    endpoints, given = _read_endpoints(sections, around, problems)
    names = [endpoint.name for endpoint in endpoints]
    cluster = _read_cluster(table, sections["cluster"], own["name"], names, around, problems)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)), source=source)
    return Settings(
        **own, output=OutputSettings(**output), journal=journal, sinks=sinks, cluster=cluster,
        exporter=ExporterSettings(**exporter), endpoints=endpoints, given=given, source=source, dialects=around.dialects.known,
    )  # fmt: skip


def _parse_toml(text: str, source: str) -> dict[str, Any]:
    try:
        return parse_toml(text)
    except tomllib.TOMLDecodeError as error:
        found = _POSITION.fullmatch(str(error))
        message = found[1] if found else str(error)
        line, column = (found[2], found[3]) if found and found[2] else _end_of(text)
        raise ConfigError([Problem(f"line {line}, column {column}", f"not valid TOML: {message}")], source=source) from error


def _end_of(text: str) -> tuple[str, str]:
    lines = text.split("\n")
    return str(len(lines)), str(len(lines[-1]) + 1)


def _table(table: Mapping[str, Any], name: str, problems: list[Problem]) -> dict[str, Any]:
    found = table.get(name, {})
    if isinstance(found, dict):
        return found
    problems.append(Problem(name, f"expected a table, got {got(found)}"))
    return {}


def _read_flat(
    table: Mapping[str, Any], prefix: str, known: Mapping[str, Setting], around: Surroundings, problems: list[Problem]
) -> dict[str, Any]:
    """A table without sections, converted. `${...}` is filled in here: these are names and folders, not secrets."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        path = f"{prefix}.{key}"
        if key not in known:
            problems.append(Problem(path, unknown_key(key, known)))
            continue
        try:
            found[key] = convert(known[key], value)
            if isinstance(found[key], str):
                found[key], unresolved, unknown = around.expand("", found[key])
                problems += [Problem(path, problem.message) for problem in unresolved]
                if unknown:
                    del found[key]
        except Mismatch as mismatch:
            problems += [Problem(path + place, message) for place, message in mismatch.found]
    return found


def check_supervisor(own: Mapping[str, Any]) -> list[Problem]:
    """Everything that is wrong with the settings of a supervisor made in Python, by the keys of `[supervisor]`."""
    problems: list[Problem] = []
    found: dict[str, Any] = {}
    for key, value in own.items():
        try:
            found[key] = convert(SUPERVISOR[key], value)
        except Mismatch as mismatch:
            problems += [Problem(f"supervisor.{key}{place}", message) for place, message in mismatch.found]
    _judge_supervisor(found, problems)
    return problems


def _judge_supervisor(own: Mapping[str, Any], problems: list[Problem]) -> None:
    if own.get("name") and (wrong := values.name(own["name"])):
        problems.append(Problem("supervisor.name", wrong))
    if not 0 <= own.get("spares", 0) <= _MOST_SPARES:
        problems.append(Problem("supervisor.spares", f"expected 0 to {_MOST_SPARES}, got {own['spares']}"))
    if own.get("busy_poll", 0.0) > _LONGEST_BUSY_POLL:
        problems.append(Problem("supervisor.busy_poll", f"expected at most {_LONGEST_BUSY_POLL:g} s, got {own['busy_poll']:g}"))


def _judge_output(output: Mapping[str, Any], problems: list[Problem]) -> None:
    if "path" in output and (wrong := check_path(output["path"])):
        problems.append(Problem("output.path", wrong))


def _read_journal(
    table: Mapping[str, Any], section: Mapping[str, Any], around: Surroundings, problems: list[Problem]
) -> JournalSettings | None:
    if "journal" not in table:
        return None
    found = _read_flat(section, "journal", JOURNAL, around, problems)
    if "path" not in section:
        problems.append(Problem("journal.path", "expected the folder of the journal"))
    before = len(problems)
    _judge_journal(found, problems)
    if len(problems) > before:
        return None
    return JournalSettings(**{**found, "path": str(around.base_dir / found["path"])} if "path" in found else found)


def _read_sinks(table: Mapping[str, Any], around: Surroundings, problems: list[Problem]) -> tuple[SinkSettings, ...]:
    written = table.get("sink", [])
    if not isinstance(written, list) or not all(isinstance(each, dict) for each in written):
        problems.append(Problem("sink", f"expected tables [[sink]], got {got(written)}"))
        return ()
    for index, each in enumerate(written):
        if not isinstance(each.get("restart", {}), dict):
            problems.append(Problem(f"sink[{index}].restart", f"expected a table, got {got(each['restart'])}"))
    written = [_with_dotted_keys(each) for each in written]
    found = [_read_flat(each, f"sink[{index}]", SINK, around, problems) for index, each in enumerate(written)]
    for index, sink in enumerate(found):
        for key in PATHS:
            if sink.get(key):
                sink[key] = str(around.base_dir / sink[key])
        if "options" in sink:
            options, unresolved, _ = around.expand("options", sink["options"])
            sink["options"] = {name: str(value) for name, value in options.items()}
            problems += [Problem(f"sink[{index}].{problem.path}", problem.message) for problem in unresolved]
    wrong = judge_sinks(found, written, journal="journal" in table)
    problems += wrong
    return () if wrong else tuple(map(_sink, found))


def _read_cluster(
    table: Mapping[str, Any], section: Mapping[str, Any], name: str, endpoints: Sequence[str], around: Surroundings,
    problems: list[Problem],
) -> ClusterSettings | None:  # fmt: skip
    if "cluster" not in table:
        return None
    found = _read_flat(section, "cluster", CLUSTER, around, problems)
    for key in ("credentials", "ca_file"):
        if found.get(key):
            found[key] = str(around.base_dir / found[key])
    settings = ClusterSettings(**found)
    settings = replace(settings, name=settings.name or name, host=settings.host or gethostname())
    sinks = table.get("sink", [])
    names = [each.get("name") for each in sinks if isinstance(each, dict)] if isinstance(sinks, list) else []
    problems += judge_cluster(settings, section, endpoints=endpoints, sinks=names, journal="journal" in table)
    return settings


def _with_dotted_keys(sink: Mapping[str, Any]) -> dict[str, Any]:
    """With the keys of its table `restart` beside its own."""
    table = sink.get("restart")
    own = {key: value for key, value in sink.items() if key != "restart"}
    return own | {f"restart.{key}": value for key, value in (table if isinstance(table, dict) else {}).items()}


def _sink(found: Mapping[str, Any]) -> SinkSettings:
    restart = {key.removeprefix("restart."): value for key, value in found.items() if key.startswith("restart.")}
    own = {key: value for key, value in found.items() if not key.startswith("restart.")}
    return SinkSettings(**own, restart=Restart(**restart))


def check_journal(journal: JournalSettings) -> list[Problem]:
    """Everything that is wrong with a journal made in Python, by the keys of `[journal]`."""
    problems: list[Problem] = []
    found: dict[str, Any] = {}
    for key, setting in JOURNAL.items():
        try:
            found[key] = convert(setting, getattr(journal, key))
        except Mismatch as mismatch:
            problems += [Problem(f"journal.{key}{place}", message) for place, message in mismatch.found]
    _judge_journal(found, problems)
    return problems


def _judge_keeper(output: Mapping[str, Any], *, cluster: bool) -> Iterator[Problem]:
    if output.get("kind", OutputSettings().kind) != "none":
        text = 'the output has no position to continue at: write kind = "none", and a [[sink]] or a consumer instead'
        yield Problem("journal.keeper", text)
    if cluster:
        yield Problem("journal.keeper", "a host of a cluster has no keeper: other hosts get its endpoints")


def _judge_journal(journal: Mapping[str, Any], problems: list[Problem]) -> None:
    defaults = JournalSettings()
    if "path" in journal and not journal["path"]:
        problems.append(Problem("journal.path", "expected the folder of the journal"))
    segment = journal.get("segment_bytes", defaults.segment_bytes)
    if segment < _LEAST_SEGMENT:
        problems.append(Problem("journal.segment_bytes", f"expected at least 64KiB, got {segment}"))
    if 0 < journal.get("retain_bytes", defaults.retain_bytes) < 2 * segment:
        problems.append(
            Problem("journal.retain_bytes", "expected 0, or at least twice segment_bytes: whole segments are removed")
        )
    if not 0 <= journal.get("commit", defaults.commit) <= _LONGEST_COMMIT:
        problems.append(Problem("journal.commit", f"expected 0 to {_LONGEST_COMMIT:g} s, got {journal['commit']:g}"))
    if 0 < journal.get("retain", defaults.retain) < 1:
        problems.append(Problem("journal.retain", f"expected 0, or at least 1 s, got {journal['retain']:g}"))


def _read_endpoints(
    sections: Mapping[str, Mapping[str, Any]], around: Surroundings, problems: list[Problem]
) -> tuple[tuple[Endpoint, ...], dict[str, frozenset[str]]]:
    defaults = read_layer(sections["defaults"], "defaults", around)
    problems += defaults.problems
    endpoints: list[Endpoint] = []
    given: dict[str, frozenset[str]] = {}
    for name, table in sections["endpoints"].items():
        if not isinstance(table, dict):
            problems.append(Problem(f"endpoints.{name}", f"expected a table, got {got(table)}"))
            continue
        own = read_layer(table, f"endpoints.{name}", around)
        combined = combine(name, own, defaults, around)
        problems += combined.problems
        endpoints.append(combined.endpoint)
        given[name] = frozenset(own.values.keys() | defaults.values.keys())
    if not sections["endpoints"]:
        problems.append(Problem("endpoints", "expected at least one: [endpoints.NAME] with a url or a dialect"))
    return tuple(endpoints), given


def check_endpoint(endpoint: Endpoint, dialects: Dialects | None = None) -> list[Problem]:
    """Everything that is wrong with an endpoint made in Python; relative paths start at the working directory. `dialects`: as
    for `checked`."""
    return _combined(endpoint, dialects).problems


def checked(endpoint: Endpoint, dialects: Dialects | None = None) -> Endpoint:
    """`endpoint` in its normal form: tuples, seconds as floats, absolute paths, the lines of `subscribe_file` in `subscribe`.

    `dialects`: those that were loaded already, to which its own is added. Checking what is checked changes nothing. Raises
    `ConfigError` with all problems.
    """
    combined = _combined(endpoint, dialects)
    if combined.problems:
        raise ConfigError(combined.problems)
    return combined.endpoint


def _combined(endpoint: Endpoint, dialects: Dialects | None) -> Combined:
    around = Surroundings(Path(working_folder() or _NO_WORKING_FOLDER), dialects=dialects or Dialects())
    name: object = endpoint.name
    if not isinstance(name, str):
        return Combined(endpoint, [Problem("endpoints", f"a name is a string, got {got(name)}")])
    own = read_layer(as_table(endpoint), f"endpoints.{name}", around)
    return combine(name, own, Layer("defaults"), around)
