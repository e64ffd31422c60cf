"""The command `backgrid` as a process, also as `python -m backgrid`."""

import atexit
import contextlib
import os
import sys

from backgrid.cli import main


def start() -> None:
    """Run the command, and end without taking its modules apart, which would take 0.3 s."""
    code = 1  # of an error that nobody expected

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

    atexit.register(leave)  # the first, so that it is called after all others
    try:
        main(prog_name="backgrid")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except OSError as error:  # of the machine: no space, no permission
        sys.stderr.write(f"backgrid: {error}\n")
        sys.exit(code)


if __name__ == "__main__":
    start()
