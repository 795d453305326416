"""`streamdrnn score`."""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from streamdrnn.errors import InputError, installing

if TYPE_CHECKING:
    from streamdrnn.apps.scoring.scorer import Score


@dataclass
class ScoreFolder:
    """Write what a model says of every recording in a folder: embeddings of voices, or the logits of classes.

    The file is NumPy's .npz: `recordings`, the paths below the folder, and `outputs`, a row for each. A recording that
    cannot be read has none and is named; when all others are done the command then ends with 1.

    Example: streamdrnn score speaker recordings --out embeddings.npz --workers 8
    """

    model: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(metavar="MODEL|RUN|speaker", help="A model file, the folder of a run, or the shipped model."),
    ]
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER", help="Recordings at any depth.")]
    out: Annotated[Path, tyro.conf.arg(metavar="FILE", help="The .npz file to write.")]
    workers: Annotated[
        int, tyro.conf.arg(help="Processes that score. More than one are on Ray, see docs/scale-out.md.")
    ] = 1
    json: Annotated[bool, tyro.conf.arg(help="Print what was done as one JSON object.")] = False

    def run(self) -> None:
        from streamdrnn.apps.model_file import model_file
        from streamdrnn.apps.scoring.scorer import Scorer
        from streamdrnn.audio.files import is_audio

        if self.workers < 1:
            raise InputError(f"workers: expected 1 or more, got {self.workers}")
        if self.out.suffix != ".npz":
            raise InputError(f"{self.out}: expected a name that ends in .npz")
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder}: no such folder")
        paths = sorted(path for path in self.folder.rglob("*") if is_audio(path) and path.is_file())
        if not paths:
            raise InputError(f"{self.folder}: no recordings, expected files such as WAV, FLAC, OGG, MP3 or m4a")
        recordings = [path.relative_to(self.folder).as_posix() for path in paths]
        model = model_file(self.model)
        scorer = Scorer(model, self.folder)  # here too, so that what cannot be is said at once
        self.out.parent.mkdir(parents=True, exist_ok=True)
        if self.workers == 1:
            failed = self._write(map(scorer, recordings))
        else:
            try:
                from streamdrnn.apps.scoring.on_ray import score_on_ray
            except ModuleNotFoundError as error:
                raise InputError(f"{error}; --workers needs it: {installing('scale')}") from None
            failed = self._write(score_on_ray(model.resolve(), self.folder.resolve(), recordings, self.workers))
        if self.json:
            print(json.dumps({"out": str(self.out), "scored": len(recordings) - failed, "failed": failed}))
        else:
            print(f"wrote {self.out}: {len(recordings) - failed} recordings")
        if failed:
            raise InputError(f"{failed} of {len(recordings)} recordings could not be scored")

    def _write(self, scores: "Iterable[Score]") -> int:
        """Write the file, and give the number of those that have a problem."""
        import io

        import numpy as np

        from streamdrnn.storage import write_whole

        done = []
        failed = 0
        for score in scores:
            if score.problem:
                failed += 1
                print(f"streamdrnn: {score.problem}", file=sys.stderr)
            else:
                done.append(score)
        done.sort(key=lambda score: score.recording)
        content = io.BytesIO()
        np.savez(
            content,
            recordings=np.array([score.recording for score in done], dtype=np.str_),
            outputs=np.array([score.output for score in done], np.float32),
        )
        write_whole(self.out, content.getvalue())
        return failed
