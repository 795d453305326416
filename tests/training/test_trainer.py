"""The trainer keeps the best model, stops when it should, and refuses what cannot be trained before it starts."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from streamdrnn import Classifier, StreamingDRNN, Tagger, load_model
from streamdrnn.apps.training import checkpoint, network
from streamdrnn.apps.training.csv_log import read_log
from streamdrnn.apps.training.evaluation import evaluate
from streamdrnn.apps.training.metrics import CrossEntropy
from streamdrnn.apps.training.network import KINDS, NetworkRecipe
from streamdrnn.apps.training.run_folder import RunFolder
from streamdrnn.apps.training.runs import recipe_of
from streamdrnn.apps.training.tasks.copying import CopyRecipe
from streamdrnn.apps.training.tasks.mnist import MNISTRecipe
from streamdrnn.apps.training.tasks.ptb import PTBRecipe
from streamdrnn.apps.training.tasks.task import IGNORED, Recipe, Task
from streamdrnn.apps.training.trainer import Trainer, make_optimizer
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from streamdrnn.kernels import cell_named
from tests.training.test_tasks import mnist
from tests.training.texts import text_task


def training(**options: Any) -> TrainingRecipe:
    return TrainingRecipe(
        **{"steps": 12, "batch_size": 8, "validate_every": 4, "checkpoint_every": 4, "log_every": 1, **options}
    )


def copying(network: str = "dilated", **options: Any) -> CopyRecipe:
    recipe = NetworkRecipe(network=network, hidden_size=6, dilations=(1, 2))
    return CopyRecipe(blank=3, network=recipe, training=training(**options))


def train(recipe: Recipe, folder: Path, task: Task | None = None, resume: bool = False) -> dict[str, Any]:
    some = recipe.load(None) if task is None else task
    return Trainer(recipe, some, RunFolder(folder), resume).run(lambda *at: None)


@pytest.mark.parametrize("kind", KINDS)
def test_every_network_learns_and_is_measured_again_from_its_run(tmp_path: Path, kind: str) -> None:
    wanted = copying(kind, steps=60, learning_rate=0.01, validate_every=30, checkpoint_every=30)
    results = train(wanted, tmp_path / "run")
    losses = [value for _, name, value in read_log(tmp_path / "run" / "log.csv") if name == "loss"]
    assert len(losses) == 60
    assert losses[-1] < 0.7 * losses[0]
    folder = RunFolder(tmp_path / "run")
    recipe = recipe_of(folder)
    assert recipe == wanted
    task = recipe.load(None)
    model = network.load(folder.model, recipe.network, task.input_size, task.num_outputs, task.per_step)
    assert evaluate(model, task, "test") == results["test"]
    assert results["parameters"] == sum(p.numel() for p in model.parameters())
    assert folder.results() == results


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_measured_by_streaming_is_what_is_measured_in_batch(kind: str) -> None:
    text, images = text_task(PTBRecipe(window=7, training=training())), mnist()
    for task in (copying().load(None), text, images):
        recipe = NetworkRecipe(network=kind, hidden_size=5, dilations=(2, 4))
        model = network.seeded(recipe, 1, task.input_size, task.num_outputs, task.per_step)
        in_batch, as_stream = evaluate(model, task, "test"), evaluate(model, task, "test", as_stream=True)
        assert in_batch.keys() == as_stream.keys() >= {task.metric}
        for name, value in in_batch.items():
            assert as_stream[name] == pytest.approx(value, rel=1e-6), name


def test_the_state_of_a_text_is_carried_through_all_that_is_measured() -> None:
    task = text_task(PTBRecipe(window=7, training=training()))
    recipe = NetworkRecipe(hidden_size=5, dilations=(1, 2))
    model = network.seeded(recipe, 1, task.input_size, task.num_outputs, task.per_step)
    batches = list(task.evaluation("test"))
    x, target = (torch.cat(parts) for parts in zip(*(batch[:2] for batch in batches), strict=True))
    losses = torch.nn.functional.cross_entropy(
        model(x)[0].detach().flatten(0, 1), target.flatten(), ignore_index=IGNORED
    )
    assert evaluate(model, task, "test")["bits"] == pytest.approx(float(losses) / math.log(2), rel=1e-5)


def test_trained_models_are_the_packages_own(tmp_path: Path) -> None:
    train(copying(), tmp_path / "copy")
    tagger = load_model(tmp_path / "copy" / "model.safetensors")
    assert isinstance(tagger, Tagger)
    assert StreamingDRNN(tagger).step(torch.zeros(1, 10)).shape == (1, 9)
    recipe = CopyRecipe(network=NetworkRecipe(hidden_size=2, dilations=(1,)), training=training(steps=1))
    train(recipe, tmp_path / "mnist", mnist())
    assert isinstance(load_model(tmp_path / "mnist" / "model.safetensors"), Classifier)


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(copying(seed=seed), tmp_path / name)
    a, b, c = (load_file(tmp_path / name / "model.safetensors") for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["output.weight"], c["output.weight"])


@pytest.mark.parametrize(
    ("kind", "cell", "optimizer"),
    [("dilated", "gru", "adam"), ("dilated", "lstm", "rmsprop"), ("skip", "lstm", "rmsprop"), ("cnn", "gru", "adam")],
)
def test_any_network_goes_on_where_it_was_interrupted(tmp_path: Path, kind: Any, cell: Any, optimizer: str) -> None:
    network = NetworkRecipe(network=kind, cell=cell, hidden_size=5, dilations=(1, 2))
    recipe = PTBRecipe(window=7, network=network, training=training(optimizer=optimizer))
    task = text_task(recipe)

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step == 6:
            raise KeyboardInterrupt

    whole = train(recipe, tmp_path / "whole", task)
    with pytest.raises(KeyboardInterrupt):
        Trainer(recipe, task, RunFolder(tmp_path / "cut"), resume=False).run(interrupt)
    cut = train(recipe, tmp_path / "cut", task, resume=True)
    ours, theirs = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("cut", "whole"))
    assert any(name.startswith("carried.") for name in theirs)
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    assert cut["test"] == whole["test"]


class Rising(Task):
    """Learns for ever, yet measures worse after its third measurement."""

    def __init__(self, task: Task) -> None:
        self.__dict__.update(task.__dict__)
        self.task = task
        self.measured = 0
        self.input_size, self.num_outputs, self.length = task.input_size, task.num_outputs, task.length

    per_step = True
    metric = "loss"
    higher_is_better = False

    def batch(self, step: int) -> Any:
        return self.task.batch(step)

    def evaluation(self, split: Any) -> Any:
        self.measured += split == "valid"
        for batch in self.task.evaluation(split):
            # Later measurements ask for what is not there, so that their loss is high.
            wrong = torch.zeros_like(batch.target) if self.measured > 3 else batch.target
            yield batch._replace(target=wrong)


def test_training_stops_without_a_better_model_and_keeps_the_best(tmp_path: Path) -> None:
    recipe = copying(steps=100, patience=2, learning_rate=0.01)
    results = train(recipe, tmp_path / "run", Rising(recipe.load(None)))
    assert results["steps"] == 20
    assert results["best_step"] == 12
    valid = [value for _, name, value in read_log(tmp_path / "run" / "log.csv") if name == "valid_loss"]
    assert len(valid) == 5
    assert results["valid"]["loss"] == min(valid) == valid[2]
    best = load_model(tmp_path / "run" / "model.safetensors")
    assert isinstance(best, Tagger)
    assert evaluate(best, recipe.load(None), "valid")["loss"] == valid[2]
    again = train(recipe, tmp_path / "run", Rising(recipe.load(None)), resume=True)
    assert again["steps"] == 20, "a run that stopped early stays so"


def test_long_gradients_are_cut(tmp_path: Path) -> None:
    norms = []
    for clip in (0.0, 1e-3):
        recipe = copying(clip=clip, steps=1)
        trainer = Trainer(recipe, recipe.load(None), RunFolder(tmp_path / str(clip)), resume=False)
        trainer.run(lambda *at: None)
        norms.append(
            float(torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]).norm())
        )
    assert norms[0] > 0.1
    assert norms[1] == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("kind", ["dilated", "skip"])
def test_signals_keep_their_size_through_nine_layers(kind: Any, cell: Any) -> None:
    recipe = NetworkRecipe(network=kind, cell=cell, hidden_size=64, dilations=tuple(2**layer for layer in range(9)))
    model = network.seeded(recipe, 0, 1, 2, per_step=True)
    x = torch.randn(600, 4, 1, generator=torch.Generator().manual_seed(0))
    y = model.rnn(x)[0].detach()[300:]
    assert 0.1 < float((y - y.mean(0)).std()) < 1
    if cell_named(cell).has_c:
        assert model.rnn.get_parameter("bias_ih_l3").detach().tolist() == [0.0] * 64 + [1.0] * 64 + [0.0] * 128


def test_a_cosine_schedule_rises_over_a_tenth_and_falls_to_nothing(tmp_path: Path) -> None:
    recipe = copying(steps=20, schedule="cosine", learning_rate=0.5, optimizer="adam")
    rates = [recipe.training.rate(step) for step in range(20)]
    assert rates[:4] == pytest.approx([0.5 / 3, 1.0 / 3, 0.5, 0.25 * (1 + math.cos(math.pi / 18))])
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] < 0.005
    # Adam's first step moves every weight by the rate, whatever its gradient.
    trainer = Trainer(recipe, recipe.load(None), RunFolder(tmp_path / "run"), resume=False)
    before = trainer.model.output.bias.detach().clone()
    trainer._step(trainer.task.batch(0))
    moved = (trainer.model.output.bias.detach() - before).abs()
    assert moved.max() == pytest.approx(0.5 / 3, rel=1e-3)


def test_rmsprop_is_the_original_codes() -> None:
    """TensorFlow's, after its first steps: x -= rate g / sqrt(mean(g^2) + 1e-10), with a decay of 0.9."""
    x = torch.nn.Parameter(torch.zeros(1))
    optimizer = make_optimizer(TrainingRecipe(optimizer="rmsprop", learning_rate=1e-3), [x])
    gradients, mean, expected = [0.5, -2.0, 1e-6, 3.0], 0.0, 0.0
    for gradient in gradients:
        x.grad = torch.tensor([gradient])
        optimizer.step()
        mean = 0.9 * mean + 0.1 * gradient**2
        expected -= 1e-3 * gradient / math.sqrt(mean + 1e-10)
    assert float(x.detach()) == pytest.approx(expected, rel=1e-4)


