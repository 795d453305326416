"""Suite ``stream``: networks that advance one step at a time, called from Python."""

from collections.abc import Callable

import torch
from torch import Tensor

from streamdrnn import DilatedRNN, StreamingDRNN
from streamdrnn.apps.bench.agreement import check_same
from streamdrnn.apps.bench.machine import one_thread
from streamdrnn.apps.bench.peers import CannotRunError, StackStep, compiled, compiling, live, live_onnx, scripted
from streamdrnn.apps.bench.tables import Row, Say, Table
from streamdrnn.apps.bench.timing import Run, Times, interleaved
from streamdrnn.apps.bench.works import StreamSizes

LiveStep = Callable[[Tensor], Tensor]
"""``(B, I)`` to ``(B, H)``, keeping its state."""


def given_memory(model: DilatedRNN) -> LiveStep:
    """Our step, writing to memory that is given: ``out=``."""
    stream, y_t = StreamingDRNN(model), torch.empty(1, model.hidden_size)
    return lambda x_t: stream.step(x_t, out=y_t)


PEERS: dict[str, Callable[[DilatedRNN], LiveStep]] = {
    "ours": lambda model: StreamingDRNN(model).step,
    "ours, out=": given_memory,
    "loop": lambda model: live(model, StackStep(model), 1),
    "loop TorchScript": lambda model: live(model, scripted(StackStep(model)), 1),
    "loop torch.compile": lambda model: live(model, compiled(StackStep(model)), 1),
    "onnxruntime": lambda model: live_onnx(model, 1),
}


def measure(sizes: StreamSizes, repeats: int, say: Say) -> list[Table]:
    """Time single steps beside their peers, a second of raw audio, and many streams; all on one thread.

    Raises:
        ValueError: a peer computes something else.
    """
    torch.manual_seed(0)
    network = f"GRU, {sizes.layers} layers of {sizes.hidden}, dilations 1, 2, 4, ...; one thread"
    with one_thread(), torch.inference_mode():
        steps = [row for inputs in sizes.inputs for row in single_steps(sizes, inputs, say)]
        say("stream: raw audio")
        audio = raw_audio(sizes, repeats)
        streams = []
        for batch_size in sizes.streams:
            say(f"stream: {batch_size} streams")
            streams.append(many_streams(sizes, batch_size))
    count = sizes.blocks * sizes.block
    return [
        Table(
            "stream_steps",
            "One step of one stream",
            steps,
            (f"{network}. {count} steps each, timed one by one, in turns of {sizes.block}.",),
        ),
        Table(
            "stream_audio",
            f"{sizes.samples} samples of raw audio (I=1), on one core",
            audio,
            (f"{network}. Medians of {repeats}. At 16 kHz this is {sizes.samples / 16000:g} s of sound.",),
        ),
        Table(
            "stream_many",
            "One step of many streams at once",
            streams,
            (f"{network}, I={sizes.hidden}. Medians of {count} steps.",),
        ),
    ]


def single_steps(sizes: StreamSizes, inputs: int, say: Say) -> list[Row]:
    """Ours and its peers, one row each."""
    model = DilatedRNN(inputs, sizes.hidden, sizes.layers)
    x = torch.randn(2 * max(model.dilations) + 1, 1, inputs)  # each ring goes round twice
    expected, _ = model(x)
    steps: dict[str, LiveStep] = {}
    missing: dict[str, str] = {}
    for name, make in PEERS.items():
        say(f"stream: one step, I={inputs}, {name}")
        try:
            with compiling():
                steps[name] = checked(name, make(model), x, expected)
        except CannotRunError as error:
            missing[name] = str(error)
    # The same inputs again and again: what a step costs does not depend on them.
    runs: dict[str, Run] = {name: next_step(step, x) for name, step in steps.items()}
    times = interleaved(runs, sizes.blocks, block=sizes.block)
    ours = times["ours"].percentile(50)
    return [
        {
            "inputs": inputs,
            "runner": name,
            **{f"p{percent}_us": microseconds(times.get(name), percent) for percent in (50, 95, 99)},
            "times_ours": times[name].percentile(50) / ours if name in times else None,
            "why_not": missing.get(name, ""),
        }
        for name in PEERS
    ]


def checked(name: str, step: LiveStep, x: Tensor, expected: Tensor) -> LiveStep:
    """The step, after a sequence that it must compute as the network does.

    Raises:
        ValueError: it does not.
    """
    check_same(name, "output", torch.stack([step(x_t).clone() for x_t in x]), expected)
    return step


def next_step(step: LiveStep, x: Tensor) -> Run:
    """A call that makes the next step, of x round and round."""
    frames = list(x.unbind())
    at = 0

    def run() -> Tensor:
        nonlocal at
        at = (at + 1) % len(frames)
        return step(frames[at])

    return run


def microseconds(times: Times | None, percent: int) -> float | None:
    """A percentile, if there are times."""
    return None if times is None else times.percentile(percent) / 1e3


def raw_audio(sizes: StreamSizes, repeats: int) -> list[Row]:
    """The same samples in chunks and one by one, through one :class:`StreamingDRNN` each."""
    model = DilatedRNN(1, sizes.hidden, sizes.layers)
    x = torch.randn(sizes.samples, 1, 1)
    chunks, frames = x.split(sizes.chunk), list(x.unbind())
    pushed, stepped = StreamingDRNN(model), StreamingDRNN(model)
    check_same(
        "push", "output", torch.cat([pushed.push(chunk) for chunk in chunks]), torch.stack([*map(stepped.step, frames)])
    )

    def push() -> None:
        for chunk in chunks:
            pushed.push(chunk)

    def step() -> None:
        for x_t in frames:
            stepped.step(x_t)

    times = interleaved({f"push, {sizes.chunk} at once": push, "step by step": step}, repeats)
    return [
        {
            "how": how,
            "seconds": taken.ms / 1e3,
            "quartiles_seconds": (taken.quartiles_ms[0] / 1e3, taken.quartiles_ms[1] / 1e3),
            "us_per_sample": taken.ms * 1e3 / sizes.samples,
        }
        for how, taken in times.items()
    ]


def many_streams(sizes: StreamSizes, batch_size: int) -> Row:
    """One step of so many streams."""
    model = DilatedRNN(sizes.hidden, sizes.hidden, sizes.layers)
    run = next_step(StreamingDRNN(model, batch_size).step, torch.randn(16, batch_size, sizes.hidden))
    us = interleaved({"ours": run}, sizes.blocks, block=sizes.block)["ours"].percentile(50) / 1e3
    return {"streams": batch_size, "us_per_step": us, "us_per_step_of_a_stream": us / batch_size}
