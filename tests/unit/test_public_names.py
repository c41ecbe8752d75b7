"""The public names, and what importing costs: a child must not load the parent's modules."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import wsadapter
from wsadapter import Message, Supervisor
from wsadapter.testing import Exchange

pytestmark = pytest.mark.version

ROOT = Path(__file__).resolve().parents[2]
OWNERS_OWN = {"contract", "worker"}
OPTIONAL = {"msgspec", "psutil", "pytest", "asyncio"}


def loaded(statement: str) -> set[str]:
    # Printed into a duplicate: the fork server's module leads standard output to the null device.
    code = f"import os, sys\nout = os.dup(1)\n{statement}\nimport json\nos.write(out, json.dumps(sorted(sys.modules)).encode())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    return set(json.loads(done.stdout))


def strangers(modules: set[str]) -> set[str]:
    """What an owner must not have loaded."""
    parents = {name for name in modules if name.startswith("wsadapter.") and name.split(".")[1] not in OWNERS_OWN}
    return parents | (modules & OPTIONAL)


def test_the_lists_of_public_names_agree() -> None:
    tree = ast.parse(Path(wsadapter.__file__).read_text("utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        (statement.module, alias.name)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert imported == {(module, name) for module, names in wsadapter._HOME.items() for name in names}
    assert {name for _, name in imported} == set(wsadapter.__all__)
    assert len(wsadapter.__all__) == len(set(wsadapter.__all__))


def test_every_public_name_is_there_and_documented() -> None:
    for name in wsadapter.__all__:
        assert getattr(wsadapter, name) is not None
    assert set(wsadapter.__all__) <= set(dir(wsadapter))
    values = {name: getattr(wsadapter, name) for name in wsadapter.__all__}
    assert [name for name, value in values.items() if isinstance(value, type) and not value.__doc__] == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'wsadapter' has no attribute 'Supervizor'"):
        _ = wsadapter.Supervizor


def test_the_package_itself_loads_none_of_its_modules() -> None:
    assert {name for name in loaded("import wsadapter") if name.startswith("wsadapter.")} == set()


@pytest.mark.parametrize(
    "module",
    ["contract.items", "contract.endpoint", "contract.ipc.record", "contract.ipc.bootstrap", "worker.main", "worker.preload"],
)
def test_contract_and_worker_load_nothing_of_the_parent(module: str) -> None:
    assert strangers(loaded(f"import wsadapter.{module}")) - {"asyncio"} == set()


def test_the_worker_is_not_loaded_by_the_parent() -> None:
    modules = loaded("import wsadapter\nfor name in wsadapter.__all__: getattr(wsadapter, name)")
    assert {name for name in modules if name.startswith("wsadapter.worker")} == set()
    assert "websocket" not in modules


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_real_owner_has_loaded_nothing_of_the_parent(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "telltale.py").write_text(
        "import json, sys\n"
        "def decode(data, *, binary, stream):\n"
        "    return json.dumps([sorted(sys.modules), getattr(sys.modules['__main__'], '__file__', None)]).encode()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with Exchange(messages=["tell"]) as ex:
        endpoint = ex.endpoint("a", decode="telltale:decode")
        with Supervisor([endpoint], start_method=method) as feed:  # type: ignore[arg-type]
            item = feed.get(20)
            while not isinstance(item, Message):
                item = feed.get(20)
    modules, main_file = item.json()
    assert strangers(set(modules)) == set()
    assert "pytest" not in str(main_file)


def test_the_import_rules_name_every_module() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    parents = {
        f"wsadapter.{p.stem}" for p in (ROOT / "supervisor").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    parents -= {"wsadapter.__init__", "wsadapter.__pycache__"}
    assert parents - {"wsadapter.contract"} <= set(rules[3]["forbidden_modules"])
    assert all(rule.get("exhaustive") for rule in rules if rule["type"] == "layers")  # a new package without a floor is refused
