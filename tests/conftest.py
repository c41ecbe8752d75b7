"""Fixtures of the whole suite. Every test that runs processes or sockets fails if it leaves anything behind."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.leaks import no_leaks
from wsadapter import capabilities

_HERE = Path(__file__).parent

# The time of one example says how busy the machine is, and nothing about the code.
hypothesis.settings.register_profile("full", deadline=None)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=20)
hypothesis.settings.load_profile(os.environ.get("WSADAPTER_EXAMPLES", "full"))  # ops/check sets "quick"

# Started in the background by a shell, or by nohup: whatever we start would inherit what is ignored.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks by which `ops/check` and the legs of `ops/test` choose."""
    for item in items:
        if not item.path.is_relative_to(_HERE / "unit"):
            item.add_marker("process")
        if "start_method" in getattr(item, "fixturenames", ()):
            item.add_marker("starts")
        chosen = getattr(item, "callspec", None)
        if chosen is not None and chosen.params.get("start_method") == "spawn":
            item.add_marker("spawn")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """The collected tests live to the end. Unfrozen, they make the `gc.collect()` of each process test cost 0.1 s."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _runtime_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Supervisors that tests name are not seen by those of another run, or of the person who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WSADAPTER_RUNTIME_DIR", str(tmp_path_factory.mktemp("run") / "wsadapter"))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        proxies = [name for name in os.environ if name.lower().endswith("_proxy")]  # what is on loopback needs none
        for variable in ("RUNTIME_DIRECTORY", "STATE_DIRECTORY", *proxies):
            patch.delenv(variable, raising=False)
        yield


@pytest.fixture(autouse=True)
def _leave_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.path.is_relative_to(_HERE / "unit"):
        yield
        return
    with no_leaks():
        yield


@pytest.fixture(params=["forkserver"] if capabilities.portable() else ["forkserver", "spawn"])
def start_method(request: pytest.FixtureRequest) -> str:
    """Both ways to start an owner; with the portable fall-backs the first becomes the second."""
    return str(request.param)