def test_the_papers_way_of_training_replaces_what_the_original_code_has_its_own_of() -> None:
    default = MNISTRecipe().training
    paper = replace(default, seed=3, steps=7).as_in_paper(default)
    assert (paper.optimizer, paper.rate(0), paper.rate(29_999), paper.clip) == ("rmsprop", 1e-3, 1e-3, 0)
    assert (paper.batch_size, paper.steps, paper.seed) == (128, 7, 3)
    with pytest.raises(ValueError, match=r"^learning_rate: the paper has its own, 0.001; expected none with --paper$"):
        replace(default, learning_rate=0.002).as_in_paper(default)


def test_adam_forgets_as_it_is_told() -> None:
    sizes = []
    for beta2 in (0.5, 0.999):
        x = torch.nn.Parameter(torch.zeros(1))
        optimizer = make_optimizer(TrainingRecipe(beta2=beta2), [x])
        for gradient in (100.0, *[1.0] * 30):
            before = x.detach().clone()
            x.grad = torch.tensor([gradient])
            optimizer.step()
        sizes.append(float((x.detach() - before).abs()))
    assert sizes[0] > 3 * sizes[1], "soon the one large gradient is forgotten"


def test_weight_decay_is_of_matrices_and_follows_the_rate() -> None:
    matrix, bias = torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(3))
    optimizer = make_optimizer(TrainingRecipe(learning_rate=0.5, weight_decay=0.1), [matrix, bias])
    for rate in (0.5, 0.2):
        for group in optimizer.param_groups:
            group["lr"] = rate
        matrix.grad, bias.grad = torch.zeros(2, 3), torch.zeros(3)
        optimizer.step()
    assert matrix.flatten().tolist() == pytest.approx([0.95 * 0.98] * 6)
    assert bias.tolist() == [1.0] * 3


