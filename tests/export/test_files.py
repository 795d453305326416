"""What is in the files: all that a program without this package needs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamdrnn import Classifier, DilatedRNN, StreamingDRNN
from streamdrnn.export import Format, export_model, export_paths
from streamdrnn.heads import Head
from tests.agreement import assert_close
from tests.export.models import ENDINGS, FORMATS, MODELS, TRACED, Export, build, initial_state, inputs

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch.jit.\w+` is deprecated:DeprecationWarning")

OUTSIDER = """
import json, sys

sys.modules["streamdrnn"] = None  # importing it fails
format, x_file, y_file, *files = sys.argv[1:]
if format == "onnx":
    sys.modules["torch"] = None
import numpy as np

x = np.load(x_file)

def zeros(description):
    return {
        name: np.full([2 if size == "batch" else size for size in t["shape"]], t["initial"], t["dtype"])
        for name, t in description["state"].items()
    }

if format == "onnx":
    import onnxruntime

    def load(file):
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        description = json.loads(session.get_modelmeta().custom_metadata_map["streamdrnn.json"])
        def call(x, state):
            y, *after = session.run(None, {"x": x, **state})
            return y, dict(zip(state, after))
        return call, description

    (step, description), (chunk, other) = map(load, files)
    state = zeros(description)
else:
    import torch

    x = torch.from_numpy(x)
    extra = {"streamdrnn.json": ""}
    if format == "torchscript":
        module = torch.jit.load(files[0], _extra_files=extra)
        step, chunk = module.step, module.chunk
        extra["streamdrnn.json"] = extra["streamdrnn.json"].decode()
    else:
        step = torch.export.load(files[0], extra_files=extra).module()
        chunk = torch.export.load(files[1]).module()
    description = json.loads(extra["streamdrnn.json"])
    state = {name: torch.from_numpy(array) for name, array in zeros(description).items()}

outputs = []
y, state = chunk(x[:7], state)
outputs.append(y)
for x_t in x[7:10]:
    y, state = step(x_t, state)
    outputs.append(y[None])
