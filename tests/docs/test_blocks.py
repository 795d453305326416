"""Every block of code is of a kind that something runs, parses, or that is explained in KINDS."""

import ast
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from streamdrnn.apps.serving.command import Serve
from tests.docs.blocks import KINDS, ROOT, Block, blocks


def test_every_block_has_a_kind_and_every_kind_a_block() -> None:
    found = {block.language.split(" ../")[0] for block in blocks()}
    assert found == KINDS.keys()


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    rest, objects = block.text.strip(), 0
    while rest:
        value, end = json.JSONDecoder().raw_decode(rest)
        assert isinstance(value, dict)
        rest, objects = rest[end:].lstrip(), objects + 1
    assert objects


@pytest.mark.parametrize("block", blocks("{code-block} python"), ids=str)
def test_python_that_is_not_run_needs_a_library_that_is_not_ours(block: Block) -> None:
    imports = [node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.ImportFrom)]
    needed = {node.module.split(".")[0] for node in imports if node.module}
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()}
    assert needed - pinned - {"streamdrnn"}, f"{block}: all that it needs is installed; make it a cell"


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_an_application_of_ray_has_arguments_that_there_are(block: Block) -> None:
    (application,) = yaml.safe_load(block.text)["applications"]
    module, function = application["import_path"].split(":")
    spec = find_spec(module)  # it is not imported: Ray takes seconds
    assert spec is not None
    assert spec.origin is not None
    assert f"\ndef {function}(" in Path(spec.origin).read_text(encoding="utf-8")
    assert application["args"].keys() - {"replicas"} <= Serve.__dataclass_fields__.keys()


@pytest.mark.parametrize("block", blocks("html"), ids=str)
def test_an_import_map_names_the_package(block: Block) -> None:
    (imports,) = re.findall(r'<script type="importmap">(.*)</script>', block.text)
    manifest = json.loads((ROOT / "streamdrnn" / "client" / "js" / "package.json").read_text(encoding="utf-8"))
    assert json.loads(imports)["imports"].keys() == {manifest["name"]}
