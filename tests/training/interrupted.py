"""`streamdrnn` on a data folder whose texts are no data set: what a test kills has to be a process of its own."""

import hashlib
import os
import sys
from pathlib import Path

from streamdrnn.apps.cli import main
from streamdrnn.apps.training.tasks import ptb
from tests.training.texts import TEXTS


def write_texts(data_dir: Path) -> None:
    """A data folder with the texts."""
    (data_dir / "ptb").mkdir()
    for split, text in TEXTS.items():
        (data_dir / "ptb" / f"ptb.{split}.txt").write_text(text)


def accept_texts() -> None:
    """Take the texts for the real ones in this process."""
    ptb.MD5.update({split: hashlib.md5(text.encode()).hexdigest() for split, text in TEXTS.items()})


if __name__ == "__main__":
    accept_texts()
    if os.environ.get("KILL_AT"):
        from torch import Tensor

        from streamdrnn.apps.training.tasks.task import Batch
        from streamdrnn.apps.training.trainer import Trainer

        step = Trainer._step

        def dying_step(self: Trainer, batch: Batch) -> Tensor:
            if self.progress.step == int(os.environ["KILL_AT"]):
                os.kill(os.getpid(), 9)
            return step(self, batch)

        Trainer._step = dying_step  # type: ignore[method-assign]
    main(sys.argv[1:])
