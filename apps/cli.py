"""The command line, `streamdrnn`: one subcommand per job, one line per error."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Optional, Union

import tyro

from streamdrnn.apps.bench.command import Bench
from streamdrnn.apps.export import Export
from streamdrnn.apps.info import Info
from streamdrnn.apps.scoring.command import ScoreFolder
from streamdrnn.apps.serving.command import Serve
from streamdrnn.apps.speaker_id.commands.calibrate import Calibrate
from streamdrnn.apps.speaker_id.commands.enroll import Enroll
from streamdrnn.apps.speaker_id.commands.identify import Identify
from streamdrnn.apps.speaker_id.commands.listen import Listen
from streamdrnn.apps.speaker_id.commands.profiles import ListProfiles
from streamdrnn.apps.speaker_id.demo import Demo
from streamdrnn.apps.training.commands import Evaluate, Generate, Reproduce, Train

Command = Union[
    Annotated[Demo, tyro.conf.subcommand("demo")],
    Annotated[Identify, tyro.conf.subcommand("identify")],
    Annotated[Enroll, tyro.conf.subcommand("enroll")],
    Annotated[ListProfiles, tyro.conf.subcommand("profiles")],
    Annotated[Listen, tyro.conf.subcommand("listen")],
    Annotated[Calibrate, tyro.conf.subcommand("calibrate")],
    Annotated[Train, tyro.conf.subcommand("train")],
    Annotated[Evaluate, tyro.conf.subcommand("evaluate")],
    Annotated[Generate, tyro.conf.subcommand("generate")],
    Annotated[Reproduce, tyro.conf.subcommand("reproduce")],
    Annotated[Export, tyro.conf.subcommand("export")],
    Annotated[ScoreFolder, tyro.conf.subcommand("score")],
    Annotated[Serve, tyro.conf.subcommand("serve")],
    Annotated[Bench, tyro.conf.subcommand("bench")],
    Annotated[Info, tyro.conf.subcommand("info")],
]


def parse(arguments: Optional[Sequence[str]] = None) -> Command:
    """The command that the arguments name, or without any those of the process; wrong ones end it with 2."""
    return tyro.cli(
        Command,
        prog="streamdrnn",
        description="Dilated recurrent networks that stream. Try: streamdrnn demo",
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the command that the arguments name, and exit: 0 done, 1 the work failed, 2 wrong usage."""
    try:
        parse(arguments).run()
        sys.stdout.flush()
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            # The reader has gone (as in `| head`); nothing is to be said to it at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        print(f"streamdrnn: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
