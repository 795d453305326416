"""The model card of a speaker model, made from what was measured."""

from dataclasses import asdict

from streamdrnn.apps.speaker_id.identifier import WINDOW_SECONDS
from streamdrnn.apps.training.embedder import TRAIN_SHARE, TrainedSpeakers
from streamdrnn.apps.training.embedder_recipe import EmbedderRecipe


def model_card(trained: TrainedSpeakers, recipe: EmbedderRecipe) -> str:
    """The card as Markdown."""
    rnn, frontend = trained.embedder.rnn, trained.embedder.frontend
    assert frontend is not None
    size = sum(parameter.numel() for parameter in trained.embedder.parameters())
    options = "\n".join(f"| {name} | {value} |" for name, value in asdict(recipe).items())
    scores, unheard = trained.scores, trained.unheard
    window = f"{WINDOW_SECONDS:.1f} s"
    return f"""# Speaker model

A `SpeakerEmbedder`: log-mel features ({frontend.num_features} bands every {frontend.hop_length} samples at
{frontend.sample_rate} Hz), {rnn.num_layers} dilated {rnn.cell.upper()} layers of {rnn.hidden_size} with dilations
{rnn.dilations}, the mean of their outputs so far, and an embedding of {trained.embedder.embedding_size} numbers.
{size:,} parameters.

## Data
{trained.voices} speakers of LibriSpeech train-clean-100 (Panayotov et al. 2015, CC BY 4.0), one utterance each. The
first {TRAIN_SHARE:.0%} of every utterance trains, the rest is held back.

## What it scores
| on | measure | value |
| --- | --- | --- |
| held-back parts, whole, against all {trained.voices} voices' training parts | closed-set accuracy | \
{scores["accuracy"]:.1%} |
| the same in windows of {window} | closed-set accuracy | {scores["accuracy_window"]:.1%} |
| {unheard.voices} voices never heard in training, 10 s to enrol, windows of 3 s | known among ten | \
{unheard.among_ten:.1%} |
| the same | equal error rate | {unheard.eer_3s:.1%} |
| the same in windows of {window} | equal error rate | {unheard.eer:.1%} |

The first two are measured again by `streamdrnn evaluate embedder --data-dir DATA`. They are easy: enrolment and
test come from one recording, with one microphone and room. The others are nearer to life, and still of clean read
speech within one recording; they are of {recipe.folds} other models of the same recipe, each trained without its
share of the voices and tried on those. The threshold below which a voice is nobody's, a cosine of
{unheard.threshold:.2f}, is where both errors are equal in the last row.

## Limits
Trained on minutes of clean English read aloud. Other languages, children, noise, music and several people speaking at
once were not tried. Voices that are all heard through one poor microphone or a telephone look more alike than the
threshold expects: `streamdrnn calibrate FOLDER` finds theirs. Not for security: it can be fooled by a recording.

## How it was trained
`streamdrnn train embedder --data-dir DATA --out NAME`, additive margin softmax over crops of 0.8 to 3 s, with random
rooms, band limits, gain, filter, noise, and hidden bands and times. Every voice is also heard faster and slower by a
tenth, as another voice.

| recipe | |
| --- | --- |
{options}
"""
