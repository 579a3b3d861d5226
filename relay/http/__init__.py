"""The edge: the HTTP API and what stands before it. It translates and authorises, and decides nothing."""

from .api import routes as routes
from .auth import TokenUnusable as TokenUnusable
from .integration_file import IntegrationsUnusable as IntegrationsUnusable
from .listening import CannotListen as CannotListen
from .server import Ready as Ready, Settings as Settings, run as run, serve as serve
