"""The bus: what the HTTP API and the event stream do, over one WebSocket for each client (messaging-control 20.4).

`Bus` has all connections, `connection` is the life of one, `greeting` what a hello leads to, `deeds` are what frames ask
for, `telling` is what a client is told, `socket` is the WebSocket below, and `plain` answers those who ask without one.
"""

from ._bus import Bus as Bus
