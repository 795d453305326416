"""Models as folders, here or on a hub: the model's file and its card, and nothing else.

A hub is Hugging Face's (extra ``hub``), or the server that the environment variable ``HF_ENDPOINT`` names. The server
is trusted, as huggingface_hub trusts it; what people put there is not. Of a repository one file is asked for, by a name
that is known here, of a size that is looked at first. It is read as any model file is (:func:`streamdrnn.load_model`):
no code of it is run, nothing is unpickled.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Optional

from torch import nn

from streamdrnn.checkpoint import PathLike, load_model, save_model
from streamdrnn.errors import InputError, ResourceError, installing
from streamdrnn.storage import write_whole

MODEL = "model.safetensors"
CARD = "README.md"
LIBRARY = "streamdrnn"
LARGEST = 2**31
"""Bytes of a model from a hub, so that a wrong name does not fill a disk."""

_HEADER = f"""---
library_name: {LIBRARY}
tags:
- dilated-rnn
- streaming
---
"""


def save_pretrained(
    model: nn.Module, folder: PathLike, card: Optional[str] = None, notes: Optional[dict[str, str]] = None
) -> None:
    """Write a model and its card into a folder, which is made if there is none.

    Args:
        model: as :func:`streamdrnn.save_model` takes it.
        card: Markdown for people: what the model is for, what it was trained on, how well it does. Metadata for a hub
            may stand first, between lines ``---``. Without a card one is written that says what the model itself tells.
        notes: as of :func:`streamdrnn.save_model`.

    Raises:
        TypeError, ValueError: as :func:`streamdrnn.save_model`.
        OSError: the folder cannot be written.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    save_model(model, target / MODEL, notes)
    text = _plain_card(model) if card is None else card
    write_whole(target / CARD, (text if text.startswith(("---\n", "---\r\n")) else _HEADER + text).encode())


def from_pretrained(source: PathLike, revision: Optional[str] = None) -> Any:
    """The model in a folder or a repository, a network or a head, on the CPU, in ``eval()`` mode.

    Args:
        source, revision: as of :func:`pretrained_file`.

    Raises:
        ValueError, OSError: as :func:`pretrained_file`, and as :func:`streamdrnn.load_model`.
    """
    return load_model(pretrained_file(source, revision))


def pretrained_file(source: PathLike, revision: Optional[str] = None) -> Path:
    """The file of the model in a folder or a repository, for :func:`streamdrnn.model_notes` and for the command line.

    Args:
        source: a folder; or, where there is none of this name, a repository on the hub, such as ``"somebody/model"``.
            Its file is kept in the hub's cache (``HF_HOME``), and taken from there when there is no network.
        revision: a branch, a tag or a commit of a repository. A commit is the one that cannot change.

    Raises:
        InputError: there is no such folder, repository or revision, it has no model, or one of more than 2 GiB; or the
            extra ``hub`` is not installed.
        ResourceError: the hub cannot be reached, or refuses.
    """
    folder = Path(source)
    if folder.is_dir():
        if revision is not None:
            raise InputError(f"revision: got {revision!r}, but {source} is a folder, which has one only")
        if not (folder / MODEL).is_file():
            raise InputError(f"{source}: expected a {MODEL} in this folder")
        return folder / MODEL
    if not isinstance(source, str) or folder.exists() or os.path.isabs(source) or source.startswith((".", "~")):
        raise InputError(f"{source}: no such folder; a model's file is read by load_model")
    # No revision in git is named so, and huggingface_hub would take it for the name of a file outside of its cache.
    if revision is not None and (not revision or revision.startswith("/") or re.search(r"\.\.|[\\:]", revision)):
        raise InputError(f"{source}: not the name of a revision: {revision!r}")
    with _plain_errors(f"{source} (no folder here)", revision):
        from huggingface_hub import hf_hub_download

        found = hf_hub_download(source, MODEL, revision=revision, library_name=LIBRARY, dry_run=True)
        if found.file_size is None or found.file_size > LARGEST:
            size = "an unknown number of" if found.file_size is None else f"{found.file_size:,}"
            raise InputError(f"{source}: {MODEL} has {size} bytes, expected at most {LARGEST:,}")
        return Path(hf_hub_download(source, MODEL, revision=revision, library_name=LIBRARY))


def push_to_hub(
    model: nn.Module,
    repo_id: str,
    card: Optional[str] = None,
    notes: Optional[dict[str, str]] = None,
    private: bool = False,
    commit_message: str = "A model of streamdrnn",
) -> str:
    """Put a model and its card into a repository of the hub, in one commit on its main branch.

    Whose the repository is, is said by ``hf auth login`` or the environment variable ``HF_TOKEN``.

    Args:
        model, card, notes: as of :func:`save_pretrained`.
        repo_id: such as ``"somebody/model"``; it is made if there is none.
        private: whether one that is made is for its owner's eyes alone.
        commit_message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        TypeError, ValueError: as :func:`streamdrnn.save_model`.
        InputError: no repository can have this name, or the extra ``hub`` is not installed.
        ResourceError: the hub cannot be reached, or refuses.
    """
    with TemporaryDirectory() as folder:
        save_pretrained(model, folder, card, notes)
        with _plain_errors(repo_id):
            from huggingface_hub import HfApi

            api = HfApi(library_name=LIBRARY)
            api.create_repo(repo_id, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=commit_message).commit_url)


def _plain_card(model: Any) -> str:
    """A card that says what is known without whoever trained the model."""
    sizes = "\n".join(f"| {name} | {value} |" for name, value in model.config().items())
    return f"""# {type(model).__name__}

A `{type(model).__name__}` of streamdrnn, whose models stream;
{sum(parameter.numel() for parameter in model.parameters()):,} parameters.
Whoever trained it has not said on what, nor how well it does.

```python
from streamdrnn import StreamingDRNN, from_pretrained

stream = StreamingDRNN(from_pretrained(FOLDER_OR_REPOSITORY))
```

| configuration | |
| --- | --- |
{sizes}
"""


@contextmanager
def _plain_errors(source: str, revision: Optional[str] = None) -> Iterator[None]:
    """Around calls of huggingface_hub: its errors in one line each, which begins with the source."""
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise InputError(f"{source}: {error}; a hub needs it: {installing('hub')}") from None
    try:
        yield
    except errors.HFValidationError as error:
        raise InputError(f"{source}: not the name of a repository: {_first_line(error)}") from None
    except errors.GatedRepoError:
        raise InputError(f"{source}: its owner has to let you in; ask on the hub's page, then hf auth login") from None
    except errors.RepositoryNotFoundError:
        raise InputError(f"{source}: no such repository, or not for you (hf auth login says who you are)") from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{source}: has no revision {revision!r}") from None
    except errors.LocalEntryNotFoundError:
        raise ResourceError(f"{source}: the hub cannot be reached, and its cache has no such model") from None
    except errors.EntryNotFoundError:
        raise InputError(f"{source}: expected a {MODEL} in this repository") from None
    # HTTPError is that of the version of httpx that huggingface_hub uses; RuntimeError is how transfers of files fail.
    except (OSError, RuntimeError, errors.HTTPError) as error:  # type: ignore[attr-defined]
        raise ResourceError(f"{source}: the hub refuses or cannot be reached: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
