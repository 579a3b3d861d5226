"""An agent: any program that speaks JSON lines on stdin and stdout. This one commits what it is told to write.

Relay starts it in a worktree of its own; README.md shows how.
"""

import json
import subprocess
import sys
from pathlib import Path


def say(kind: str, **fields: object) -> None:
    print(json.dumps({"type": kind, **fields}), flush=True)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def work(text: str) -> str:
    with Path("NOTES.md").open("a") as notes:
        notes.write(f"- {text}\n")
    git("add", "NOTES.md")
    git("commit", "-q", "-m", f"Note: {text}")
    return f"noted in commit {git('rev-parse', '--short', 'HEAD')}"


for line in sys.stdin:
    frame = json.loads(line)
    match frame["type"]:
        case "hello":
            say("ready")
        case "messages":
            say("turn", state="start")
            for message in frame["messages"]:
                say("reply", replyTo=message["id"], body=work(message["body"]))
            say("turn", state="end")  # tasks that they hand over are done
            say("ack", id=frame["id"])  # until then they are delivered again if this process dies
        case "ping":
            say("pong", id=frame["id"])
        case "shutdown":
            break
