"""The health check of a container: red only for a fatal endpoint, or a supervisor that does not answer."""

from __future__ import annotations

import pytest

from tests.support.statuses import endpoint, supervisor
from wsadapter.__main__ import main
from wsadapter.cli.health import judge


@pytest.mark.parametrize("state", ["up", "starting", "connecting", "backoff", "cooling_down", "stopping", "stopped"])
def test_an_endpoint_that_is_tried_again_or_was_stopped_leaves_it_green(state: str) -> None:
    verdict = judge(supervisor({"a": endpoint(), "b": endpoint(state=state)}))
    assert verdict.fatal == {}
    assert verdict.text == f"the supervisor answers; {1 + (state == 'up')} of 2 endpoints are up, none is fatal"


def test_each_fatal_endpoint_is_named_with_its_reason() -> None:
    exit_status = {"kind": "config", "text": "no such hook"}
    verdict = judge(
        supervisor({"a": endpoint(), "b": endpoint(state="fatal", last_exit=exit_status), "c": endpoint(state="fatal")})
    )
    assert verdict.text.splitlines() == ["b: fatal: config, no such hook", "c: fatal: closed by peer, code 1006"]
    assert list(verdict.fatal) == ["b", "c"]


def test_without_a_supervisor_it_is_3(capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert main(["health", "--runtime-dir", str(tmp_path_factory.mktemp("none"))]) == 3
    assert "no supervisor is running here" in capsys.readouterr().err
