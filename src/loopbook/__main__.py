"""The command `loopbook`, which is also `python -m loopbook`.

A build is given to a warm process if `make lab` runs one; all else happens here.
"""

import sys


def main() -> None:
    """Run the command that was typed; Ctrl-C while its modules are imported is told as well."""
    try:
        _run()
    except KeyboardInterrupt:
        from loopbook.project import waits

        waits.tell_interrupted()
        sys.exit(waits.INTERRUPTED)


def _run() -> None:
    if sys.argv[1:2] == ["build"]:
        from loopbook.cli.warm_client import hand_over

        status = hand_over(sys.argv)
        if status is not None:
            sys.exit(status)
    from loopbook.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
