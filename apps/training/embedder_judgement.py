"""A speaker model judged as it will be used: over sessions, telephones, ages, and among strangers.

Trials are made within a corpus, or a model would be praised for telling languages and microphones apart.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import process_time
from typing import NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from streamdrnn import SpeakerEmbedder, model_notes
from streamdrnn.apps.speaker_id.profiles import Recording
from streamdrnn.apps.speaker_id.scores import THRESHOLD, Scorer, Voices, probabilities
from streamdrnn.apps.training.children import CHILDREN
from streamdrnn.apps.training.scenes import over_a_telephone
from streamdrnn.apps.training.speaker_trials import (
    Errors,
    Estimate,
    Segments,
    TrialList,
    Trials,
    draws_of,
    errors,
    estimate,
    trial_list,
)
from streamdrnn.apps.training.voices import CORPORA, RATE, Voice, float32, fold_of
from streamdrnn.apps.weights import load_to_run
from streamdrnn.errors import InputError

Embed = Callable[[Tensor], Tensor]
"""From voices ``(n, N)``, N samples at 16 kHz each, to their embeddings ``(n, E)``, of length 1."""

SECONDS = ((1.5, 1.5), (3.0, 3.0), (10.0, 10.0), (10.0, 1.1), (10.0, 3.0))
"""Of the two segments of a trial: enrolled, and tried."""
SAME_SESSION, OTHER_SESSION, TELEPHONE = "same session", "another session", "over a telephone"
"""Where a speaker's second segment is from."""
IN_USE = (10.0, 3.0)
"""Those of the trials over a telephone and among strangers."""
DIFFERENT = 50_000
"""The most trials of two speakers, drawn of all."""
FEWEST = 4
"""Speakers; trials of fewer say nothing."""
GROUP = 10
"""The voices that are enrolled together, and the strangers that come to them."""
DRAWS = 300
"""Of such groups."""

BATCH = 64


def in_batches(embed: Embed) -> Embed:
    """The same, of any number of voices with memory for some."""
    return lambda voices: torch.cat([embed(some) for some in voices.split(BATCH)])


def embedding(embedder: SpeakerEmbedder) -> Embed:
    """A model as it is judged."""

    @torch.inference_mode()
    def embed(voices: Tensor) -> Tensor:
        _, state = embedder(voices.T)
        return embedder.output_so_far(state)

    return in_batches(embed)


class Part(NamedTuple):
    """A model and voices that it never heard, which are tried among themselves.

    Attributes:
        embed: the model.
        voices: of any corpora.
        scorers: by corpus, what makes probabilities of its cosines; without them one cosine decides who is named.
    """

    embed: Embed
    voices: list[Voice]
    scorers: Mapping[str, Scorer] = {}


