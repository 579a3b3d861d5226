"""An actor runtime on trio: typed messages, bounded mailboxes, supervision, families of on-demand actors.

It imports trio and attrs, and nothing else of relay. Start at `open_system`, `Actor`, `Ask` and `Tell`.
"""

import sys as _sys

from . import _ctrl_c
from ._actor import Actor as Actor, Context as Context, Step as Step
from ._bounds import Bounds as Bounds, Overflow as Overflow
from ._clock import virtual_wall as virtual_wall
from ._errors import (
    ActorError as ActorError,
    ActorFailed as ActorFailed,
    ActorStopped as ActorStopped,
    DeadlineExpired as DeadlineExpired,
    DeadlockError as DeadlockError,
    MailboxFull as MailboxFull,
    NoReply as NoReply,
    Refusal as Refusal,
    RestartsExhausted as RestartsExhausted,
    StopOverran as StopOverran,
    Unavailable as Unavailable,
)
from ._family import Family as Family
from ._gate import Gate as Gate
from ._messages import Ask as Ask, Tell as Tell
from ._ref import Ref as Ref
from ._reply import Reply as Reply
from ._snapshot import ActorInfo as ActorInfo, describe as describe
from ._stream import (
    DeadLetter as DeadLetter,
    Failed as Failed,
    Listener as Listener,
    Overflowed as Overflowed,
    Quarantined as Quarantined,
    Started as Started,
    Stopped as Stopped,
    SystemEvent as SystemEvent,
)
from ._supervision import Restart as Restart, Supervision as Supervision
from ._supervisor import (
    AutoShutdown as AutoShutdown,
    Child as Child,
    Strategy as Strategy,
    Supervisor as Supervisor,
)
from ._system import Fates as Fates, System as System, open_system as open_system
from ._watches import Exit as Exit

for _name, _module in list(_sys.modules.items()):
    if _name.startswith(f"{__name__}._") and _module is not _ctrl_c:
        _ctrl_c.protect(_module)
