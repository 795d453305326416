"""Each task's batches are what the paper describes, and depend on nothing but the step and the seed."""

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from streamdrnn.apps.training.mnist_files import Images, read_mnist
from streamdrnn.apps.training.network import NetworkRecipe
from streamdrnn.apps.training.tasks.copying import CopyTask
from streamdrnn.apps.training.tasks.mnist import PIXELS, MNISTTask
from streamdrnn.apps.training.tasks.ptb import EVALUATION_WINDOWS, PTBRecipe, PTBTask, PTBWindowsTask
from streamdrnn.apps.training.tasks.task import IGNORED, Batch, Task
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from tests.training.texts import TEXTS, text_task

NAMES = ("copy", "mnist", "noisy-mnist", "ptb")


def images(count: int, first: int = 0) -> Images:
    """Images that can be told apart: pixel p of image i is (first + 7 i + p) mod 256."""
    pixels = (first + 7 * np.arange(count)[:, None] + np.arange(PIXELS)) % 256
    return Images(pixels.astype(np.uint8), (np.arange(count) % 10).astype(np.uint8))


def mnist(permuted: bool = False, length: int = PIXELS, seed: int = 0) -> MNISTTask:
    return MNISTTask(images(5040), images(260, first=1), TrainingRecipe(batch_size=16, seed=seed), permuted, length)


