"""Durable state: decisions become true in group-committed transactions, events follow them, actors stand on both."""

try:
    # Asked for here, so that the error says how to get them.
    import apsw as _apsw  # noqa: F401
    import orjson as _orjson  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"relay.store needs {error.name}: install relay with its extra, relay[store]", name=error.name
    ) from error

from ._lock import owned as owned
from ._log import EventLog as EventLog
from ._types import (
    Conflict as Conflict,
    DamagedDatabase as DamagedDatabase,
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
from .backups import Backup as Backup, BackupFailed as BackupFailed
from .durable import Decision as Decision, Durable as Durable
from .sqlite import open_store as open_store
