"""What the daemon refuses, in words that say what to do about it."""

__all__ = ["Refused"]


class Refused(Exception):
    """Something asked for cannot be done; nothing was changed. The text is for the person who asked."""
