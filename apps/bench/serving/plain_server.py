"""The peers: a plain asyncio server that calls the model for each message of each stream, as one writes it first.

It speaks enough of the protocol to be measured, and has none of what else a service needs.
"""

import argparse
import asyncio
import importlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from streamdrnn import StreamingDRNN
from streamdrnn.apps.weights import load_to_run
from streamdrnn.client import protocol
from streamdrnn.client.protocol import Result, pack_result, unpack_input
from streamdrnn.heads import Head

Call = Callable[[np.ndarray], np.ndarray]
"""The next samples ``(N,)`` of a stream to outputs ``(steps, E)``; it keeps the stream's state."""


def kernels_stream(model: Head) -> Callable[[], Call]:
    """One stream on this package's kernels."""

    def begin() -> Call:
        live = StreamingDRNN(model)

        def call(samples: np.ndarray) -> np.ndarray:
            outputs: np.ndarray = live.push(torch.from_numpy(samples)[:, None])[:, 0].numpy()
            return outputs

        return call

    return begin


def torch_stream(model: Head) -> Callable[[], Call]:
    """One stream on torch's own operations."""
    model.rnn.backend = "torch"
    return kernels_stream(model)


def onnx_stream(model: Head, folder: Path) -> Callable[[], Call]:
    """One stream on onnxruntime; the streams share a session. Messages must be whole steps."""
    onnxruntime = importlib.import_module("onnxruntime")

    from streamdrnn.export import export_model, export_paths

    assert model.frontend is not None
    hop = model.frontend.hop_length
    description = export_model(model, folder / "model.onnx", "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = export_paths(folder / "model.onnx", "onnx")["chunk"]
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = list(description["state"])
    wanted = ["y", *(f"next.{name}" for name in names)]

    def begin() -> Call:
        state = {
            name: np.full([1 if size == "batch" else size for size in t["shape"]], t["initial"], t["dtype"])
            for name, t in description["state"].items()
        }

        def call(samples: np.ndarray) -> np.ndarray:
            nonlocal state
            before = state["audio.frames"]
            y, *after = session.run(wanted, {"x": samples.reshape(-1, 1, hop), **state})
            state = dict(zip(names, after, strict=True))
            outputs: np.ndarray = y[: int((state["audio.frames"] - before)[0]), 0]
            return outputs

        return call

    return begin


async def converse(socket: ServerConnection, begin: Callable[[], Call], output_size: int) -> None:
    """One stream, from its opening to its end."""
    try:
        await socket.recv()
        await socket.send(json.dumps({"type": "opened", "version": protocol.VERSION, "output_size": output_size}))
        call = begin()
        async for data in socket:
            if isinstance(data, str):  # close
                return
            message = unpack_input(data)
            samples = np.frombuffer(message.payload, "<i2").astype(np.float32) / np.float32(32768)
            outputs = call(samples)
            await socket.send(pack_result(Result(message.seq, outputs.astype("<f4").tobytes())))
    except ConnectionClosed:
        pass


async def run(begin: Callable[[], Call], output_size: int) -> None:
    """Serve until killed; the first line that is printed ends with the URL."""
    server = await serve(
        lambda socket: converse(socket, begin, output_size),
        "127.0.0.1",
        0,
        compression=None,
        ping_interval=None,
    )
    port = next(iter(server.sockets)).getsockname()[1]
    print(f"serving at ws://127.0.0.1:{port}", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("how", choices=["kernels", "torch", "onnxruntime"])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path, help="for files of its own")
    told = parser.parse_args()
    torch.set_num_threads(1)
    model = load_to_run(told.model).eval()
    assert isinstance(model, Head)
    if told.how == "onnxruntime":
        begin = onnx_stream(model, told.folder)
    else:
        begin = kernels_stream(model) if told.how == "kernels" else torch_stream(model)
    output_size = begin()(np.zeros(3200, np.float32)).shape[1]
    asyncio.run(run(begin, output_size))


if __name__ == "__main__":
    main()
