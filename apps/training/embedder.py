"""The speaker model: an embedder that is trained to tell the voices of several corpora apart.

It learns from two sides: to separate its own voices (additive angular margin, Deng et al. 2019), and to say of
distorted speech what a large teacher says of the same speech when it is clean.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, Optional

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from streamdrnn import DilatedRNN, SpeakerEmbedder
from streamdrnn.apps.training import checkpoint
from streamdrnn.apps.training.angular_margin import angular_margin_loss
from streamdrnn.apps.training.checkpoint import Checkpoint, Progress
from streamdrnn.apps.training.distortion import MILD, Chances, distort
from streamdrnn.apps.training.embedder_recipe import HANN, HOP, WINDOW, EmbedderRecipe
from streamdrnn.apps.training.labelled_speech import load_noises
from streamdrnn.apps.training.projection import hear, tune_projection
from streamdrnn.apps.training.scenes import coloured_noises
from streamdrnn.apps.training.side_by_side import Progress as Report
from streamdrnn.apps.training.side_by_side import side_by_side
from streamdrnn.apps.training.teacher import EMBEDDING_SIZE, Teacher
from streamdrnn.apps.training.voices import RATE, Voice, float32, fold_of, in_random_order, without_pauses
from streamdrnn.audio import LogMel
from streamdrnn.errors import InputError
from streamdrnn.storage import read_safetensors, write_safetensors

SEGMENT_SECONDS = 4.0
SHORTEST_SEGMENT = 1.0
"""Seconds of a session's rest that are still a segment, repeated until it is long enough."""
SPEEDS = (1.0, 0.9, 1.1, 0.82, 1.22)
"""At which every voice is heard; as pitch and formants move along, the others are other voices. The more of them, the
better (Yamamoto, Lee, Okabe, Koshinaka 2019, "Speaker augmentation and bandwidth extension for deep speaker
embedding")."""
SHORTEST_CROP, LONGEST_CROP = 20, 90
"""Frames of 40 ms: 0.8 to 3.6 s."""
LEAD = 12
"""Frames of another voice before some crops: in use the network has just heard whoever spoke before."""
Mixture = tuple[tuple[float, Optional[Chances]], ...]
"""The shares of batches, and how they are distorted; None is as recorded."""
WINDOWS = 3
"""What is judged of a crop: all of it, and others of at least the shortest crop. They cost next to nothing, as only the
head hears them."""
STEPS: Mixture = ((0.2, None), (0.3, MILD), (0.5, Chances()))
FINISH: Mixture = ((0.2, None), (0.45, MILD._replace(response=0.8, telephone=0.25)), (0.35, Chances()))
"""Where everything is distorted as much as can be understood, a model of this size knows clean voices less well; where
nothing is, it knows nobody over a telephone."""
_WARM_UP = 500
"""Steps in which the learning rate rises."""
_FIRST_GAIN, _GAIN = 4.0, 5.0
"""By which the weights of the first and the other layers' inputs are larger at first than :class:`DilatedRNN` has them.
Small ones make the features of a deep layer faint, so that it learns late: after the same 600 steps a model erred in
13.1 % of the trials with these, in 14.5 % without."""
_SEGMENTS_OF_CENTRE = 3
"""Enough for a centre to begin with; training moves it."""
_LONG_PAUSES = 1.25
_CHECKPOINT_STEPS = 500
_TOLD_STEPS = 50
_STATISTICS_BATCHES = 8
_TAUGHT_AT_ONCE = 64
_FORMAT = "streamdrnn-segments"


class Segments(NamedTuple):
    """What is heard in training; the segments of a class, a voice at one speed, lie together.

    Attributes:
        samples: ``(S, N)`` int16.
        taught: ``(S, 192)``, what the teacher says of them.
        first, number: ``(C,)``, where each class begins and how many segments it has.
        weight: ``(C,)``, how often it is heard, in proportion.
    """

    samples: Tensor
    taught: Tensor
    first: Tensor
    number: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> "Segments":
        """The same on a device."""
        return Segments(*(tensor.to(device) for tensor in self))

    def of(self, classes: Tensor) -> "Segments":
        """Some classes ``(C',)`` alone; the samples are shared."""
        return self._replace(first=self.first[classes], number=self.number[classes], weight=self.weight[classes])

    @property
    def middle(self) -> Tensor:
        """The mean ``(192,)`` of what is taught of the classes."""
        spans = zip(self.first.tolist(), self.number.tolist(), strict=True)
        return torch.stack([self.taught[at : at + n].sum(0) for at, n in spans]).sum(0) / self.number.sum()


