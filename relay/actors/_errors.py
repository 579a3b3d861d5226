"""What can go wrong between an actor and whoever talks to it.

`ActorError` is the root. The subclasses tell apart what a caller can act on: the mailbox is full (slow down),
the actor stopped (it is gone for good), it failed while handling the message (the outcome is unknown to the
caller), it answered nothing or both wait for each other (defects), or nobody waited for the answer any more.
`Refusal` is no failure: it is an answer that happens to be "no".
"""

__all__ = [
    "ActorError",
    "ActorFailed",
    "ActorStopped",
    "DeadlineExpired",
    "DeadlockError",
    "MailboxFull",
    "NoReply",
    "Refusal",
    "RestartsExhausted",
    "StopOverran",
    "Unavailable",
]


class ActorError(Exception):
    """Root of all errors of the runtime."""


class MailboxFull(ActorError):
    """The mailbox holds as many messages as it may; the message was not accepted."""


class ActorStopped(ActorError):
    """The actor has stopped for good; the message was not, or will not be, handled."""


class ActorFailed(ActorError):
    """The actor crashed on this message, or while it held it; the cause is `__cause__`."""


class NoReply(ActorError):
    """The handler returned without answering an ask, and without deferring the answer."""


class DeadlineExpired(ActorError):
    """The deadline of the ask passed before the actor came to it; it was dropped unhandled."""


class DeadlockError(ActorError):
    """The wait could never end: who is waited for waits for this handler. The text names the circle."""


class RestartsExhausted(ActorError):
    """A supervised actor failed more often than its budget allows; the last failure is `__cause__`."""


class StopOverran(ActorError):
    """An actor did not stop within its budget and was cancelled."""


class Refusal(Exception):
    """Base class of answers that say no. Raising one answers the asker and leaves the actor as it is."""


class Unavailable(Exception):
    """Base class of failures that are nobody's defect: something an actor depends on is away.

    An incarnation that ends by one, or by an `ActorFailed` that was caused by one, is followed by the next after the
    first backoff, and its budget of restarts is not touched: however long the disk is full, the actor is there when it
    no longer is.
    """
