"""Suite ``weights``: live streams on rounded weights, how fast they are and what that costs in accuracy."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, Optional

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from streamdrnn import Classifier, DilatedRNN, SpeakerEmbedder, StreamingDRNN
from streamdrnn.apps.bench.machine import one_thread
from streamdrnn.apps.bench.session import Session
from streamdrnn.apps.bench.tables import Row, Table, Value
from streamdrnn.apps.bench.timing import Turns, interleaved
from streamdrnn.apps.bench.workloads import Workload
from streamdrnn.apps.speaker_id.identifier import WINDOW_SECONDS
from streamdrnn.apps.speaker_id.model import load_speaker_model
from streamdrnn.apps.training.data import data_folder
from streamdrnn.apps.training.embedder_scores import (
    closed_set_accuracy,
    cosines,
    cut,
    equal_error,
    friends_and_strangers,
)
from streamdrnn.apps.training.mnist_files import Images, read_mnist
from streamdrnn.apps.training.voices import float32, load_voices
from streamdrnn.kernels import HELD
from streamdrnn.kernels.cpu import CPUStream

ENROLLED_SHARE = 0.7
TEST_SECONDS = 3.0
BYTES = {"float32": 4, "bf16": 2, "int8": 1}
ROW = 28


class WeightSizes(NamedTuple):
    """What is measured.

    Attributes:
        networks: layers and hidden units of each.
        streams: how many step together.
        turns: of each kind of weights, each of about
        layer_steps: steps of one layer and one stream: few, as longer ones are interrupted more often.
        voices: of speakers; None is all.
        batches: that train the reader of images,
        images: on which it is tested.
    """

    networks: tuple[tuple[int, int], ...]
    streams: tuple[int, ...]
    turns: int
    layer_steps: int
    voices: Optional[int]
    batches: int
    images: int


WEIGHTS = WeightSizes(((9, 64), (1, 16), (1, 32), (1, 64), (1, 128)), (1, 8, 64), 501, 400, None, 1200, 10_000)
QUICK_WEIGHTS = WeightSizes(((2, 4),), (1, 3), 2, 20, 20, 2, 100)


def on_cpu(session: Session) -> list[Table]:
    """Steps on one thread, and two trained models."""
    sizes = QUICK_WEIGHTS if session.quick else WEIGHTS
    with one_thread():
        steps = [row for L, H in sizes.networks for B in sizes.streams for row in step_rows(session, sizes, L, H, B)]
        models = [*speaker_rows(session, sizes), *image_rows(session, sizes)]
    return [
        Table(
            "weights_steps",
            "One step of live streams on rounded weights",
            steps,
            (
                "GRUs whose inputs are as many as their units, dilations 1, 2, 4, ...; one thread. Medians of "
                f"{sizes.turns} turns of many steps each, in one call of the library. KB: of the matrices.",
            ),
        ),
        Table(
            "weights_accuracy",
            "What models lose on rounded weights",
            models,
            (
                "Percent. The speaker model that is shipped: the first 70 % of a recording, all of which trained it, "
                "enrol a voice, and windows of the rest are told. Images of MNIST, read row by row by a GRU of "
                f"three layers of 64 after {sizes.batches} batches of 128.",
            ),
        ),
    ]


def step_rows(session: Session, sizes: WeightSizes, layers: int, hidden: int, streams: int) -> list[Row]:
    """A row for each kind of weights."""
    session.say(f"weights: {layers} layers of {hidden}, {streams} streams")
    work = Workload("steps", streams, 1, hidden, hidden, layers)
    model, x = work.model("gru", session.target.backend), work.input()[0]
    count = max(1, sizes.layer_steps // (layers * streams))
    runs = {}
    for held in HELD:
        stream = model.stream(streams, held)
        assert isinstance(stream, CPUStream)
        stream.bind(model.zero_state(streams))
        runs[held] = partial(stream.steps, x, count)
    us = {held: times.percentile(50) / 1e3 / count for held, times in interleaved(runs, Turns(sizes.turns)).items()}
    matrices = sum(p.numel() for p in model.parameters() if p.dim() == 2)
    return [
        {
            "layers": layers,
            "hidden": hidden,
            "streams": streams,
            "weights": held,
            "us_per_step": us[held],
            "times_float32": us[held] / us[HELD[0]],
            "kb": matrices * BYTES[held] / 1e3,
        }
        for held in HELD
    ]


def speaker_rows(session: Session, sizes: WeightSizes) -> list[Row]:
    """How well the shipped model tells voices apart."""
    try:
        folder = data_folder(session.data_dir, "librispeech")
    except FileNotFoundError:
        return [accuracy_row("speaker", "equal error rate", {}, "no data set librispeech")]
    spoken = load_voices(folder.parent, ["librispeech"])[: sizes.voices]
    whole = [float32(torch.cat([said for session in voice.sessions.values() for said in session])) for voice in spoken]
    voices, embedder = [cut(samples, ENROLLED_SHARE) for samples in whole], load_speaker_model().embedder
    measured: dict[str, dict[str, float]] = {}
    for held in HELD:
        session.say(f"weights: speakers, {held}")
        embed = heard_by(StreamingDRNN(embedder, weights=held))
        for seconds in (TEST_SECONDS, WINDOW_SECONDS):
            scores, owners = cosines(embedder, voices, seconds, embed)
            found = {
                "equal error rate": equal_error(*friends_and_strangers(scores, owners)).rate,
                f"known among {len(voices)}": closed_set_accuracy(scores, owners),
            }
            for name, share in found.items():
                measured.setdefault(f"{name}, windows of {seconds:g} s", {})[held] = 100 * share
    return [accuracy_row("speaker", name, values) for name, values in measured.items()]


def heard_by(stream: StreamingDRNN) -> Callable[[SpeakerEmbedder, Tensor], Tensor]:
    """From an embedder, which is the stream's, and a recording ``(N,)`` to its embedding."""

    def embed(embedder: SpeakerEmbedder, samples: Tensor) -> Tensor:
        stream.reset()
        return stream.push(samples[:, None])[-1, 0]

    return embed


