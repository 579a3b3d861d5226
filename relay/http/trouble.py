"""What goes wrong among the actors, in the server's log."""

import logging

from relay.actors import DeadLetter, Failed, Overflowed, Quarantined, SystemEvent, Unavailable

__all__ = ["log_trouble"]

log = logging.getLogger(__name__)


def log_trouble(event: SystemEvent) -> None:
    """Log the failure of an actor, with its traceback if it is a defect, and whatever does not reach one."""
    match event:
        case Failed(address, Unavailable() as error):
            log.error("%s begins anew: %s", address, error)
        case Failed(address, error):
            log.error("%s failed", address, exc_info=error)
        case Quarantined(address):
            log.error("%s is given up for a while: it failed again and again", address)
        case Overflowed(address, capacity):
            log.warning("the mailbox of %s is full: it holds %d messages", address, capacity)
        case DeadLetter(message, address, reason):
            log.warning("%s for %s: %s", type(message).__name__, address, reason)
