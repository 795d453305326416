"""The service on a Ray cluster: replicas of it behind Ray Serve, with one store.

    serve run streamdrnn.apps.serving.ray_app:build models=speaker.safetensors replicas=2

A stream is its replica's as long as its connection lives. When the replica dies, or goes because there are to be fewer,
its clients connect again, and the proxy gives them another one, which continues the stream from the store.
"""

from pathlib import Path
from typing import Any, Optional

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, field_validator
from ray import serve

from streamdrnn.apps.model_file import model_file
from streamdrnn.apps.serving.limits import Limits
from streamdrnn.apps.serving.origins import checked_origins
from streamdrnn.apps.serving.server import SPARE_WEBSOCKETS, build_app, settle_in
from streamdrnn.apps.serving.service import Service
from streamdrnn.apps.serving.store import open_store
from streamdrnn.apps.serving.tokens import Tokens
from streamdrnn.apps.weights import Held

_LEAVE_SECONDS = 2.0
"""How long a replica that is to go still serves its streams. They end with it, so there is nothing to wait for."""


class Settings(BaseModel):
    """What ``streamdrnn serve`` has as options; ``docs/serving.md`` describes them.

    Attributes:
        models: files, by the same path on every machine, or ``speaker``; as text, separated by commas.
        replicas: how many servers; each has ``max_streams`` of its own.
        store: a file, if all replicas are on one machine, else ``redis://HOST:PORT/DB``.
    """

    model_config = ConfigDict(extra="forbid")

    models: list[str] = Field(min_length=1)
    replicas: int = Field(default=2, ge=1)
    store: Optional[str] = None
    max_wait_ms: float = Field(default=5.0, ge=0)
    snapshot_seconds: float = Field(default=5.0, gt=0)
    keep_hours: float = Field(default=24.0, gt=0)
    store_mb: int = Field(default=1000, ge=1)
    weights: Held = "float32"
    token_file: Optional[Path] = None
    allow_origin: list[str] = []
    max_streams: int = Field(default=64, ge=1)
    max_frame_steps: int = Field(default=100, ge=1)
    max_rate: float = Field(default=1000.0, gt=0)
    idle_seconds: float = Field(default=60.0, gt=0)

    @field_validator("models", "allow_origin", mode="before")
    @classmethod
    def _separate(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value


@serve.deployment(graceful_shutdown_timeout_s=_LEAVE_SECONDS, graceful_shutdown_wait_loop_s=0.5)
@serve.ingress()
class Replica:
    """One server of the cluster."""

    def __init__(self, settings: Settings) -> None:
        limits = Limits(
            streams=settings.max_streams,
            frame_steps=settings.max_frame_steps,
            rate=settings.max_rate,
            idle_seconds=settings.idle_seconds,
        )
        self._service = Service(
            [model_file(model) for model in settings.models],
            open_store(settings.store, settings.keep_hours * 3600, settings.store_mb * 10**6),
            limits,
            settings.max_wait_ms / 1000,
            settings.snapshot_seconds,
            settings.weights,
        )
        self._app = build_app(self._service, Tokens.read(settings.token_file), checked_origins(settings.allow_origin))
        settle_in()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    def check_health(self) -> None:
        """Raise if streams can not be opened here; Ray then puts another replica in this one's place."""
        if not self._service.ready:
            raise RuntimeError("the service has failed") from self._service.failure


def build(settings: Settings) -> serve.Application:
    """The application, for ``serve run`` and the files of ``serve deploy``."""
    # A stream is one request to Ray for as long as it lives. Beyond the streams there is room for refusals.
    most = settings.max_streams * len(settings.models) + SPARE_WEBSOCKETS
    deployment: Any = Replica  # Ray's types do not see through its decorators
    application: serve.Application = deployment.options(
        num_replicas=settings.replicas, max_ongoing_requests=most, max_queued_requests=SPARE_WEBSOCKETS
    ).bind(settings)
    return application
