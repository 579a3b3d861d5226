"""The command `relay`, also as `python -m relay`. It is installed with every relay, and needs the extra `server`."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; exits with code 1 when what it is made of is not installed."""
    try:
        from relay.cli import main as command

        command(prog_name="relay")
    except ModuleNotFoundError as error:
        missing = (error.name or "relay").partition(".")[0]
        if missing == "relay" or missing in sys.stdlib_module_names:
            raise
        sys.exit(
            "relay needs its server extra: install it as relay[server], in a checkout with pip install '.[server]'"
        )


if __name__ == "__main__":
    main()
