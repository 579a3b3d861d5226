"""The edge: the HTTP API and what stands before it. It translates and authorises, and decides nothing."""

from .api import routes as routes
from .auth import TokenUnusable as TokenUnusable
from .listening import CannotListen as CannotListen
from .server import Ready as Ready
from .server import Settings as Settings
from .server import run as run
from .server import serve as serve
