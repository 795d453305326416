"""What the paper reports, and the runs that reproduce it.

The figures are those of Chang et al. 2017 (arXiv 1710.02224), section 4, as recalled, and so are the sizes of its
networks.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from streamdrnn.apps.training.tasks.task import Metric

Options = tuple[str, ...]
"""Those of ``streamdrnn train``."""


class Row(NamedTuple):
    """One network of a table, or one curve or point of a figure.

    Attributes:
        name: what the report calls it.
        run: its folder, below that of all runs.
        options: what it is trained with.
        paper: the paper's result; none where the paper has none.
    """

    name: str
    run: str
    options: Options
    paper: str = ""


class Table(NamedTuple):
    """A table or figure of the paper.

    Attributes:
        title: the heading in the report.
        notes: what there is to know about it.
        metric: what is compared, on the test set.
        rows: its networks.
        figure: what is drawn of its runs.
    """

    title: str
    notes: str
    metric: Metric
    rows: tuple[Row, ...]
    figure: Literal["", "learning curves", "layers", "start dilation"] = ""


def _powers_of_2(first: int, last: int) -> Options:
    return ("--dilations", *(str(2**layer) for layer in range(first.bit_length() - 1, last.bit_length())))


def _single_layer(cell: str) -> Options:
    return ("--network", "stacked", "--cell", cell, "--hidden-size", "256", "--dilations", "1")


def _networks(skip: int) -> dict[str, tuple[str, Options]]:
    """The networks that read images: by their folders, their names and options."""
    skip_options = ("--network", "skip", "--cell", "rnn", "--hidden-size", "95", "--dilations", str(skip))
    return {
        "dilated-rnn-50": ("dilated RNN, 9 layers of 50", ("--cell", "rnn", "--hidden-size", "50")),
        "dilated-rnn-20": ("dilated RNN, 9 layers of 20", ("--cell", "rnn")),
        "dilated-lstm-20": ("dilated LSTM, 9 layers of 20", ("--cell", "lstm")),
        "dilated-gru-20": ("dilated GRU, 9 layers of 20", ("--cell", "gru")),
        "dilated-gru-50": ("dilated GRU, 9 layers of 50", ("--cell", "gru", "--hidden-size", "50")),
        "rnn-256": ("RNN, 1 layer of 256", _single_layer("rnn")),
        "lstm-256": ("LSTM, 1 layer of 256", _single_layer("lstm")),
        "gru-256": ("GRU, 1 layer of 256", _single_layer("gru")),
        "skip-rnn-95": (f"skip RNN, 1 layer of 95, skip {skip}", skip_options),
        "cnn-50": ("dilated CNN, 10 layers of 50", ("--network", "cnn", "--hidden-size", "50", *_powers_of_2(1, 512))),
    }


def _images(folder: str, task: Options, paper: Mapping[str, str], skip: int = 21) -> tuple[Row, ...]:
    return tuple(
        Row(name, f"{folder}/{run}", (*task, *options), paper.get(run, ""))
        for run, (name, options) in _networks(skip).items()
    )


def _copy(blank: int) -> tuple[Row, ...]:
    return tuple(
        Row(
            f"{kind} {cell.upper()}, T = {blank}",
            f"copy-{blank}/{kind}-{cell}",
            ("copy", "--blank", str(blank), "--network", kind, "--cell", cell, *options),
            paper,
        )
        for kind, paper in (("dilated", "near 0"), ("stacked", "chance"))
        # With the rate of the others nine LSTM layers stay at chance until it has fallen that far.
        for cell, options in (("rnn", ()), ("gru", ()), ("lstm", ("--learning-rate", "0.002")))
    )


def _noisy(length: int) -> tuple[Row, ...]:
    kept = {run: "keeps its accuracy" for run in _networks(21) if run.startswith(("dilated", "skip", "cnn"))}
    lost = dict.fromkeys(("rnn-256", "lstm-256", "gru-256"), "chance")
    return _images(f"noisy-mnist-{length}", ("noisy-mnist", "--length", str(length)), kept | lost)


FUSED_GRU = ("speaker", "--hidden-size", "256", "--dilations", "32")
MFCC_GRU = ("speaker", "--features", "mfcc", "--network", "stacked", "--dilations", "1", "1", "1", "1", "1")
NOISY_RNN = ("noisy-mnist", "--length", "1000", "--cell", "rnn", "--steps", "2000")

TABLES: dict[str, Table] = {
    "copy": Table(
        "Copy memory",
        "Test loss in nats per step. Nine layers of 10; dilations are 1, 2, ..., 256, or all 1 (stacked). Chance, for "
        "a network that knows where the symbols are asked for but not which they are, is 10 ln 8 / (T + 20).",
        "loss",
        _copy(500) + _copy(1000),
        "learning curves",
    ),
    "mnist": Table(
        "MNIST, pixel by pixel",
        "Test accuracy. The paper's 99.0 % of the dilated GRU of 20 is also in Bai et al. 2018 (arXiv 1803.01271).",
        "accuracy",
        _images(
            "mnist",
            ("mnist",),
            {
                "dilated-rnn-50": "98.0 %",
                "dilated-rnn-20": "98.0 % (of 50)",
                "dilated-lstm-20": "98.9 %",
                "dilated-gru-20": "99.0 %",
                "dilated-gru-50": "99.2 %",
                "lstm-256": "98.2 %",
                "gru-256": "99.1 %",
                "skip-rnn-95": "98.1 %",
                "cnn-50": "98.3 %",
            },
        ),
    ),
    "mnist-permuted": Table(
        "MNIST, pixel by pixel, permuted",
        "Test accuracy, with the permutation of the paper's code.",
        "accuracy",
        _images(
            "mnist-permuted",
            ("mnist", "--permuted"),
            {
                "dilated-rnn-50": "96.1 %",
                "dilated-rnn-20": "96.1 % (of 50)",
                "dilated-lstm-20": "95.4 %",
                "dilated-gru-20": "94.4 %",
                "dilated-gru-50": "94.6 %",
                "lstm-256": "91.7 %",
                "gru-256": "94.1 %",
                "skip-rnn-95": "94.0 %",
                "cnn-50": "96.7 %",
            },
            skip=5,
        ),
    ),
    "noisy-mnist": Table(
        "MNIST followed by noise",
        "Test accuracy, where noise fills a sequence up to 1000 or 2000 steps.",
        "accuracy",
        tuple(Row(f"{row.name}, {length} steps", *row[1:]) for length in (1000, 2000) for row in _noisy(length)),
    ),
    "ptb": Table(
        "Penn Treebank, character by character",
        "Test bits per character.",
        "bits",
        (Row("dilated GRU, 5 layers of 256", "ptb/dilated-gru-256", ("ptb",), "1.31"),),
    ),
    "speaker": Table(
        "Speakers of VCTK",
        "Test accuracy of windows of a second, with GRUs. The paper gives two figures; how it divided and cut its "
        "recordings is not known to us.",
        "accuracy",
        (
            Row("fused, 1 layer of 256, samples at 8 kHz", "speaker/fused-gru-256", FUSED_GRU, "0.45/0.65"),
            Row("dilated, 6 layers of 50, samples at 8 kHz", "speaker/dilated-gru-50", ("speaker",), "0.64/0.74"),
            Row("5 layers of 50, MFCCs", "speaker/mfcc-gru-50", MFCC_GRU, "0.66/0.77"),
        ),
    ),
    "layers": Table(
        "Number of layers",
        "Test accuracy of dilated RNNs of 20 on MNIST followed by noise, 1000 steps in all, after 2000 gradient steps; "
        "dilations are 1, 2, ..., up to 256 with nine layers. In the paper more layers are better, and two learn "
        "nothing.",
        "accuracy",
        tuple(
            Row(f"{layers} layers", f"layers/{layers}", (*NOISY_RNN, *_powers_of_2(1, 2 ** (layers - 1))))
            for layers in range(2, 10)
        ),
        "layers",
    ),
    "start-dilation": Table(
        "Start dilation",
        "Test accuracy of dilated RNNs of 20 on MNIST followed by noise, 1000 steps in all, after 2000 gradient steps. "
        "The longest dilation is 256; layers with less than the start dilation are left out. In the paper a start of 2 "
        "halves the time at the same accuracy.",
        "accuracy",
        tuple(
            Row(
                f"start {start}, {9 - start.bit_length() + 1} layers",
                "layers/9" if start == 1 else f"start-dilation/{start}",
                (*NOISY_RNN, *_powers_of_2(start, 256)),
            )
            for start in (1, 2, 4, 8)
        ),
        "start dilation",
    ),
}
"""By the names that ``streamdrnn reproduce`` takes."""