def test_a_run_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["streamdrnn", "train", "copy", "--out", "a b"])
    train(copying(seed=5), tmp_path / "run")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["task"] == "copy"
    assert run["recipe"]["training"]["seed"] == 5
    assert run["recipe"]["network"]["dilations"] == [1, 2]
    assert run["command"] == "streamdrnn train copy --out 'a b'"
    assert run["processes"] == 1
    assert set(run["versions"]) == {"streamdrnn", "python", "torch", "accelerate"}
    revision = run["git_revision"]
    assert revision is None or len(revision.rstrip("+")) == 40


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty; --resume goes on with the run in it"):
        train(copying(), tmp_path)
    with pytest.raises(FileExistsError, match="not empty"):
        train(copying(), tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"seed": 1}, "a run with seed 0, asked to go on with 1"),
        ({"network": "skip"}, "a run with network dilated, asked to go on with skip"),
    ],
)
def test_a_run_goes_on_with_its_own_recipe_only(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    train(copying(), tmp_path / "run")
    with pytest.raises(ValueError, match=problem):
        train(copying(**options), tmp_path / "run", resume=True)


def test_a_run_from_before_an_option_was_made_with_its_default(tmp_path: Path) -> None:
    train(copying(), tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    run = json.loads(file.read_text())
    del run["recipe"]["network"]["keep_bias"]
    file.write_text(json.dumps(run))
    RunFolder(tmp_path / "run").check_recipe(copying())
    other = replace(copying(), network=replace(copying().network, keep_bias=2.0))
    with pytest.raises(ValueError, match=r"a run with keep_bias None, asked to go on with 2\.0"):
        RunFolder(tmp_path / "run").check_recipe(other)


@pytest.mark.parametrize(("cell", "gate", "default"), [("gru", 1, None), ("lstm", 1, 1.0)])
def test_gates_that_keep_the_state_begin_with_the_bias_that_is_asked_for(
    cell: str, gate: int, default: Optional[float]
) -> None:
    def gates(keep_bias: Optional[float]) -> tuple[Tensor, ...]:
        recipe = NetworkRecipe(cell=cell, hidden_size=4, dilations=(1, 2), keep_bias=keep_bias)
        rnn = network.seeded(recipe, 0, 1, 2, per_step=True).rnn
        return torch.split(rnn.get_parameter("bias_ih_l1") + rnn.get_parameter("bias_hh_l1"), 4)

    for place, bias in enumerate(gates(2.5)):
        assert torch.equal(bias, torch.full((4,), 2.5 if place == gate else 0.0))
    if default is None:
        assert len(gates(None)[gate].unique()) == 4  # torch's
    else:
        assert torch.equal(gates(None)[gate], torch.full((4,), default))


@pytest.mark.parametrize("kind", ["cnn", "min-gru"])
def test_only_gates_keep_a_state(kind: str) -> None:
    recipe = NetworkRecipe(network=kind, dilations=(1, 2), keep_bias=1.0)
    with pytest.raises(ValueError, match=f"keep_bias: a {kind} network has none"):
        network.seeded(recipe, 0, 1, 2, per_step=True)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    train(copying(), tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="damaged"):
        train(copying(), tmp_path / "run", resume=True)
    (tmp_path / "run" / "model.safetensors").rename(path)
    with pytest.raises(ValueError, match="not a streamdrnn-training file"):
        train(copying(), tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    "progress", ["", "[]", "3", '{"surprise": 1}', "[" * 100_000, "9" * 10_000], ids=lambda p: p[:4]
)
def test_a_checkpoint_with_hostile_metadata_is_refused(tmp_path: Path, progress: str) -> None:
    metadata = {"format": checkpoint.FORMAT, "version": str(checkpoint.VERSION), "progress": progress, "scaler": "{}"}
    save_file({"rng": torch.zeros(1)}, tmp_path / "c", metadata=metadata)
    with pytest.raises(ValueError, match="c: not a complete checkpoint"):
        checkpoint.read(tmp_path / "c")


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    saved = checkpoint.Checkpoint(
        progress=checkpoint.Progress(step=7, best={"loss": 0.5}, best_step=4, since_best=1, seconds=2.5),
        model={"a.weight": torch.randn(2, 3)},
        best={"a.weight": torch.randn(2, 3)},
        optimizer={0: {"step": torch.tensor(7.0), "square_avg": torch.rand(2, 3)}, 11: {"step": torch.tensor(1.0)}},
        rng=torch.get_rng_state()[None],
        carried={"h.0": torch.randn(2, 1, 3)},
        scaler={"scale": 1024.0, "_growth_tracker": 3},
    )
    checkpoint.write(saved, tmp_path / "c")
    again = checkpoint.read(tmp_path / "c")
    assert again.progress == saved.progress
    assert again.scaler == saved.scaler
    assert again.optimizer.keys() == saved.optimizer.keys()
    assert torch.equal(again.rng, saved.rng)
    assert again.carried is not None
    for ours, theirs in (
        (again.model, saved.model),
        (again.best, saved.best),
        (again.carried, saved.carried),
        *zip(again.optimizer.values(), saved.optimizer.values(), strict=True),
    ):
        assert theirs is not None
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    recipe = copying()
    task = recipe.load(None)
    trainer = Trainer(recipe, task, RunFolder(tmp_path / "run"), resume=False)
    with torch.no_grad():
        trainer.model.output.bias.fill_(math.nan)
    with pytest.raises(ValueError, match="the loss is not a number at step 1: try a lower learning rate"):
        trainer.run(lambda *at: None)


def test_the_cross_entropy_counts_what_is_predicted() -> None:
    logits = torch.randn(6, 4)
    target = torch.tensor([0, 3, IGNORED, 2, IGNORED, 1])
    nats, bits = CrossEntropy(), CrossEntropy(base=2)
    for rows in (slice(0, 1), slice(1, 6)):
        nats.update(logits[rows], target[rows])
        bits.update(logits[rows], target[rows])
    wanted = torch.nn.functional.cross_entropy(logits.double(), target, ignore_index=IGNORED)
    assert float(nats.compute()) == pytest.approx(float(wanted))
    assert float(bits.compute()) == pytest.approx(float(wanted) / math.log(2))