def image_rows(session: Session, sizes: WeightSizes) -> list[Row]:
    """How many images a small network reads, which is trained here."""
    try:
        folder = data_folder(session.data_dir, "mnist")
    except FileNotFoundError:
        return [accuracy_row("images", "accuracy", {}, "no data set mnist")]
    session.say("weights: training on images")
    model = trained(read_mnist(folder, "train"), sizes.batches)
    test = read_mnist(folder, "t10k")
    x, labels = rows_of(test)[:, : sizes.images], torch.from_numpy(test.labels).long()[: sizes.images]
    values = {}
    for held in HELD:
        read = StreamingDRNN(model, x.shape[1], held).push(x)[-1].argmax(1)
        values[held] = 100 * float((read == labels).double().mean())
    return [accuracy_row("images", "accuracy", values)]


def trained(images: Images, batches: int) -> Classifier:
    """A network that reads images row by row."""
    torch.manual_seed(0)
    model = Classifier(DilatedRNN(ROW, 64, num_layers=3), 10)
    x, labels = rows_of(images), torch.from_numpy(images.labels).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=batches)
    for _ in range(batches):
        some = torch.randint(len(labels), (128,))
        loss = cross_entropy(model(x[:, some])[0][-1], labels[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def rows_of(images: Images) -> Tensor:
    """``(28, N, 28)`` from 0 to 1."""
    return (torch.from_numpy(images.pixels).float() / 255).view(-1, ROW, ROW).transpose(0, 1).contiguous()


def accuracy_row(model: str, measure: str, values: Mapping[str, Value], why_not: str = "") -> Row:
    """A row with a column for each kind of weights."""
    return {"model": model, "measure": measure, **{held: values.get(held) for held in HELD}, "why_not": why_not}
