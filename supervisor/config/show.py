"""Settings for a person: the effective ones with secrets masked (`--check --show`), and a table of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from wsadapter.config.dialect import Dialects, apply_dialect
from wsadapter.config.quantities import show_duration, show_size
from wsadapter.config.schema import CLUSTER, ENDPOINT, EXPORTER, JOURNAL, OUTPUT, SINK, SUPERVISOR, Setting, flatten, reach
from wsadapter.config.settings import ClusterSettings, ExporterSettings, JournalSettings, OutputSettings, Settings, SinkSettings
from wsadapter.config.toml_text import as_toml, toml_key
from wsadapter.contract.endpoint import SECTIONS, Endpoint
from wsadapter.contract.masking import mask_setting, mask_url
from wsadapter.contract.meanings import meanings_of


class Description(NamedTuple):
    """One line of the settings table."""

    path: str
    """"endpoints.NAME.timeouts.connect"."""
    type: str
    default: str
    """As in TOML."""
    meaning: str


def effective(settings: Settings) -> dict[str, Any]:
    """The effective settings, with defaults, `[defaults]` and dialects applied: tables `supervisor`, `output`, `journal` if
    there is one, `sink` (a list), `cluster` if there is one, `exporter`, `endpoints`.

    Secrets are masked: user info and query of URLs, header and login values, passwords, raw frames to send. A value
    that consists of a `${...}` only stays as written. Raises `ConfigError` if a dialect has changed since it was checked.
    """
    return {
        "supervisor": {key: getattr(settings, key) for key in SUPERVISOR},
        "output": {key: getattr(settings.output, key) for key in OUTPUT},
        **({} if settings.journal is None else {"journal": {key: getattr(settings.journal, key) for key in JOURNAL}}),
        "sink": [_effective_sink(sink) for sink in settings.sinks],
        **({} if settings.cluster is None else {"cluster": _effective_cluster(settings.cluster)}),
        "exporter": {key: getattr(settings.exporter, key) for key in EXPORTER},
        "endpoints": {e.name: _effective(e, settings) for e in settings.endpoints},
    }


def _effective_sink(sink: SinkSettings) -> dict[str, Any]:
    """The settings that differ from the defaults. References are filled in already, so all of `options` may be secret."""
    found = {key: reach(sink, key) for key, setting in SINK.items() if reach(sink, key) != setting.default}
    table = {key: value for key, value in found.items() if "." not in key}
    if "servers" in table:
        table["servers"] = ",".join(map(mask_url, sink.servers.split(",")))
    if "options" in table:
        table["options"] = mask_setting("headers", sink.options)
    if restart := {key.partition(".")[2]: value for key, value in found.items() if "." in key}:
        table["restart"] = restart
    return {key: list(value) if isinstance(value, tuple) else value for key, value in table.items()}


def _effective_cluster(cluster: ClusterSettings) -> dict[str, Any]:
    found = {key: getattr(cluster, key) for key in CLUSTER}
    found["servers"] = ",".join(map(mask_url, cluster.servers.split(",")))
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def _effective(endpoint: Endpoint, settings: Settings) -> dict[str, Any]:
    dialect = Dialects(settings.dialects).load(endpoint.dialect) if endpoint.dialect else None
    given = settings.given.get(endpoint.name, frozenset())
    table: dict[str, Any] = {}
    for key, value in flatten(apply_dialect(endpoint, dialect, given=given)).items():
        section, _, leaf = key.rpartition(".")
        (table.setdefault(section, {}) if section else table)[leaf] = _shown(key, value)
    return table


def _shown(key: str, value: Any) -> Any:
    masked = mask_setting(key, value)
    return list(masked) if isinstance(masked, tuple) else masked


def show(settings: Settings) -> str:
    """`effective` as TOML text, durations and sizes as a person writes them."""
    tables = effective(settings)
    flat = {"supervisor": SUPERVISOR, "output": OUTPUT, "journal": JOURNAL, "exporter": EXPORTER}
    lines = [line for name, known in flat.items() if name in tables for line in _section(name, tables[name], known)]
    for sink in tables["sink"]:
        lines += ["[[sink]]", *_section("", {key: value for key, value in sink.items() if key != "restart"}, SINK)[1:]]
        if "restart" in sink:
            known = {key.removeprefix("restart."): setting for key, setting in SINK.items()}
            lines += _section("sink.restart", sink["restart"], known)
    if "cluster" in tables:
        lines += _section("cluster", tables["cluster"], CLUSTER)
    for name, table in tables["endpoints"].items():
        path = f"endpoints.{toml_key(name)}"
        lines += _section(path, {key: value for key, value in table.items() if key not in SECTIONS}, ENDPOINT)
        for section in SECTIONS:
            known = {k.removeprefix(f"{section}."): s for k, s in ENDPOINT.items() if k.startswith(f"{section}.")}
            lines += _section(f"{path}.{section}", table[section], known)
    return "\n".join(lines).strip() + "\n"


def _section(path: str, table: Mapping[str, Any], settings: Mapping[str, Setting]) -> list[str]:
    lines = [f"{key} = {_as_toml(value, settings[key])}" for key, value in table.items() if value is not None]
    return [f"[{path}]", *lines, ""]


def _as_toml(value: Any, setting: Setting | None = None) -> str:
    if setting is not None and setting.quantity == "duration":
        return f'"{show_duration(value)}"' if value else "0"
    if setting is not None and setting.quantity == "size":
        return f'"{show_size(value)}"' if value else "0"
    return as_toml(value)


def describe_settings() -> list[Description]:
    """Every setting, in the order of the configuration file, with the meaning that its docstring gives.

    Needs the package's source files, as `inspect.getsource` does; raises `OSError` without them.
    """
    meanings = meanings_of(Endpoint)
    for name, section in SECTIONS.items():
        meanings |= {f"{name}.{key}": text for key, text in meanings_of(section).items()}
    return [
        *_describe("supervisor", SUPERVISOR, meanings_of(Settings)),
        *_describe("output", OUTPUT, meanings_of(OutputSettings)),
        *_describe("journal", JOURNAL, meanings_of(JournalSettings)),
        *_describe("sink", SINK, meanings_of(SinkSettings) | {key: meanings[key] for key in SINK if "." in key}),
        *_describe("cluster", CLUSTER, meanings_of(ClusterSettings)),
        *_describe("exporter", EXPORTER, meanings_of(ExporterSettings)),
        *_describe("endpoints.NAME", ENDPOINT, meanings),
    ]


def _describe(prefix: str, settings: Mapping[str, Setting], meanings: Mapping[str, str]) -> list[Description]:
    return [
        Description(f"{prefix}.{key}", setting.expected, _default(setting), meanings.get(key, ""))
        for key, setting in settings.items()
    ]


def _default(setting: Setting) -> str:
    return "" if setting.default is None else _as_toml(setting.default, setting)
