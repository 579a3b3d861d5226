"""What the daemon refuses, in words that say what to do about it."""

__all__ = ["Refused", "Rejected", "Restart"]


class Refused(Exception):
    """Something asked for cannot be done; nothing was changed. The text is for the person who asked."""


class Rejected(Refused):
    """Such things are not done on this host at all."""


class Restart(Exception):
    """The daemon ends, for whoever started it to start it again. The text says what for."""
