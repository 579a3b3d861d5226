"""What a person is told when what answers is in trouble, or is not relay."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import invoke


@contextlib.contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """A server that gives one answer to every request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


PAGE = b"<!DOCTYPE html><html><body>Sign in to Airport WiFi</body></html>"


def error(text: str) -> bytes:
    return json.dumps({"error": text}).encode()


@pytest.mark.parametrize(
    ("status", "body", "headers", "what", "then"),
    [
        (500, error("internal error"), {}, "relay failed inside", "look at the server's log"),
        (502, PAGE, {}, "relay failed inside", "look at the server's log"),
        (503, error("busy"), {"retry_after": "0"}, "has too much to do", "try again in 1 s"),
        (503, error("busy"), {}, "has too much to do", "try again in 1 s"),
        (504, error("late"), {"retry_after": "2"}, "has too much to do", "try again in 2 s"),
        (200, PAGE, {}, "something else answers", "--url"),
        (404, PAGE, {}, "something else answers", "--url"),
        (501, PAGE, {}, "something else answers", "--url"),
    ],
)
def test_trouble_is_told_as_what_it_is(
    nowhere: Path, status: int, body: bytes, headers: dict[str, str], what: str, then: str
) -> None:
    with answering(status, body, **headers) as url:
        said = invoke("agents", "--json", "--url", url)
    assert said.exit_code == 1
    told = json.loads(said.stderr)
    assert what in told["error"]
    assert url in told["error"]
    assert then in told["next"]
    assert "<!" not in told["error"]


def test_doctor_does_not_start_another_server_beside_one_that_failed(nowhere: Path) -> None:
    with answering(500, error("internal error")) as url:
        said = invoke("doctor", "--json", "--url", url)
    assert said.exit_code == 1
    (found,) = [line for line in json.loads(said.stdout) if line["check"] == "server"]
    assert "failed inside" in found["found"]
    assert found["next"] == "look at the server's log"