def cut_segments(voice: Voice, speed: float) -> Tensor:
    """A voice's segments ``(S, N)`` int16 at a speed; none reaches over two sessions."""
    import soxr

    length = round(SEGMENT_SECONDS * RATE)
    found: list[Tensor] = []
    sessions = [in_random_order(session) for session in voice.sessions.values()]
    spoken = [torch.cat([without_pauses(utterance) for utterance in session]) for session in sessions]
    whole = [torch.cat(session) for session in sessions]
    # With its pauses too if they are long: in use some pauses are heard.
    of_pauses = [all_ for all_, said in zip(whole, spoken, strict=True) if len(all_) > _LONG_PAUSES * len(said)]
    for samples in (*spoken, *of_pauses):
        if speed != 1:
            samples = torch.from_numpy(soxr.resample(samples.numpy(), round(1000 * speed), 1000))
        pieces = list(samples.split(length))
        if len(pieces) > 1 and len(pieces[-1]) < SHORTEST_SEGMENT * RATE:
            pieces.pop()
        found += [piece.repeat(-(-length // len(piece)))[:length] for piece in pieces]
    return torch.stack(found)


def load_segments(voices: Sequence[Voice], folder: Path, device: torch.device) -> Segments:
    """Everything that the voices say, with what the teacher says of it: class ``s V + v`` is voice v at speed s.

    It takes hours on a processor, so it is kept in a folder, in files larger than memory that are mapped into it.

    Args:
        device: where the teacher is.

    Raises:
        ValueError: the folder's files are damaged, or of other voices; or the teacher is not installed.
    """
    sounds, rest = folder / "segments.raw", folder / "segments.safetensors"
    names = " ".join(f"{voice.corpus}/{voice.speaker}" for voice in voices)
    if not rest.exists():
        spoken = [(voice, speed) for speed in SPEEDS for voice in voices]
        with ThreadPoolExecutor() as threads, sounds.open("wb") as file:
            counts = [_written(file, pieces) for pieces in threads.map(lambda one: cut_segments(*one), spoken)]
        of_corpus = Counter(voice.corpus for voice in voices)
        # A corpus of many speakers is heard more often, but less than in proportion: corpora differ in more than their
        # speakers. Voices as they are make up half.
        weight = [of_corpus[v.corpus] ** -0.25 * (1 if speed == 1 else 1 / (len(SPEEDS) - 1)) for v, speed in spoken]
        tensors = {"taught": _taught(_mapped(sounds), counts, device), "weight": torch.tensor(weight)}
        tensors["count"] = torch.tensor(counts)
        metadata = {"format": _FORMAT, "version": "1", "voices": hashlib.sha256(names.encode()).hexdigest()}
        write_safetensors(rest, tensors, metadata)
    metadata, tensors = read_safetensors(rest, _FORMAT, 1)
    if metadata.get("voices") != hashlib.sha256(names.encode()).hexdigest():
        raise InputError(f"{rest}: of other voices than these; expected a new folder, or the same corpora")
    count = tensors["count"]
    return Segments(_mapped(sounds), tensors["taught"], count.cumsum(0) - count, count, tensors["weight"])


def _written(file: BinaryIO, pieces: Tensor) -> int:
    file.write(pieces.numpy().tobytes())
    return len(pieces)


def _mapped(sounds: Path) -> Tensor:
    samples = np.memmap(sounds, np.int16, "c")
    return torch.from_numpy(samples).view(-1, round(SEGMENT_SECONDS * RATE))


def _taught(samples: Tensor, counts: list[int], device: torch.device) -> Tensor:
    """Half of what is taught is of the segment, half of everything that the voice says."""
    teacher = Teacher(device)
    said = torch.cat([teacher.embed(float32(some.to(device))).cpu() for some in samples.split(_TAUGHT_AT_ONCE)])
    of_voice = torch.cat([normalize(own, dim=1).mean(0).expand_as(own) for own in said.split(counts)])
    return normalize(said, dim=1) + normalize(of_voice, dim=1)


def clips_of_noise(folder: Path) -> Tensor:
    """The training clips of a folder ``(K, 5 s)``, and as many of steady coloured noise.

    Raises:
        FileNotFoundError, ValueError: there are none, or they cannot be read.
    """
    clips = load_noises(folder, "train")
    clips += coloured_noises(np.random.default_rng(0), len(clips))
    return torch.from_numpy(np.stack([np.resize(clip, 5 * RATE) for clip in clips]))


class Job(NamedTuple):
    """A model to train.

    Attributes:
        voices: all of them.
        noises: the folder of noise.
        folder: of the run, with the segments.
        fold: of the voices, which the model does not hear.
        device: torch's name of it.
    """

    voices: list[Voice]
    noises: Path
    folder: Path
    recipe: EmbedderRecipe
    fold: int
    device: str

    @property
    def name(self) -> str:
        """For people and files."""
        return f"fold-{self.fold + 1}"


def train_embedders(
    voices: list[Voice], noises: Path, folder: Path, recipe: EmbedderRecipe, trained: int, device: str, report: Report
) -> list[SpeakerEmbedder]:
    """A model for each of the first folds, trained without its voices.

    Args:
        trained: how many.

    Raises:
        ValueError: the folder holds another run.
    """
    load_segments(voices, folder, torch.device(device))
    jobs = [Job(voices, noises, folder, recipe, fold, device) for fold in range(trained)]
    if device == "cpu":
        return side_by_side(train, jobs, report)
    return [train(job, report) for job in jobs]


def train(job: Job, report: Report) -> SpeakerEmbedder:
    """One of the models."""
    device, recipe = torch.device(job.device), job.recipe
    segments = load_segments(job.voices, job.folder, device)
    noises = clips_of_noise(job.noises).to(device)
    folds = fold_of(job.voices, recipe.folds)
    heard = [c for c in range(len(segments.number)) if folds[c % len(folds)] != job.fold]
    embedder = fit(
        segments.of(torch.tensor(heard)).to(device),
        noises,
        recipe,
        partial(report, job.name),
        job.folder / f"{job.name}.checkpoint.safetensors",
    )
    voices = [voice for voice, fold in zip(job.voices, folds, strict=True) if fold != job.fold]
    # The first classes are the voices as they are.
    said = [segments.samples[segments.first[c] :][: segments.number[c]] for c in heard[: len(voices)]]
    tune_projection(embedder, hear(embedder, voices, said, noises, recipe.seed), recipe)
    return embedder.cpu()


def new_embedder(recipe: EmbedderRecipe) -> SpeakerEmbedder:
    """The network of a recipe, with new weights."""
    frontend = LogMel(RATE, n_fft=WINDOW, win_length=HANN, hop_length=HOP, n_mels=recipe.bands)
    dilations = [2**layer for layer in range(recipe.layers)]
    rnn = DilatedRNN(frontend.num_features, recipe.hidden_size, dilations=dilations, dropout=recipe.dropout)
    with torch.no_grad():
        for layer in range(recipe.layers):
            getattr(rnn, f"weight_ih_l{layer}").mul_(_GAIN if layer else _FIRST_GAIN)
    return SpeakerEmbedder(rnn, EMBEDDING_SIZE, frontend)


class Training(nn.Module):
    """The embedder and what it has only while it learns.

    Args:
        embedder: with a front-end.
        classes: C.
    """

    def __init__(self, embedder: SpeakerEmbedder, classes: int) -> None:
        super().__init__()
        self.embedder = embedder
        self.centres = nn.Parameter(0.1 * torch.randn(classes, embedder.embedding_size))

    def features(self, samples: Tensor) -> Tensor:
        """What the network is given of recordings ``(B, N)``: ``(T, B, M)``, the same whatever the level is.

        Features are in dB, so a gain adds one number to all bands; what is left after it is taken out of the
        standardised bands is a linear function of them, which :func:`fold_level` puts into the first weights.
        """
        embedder = self.embedder
        assert embedder.frontend is not None
        bands = embedder.frontend(samples.T)[0]
        standard = (bands - embedder.feature_mean) / embedder.feature_std
        level: Tensor = standard @ self._level()[:, None]
        unlevelled: Tensor = standard - level * self._gain()
        return unlevelled

    @torch.no_grad()
    def centre(self, segments: Segments) -> None:
        """Begin anew with the mean embeddings of the classes as their centres.

        While the teacher leads they learn little: with new ones, and without it, a trial's loss fell from 10.1 to 5.7.
        """
        for number, (first, count) in enumerate(zip(segments.first.tolist(), segments.number.tolist(), strict=True)):
            samples = float32(segments.samples[first:][: min(count, _SEGMENTS_OF_CENTRE)])
            y, _ = self.embedder.rnn(self.features(samples))
            self.centres[number] = normalize(self.embedder.embed(y.mean(0)).mean(0), dim=0)

    def _gain(self) -> Tensor:
        """What 1 dB adds to the standardised bands ``(M,)``."""
        return 1 / self.embedder.feature_std

    def _level(self) -> Tensor:
        """The weights ``(M,)`` by which the standardised bands tell the level, in dB."""
        return self._gain() / self._gain().square().sum()

    @torch.no_grad()
    def fold_level(self) -> None:
        """Let the network itself take the level out of its input, for use without this class."""
        weight = self.embedder.rnn.weight_ih_l0
        weight -= torch.outer(weight @ self._gain(), self._level())


def fit(
    segments: Segments,
    noises: Tensor,
    recipe: EmbedderRecipe,
    progress: Callable[[int, int, float], None],
    resume_from: Optional[Path] = None,
) -> SpeakerEmbedder:
    """Train an embedder on segments, on their device.

    Args:
        progress: told the step, the number of steps and the loss now and then.
        resume_from: a checkpoint, which is written now and then and gone on from if it is there.

    Raises:
        ValueError: the checkpoint is damaged, or of another model.
    """
    torch.manual_seed(recipe.seed)
    training = Training(new_embedder(recipe), len(segments.number)).to(segments.samples.device)
    embedder = training.embedder
    optimizer = torch.optim.AdamW(training.parameters(), weight_decay=1e-2)
    begun = 0
    if resume_from is not None and resume_from.is_file():
        saved = checkpoint.read(resume_from)
        checkpoint.restore(saved, training, optimizer)
        begun = saved.progress.step
    else:
        _standardise(embedder, segments, noises, recipe)
    middle = segments.middle
    for step in range(begun, recipe.all_steps):
        if step == recipe.steps:
            training.centre(segments)
        plan = plan_of(step, recipe)
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate
        # Seeded anew at each step: a training that is resumed goes on with the same numbers.
        torch.manual_seed(recipe.seed + step)
        generator = Generator(segments.samples.device).manual_seed(recipe.seed + step)
        lead = LEAD if torch.rand(()) < 0.5 else 0
        T = int(torch.randint(SHORTEST_CROP, LONGEST_CROP + 1, ()))
        samples, owners, taught = _batch(segments, noises, T, lead, _drawn(plan.mixture), recipe, generator)
        y, _ = embedder.rnn(_masked(training.features(samples), generator))
        voice = embedder.embed(means_of_windows(y[lead:]))
        loss = angular_margin_loss(voice, training.centres, owners.repeat(WINDOWS), plan.margin, recipe.scale)
        told = normalize(taught - middle, dim=1).repeat(WINDOWS, 1)
        loss = loss + plan.teacher_weight * (1 - (voice * told).sum(1).mean())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(training.parameters(), 5.0)
        optimizer.step()
        done = step + 1
        if done % _TOLD_STEPS == 0 or done == recipe.all_steps:
            progress(done, recipe.all_steps, loss.item())
        if resume_from is not None and (done % _CHECKPOINT_STEPS == 0 or done == recipe.all_steps):
            weights, learned = training.state_dict(), checkpoint.optimizer_tensors(optimizer)
            nothing = torch.zeros(0, dtype=torch.uint8)
            checkpoint.write(Checkpoint(Progress(done), weights, {}, learned, nothing, None, {}), resume_from)
    training.fold_level()
    return embedder.eval()


class Plan(NamedTuple):
    """What a step is made with."""

    learning_rate: float
    margin: float
    teacher_weight: float
    mixture: Mixture


def plan_of(step: int, recipe: EmbedderRecipe) -> Plan:
    """First the teacher leads and the margin grows; in the finish the voices lead, and less is distorted.

    A margin from the start would keep the centres where they began. The finish: Garcia-Romero, Sell, McCree 2020,
    "MagNetO: X-vector magnitude estimation network plus offset for improved speaker recognition".
    """
    if step < recipe.steps:
        rate = recipe.learning_rate * min(1.0, (step + 1) / _WARM_UP)
        return Plan(rate, recipe.margin * step / recipe.steps, recipe.teacher_weight, STEPS)
    at = (step - recipe.steps) / recipe.finish
    rate = 0.75 * recipe.learning_rate * (1 - at)
    return Plan(rate, recipe.margin + 0.1 * at, recipe.teacher_weight / 4, FINISH)


def _drawn(mixture: Mixture) -> Optional[Chances]:
    shares, chances = zip(*mixture, strict=True)
    found: Optional[Chances] = chances[int(torch.multinomial(torch.tensor(shares), 1))]
    return found


def means_of_windows(y: Tensor) -> Tensor:
    """The means ``(WINDOWS B, H)`` of outputs ``(F, B, H)``: of all, then of stretches drawn at random."""
    F = len(y)
    sums = torch.cat([torch.zeros_like(y[:1]), y.cumsum(0)])
    means = [sums[-1] / F]
    for _ in range(WINDOWS - 1):
        length = int(torch.randint(SHORTEST_CROP, F + 1, ()))
        begin = int(torch.randint(F - length + 1, ()))
        means.append((sums[begin + length] - sums[begin]) / length)
    return torch.cat(means)


def _standardise(embedder: SpeakerEmbedder, segments: Segments, noises: Tensor, recipe: EmbedderRecipe) -> None:
    """Set the mean and deviation of the features to those of some batches."""
    assert embedder.frontend is not None
    generator = Generator(segments.samples.device).manual_seed(recipe.seed)
    batches = [
        _batch(segments, noises, LONGEST_CROP, 0, Chances(), recipe, generator)[0] for _ in range(_STATISTICS_BATCHES)
    ]
    with torch.no_grad():
        bands = torch.cat([embedder.frontend(samples.T)[0].flatten(0, 1) for samples in batches])
        embedder.feature_mean.copy_(bands.mean(0))
        embedder.feature_std.copy_(bands.std(0))


def _batch(
    segments: Segments,
    noises: Tensor,
    T: int,
    lead: int,
    chances: Optional[Chances],
    recipe: EmbedderRecipe,
    generator: Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Crops ``(B, N)`` of T frames after ``lead`` frames of other voices, their classes, and what is taught of them.

    They are distorted if there are chances of that.
    """
    device = segments.samples.device
    B = max(8, round(recipe.batch_seconds * RATE / (T * HOP)))
    owners = torch.multinomial(segments.weight, B, replacement=True, generator=generator)
    among = (torch.rand(B, generator=generator, device=device) * segments.number[owners]).long()
    index = segments.first[owners] + among
    N, before = (T - 1) * HOP + WINDOW, lead * HOP
    start = torch.randint(segments.samples.shape[1] - N + 1, (B, 1), generator=generator, device=device)
    at = start + torch.arange(N, device=device)
    crops = float32(segments.samples[index[:, None], at])
    if before:
        crops = torch.cat([crops.roll(1, 0)[:, -before:], crops], 1)
    if chances is not None:
        crops = distort(crops, noises, generator, chances)
    return crops, owners, segments.taught[index]


def _masked(x: Tensor, generator: Generator) -> Tensor:
    """Features ``(T, B, M)`` with some bands and a stretch of time hidden by their mean (Park et al. 2019)."""
    T, B, M = x.shape
    hidden = torch.zeros(T, B, M, dtype=torch.bool, device=x.device)
    for size, widest, shape in ((M, M // 6, (1, 1, M)), (T, T // 8, (T, 1, 1))):
        at = torch.arange(size, device=x.device).view(shape)
        width = torch.randint(0, widest + 1, (1, B, 1), generator=generator, device=x.device)
        first = (torch.rand(1, B, 1, generator=generator, device=x.device) * (size - width)).long()
        hidden = hidden | ((at >= first) & (at < first + width))
    return x.masked_fill(hidden, 0.0)
