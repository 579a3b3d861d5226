"""`python -m relay.runner PROVIDER …`: how a host starts a runner."""

import sys

from . import BadOptions, read_options, run

if __name__ == "__main__":
    try:
        code = run(read_options(sys.argv[1:]))
    except BadOptions as error:
        sys.exit(f"relay runner: {error}")
    sys.exit(code)
