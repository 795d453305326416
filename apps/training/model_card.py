"""The model card of a speaker model, made from what was measured."""

from collections import Counter
from collections.abc import Mapping, Sequence

from streamdrnn import SpeakerEmbedder
from streamdrnn.apps.training.embedder import SPEEDS
from streamdrnn.apps.training.embedder_judgement import Comparison, markdown
from streamdrnn.apps.training.voices import CORPORA, RATE, Voice


def model_card(
    embedder: SpeakerEmbedder,
    recipe: Mapping[str, object],
    voices: Sequence[Voice],
    judged_by: int,
    folds: int,
    comparison: Comparison,
) -> str:
    """The card as Markdown.

    Args:
        recipe: the options of the training.
        voices: of the training.
        judged_by, folds: of how many folds there are models that judge, and how many folds there are.
        comparison: of those models, on the voices that they were trained without.
    """
    rnn, frontend = embedder.rnn, embedder.frontend
    assert frontend is not None
    size = sum(parameter.numel() for parameter in embedder.parameters())
    speakers = Counter(voice.corpus for voice in voices)
    minutes = {name: sum(v.samples for v in voices if v.corpus == name) / RATE / 60 for name in speakers}
    rows = "\n".join(
        f"| {name} | {count} | {minutes[name]:.0f} | {corpus.title} | {corpus.licence} | {corpus.source} |"
        for name, count in speakers.items()
        for corpus in [CORPORA[name]]
    )
    options = "\n".join(f"| {name} | {value} |" for name, value in recipe.items())
    return f"""# Speaker model

A `SpeakerEmbedder`: log-mel features ({frontend.num_features} bands every {frontend.hop_length} samples at
{frontend.sample_rate} Hz), {rnn.num_layers} dilated {rnn.cell.upper()} layers of {rnn.hidden_size} with dilations
{rnn.dilations}, the mean of their outputs so far, and an embedding of {embedder.embedding_size} numbers.
{size:,} parameters. The level of the sound is out of it: a gain changes all bands by one number, which the first
weights do not see.

## Data
A model hears {folds - 1} of {folds} parts of the speakers of each corpus.

| corpus | speakers | minutes | of | licence | source |
| --- | ---: | ---: | --- | --- | --- |
{rows}

Noise: ESC-10 (CC BY 3.0, github.com/karolpiczak/ESC-10). Teacher: CAM++ of the project 3D-Speaker (Apache-2.0), trained
on about 200,000 speakers of Mandarin and English. `--without wuw2 speechocean762` trains without the corpora whose
licences are share-alike or unverified. The readers of the demo trained nothing.

## What it scores
{_judged(judged_by, folds)} Words are joined in random order, and long pauses are left out.

{markdown(comparison)}
## Limits
Trained on hours, not on thousands of hours: of strangers over telephones, of short words and of children it is far less
sure than a large model. Several people who speak at once were not tried. Not for security: a recording can fool it.

## How it was trained
`streamdrnn train embedder --data-dir DATA --out RUN`: additive angular margin softmax over crops of 0.8 to 3.6 s in
random rooms, through random microphones, among noise, over telephones, and the teacher's embeddings of the same speech
when it is clean. Every voice is also heard at {len(SPEEDS) - 1} other speeds, as another voice. A finish follows
on sound that is nearer to recordings. Last, the projection alone learns from the network's mean outputs over voices as
recorded, mildly distorted, in noisy rooms and over a telephone.

| recipe | |
| --- | --- |
{options}
"""


def _judged(by: int, folds: int) -> str:
    if by == 1:
        return (
            f"By 1 of {folds} parts of the speakers, which these weights never heard; measured again by\n"
            "`streamdrnn evaluate embedder --data-dir DATA`."
        )
    return (
        f"By {by} of {folds} parts of the speakers; each judges weights that never heard it, and those that are\n"
        "shipped never heard the first. Measured again by `streamdrnn evaluate embedder --data-dir DATA --folds RUN`."
    )
