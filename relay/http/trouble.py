"""What goes wrong among the actors, in the server's log."""

import logging

from relay.actors import DeadLetter, Failed, SystemEvent

__all__ = ["log_trouble"]

log = logging.getLogger(__name__)


def log_trouble(event: SystemEvent) -> None:
    """Log the failure of an actor, with its traceback, or a message that was not delivered."""
    match event:
        case Failed(address, error):
            log.error("%s failed", address, exc_info=error)
        case DeadLetter(message, address, reason):
            log.warning("%s for %s: %s", type(message).__name__, address, reason)
