"""Text from a character model, one streaming step after the other."""

from collections.abc import Iterator

import torch

from streamdrnn import StreamingDRNN, Tagger
from streamdrnn.apps.training.tasks.ptb import encode
from streamdrnn.errors import InputError


def generate(model: Tagger, characters: str, prompt: str, length: int, temperature: float, seed: int) -> Iterator[str]:
    """Characters that follow a prompt.

    Args:
        model: predicts the next of these characters from the one-hot code of the last.
        characters: those that the model knows, in its order.
        prompt: what the text begins with.
        length: the number of characters.
        temperature: by which the logits are divided; 0 takes the likeliest character always.
        seed: of the draws.

    Raises:
        ValueError: an argument is out of its range, or the model does not know the prompt's characters.
    """
    if not prompt:
        raise InputError("prompt: expected one character or more, got none")
    if length < 0:
        raise InputError(f"length: expected 0 or more, got {length}")
    if not 0 <= temperature < float("inf"):
        raise InputError(f"temperature: expected 0 or more, got {temperature}")
    return _drawn(model, characters, encode(prompt, characters).tolist(), length, temperature, seed)


def _drawn(
    model: Tagger, characters: str, prompt: list[int], length: int, temperature: float, seed: int
) -> Iterator[str]:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.eye(len(characters))
    stream = StreamingDRNN(model)
    for code in prompt:
        logits = stream.step(codes[code : code + 1])[0]
    for _ in range(length):
        if temperature:
            # The largest is 0, so that no temperature, however low, makes it infinite.
            scaled = (logits - logits.max()).double() / temperature
            code = int(torch.multinomial(torch.softmax(scaled, 0), 1, generator=generator))
        else:
            code = int(logits.argmax())
        yield characters[code]
        logits = stream.step(codes[code : code + 1])[0]
