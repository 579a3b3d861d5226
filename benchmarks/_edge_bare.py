"""A Quart-trio server with one route that stores nothing: `python _edge_bare.py PORT`.

Everything is left at its default, but that a connection may be used as often as relay's: by default Hypercorn closes
it after 1 000 requests.
"""

import sys

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

app = QuartTrio("bare")


@app.post("/api/messages")
async def messages() -> ResponseReturnValue:
    message = await request.get_json()
    return {"id": 1, "from": message["from"], "to": message["to"], "body": message["body"]}, 201


config = Config()
config.bind = [f"127.0.0.1:{sys.argv[1]}"]
config.errorlog = None
config.keep_alive_max_requests = 1_000_000
trio.run(serve, app, config)