def task(name: str, seed: int = 0) -> Task:
    if name == "copy":
        return CopyTask(blank=5, batch_size=4, seed=seed)
    if name == "ptb":
        return text_task(PTBRecipe(window=7, training=TrainingRecipe(batch_size=8, seed=seed)))
    return mnist(length=1000 if name == "noisy-mnist" else PIXELS, seed=seed)


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.x, b.x) and torch.equal(a.target, b.target) and a.begins == b.begins


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_depends_on_step_and_seed_alone(name: str) -> None:
    forwards = [task(name).batch(step) for step in range(5)]
    some = task(name)
    backwards = [some.batch(step) for step in reversed(range(5))][::-1]
    assert all(same(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert not any(same(forwards[0], other) for other in forwards[1:])
    if name != "ptb":  # whose text is always read in its order
        assert not same(forwards[3], task(name, seed=1).batch(3))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_measured_on_does_not_depend_on_the_seed(name: str) -> None:
    first, second = (list(task(name, seed).evaluation("test")) for seed in (0, 1))
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    valid = list(task(name).evaluation("valid"))
    assert not any(same(a, b) for a, b in zip(first, valid, strict=False))


@pytest.mark.parametrize("name", NAMES)
def test_batches_have_the_sizes_that_the_task_says(name: str) -> None:
    some = task(name)
    for batch in (some.batch(0), next(some.evaluation("valid"))):
        T, B, inputs = batch.x.shape
        assert inputs == some.input_size
        assert batch.x.dtype == torch.float32
        assert batch.target.shape == ((T, B) if some.per_step else (B,))
        assert int(batch.target.max()) < some.num_outputs
    assert len(some.batch(0).x) == some.length


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_of_a_batch_are_the_batch(name: str) -> None:
    whole = task(name).batch(0)
    parts = [whole.part(index, 3) for index in range(3)]
    assert torch.equal(torch.cat([part.x for part in parts], 1), whole.x)
    assert torch.equal(torch.cat([part.target for part in parts], -1), whole.target)


def test_the_copy_task_shows_ten_symbols_and_asks_for_them_after_the_delimiter() -> None:
    batch = CopyTask(blank=6, batch_size=50, seed=0).batch(0)
    assert torch.equal(batch.x.sum(2), torch.ones(26, 50))
    given = batch.x.argmax(2)
    symbols = given[:10]
    assert sorted(symbols.unique().tolist()) == list(range(8))
    # T - 1 blanks, the delimiter, and ten blanks in which the symbols are asked for.
    assert torch.equal(given[10:], torch.tensor([8] * 5 + [9] + [8] * 10)[:, None].expand(-1, 50))
    assert torch.equal(batch.target, torch.cat([torch.full((16, 50), 8), symbols]))


def test_chance_on_the_copy_task_is_that_of_a_guess_without_memory() -> None:
    some = CopyTask(blank=500, batch_size=1, seed=0)
    assert some.chance["loss"] == pytest.approx(10 * math.log(8) / 520)


def pixels_of(batch: Batch) -> Tensor:
    """``(B, T)`` whole numbers from 0 to 255 where they are pixels."""
    return (batch.x[:, :, 0].T * 255).round().long()


def test_mnist_is_read_row_by_row_with_its_labels() -> None:
    some = mnist()
    for batch, count in ((some.batch(0), 16), (next(some.evaluation("test")), 250)):
        pixels = pixels_of(batch)
        assert len(pixels) == count
        assert torch.equal((pixels[:, 1:] - pixels[:, :1]) % 256, (torch.arange(1, PIXELS) % 256).expand(count, -1))
        if count == 250:
            assert torch.equal(batch.target, torch.arange(250) % 10)
            assert torch.equal(pixels[:, 0], (1 + 7 * torch.arange(250)) % 256)


def test_the_permutation_is_the_original_codes() -> None:
    # The first places of numpy.random.RandomState(92916).permutation(784), of the original demo.ipynb.
    order = np.random.RandomState(92916).permutation(784)
    plain, permuted = (pixels_of(mnist(permuted=p).batch(3)) for p in (False, True))
    assert torch.equal(permuted, plain[:, torch.from_numpy(order)])


def test_an_epoch_of_mnist_has_every_training_image_once_and_none_that_validates() -> None:
    some = MNISTTask(images(5032), images(1), TrainingRecipe(batch_size=16))
    seen = torch.cat([pixels_of(some.batch(step))[:, 0] for step in range(2)])
    assert sorted(seen.tolist()) == sorted(7 * i % 256 for i in range(5000, 5032))
    assert sum(batch.x.shape[1] for batch in some.evaluation("valid")) == 5000
    assert sum(batch.x.shape[1] for batch in mnist().evaluation("test")) == 260
    again = torch.cat([pixels_of(some.batch(step))[:, 0] for step in (2, 3)])
    assert not torch.equal(seen, again), "every epoch has its own order"


def test_noise_follows_the_image() -> None:
    plain, noisy = mnist().batch(4), mnist(length=1000).batch(4)
    assert torch.equal(noisy.x[:PIXELS], plain.x)
    noise = noisy.x[PIXELS:]
    assert len(noise) == 216
    assert 0 <= float(noise.min()) < 0.01
    assert 0.99 < float(noise.max()) < 1
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.02)
    assert not torch.equal(mnist(length=1000).batch(5).x[PIXELS:], noise)


def decode(codes: Tensor, characters: str) -> str:
    return "".join(characters[code] for code in codes.tolist())


def test_windows_of_text_go_on_where_the_last_one_ended() -> None:
    some = text_task(PTBRecipe(window=7, training=TrainingRecipe(batch_size=8)))
    windows = (len(TEXTS["train"]) - 1) // 8 // 7
    batches = [some.batch(step) for step in range(windows)]
    assert [batch.begins for batch in batches] == [True] + [False] * (windows - 1)
    assert same(some.batch(windows), batches[0]), "the next epoch"
    given = torch.cat([batch.x for batch in batches]).argmax(2)
    following = torch.cat([batch.target for batch in batches])
    assert torch.equal(given[1:], following[:-1])
    length = (len(TEXTS["train"]) - 1) // 8
    for stream in range(8):
        start = stream * length
        assert decode(given[:, stream], some.characters) == TEXTS["train"][start : start + windows * 7]
        assert decode(following[:, stream], some.characters) == TEXTS["train"][start + 1 : start + 1 + windows * 7]


@pytest.mark.parametrize("cut", range(3))
def test_every_character_but_the_first_is_measured_once(cut: int) -> None:
    whole = TEXTS["test"][: len(TEXTS["test"]) - cut]
    some = PTBTask({**TEXTS, "test": whole}, TrainingRecipe(batch_size=8), window=7)
    targets = torch.cat([batch.target for batch in some.evaluation("test")]).T.flatten()
    assert decode(targets[targets != IGNORED], some.characters) == whole[1:]


def test_after_windows_of_text_one_character_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    some = PTBWindowsTask(TEXTS, TrainingRecipe(batch_size=8, seed=1), window=7)
    seen = set()
    for step in range(200):
        batch = some.batch(step)
        assert batch.begins
        assert (batch.x.shape, batch.target.shape) == ((7, 8, some.input_size), (8,))
        for stream in range(8):
            window = decode(batch.x[:, stream].argmax(1), some.characters)
            seen.add(window + some.characters[int(batch.target[stream])])
    there = {TEXTS["train"][at : at + 8] for at in range(len(TEXTS["train"]) - 7)}
    assert seen <= there
    assert len(seen) > 0.8 * len(there), "from anywhere"
    assert same(some.batch(3), PTBWindowsTask(TEXTS, TrainingRecipe(batch_size=8, seed=1), window=7).batch(3))
    assert not same(some.batch(3), PTBWindowsTask(TEXTS, TrainingRecipe(batch_size=8), window=7).batch(3))
    tested = torch.cat([batch.target for batch in some.evaluation("test")])
    assert decode(tested, some.characters) == TEXTS["test"][7:], "every character that has a window before it"
    monkeypatch.setitem(EVALUATION_WINDOWS, "test", 20)
    few = torch.cat([batch.target for batch in some.evaluation("test")])
    spaced = [at * (len(TEXTS["test"]) - 7) // 20 + 7 for at in range(20)]
    assert decode(few, some.characters) == "".join(TEXTS["test"][at] for at in spaced)
    with pytest.raises(ValueError, match="window: expected fewer than the"):
        PTBWindowsTask(TEXTS, TrainingRecipe(batch_size=8), window=len(TEXTS["test"]))


def test_texts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="batch_size: 900 streams of windows of 7 take more than the"):
        PTBTask(TEXTS, TrainingRecipe(batch_size=900), window=7)
    with pytest.raises(ValueError, match="window: expected 1 or more, got 0"):
        PTBTask(TEXTS, TrainingRecipe(batch_size=4), window=0)
    with pytest.raises(ValueError, match="the model knows no 'Ü', 'ß'; it knows "):
        PTBTask({**TEXTS, "valid": "one Üß"}, TrainingRecipe(batch_size=4), window=7)


def test_a_network_whose_dilation_no_sequence_has_is_refused() -> None:
    some = CopyTask(blank=5, batch_size=4, seed=0)
    with pytest.raises(ValueError, match="dilations: the longest is 25, expected less than the 25 steps"):
        some.check(NetworkRecipe(dilations=(1, 25)))
    some.check(NetworkRecipe(dilations=(1, 24)))
    some.check(NetworkRecipe(network="stacked", dilations=(1, 25)))


def test_damaged_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte\.gz: no such file"):
        read_mnist(tmp_path, "train")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(b"not gzip")
    with pytest.raises(ValueError, match="damaged"):
        read_mnist(tmp_path, "train")
    whole = gzip.compress(b"\0\0\x08\x01\0\0\0\x01\0" * 20)
    path.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="damaged"):
        read_mnist(tmp_path, "train")
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="not the official file"):
        read_mnist(tmp_path, "train")
    (tmp_path / "ptb").mkdir()
    with pytest.raises(FileNotFoundError, match=r"ptb\.train\.txt: no such file"):
        PTBRecipe().load(tmp_path)
    (tmp_path / "ptb" / "ptb.train.txt").write_text("some other text")
    with pytest.raises(ValueError, match="not Mikolov's file"):
        PTBRecipe().load(tmp_path)
