"""A typed client of relay's HTTP API, on trio."""

from ._bus import Bus as Bus
from ._client import Client as Client, open_client as open_client
from ._errors import (
    Garbled as Garbled,
    Overloaded as Overloaded,
    Refused as Refused,
    RelayError as RelayError,
    ServerFailed as ServerFailed,
    Superseded as Superseded,
    Unauthorized as Unauthorized,
    Unreachable as Unreachable,
)
from ._events import StreamedEvent as StreamedEvent
from ._outcomes import Outcomes as Outcomes
from ._transport import (
    DEFAULT_URL as DEFAULT_URL,
    find_token as find_token,
    home as home,
    token_file as token_file,
)
