"""The files of the image, Compose and Kubernetes fit each other and the code: what they name exists."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from wsadapter.cli.command_line import COMMANDS, make_parser
from wsadapter.config import parse
from wsadapter.config.listen_address import listen_address
from wsadapter.config.settings import Settings
from wsadapter.exporter.server import PATHS
from wsadapter.supervise import parse_arguments

yaml = pytest.importorskip("yaml", reason="there is no PyYAML here: ops/requirements-test.txt has it")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "ops/examples"
CONTAINERFILE = (EXAMPLES / "Containerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((EXAMPLES / "compose.yaml").read_text("utf-8"))
MANIFESTS: dict[str, dict[str, Any]] = {
    part["kind"]: part for part in yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text("utf-8"))
}


def instruction(word: str) -> str:
    """The last instruction of that name in the Containerfile."""
    return re.findall(rf"^{word} (.*)$", CONTAINERFILE, re.MULTILINE)[-1]


FEEDS_PATH: str = json.loads(instruction("CMD"))[0]
STATE_PATH = instruction("WORKDIR")
USER = int(instruction("USER").split(":")[0])


def settings(text: str) -> Settings:
    """A configuration with its paths as they are in the container."""
    return parse(text, source="feeds.toml", base_dir=Path(FEEDS_PATH).parent)


def check_in_container(text: str, port: int) -> None:
    """The configuration writes only where the container can, and its exporter can be reached from outside."""
    found = settings(text)
    assert found.output.path.startswith(f"{STATE_PATH}/")
    assert found.journal is None or found.journal.path.startswith(f"{STATE_PATH}/")
    address = listen_address(found.exporter.listen)
    assert (address.port, address.is_loopback) == (port, False)


def mounts(service: str) -> dict[str, str]:
    """Path in the container: what is mounted there."""
    parts = [volume.replace("${FEEDS:-", "").replace("}", "").split(":") for volume in COMPOSE["services"][service]["volumes"]]
    return {part[1]: part[0] for part in parts}


def published(service: str) -> int:
    """The port in the container that Compose publishes, on loopback alone."""
    (port,) = COMPOSE["services"][service]["ports"]
    host, outside, inside = port.split(":")
    assert (host, outside) == ("127.0.0.1", inside)
    return int(inside)


# -- the image


def test_the_image_copies_what_is_there_and_installs_extras_that_exist() -> None:
    copied = [path for line in re.findall(r"^COPY (?!--)(.*) /src", CONTAINERFILE, re.MULTILINE) for path in line.split()]
    assert copied
    assert all((ROOT / path).exists() for path in copied)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    extras = re.findall(r"/src\[([\w,]+)\]", CONTAINERFILE)[0].split(",")
    assert set(extras) <= known.keys()


def test_the_image_is_not_root_and_its_commands_parse() -> None:
    assert USER > 0
    health = json.loads(re.findall(r"CMD (\[\"wsadapter\", .*)", CONTAINERFILE)[0])
    assert make_parser().parse_args(health[1:]).action == "health"
    assert json.loads(instruction("ENTRYPOINT")) == ["wsadapter", "run"]
    assert parse_arguments([FEEDS_PATH], "wsadapter run").config == Path(FEEDS_PATH)


def test_the_script_of_the_image_names_files_that_exist() -> None:
    script = (ROOT / "ops/image").read_text("utf-8")
    assert set(re.findall(r"\b(?:ops|tests)/[\w/]+\.?\w*", script)) >= {"ops/examples/Containerfile"}
    for path in re.findall(r"(?<![\w$/])((?:ops|tests)/[\w/]+(?:\.\w+)?)", script):
        assert (ROOT / path).exists(), path
    assert FEEDS_PATH in script
    assert STATE_PATH in script


@pytest.mark.parametrize("words", [("run", "feeds.toml"), ("test",)])
@pytest.mark.parametrize(
    ("podman", "remedy"), [("no-such-podman --runtime runc", "apt install podman"), ("false", "first: sh ops/image build")]
)
def test_the_script_of_the_image_names_what_is_missing(
    words: tuple[str, ...], podman: str, remedy: str, tmp_path: Path
) -> None:
    (tmp_path / "feeds.toml").touch()
    ended = subprocess.run(
        ["sh", str(ROOT / "ops/image"), *words], cwd=tmp_path, env={**os.environ, "PODMAN": podman},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.startswith("ops/image: there is no ")
    assert remedy in ended.stderr


# -- Compose


def test_compose_mounts_files_that_exist_where_the_programs_look() -> None:
    for service in COMPOSE["services"]:
        for source in mounts(service).values():
            assert source in COMPOSE["volumes"] or (EXAMPLES / source).is_file(), source
    assert {FEEDS_PATH, STATE_PATH} <= mounts("wsadapter").keys()
    scrape = yaml.safe_load((EXAMPLES / mounts("prometheus")["/etc/prometheus/prometheus.yml"]).read_text("utf-8"))
    assert {f"/etc/prometheus/{name}" for name in scrape["rule_files"]} <= mounts("prometheus").keys()
    provider = yaml.safe_load((EXAMPLES / "compose-dashboards.yaml").read_text("utf-8"))["providers"][0]
    home = COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in mounts("grafana")
    assert home.startswith(provider["options"]["path"] + "/")


def test_compose_connects_its_services_by_name_and_port() -> None:
    scrape = yaml.safe_load((EXAMPLES / "compose-prometheus.yaml").read_text("utf-8"))
    assert scrape["scrape_configs"][0]["static_configs"][0]["targets"] == [f"wsadapter:{published('wsadapter')}"]
    source = yaml.safe_load((EXAMPLES / "compose-datasource.yaml").read_text("utf-8"))["datasources"][0]
    assert source["url"] == f"http://prometheus:{published('prometheus')}"
    dashboard = json.loads((EXAMPLES / "dashboard.json").read_text("utf-8"))
    assert dashboard["templating"]["list"][0]["query"] == source["type"]
    assert published("grafana") == 3000


def test_the_feeds_of_compose_write_and_listen_where_the_container_lets_them() -> None:
    check_in_container((EXAMPLES / "compose-feeds.toml").read_text("utf-8"), published("wsadapter"))


def test_compose_runs_the_image_as_the_script_does() -> None:
    service = COMPOSE["services"]["wsadapter"]
    assert service["image"] == re.findall(r"^image=(.+)$", (ROOT / "ops/image").read_text("utf-8"), re.MULTILINE)[0]
    assert (EXAMPLES / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert make_parser().parse_args(service["healthcheck"]["test"][2:]).action == "health"


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="there is no docker-compose here (Debian: docker-compose)")
def test_docker_compose_accepts_its_file() -> None:
    checked = subprocess.run(
        ["docker-compose", "-f", "compose.yaml", "config", "-q"],
        cwd=EXAMPLES, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here (Debian: prometheus)")
def test_prometheus_accepts_the_configuration_of_compose() -> None:
    checked = subprocess.run(
        ["promtool", "check", "config", "compose-prometheus.yaml"],
        cwd=EXAMPLES, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


# -- Kubernetes

POD: dict[str, Any] = MANIFESTS["StatefulSet"]["spec"]["template"]["spec"]
CONTAINER: dict[str, Any] = POD["containers"][0]
PORTS = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_kubernetes_accepts_the_manifest(kind: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="there is no kubernetes-validate here")
    validate.validate(MANIFESTS[kind], validate.latest_version(), strict=True)


@pytest.mark.parametrize(
    ("probe", "path"), [("startupProbe", "/live"), ("livenessProbe", "/live"), ("readinessProbe", "/ready")]
)
def test_each_probe_asks_for_a_path_of_the_exporter(probe: str, path: str) -> None:
    asked = CONTAINER[probe]["httpGet"]
    assert asked["path"] == path
    assert path in PATHS
    assert asked["port"] in PORTS


def test_the_feeds_of_kubernetes_write_and_listen_where_the_pod_lets_them() -> None:
    (name,) = MANIFESTS["ConfigMap"]["data"]
    check_in_container(MANIFESTS["ConfigMap"]["data"][name], PORTS["metrics"])
    places = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert f"{places['config']}/{name}" == FEEDS_PATH == CONTAINER["args"][0]
    assert places["data"] == STATE_PATH
    assert instruction("ENV").split("=")[1].startswith(f"{places['tmp']}/")
    assert parse_arguments(CONTAINER["args"], "wsadapter run").log_format == "json"


def test_what_kubernetes_names_is_there() -> None:
    labels = MANIFESTS["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert MANIFESTS["Service"]["spec"]["selector"] == MANIFESTS["StatefulSet"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["Service"]["metadata"]["name"] == MANIFESTS["StatefulSet"]["spec"]["serviceName"]
    assert MANIFESTS["Service"]["spec"]["ports"][0]["targetPort"] in PORTS
    volumes = {volume["name"] for volume in (*POD["volumes"],)}
    claims = {claim["metadata"]["name"] for claim in MANIFESTS["StatefulSet"]["spec"]["volumeClaimTemplates"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == volumes | claims
    assert POD["volumes"][0]["configMap"]["name"] == MANIFESTS["ConfigMap"]["metadata"]["name"]
    annotations = MANIFESTS["StatefulSet"]["spec"]["template"]["metadata"]["annotations"]
    assert int(annotations["prometheus.io/port"]) == PORTS["metrics"]


def test_there_is_one_pod_for_a_key_and_it_has_no_rights() -> None:
    assert MANIFESTS["StatefulSet"]["spec"]["replicas"] == 1
    assert POD["securityContext"]["runAsUser"] == USER
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"] is True
    assert CONTAINER["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_each_way_to_stop_has_the_time_that_systemd_gives() -> None:
    unit = (EXAMPLES / "wsadapter@.service").read_text("utf-8")
    seconds = int(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0])
    assert POD["terminationGracePeriodSeconds"] == seconds
    assert COMPOSE["services"]["wsadapter"]["stop_grace_period"] == f"{seconds}s"


@pytest.mark.parametrize("file", ["Containerfile", "compose.yaml", "kubernetes.yaml", "../image"])
def test_commands_in_comments_exist(file: str) -> None:
    text = (EXAMPLES / file).read_text("utf-8").replace("\n#", "")
    for command in re.findall(r"(?:-- |`)wsadapter +(\w+)", text):
        assert command in COMMANDS, command
    for words in re.findall(r"`sh (ops/\w+ \w+)`", text):
        script, word = shlex.split(words)
        assert re.search(rf"^{word}\)", (ROOT / script).read_text("utf-8"), re.MULTILINE), words
