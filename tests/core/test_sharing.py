"""Models as folders, and as repositories of a hub: a server here that answers as Hugging Face's does."""

import base64
import hashlib
import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from streamdrnn import (
    DilatedRNN,
    SpeakerEmbedder,
    Tagger,
    from_pretrained,
    load_model,
    model_notes,
    push_to_hub,
    save_model,
    save_pretrained,
    sharing,
)
from streamdrnn.audio import LogMel
from streamdrnn.errors import InputError, ResourceError
from tests.strategies import randn

Files = dict[str, bytes]


def tagger() -> Tagger:
    torch.manual_seed(3)
    return Tagger(DilatedRNN(3, 4, dilations=[1, 2]), 2)


def same_answers(one: Any, other: Any) -> bool:
    x = randn(9, 2, 3, seed=1, dtype=torch.float32)
    return torch.equal(one.eval()(x)[0], other(x)[0])


def test_a_folder_has_the_model_and_its_card(tmp_path: Path) -> None:
    model, folder = tagger(), tmp_path / "new" / "folder"
    save_pretrained(model, folder, "# Mine\nFor tests.\n", {"threshold": "0.4"})
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.safetensors"]
    assert same_answers(model, from_pretrained(folder))
    assert same_answers(model, load_model(folder / "model.safetensors"))
    assert model_notes(sharing.pretrained_file(str(folder))) == {"threshold": "0.4"}
    card = (folder / "README.md").read_text("utf-8")
    assert card.startswith("---\nlibrary_name: streamdrnn\n")
    assert card.endswith("---\n# Mine\nFor tests.\n")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_metadata_of_the_users_own_card_stay_as_they_are(tmp_path: Path, end: str) -> None:
    card = end.join(["---", "license: mit", "---", "# Mine", ""])
    save_pretrained(tagger(), tmp_path, card)
    assert (tmp_path / "README.md").read_bytes().decode() == card


def test_without_a_card_one_says_what_the_model_is(tmp_path: Path) -> None:
    frontend = LogMel(n_fft=64, win_length=50, hop_length=20, n_mels=8)
    save_pretrained(SpeakerEmbedder(DilatedRNN(8, 4, dilations=[2, 3]), 3, frontend), tmp_path)
    card = (tmp_path / "README.md").read_text("utf-8")
    assert "# SpeakerEmbedder\n" in card
    assert "'dilations': [2, 3]" in card
    assert "| embedding_size | 3 |" in card
    assert "has not said on what" in card


def test_a_folder_that_is_none_is_refused_without_asking_a_hub(tmp_path: Path, hub: "Hub") -> None:
    model = tmp_path / "model.safetensors"
    for source in (
        tmp_path / "missing",
        str(tmp_path / "missing"),
        "./missing",
        "~/missing",
        Path("some/model"),
        model,
    ):
        with pytest.raises(InputError, match=r"no such folder; a model's file is read by load_model"):
            from_pretrained(source)
        save_model(tagger(), model)  # a file is refused as well
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"empty: expected a model\.safetensors in this folder"):
        from_pretrained(empty)
    with pytest.raises(InputError, match=r"revision: got 'v1', but .* is a folder"):
        from_pretrained(tmp_path, revision="v1")
    assert not hub.requests


class Hub(ThreadingHTTPServer):
    """What huggingface_hub asks a hub for a model's file, and to take a commit."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.repositories: dict[str, dict[str, Files]] = {}
        """Files by repository and revision."""
        self.requests: list[str] = []
        self.gated = False
        self.announced: int | None = None
        """The size that is announced for a file, if not its own."""
        self.visibility: list[str] = []
        self.elsewhere = False
        """Whether files have to go to an address of their own, which takes none."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, name: str, revision: str = "main", **files: bytes) -> None:
        named = {name.replace("_", "."): content for name, content in files.items()}
        self.repositories.setdefault(name, {})[revision] = named


class Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *values: object) -> None:
        pass

    def say(self, status: int, body: bytes = b"", code: str = "", **headers: str) -> None:
        self.send_response(status)
        if code:
            headers["X-Error-Code"] = code
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def say_json(self, value: object) -> None:
        self.say(200, json.dumps(value).encode(), Content_Type="application/json")

    def do_HEAD(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        # Without a file it asks whether there is a repository that could not be made.
        owner, name, *_, revision, file = self.path.strip("/").split("/")
        repository = self.server.repositories.get(f"{owner}/{name}")
        if self.server.gated:
            self.say(403, code="GatedRepo")
        elif repository is None:
            self.say(401, code="RepoNotFound")
        elif revision not in repository:
            self.say(404, code="RevisionNotFound")
        elif file not in repository[revision]:
            self.say(404, code="EntryNotFound")
        else:
            content = repository[revision][file]
            commit = hashlib.sha1(b"".join(repository[revision].values())).hexdigest()
            size = len(content) if self.server.announced is None else self.server.announced
            sizes = {"Content-Length": str(size)} if self.command == "HEAD" else {}
            self.say(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=commit, **sizes)

    do_GET = do_HEAD  # noqa: N815

    def do_POST(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != "Bearer hf_of_a_test":
            self.say(401)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.server.repositories.setdefault(name, {})
            self.server.visibility.append(asked["visibility"])
            self.say_json({"url": f"{self.server.address}/{name}", "id": name})
        elif self.path == "/api/validate-yaml":
            self.say_json({"warnings": [], "errors": []})
        elif self.path.endswith("/preupload/main"):
            mode = "lfs" if self.server.elsewhere else "regular"
            files = [{"path": f["path"], "uploadMode": mode, "shouldIgnore": False} for f in json.loads(body)["files"]]
            self.say_json({"files": files})
        elif self.path.endswith("/info/lfs/objects/batch"):
            upload = {"upload": {"href": f"{self.server.address}/elsewhere", "header": {}}}
            objects = [{**file, "actions": upload} for file in json.loads(body)["objects"]]
            self.say_json({"transfer": "basic", "objects": objects})
        elif self.path.endswith("/commit/main"):
            name = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
            lines = [json.loads(line) for line in body.splitlines()]
            values = [line["value"] for line in lines if line["key"] == "file"]
            self.server.repositories[name]["main"] = {v["path"]: base64.b64decode(v["content"]) for v in values}
            self.say_json(
                {"success": True, "commitUrl": f"{self.server.address}/{name}/commit/1", "commitOid": "1" * 40}
            )
        else:
            self.say(404)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.say(403)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that huggingface_hub takes for the one that HF_ENDPOINT names, with an empty cache and a token."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="the extra `hub` is not installed")
    with Hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def content(folder: Path, **notes: str) -> bytes:
    save_model(tagger(), folder / "sent.safetensors", notes)
    return (folder / "sent.safetensors").read_bytes()


def test_what_is_pushed_comes_back(hub: Hub) -> None:
    model = tagger()
    address = push_to_hub(model, "anna/tagger", "# Mine\n", {"threshold": "0.4"}, private=True)
    assert address == f"{hub.address}/anna/tagger/commit/1"
    assert hub.visibility == ["private"]
    assert set(hub.repositories["anna/tagger"]["main"]) == {"README.md", "model.safetensors"}
    assert hub.repositories["anna/tagger"]["main"]["README.md"].endswith(b"---\n# Mine\n")
    assert same_answers(model, from_pretrained("anna/tagger"))
    assert model_notes(sharing.pretrained_file("anna/tagger")) == {"threshold": "0.4"}


def test_only_the_models_file_is_asked_for(hub: Hub, tmp_path: Path) -> None:
    hub.put("anna/tagger", model_safetensors=content(tmp_path), pytorch_model_bin=b"no", setup_py=b"no")
    from_pretrained("anna/tagger")
    assert {request.split("/")[-1] for request in hub.requests} == {"model.safetensors"}


def test_a_revision_is_the_one_that_is_loaded(hub: Hub, tmp_path: Path) -> None:
    for revision in ("main", "v1"):
        hub.put("anna/tagger", revision, model_safetensors=content(tmp_path, of=revision))
    assert model_notes(sharing.pretrained_file("anna/tagger")) == {"of": "main"}
    assert model_notes(sharing.pretrained_file("anna/tagger", "v1")) == {"of": "v1"}
    with pytest.raises(InputError, match=r"^anna/tagger \(no folder here\): has no revision 'v2'$"):
        from_pretrained("anna/tagger", revision="v2")


@pytest.mark.parametrize("revision", ["../../../../../elsewhere", "/elsewhere", "C:elsewhere", "a\\..\\b", ""])
def test_a_revision_that_none_can_be_is_refused_without_asking_a_hub(hub: Hub, revision: str) -> None:
    """huggingface_hub takes it as the name of a file in its cache."""
    with pytest.raises(InputError, match=r"^anna/tagger: not the name of a revision: "):
        from_pretrained("anna/tagger", revision)
    assert not hub.requests


def test_without_network_a_model_is_taken_from_the_cache(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("anna/tagger", model_safetensors=content(tmp_path))
    from_pretrained("anna/tagger")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    assert same_answers(tagger(), from_pretrained("anna/tagger"))
    with pytest.raises(
        ResourceError,
        match=r"^anna/other \(no folder here\): the hub cannot be reached, and its cache has no such model$",
    ):
        from_pretrained("anna/other")
    with pytest.raises(ResourceError, match=r"^anna/tagger: the hub .*offline mode is enabled"):
        push_to_hub(tagger(), "anna/tagger")
    assert len(hub.requests) == asked


def test_what_a_hub_has_not_or_gives_not_is_told_in_one_line(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("anna/other", pytorch_model_bin=b"a pickle")
    hub.put("anna/wrong", model_safetensors=b"not a model's file")
    for source, reason in (
        ("anna/none", r"^anna/none \(no folder here\): no such repository, or not for you"),
        ("anna/other", r"^anna/other \(no folder here\): expected a model\.safetensors in this repository$"),
        ("anna/a/b", r"^anna/a/b \(no folder here\): not the name of a repository: "),
        ("anna/..", r"^anna/\.\. \(no folder here\): not the name of a repository: "),
        ("anna/wrong", r"model\.safetensors: damaged or not a safetensors file"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            from_pretrained(source)
        assert "\n" not in str(caught.value)
    hub.gated = True
    with pytest.raises(InputError, match=r"^anna/other \(no folder here\): its owner has to let you in"):
        from_pretrained("anna/other")
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(ResourceError, match=r"^anna/mine: the hub refuses or cannot be reached: .*401") as refused:
        push_to_hub(tagger(), "anna/mine")
    assert "\n" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's, of its own call
def test_a_file_that_a_hub_does_not_take_is_told_in_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    hub.elsewhere = True
    with pytest.raises(ResourceError, match=r"^anna/tagger: the hub refuses or cannot be reached: Error while upload"):
        push_to_hub(tagger(), "anna/tagger")


def test_a_file_that_is_too_large_is_not_fetched(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put("anna/tagger", model_safetensors=content(tmp_path))
    hub.announced = sharing.LARGEST + 1
    with pytest.raises(InputError, match=r"^anna/tagger: model\.safetensors has 2,147,483,649 bytes, expected at most"):
        from_pretrained("anna/tagger")
    assert {request.split()[0] for request in hub.requests} == {"HEAD"}


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        InputError, match=r"^anna/tagger \(no folder here\): .*; a hub needs it: pip install '\.\[hub\]'"
    ):
        from_pretrained("anna/tagger")


def test_the_guides_examples_run(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "sharing.md").read_text("utf-8")
    here, there = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"card": "# Mine\n"}
    exec(here, names)
    assert type(names["again"]) is Tagger
    assert there.count('"5f2a..."') == 1
    exec(there.replace('"5f2a..."', '"main"'), names)
    assert hub.repositories["somebody/my-tagger"]["main"]["README.md"].endswith(b"# Mine\n")
    assert names["stream"].push(torch.zeros(3, 1, 40)).shape == (3, 1, 10)
