"""What goes wrong among the actors, in the server's log."""

import logging

from relay.actors import DeadLetter, Failed, SystemEvent, Unavailable

__all__ = ["log_trouble"]

log = logging.getLogger(__name__)


def log_trouble(event: SystemEvent) -> None:
    """Log the failure of an actor, with its traceback if it is a defect, or a message that was not delivered."""
    match event:
        case Failed(address, Unavailable() as error):
            log.error("%s begins anew: %s", address, error)
        case Failed(address, error):
            log.error("%s failed", address, exc_info=error)
        case DeadLetter(message, address, reason):
            log.warning("%s for %s: %s", type(message).__name__, address, reason)
