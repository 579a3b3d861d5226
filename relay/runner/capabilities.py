"""What relay goes by when somebody wants to act on the agent (1.22)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["provider_capabilities"]


def provider_capabilities(able: Mapping[str, bool]) -> dict[str, Any]:
    """The runner starts and ends any agent; the rest is what the agent itself said that it can do (1.22-8)."""
    return {
        "lifecycle": {
            "managed": True,
            "semanticStatus": True,
            "reconnect": True,
            "restartHard": True,
            "shutdownHard": True,
        },
        "context": {
            "compact": able.get("compact", False),
            "clear": able.get("clear", False),
            "inject": True,
        },
        "liveSession": {"interrupt": able.get("interrupt", False)},
        "source": "runtime",
        "confidence": "reported",
    }
