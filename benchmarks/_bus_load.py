"""Load on the bus and on event streams, from a process of its own: `python _bus_load.py MODE PORT TOKEN …`.

`send SOCKETS PER_FRAME SECONDS`: sends the same frame on each socket, the next one as soon as its result is there. Prints
messages per second, and the share of its own time that this took.
`latency HOW COUNT`: sends a message and waits until it is told, by `sse` or by `bus`, again and again. Prints seconds.
`fan-out LISTENERS MESSAGES`: sends over the bus what all event streams hear. Prints events per second, and seconds.
"""

import json
import re
import selectors
import socket
import struct
import sys
from time import perf_counter, process_time

MESSAGE = {"from": "bench-sender", "to": "bench-receiver", "body": "x" * 200}


def frame(members: dict) -> bytes:
    """A text frame; its mask changes nothing."""
    text = json.dumps(members).encode()
    size = len(text)
    head = (
        bytes([0x80 | size])
        if size < 126
        else b"\xfe" + struct.pack(">H", size)
        if size < 65_536
        else b"\xff" + struct.pack(">Q", size)
    )
    return b"\x81" + head + bytes(4) + text


class Bus:
    """One connection; reads whole frames."""

    def __init__(self, port: int, token: str, **hello: object) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(
            b"GET /bus HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nx-agent-relay-token: %s\r\n\r\n" % token.encode()
        )
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            self.data += self.socket.recv(65_536)
        self.data = self.data.partition(b"\r\n\r\n")[2]
        self.socket.sendall(frame({"type": "hello", **hello}))
        while b'"welcome"' not in self.next():
            pass

    def whole(self) -> bytes | None:
        """The next frame, if it is here."""
        data = self.data
        if len(data) < 2:
            return None
        size, start = data[1], 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            start += wide
            if len(data) < start:
                return None
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            return None
        self.data = data[start + size :]
        return data[start : start + size]

    def next(self) -> bytes:
        while (found := self.whole()) is None:
            self.read()
        return found

    def read(self) -> None:
        more = self.socket.recv(262_144)
        if not more:
            sys.exit("the server closed a connection")
        self.data += more


def send(port: int, token: str, sockets: int, per_frame: int, seconds: float) -> None:
    selector = selectors.DefaultSelector()
    sent = frame({"type": "send", "id": "f", "messages": [MESSAGE] * per_frame})
    for number in range(sockets):
        bus = Bus(port, token, role="orchestrator", componentId=f"load-{number}", agentId=f"load-{number}")
        selector.register(bus.socket, selectors.EVENT_READ, bus)
        bus.socket.sendall(sent)
    done = 0
    start, busy = perf_counter(), process_time()
    while perf_counter() < start + seconds:
        for key, _ in selector.select(1.0):
            bus = key.data
            bus.read()
            while (text := bus.whole()) is not None:
                if text.startswith(b'{"type":"result"'):
                    if b'"ok":false' in text:
                        sys.exit(text.decode())
                    done += per_frame
                    bus.socket.sendall(sent)
    elapsed = perf_counter() - start
    print(done / elapsed, (process_time() - busy) / elapsed)


def stream(port: int, token: str) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", port))
    opened.sendall(
        b"GET /api/events?types=message.new HTTP/1.0\r\nhost: localhost\r\nx-agent-relay-token: %s\r\n\r\n"
        % token.encode()
    )
    data = b""
    while b": relay" not in data:
        data += opened.recv(65_536)
    return opened


def latency(port: int, token: str, how: str, count: int) -> None:
    sender = Bus(port, token, role="orchestrator", componentId="sender", agentId="sender")
    told = stream(port, token) if how == "sse" else Bus(port, token, role="dashboard", componentId="told")
    found = []
    for number in range(count):
        mark = b"mark-%d-" % number
        begin = perf_counter()
        sender.socket.sendall(
            frame({"type": "send", "id": "f", "messages": [{**MESSAGE, "body": mark.decode()}]})
        )
        data = b""
        while mark not in data:
            data = data[-64:] + told.recv(65_536) if isinstance(told, socket.socket) else told.next()
        found.append(perf_counter() - begin)
        while not sender.next().startswith(b'{"type":"result"'):
            pass
    print(*found)


def fan_out(port: int, token: str, listeners: int, messages: int) -> None:
    selector = selectors.DefaultSelector()
    for _ in range(listeners):
        opened = stream(port, token)
        opened.setblocking(False)
        selector.register(opened, selectors.EVENT_READ, [b""])
    sender = Bus(port, token, role="orchestrator", componentId="sender", agentId="sender")
    heard = 0
    begin = perf_counter()
    for number in range(messages // 50):
        sender.socket.sendall(frame({"type": "send", "id": str(number), "messages": [MESSAGE] * 50}))
    while heard < listeners * messages:
        for key, _ in selector.select(1.0):
            tail = key.data
            text = tail[0] + key.fileobj.recv(262_144)
            heard += len(re.findall(rb"\nevent: ", text))
            tail[0] = text[-7:] if not text.endswith(b"\nevent: ") else b""
    elapsed = perf_counter() - begin
    print(heard / elapsed, elapsed)


mode, port, token, *rest = sys.argv[1:]
if mode == "send":
    send(int(port), token, int(rest[0]), int(rest[1]), float(rest[2]))
elif mode == "latency":
    latency(int(port), token, rest[0], int(rest[1]))
else:
    fan_out(int(port), token, int(rest[0]), int(rest[1]))
