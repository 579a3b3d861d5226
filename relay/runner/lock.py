"""One runner per state directory: two would send what is kept there twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from relay._files import HeldBy, locked

from .options import BadOptions, Options

__all__ = ["alone"]


@contextmanager
def alone(options: Options) -> Iterator[None]:
    """Hold the state directory within the block. Raises `BadOptions`."""
    with ExitStack() as stack:
        try:
            options.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            stack.enter_context(locked(options.state_dir / "lock"))
        except HeldBy as holder:
            raise BadOptions(f"agent {options.agent_id} is run already, by {holder}: stop that one") from None
        except OSError as error:
            raise BadOptions(
                f"nothing can be kept in {options.state_dir} ({error.strerror}):"
                " set AGENT_RELAY_STATE_DIR, or RELAY_HOME, to a folder of yours"
            ) from error
        yield
