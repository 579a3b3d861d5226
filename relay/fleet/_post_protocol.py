"""The protocol of the post office: its messages are of several modules, which must not import each other."""

__all__ = ["Post"]


class Post:
    """What the post office understands."""
