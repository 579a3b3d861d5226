"""Durable state: decisions become true in group-committed transactions, events follow them, actors stand on both."""

from ._log import EventLog as EventLog
from ._types import (
    Conflict as Conflict,
    Event as Event,
    Locked as Locked,
    LoggedEvent as LoggedEvent,
    NewerDatabase as NewerDatabase,
    Owner as Owner,
    Store as Store,
    StoreError as StoreError,
    StoreFailed as StoreFailed,
    Superseded as Superseded,
    UnusableDatabase as UnusableDatabase,
    Write as Write,
)
from .durable import Decision as Decision, Durable as Durable
from .sqlite import open_store as open_store
