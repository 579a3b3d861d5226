"""Load on an HTTP server, from a process of its own: `python _edge_load.py PORT CONNECTIONS SECONDS < request`.

Sends the same request over keep-alive connections, the next one as soon as the answer to the last is there. Prints
answers per second, and the share of its own time that this took: at a share near 1 it measures itself. Anything but a
2xx answer, and a connection that the server closes, ends it with an error.
"""

import selectors
import socket
import sys
from time import perf_counter, process_time


def main(port: int, connections: int, seconds: float) -> None:
    request = sys.stdin.buffer.read()
    selector = selectors.DefaultSelector()
    received: dict[socket.socket, bytes] = {}
    for _ in range(connections):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(client, selectors.EVENT_READ, client)
        received[client] = b""
        client.sendall(request)
    answers = 0
    start, busy = perf_counter(), process_time()
    while perf_counter() < start + seconds:
        for key, _ in selector.select(1.0):
            client = key.data
            data = client.recv(65536)
            if not data:
                sys.exit("the server closed a connection")
            received[client] += data
            if is_whole(received[client]):
                answers += 1
                received[client] = b""
                client.sendall(request)
    elapsed = perf_counter() - start
    print(answers / elapsed, (process_time() - busy) / elapsed)


def is_whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    if not head.startswith(b"HTTP/1.1 2"):
        sys.exit(f"unexpected answer: {data!r}")
    return len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])


main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