def fold_models(folder: Path, voices: Sequence[Voice]) -> list[tuple[SpeakerEmbedder, list[Voice]]]:
    """The models ``fold-1.safetensors`` and so on in a folder, with the voices that each was trained without.

    Not all of a training's folds need be there.

    Args:
        voices: all of the training.

    Raises:
        FileNotFoundError: there are none.
        ValueError: one is no speaker model of a fold.
    """
    paths = sorted(folder.glob("fold-*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"{folder}: no fold-1.safetensors in it")
    return [fold_model(path, voices) for path in paths]


def fold_model(path: Path, voices: Sequence[Voice]) -> tuple[SpeakerEmbedder, list[Voice]]:
    """A model, and the voices that it was trained without.

    Args:
        voices: all of the training.

    Raises:
        ValueError: it is no speaker model, or its notes do not say which voices those are.
    """
    notes = model_notes(path)
    if not is_of_a_fold(notes):
        raise InputError(f"{path}: expected the model of a fold, whose notes say which")
    left_out = [fold == int(notes["fold"]) for fold in fold_of(voices, int(notes["folds"]))]
    return _load(path), [voice for voice, out in zip(voices, left_out, strict=True) if out]


def is_of_a_fold(notes: Mapping[str, str]) -> bool:
    """Whether a model's notes say which voices it was trained without."""
    return {"fold", "folds"} <= notes.keys()


def _load(path: Path) -> SpeakerEmbedder:
    model = load_to_run(path)
    if not isinstance(model, SpeakerEmbedder) or model.frontend is None:
        raise InputError(f"{path}: expected a SpeakerEmbedder with a front-end, got a {type(model).__name__}")
    return model


class Heard(NamedTuple):
    """The embeddings ``(n, E)`` of the enrolments and tests of a list."""

    trials: TrialList
    enrolled: Tensor
    tried: Tensor


def hear(embed: Embed, trials: TrialList) -> Heard:
    """Embed the segments of a list."""
    tried = embed(float32(trials.tests.samples))
    same = trials.enrolments is trials.tests
    return Heard(trials, tried if same else embed(float32(trials.enrolments.samples)), tried)


def _over_a_telephone(embed: Embed, heard: Heard) -> Heard:
    """The same, tried over a telephone."""
    random = np.random.default_rng(0)
    calls = [over_a_telephone(random, samples) for samples in float32(heard.trials.tests.samples).numpy()]
    return heard._replace(tried=embed(torch.from_numpy(np.stack(calls))))


def scored(parts: Sequence[Part], heard: Sequence[Heard]) -> Trials:
    """The trials of all parts together; a speaker's number is its place among the voices of all parts."""
    found, before = [], 0
    for part, ((enrolments, tests, one, other), enrolled, tried) in zip(parts, heard, strict=True):
        found.append(
            Trials(
                (enrolled[one] * tried[other]).sum(1),
                enrolments.speaker[one] + before,
                tests.speaker[other] + before,
                enrolments.session[one] == tests.session[other],
            )
        )
        before += len(part.voices)
    return Trials(*map(torch.cat, zip(*found, strict=True)))


@dataclass(frozen=True)
class Verification:
    """The errors of trials of one kind in a corpus.

    Attributes:
        corpus: its name in ``CORPORA``.
        voices: whether of children, of adults, or all.
        own: where the trials of one speaker are from.
        enrolled, tried: seconds of either segment.
        errors: of the trials.
    """

    corpus: str
    voices: str
    own: str
    enrolled: float
    tried: float
    errors: Errors


@dataclass(frozen=True)
class OpenSet:
    """Voices of a corpus enrolled with 10 s, and segments of 3 s of theirs and of as many strangers.

    Where a speaker has several sessions, one is enrolled and the others are tried.

    Attributes:
        corpus: its name in ``CORPORA``.
        enrolled: how many voices at a time.
        accepted: the share of strangers' segments that get a name.
        refused: the share of enrolled voices' segments that get none.
        confused: the share of those that get another's.
    """

    corpus: str
    enrolled: int
    accepted: Estimate
    refused: Estimate
    confused: Estimate


@dataclass(frozen=True)
class Judgement:
    """All that was measured of a model.

    Attributes:
        decides: whether a segment gets a name by its probability or by its cosine.
        threshold: from which on, the same for all corpora.
        verification: of pairs of segments.
        open_set: of names given.
    """

    decides: str
    threshold: float
    verification: list[Verification]
    open_set: list[OpenSet]


def judge(parts: Sequence[Part], threshold: Optional[float] = None) -> Judgement:
    """Judge a model, or several of one recipe, by voices that they never heard.

    Args:
        threshold: the cosine from which on a segment gets a name if the parts have no scorers. None is where the errors
            of all corpora are equal, which flatters.
    """
    rows: list[Verification] = []
    in_use: dict[str, tuple[Sequence[Part], Sequence[Heard]]] = {}
    for corpus in CORPORA:
        of_corpus = [part._replace(voices=[voice for voice in part.voices if voice.corpus == corpus]) for part in parts]
        for enrolled, tried in SECONDS:
            lists = [trial_list(part.voices, enrolled, tried, DIFFERENT // len(parts)) for part in of_corpus]
            if sum(trials.speakers for trials in lists) < FEWEST:
                continue
            here = [part for part, trials in zip(of_corpus, lists, strict=True) if trials.speakers]
            heard = [hear(part.embed, trials) for part, trials in zip(of_corpus, lists, strict=True) if trials.speakers]
            trials = scored(here, heard)
            kinds = {
                SAME_SESSION: trials.where(~trials.own | trials.same_session),
                OTHER_SESSION: trials.where(~trials.own | ~trials.same_session),
            }
            if (enrolled, tried) == IN_USE:
                in_use[corpus] = here, heard
                if not CORPORA[corpus].is_telephone:
                    called = [_over_a_telephone(part.embed, one) for part, one in zip(here, heard, strict=True)]
                    kinds[TELEPHONE] = scored(here, called)
            for voices, chosen in _groups([voice for part in here for voice in part.voices]).items():
                for own, kind in kinds.items():
                    kind = kind.where(chosen[kind.enrolled] & chosen[kind.tried])
                    if len(kind.enrolled[kind.own].unique()) >= FEWEST:
                        rows.append(Verification(corpus, voices, own, enrolled, tried, errors(kind)))
    decides = "probability" if any(part.scorers for part in parts) else "cosine"
    if decides == "probability":
        threshold = THRESHOLD
    elif threshold is None:
        threshold = _common_threshold([scored(*those) for those in in_use.values()])
    return Judgement(decides, threshold, rows, [open_set(name, *those, threshold) for name, those in in_use.items()])


def _groups(voices: Sequence[Voice]) -> dict[str, Tensor]:
    """Which voices are whose, ``(n,)`` bool each."""
    children = torch.tensor([(voice.corpus, voice.speaker) in CHILDREN for voice in voices])
    groups = {"all": torch.ones(len(voices), dtype=torch.bool)}
    return {**groups, "children": children, "adults": ~children} if children.any() else groups


def _common_threshold(corpora: Sequence[Trials]) -> float:
    """Where the errors of all speakers of all corpora are equal."""
    before, found = 0, []
    for trials in corpora:
        found.append(trials._replace(enrolled=trials.enrolled + before, tried=trials.tried + before))
        before = int(found[-1].enrolled.max()) + int(found[-1].tried.max()) + 2
    return errors(Trials(*map(torch.cat, zip(*found, strict=True)))).threshold


def open_set(corpus: str, parts: Sequence[Part], heard: Sequence[Heard], threshold: float) -> OpenSet:
    """Draw groups of voices to enrol, and as many strangers, see :class:`OpenSet`."""
    known = [_profiles(one.trials.enrolments) for one in heard]
    fewest = min(min(len(profiles), len(part.voices) // 2) for profiles, part in zip(known, parts, strict=True))
    group = min(GROUP, fewest)
    several = any(len(voice.sessions) > 1 for part in parts for voice in part.voices)
    tallies = []
    for part, ((enrolments, tests, *_), enrolled, tried), profiles in zip(parts, heard, known, strict=True):
        owners = enrolments.speaker[profiles]
        name = _namer(part.scorers[corpus] if part.scorers else None, enrolled[profiles], tried, threshold)
        is_own = owners[:, None] == tests.speaker
        counted = is_own & (enrolments.session[profiles, None] != tests.session) if several else is_own
        random, tally = np.random.default_rng(0), torch.zeros(2, 3, len(part.voices))
        for _ in range(DRAWS // len(parts)):
            members = torch.from_numpy(random.choice(len(profiles), group, replace=False))
            others = np.setdiff1d(np.arange(len(part.voices)), owners[members].numpy())
            strange = torch.isin(tests.speaker, torch.from_numpy(random.choice(others, group, replace=False)))
            named, nearest = name(members)
            own = counted[members].any(0)
            confused = named & ~is_own[members[nearest], torch.arange(len(named))]
            for error, (happened, possible) in enumerate(((named, strange), (~named, own), (confused, own))):
                for sums, true in zip(tally, (happened & possible, possible), strict=True):
                    sums[error].index_add_(0, tests.speaker, true.float())
        tallies.append(tally)
    happened, possible = torch.cat(tallies, 2)
    tried_at_all = (possible > 0).float()
    drawn = draws_of(possible.shape[1])
    shares = drawn @ (happened / possible.clamp(min=1)).T / (drawn @ tried_at_all.T)
    return OpenSet(corpus, group, *map(estimate, shares.T))


def _namer(
    scorer: Optional[Scorer], profiles: Tensor, tried: Tensor, threshold: float
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function of some profiles' numbers ``(g,)``: which segments get a name, and the place of the likeliest profile.

    Args:
        scorer: None names by the cosine.
        profiles, tried: embeddings ``(p, E)`` and ``(n, E)``.
        threshold: of the cosine, or of the probability.
    """
    if scorer is None:
        cosines = tried @ profiles.T

        def by_cosine(members: Tensor) -> tuple[Tensor, Tensor]:
            best, nearest = cosines[:, members].max(1)
            return best >= threshold, nearest

        return by_cosine
    enrolled, seconds = IN_USE
    voices = Voices(scorer, [Recording(enrolled, profile) for profile in profiles])
    scores = voices.compare_all(tried, torch.full((len(tried),), seconds))
    log_ratios = np.stack([one.log_ratios for one in scores])

    def by_probability(members: Tensor) -> tuple[Tensor, Tensor]:
        best, nearest = torch.from_numpy(probabilities(log_ratios[:, members.numpy()])[:, 1:]).max(1)
        return best >= threshold, nearest

    return by_probability


def _profiles(enrolments: Segments) -> Tensor:
    """The first segment of each speaker who has one, by its number."""
    speakers = enrolments.speaker.tolist()
    return torch.tensor([number for number, speaker in enumerate(speakers) if speaker not in speakers[:number]])


def milliseconds(models: Mapping[str, Embed], rounds: int = 5) -> dict[str, float]:
    """The time of one core for a second of sound, of 10 s at once; the models take turns."""
    voice = 0.1 * torch.randn(1, 10 * RATE, generator=torch.Generator().manual_seed(0))
    times: dict[str, list[float]] = {name: [] for name in models}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(rounds):
        for name, embed in models.items():
            start = process_time()
            embed(voice)
            times[name].append(100 * (process_time() - start))
    torch.set_num_threads(threads)
    return {name: median(each) for name, each in times.items()}


@dataclass(frozen=True)
class Comparison:
    """Models beside one another.

    Attributes:
        judgements: by the model's name, of the same trials in the same order.
        milliseconds: see :func:`milliseconds`.
    """

    judgements: dict[str, Judgement]
    milliseconds: dict[str, float]


def compare(parts: Sequence[Part], peers: Mapping[str, Embed]) -> Comparison:
    """Judge a model, and others on its trials; arguments from :func:`judge`."""
    judgements = {"streamdrnn": judge(parts)}
    for name, embed in peers.items():
        judgements[name] = judge([Part(embed, part.voices) for part in parts])
    return Comparison(judgements, milliseconds({"streamdrnn": parts[0].embed, **peers}))


def markdown(comparison: Comparison) -> str:
    """Tables for people; intervals are of 95 %."""
    names, judged = list(comparison.judgements), list(comparison.judgements.values())
    pairs = [
        [
            "corpus",
            "voices",
            "tried in",
            "seconds",
            "speakers",
            *(f"{name} {it}" for name in names for it in ("EER", "min DCF")),
        ]
    ]
    for same in zip(*(judgement.verification for judgement in judged), strict=True):
        row, found = same[0], [one.errors for one in same]
        cells = [cell for one in found for cell in (_percent(one.eer), f"{one.min_dcf.value:.2f}")]
        pairs.append(
            [row.corpus, row.voices, row.own, f"{row.enrolled:g}, {row.tried:g}", str(found[0].speakers), *cells]
        )
    groups = [
        [
            "corpus",
            "enrolled",
            *(f"{name} {it}" for name in names for it in ("strangers named", "no name", "wrong name")),
        ]
    ]
    for alike in zip(*(judgement.open_set for judgement in judged), strict=True):
        cells = [_percent(share) for one in alike for share in (one.accepted, one.refused, one.confused)]
        groups.append([alike[0].corpus, str(alike[0].enrolled), *cells])
    thresholds = ", ".join(
        f"{name} {judgement.threshold:.2f} ({judgement.decides})" for name, judgement in comparison.judgements.items()
    )
    costs = ", ".join(f"{name} {cost:.1f} ms" for name, cost in comparison.milliseconds.items())
    enrolled, tried = IN_USE
    return f"""Two segments, enrolled and tried, of one speaker or of two of one corpus. The equal error rate is in %,
with its interval of 95 % over speakers; min DCF is the least detection cost (NIST; 1 trial in 100 is of one speaker).

{_table(pairs)}

Voices enrolled with {enrolled:g} s, and as many strangers, {tried:g} s at a time: the share in % of strangers who get a
name, and of the enrolled who get no name or a wrong one. One threshold for all corpora: {thresholds}.

{_table(groups)}

Time of one core for a second of sound: {costs}.
"""


def _percent(share: Estimate) -> str:
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown whose columns are aligned for terminals, too."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *body = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([head, "| " + " | ".join("-" * width for width in widths) + " |", *body])
