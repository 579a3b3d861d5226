"""`python -m relay`: the command line, for when the script of that name is not on PATH."""

from relay.cli import main

main()
