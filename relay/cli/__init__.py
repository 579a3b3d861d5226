"""The command line. `relay --help` loads click and nothing else: every command imports what it needs when it runs."""

from .app import main

__all__ = ["main"]
