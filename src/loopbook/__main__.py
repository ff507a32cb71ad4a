"""`python -m loopbook`: the same as the command `loopbook`."""

from loopbook.cli.main import main

main()