y, state = chunk(x[10:], state)
outputs.append(y)
assert not any(name.startswith("streamdrnn.") for name in sys.modules)
np.save(y_file, np.concatenate([np.asarray(y) for y in outputs]))
print(json.dumps(description))
"""


@pytest.mark.parametrize("format", FORMATS)
def test_a_program_that_cannot_import_this_package_runs_what_was_exported(
    exported: Export, format: Format, tmp_path: Path
) -> None:
    model, _, files, description = exported(format, "language model")
    x = inputs(model, 20, 2)
    np.save(tmp_path / "x.npy", x.numpy())
    arguments = [format, tmp_path / "x.npy", tmp_path / "y.npy", *files.values()]
    # Isolated, so that no path of this test's leads back to the package.
    done = subprocess.run(
        [sys.executable, "-I", "-c", OUTSIDER, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_close(torch.from_numpy(np.load(tmp_path / "y.npy")), StreamingDRNN(model, 2).push(x))
    own = ["step", "chunk"] if format == "torchscript" else ["step"]
    described = json.loads(done.stdout)
    assert described == {**description, "entry_points": {name: description["entry_points"][name] for name in own}}


@pytest.mark.parametrize("name", [name for name in MODELS if name not in TRACED])
def test_the_description_says_what_goes_in_and_comes_out(exported: Export, name: str) -> None:
    model, _, files, description = exported("torchscript", name)
    module: Any = torch.jit.load(files[""])
    frontend = model.frontend if isinstance(model, Head) else None
    assert description["kind"] == type(model).__name__
    assert description["sample_rate"] == (None if frontend is None else frontend.sample_rate)
    assert description["hop_length"] == (None if frontend is None else frontend.hop_length)
    assert json.loads(json.dumps(description["config"])) == json.loads(json.dumps(model.config()))
    state = initial_state(description, 3)
    assert list(state) == list(module.initial_state(3))
    for tensor, same in zip(state.values(), module.initial_state(3).values(), strict=True):
        assert tensor.dtype == same.dtype
        assert torch.equal(tensor, same)
    for entry_point, sizes in (("step", {"batch": 3}), ("chunk", {"batch": 3, "steps": 5})):
        described = description["entry_points"][entry_point]
        x = torch.zeros(
            [sizes.get(size, size) for size in described["x"]["shape"]], dtype=next(model.parameters()).dtype
        )
        assert described["x"]["dtype"] == str(x.dtype).removeprefix("torch.")
        y, _ = getattr(module, entry_point)(x, state)
        assert list(y.shape) == [sizes.get(size, size) for size in described["y"]["shape"]]
        assert described["y"]["dtype"] == str(y.dtype).removeprefix("torch.")


def test_onnx_graphs_name_their_inputs_outputs_and_sizes(exported: Export) -> None:
    _, _, files, description = exported("onnx", "language model")
    import onnx

    for entry_point, file in files.items():
        model = onnx.load(file)
        onnx.checker.check_model(model, full_check=True)
        assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx"}, "operators of nobody else's"

        def sizes(values: Any) -> dict[str, list[Any]]:
            dims = {value.name: value.type.tensor_type.shape.dim for value in values}
            return {name: [dim.dim_param or dim.dim_value for dim in dims] for name, dims in dims.items()}

        point = description["entry_points"][entry_point]
        state = {name: described["shape"] for name, described in description["state"].items()}
        assert sizes(model.graph.input) == {"x": point["x"]["shape"], **state}
        after = {f"next.{name}": shape for name, shape in state.items()}
        assert sizes(model.graph.output) == {"y": point["y"]["shape"], **after}


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_files_say_nothing_of_the_machine_that_wrote_them(exported: Export, format: Format) -> None:
    for file in exported(format, "language model").paths.values():
        content = file.read_bytes()
        for path in (str(Path.cwd()), str(Path(torch.__file__).parent), str(Path.home()) + "/"):
            assert path.encode() not in content


def test_a_model_stays_as_it_was(tmp_path: Path) -> None:
    model = Classifier(DilatedRNN(1, 6, num_layers=2, dropout=0.5), 3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_model(model, tmp_path / "model.pt", "torchscript")
    assert model.training
    assert model.rnn.backend == "auto"
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_dropout_is_not_exported(tmp_path: Path) -> None:
    model = Classifier(DilatedRNN(1, 6, num_layers=2, dropout=0.5), 3).train()
    export_model(model, tmp_path / "model.pt", "torchscript")
    module: Any = torch.jit.load(tmp_path / "model.pt")
    x = inputs(model, 5, 2)
    assert_close(module.chunk(x, module.initial_state(2))[0], model.eval()(x)[0].detach())


def test_files_that_are_there_are_only_replaced_if_asked(tmp_path: Path) -> None:
    model = build("classifier")
    (tmp_path / "model.chunk.onnx").write_text("somebody's work")
    with pytest.raises(FileExistsError, match=r"model\.chunk\.onnx: is there already"):
        export_model(model, tmp_path / "model.onnx", "onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["model.chunk.onnx"]
    (tmp_path / "model.pt").write_text("somebody's work")
    export_model(model, tmp_path / "model.pt", "torchscript", overwrite=True)
    torch.jit.load(tmp_path / "model.pt")


@pytest.mark.parametrize("format", FORMATS)
def test_names_end_as_the_format_does(format: Format) -> None:
    ending = ENDINGS[format]
    points = {"": f"a/x.{ending}"} if format == "torchscript" else {p: f"a/x.{p}.{ending}" for p in ("step", "chunk")}
    assert export_paths(f"a/x.{ending}", format) == {point: Path(path) for point, path in points.items()}
    with pytest.raises(ValueError, match=rf"x\.bin: expected a name that ends in \.{ending}"):
        export_paths("x.bin", format)


def test_what_cannot_be_exported_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("classifier")
    with pytest.raises(ValueError, match=r"format: got 'tflite', expected one of torchscript, onnx, pt2"):
        export_model(model, tmp_path / "x.pt", "tflite")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"model: expected a network \(DilatedRNN, .*\), got Linear"):
        export_model(torch.nn.Linear(1, 1), tmp_path / "x.pt", "torchscript")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected float32 or float64 weights, got torch.bfloat16"):
        export_model(build("classifier").bfloat16(), tmp_path / "x.pt", "torchscript")
    with pytest.raises(
        ValueError, match=r"torchscript: compiles a DilatedRNN only, got a SkipRNN; onnx and pt2 take it"
    ):
        export_model(build("skip"), tmp_path / "x.pt", "torchscript")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"onnxscript.*pip install '\.\[export\]'"):
        export_model(model, tmp_path / "x.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []
