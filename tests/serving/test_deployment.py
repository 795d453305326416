"""examples/serving: what the files there start is a command that exists, and they wait for a server that leaves."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tyro

from streamdrnn.apps.serving.command import Serve
from streamdrnn.apps.serving.server import CLOSE_SECONDS
from streamdrnn.apps.serving.service import DRAIN_SECONDS
from streamdrnn.apps.serving.traces import SEND_SECONDS

EXAMPLES = Path(__file__).parents[2] / "examples" / "serving"
DOCKERFILE = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8")
UNIT = (EXAMPLES / "streamdrnn.service").read_text(encoding="utf-8")
MOST_TO_STOP = DRAIN_SECONDS + CLOSE_SECONDS + SEND_SECONDS


def resources() -> dict[tuple[str, str], dict[str, Any]]:
    yaml = pytest.importorskip("yaml", reason="reads Kubernetes' files; Ray brings it")
    text = (EXAMPLES / "kubernetes.yaml").read_text(encoding="utf-8")
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text)}


def test_the_image_serves_what_its_health_check_asks() -> None:
    (command,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    serve = tyro.cli(Serve, args=json.loads(command))
    assert (serve.models, serve.host, serve.log_format) == (["speaker"], "0.0.0.0", "json")
    assert f"EXPOSE {serve.port}\n" in DOCKERFILE
    assert f"http://127.0.0.1:{serve.port}/healthz" in DOCKERFILE
    (seconds,) = re.findall(r"docker stop --time (\d+)", DOCKERFILE)
    assert float(seconds) > MOST_TO_STOP
    for copied in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE):
        for name in copied.split():
            assert (EXAMPLES.parents[1] / name).exists(), name


def test_the_unit_starts_what_exists_and_waits() -> None:
    (command,) = re.findall(r"^ExecStart=\S+ serve (.*)$", UNIT, re.MULTILINE)
    serve = tyro.cli(Serve, args=command.split())
    assert serve.host == "127.0.0.1"
    assert serve.token_file is not None
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert float(seconds) > MOST_TO_STOP


def test_the_pods_serve_what_their_probes_and_their_service_ask() -> None:
    made = resources()
    pod = made["Deployment", "streamdrnn"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    serve = tyro.cli(Serve, args=container["args"])
    assert serve.host == "0.0.0.0"
    assert serve.store is not None
    assert serve.store.startswith("redis://streamdrnn-store:")
    assert ("Service", "streamdrnn-store") in made
    (port,) = container["ports"]
    assert port["containerPort"] == serve.port
    probes = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("readiness", "liveness")}
    assert probes == {"/readyz", "/healthz"}
    assert pod["terminationGracePeriodSeconds"] > MOST_TO_STOP
    assert serve.token_file is not None
    assert any(mount["mountPath"] == str(serve.token_file.parent) for mount in container["volumeMounts"])
