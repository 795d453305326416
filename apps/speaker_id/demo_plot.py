"""A picture of who really spoke when, and who was heard."""

from pathlib import Path

from streamdrnn.apps.plot_style import GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, VERMILION
from streamdrnn.apps.speaker_id.demo_score import Score
from streamdrnn.apps.speaker_id.identifier import SILENCE, UNKNOWN
from streamdrnn.apps.speaker_id.timeline import SILENT
from streamdrnn.apps.speaker_id.turns import Segment


def draw(decided: list[Segment], score: Score, path: Path) -> None:
    """Draw the turns as they are above, as they were decided below, and where the two differ.

    Raises:
        OSError: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names = sorted({turn.label for turn in score.turns} - {UNKNOWN})
    colours = {**dict(zip(names, (SKY, ORANGE, GREEN, PURPLE), strict=True)), UNKNOWN: GREY}
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(12, 2.6), layout="constrained")

        def bar(row: float, start: float, end: float, label: str, name: str) -> None:
            axes.barh(row, end - start, 0.6, left=start, color=colours[label])
            if end - start > 2.2:  # else it has no room
                axes.text((start + end) / 2, row, name, ha="center", va="center", fontsize=9, clip_on=True)

        for turn in score.turns:
            bar(1, turn.start, turn.end, turn.label, turn.who)
        for turn in (*score.turns, score.music):
            axes.text(
                (turn.start + turn.end) / 2, 1.34, turn.through, ha="center", va="bottom", fontsize=8, color="#666666"
            )
        for segment in decided:
            label = SILENCE if segment.label in SILENT else segment.label
            if label != SILENCE:
                bar(0, segment.start, segment.end, label, label.strip("()"))
            for turn in (*score.turns, score.music):
                if turn.label != label:
                    start = max(turn.start, segment.start)
                    axes.barh(-0.4, turn.overlap(segment.start, segment.end), 0.1, left=start, color=VERMILION)
        axes.set_yticks([1, 0, -0.4], ["who really speaks", "heard as", "wrong"])
        axes.set(xlim=(0, decided[-1].end), ylim=(-0.5, 1.6), xlabel="seconds")
        axes.spines["left"].set_visible(False)
        axes.tick_params("y", length=0)
        figure.savefig(path)
        pyplot.close(figure)
