"""Tokens: who may do what, to whom (messaging-control 18, agents-workspaces 15)."""

from typing import Any

import attrs

from . import _fields as f
from ._json import nested

__all__ = [
    "LONGEST_TOKEN",
    "Constraints",
    "ExchangeToken",
    "IssuedToken",
    "MintRunnerToken",
    "NewToken",
    "PresentToken",
    "RotatedKey",
    "RunnerGrant",
    "Token",
]

LONGEST_TOKEN = 8_192  # characters
MOST_SCOPES = 100
LONGEST_LIFE = 100 * 366 * 86_400  # seconds; no clock of a token goes further


@attrs.frozen(kw_only=True)
class Constraints:
    """Whom and what a token is for. A kind that is absent is not restricted; of one that is there, only what it names.

    `paths` are directories on hosts, with all that lies below them.
    """

    agents: list[str] | None = f.texts(default=None)
    orchestrators: list[str] | None = f.texts(default=None)
    policies: list[str] | None = f.texts(default=None)
    channels: list[str] | None = f.texts(default=None)
    targets: list[str] | None = f.texts(default=None)
    workspaces: list[str] | None = f.texts(default=None)
    paths: list[str] | None = f.texts(default=None)


KINDS = tuple(field.name for field in attrs.fields(Constraints))


def _strictly(value: Any, kind: type[Constraints]) -> Constraints:
    """A kind that is misspelt would be one that does not restrict."""
    if isinstance(value, dict) and (unknown := [str(name) for name in value if name not in KINDS]):
        raise ValueError(
            f"{', '.join(unknown)}: nothing that a token is restricted by; that is {', '.join(KINDS)}"
        )
    return nested(value, kind)


def _scope() -> Any:
    """A list of scopes; null counts as absent (TOK-3)."""
    read = f.texts(most=MOST_SCOPES).metadata["read"]
    return attrs.field(
        default=None, metadata={"read": lambda value: f.ABSENT if value is None else read(value)}
    )


@attrs.frozen(kw_only=True)
class NewToken:
    """`POST /api/tokens`. `scopes` counts where `scope` is absent. What is not given is the profile's, else the role's."""

    role: str = f.text(80, required=True)
    sub: str | None = f.text(160)
    scope: list[str] | None = _scope()
    scopes: list[str] | None = _scope()
    created_by: str | None = f.text(120)
    ttl_seconds: int | None = f.integer(1, LONGEST_LIFE)
    profile_id: str | None = f.text(80)
    constraints: Constraints | None = f.item(Constraints, _strictly)

    @property
    def asked(self) -> list[str] | None:
        """The scopes, if any were named."""
        return self.scopes if self.scope is None else self.scope


@attrs.frozen(kw_only=True)
class Token:
    """The record of a token (TOK-8): all but its text. `expires_at` is in seconds, as in the token, and so is
    `renewable_until`, which no successor outlives. `family` is the `jti` of the first of those that replaced each other."""

    jti: str = f.text(240, required=True)
    family: str = f.text(240, required=True)
    sub: str = f.text(240, required=True)
    role: str = f.text(80, required=True)
    scope: list[str] = f.texts(most=MOST_SCOPES)
    profile_id: str | None = f.text(80)
    constraints: Constraints | None = f.item(Constraints, nested)
    created_at: f.Instant | None = f.instant()
    created_by: str | None = f.text(240)
    expires_at: int | None = f.integer(0)
    revoked_at: f.Instant | None = f.instant()
    replaced_by: str | None = f.text(240)
    renewable_until: int | None = f.integer(0)


@attrs.frozen(kw_only=True)
class IssuedToken:
    """A new token: its text, which is told this once, and its record."""

    token: str = f.text(LONGEST_TOKEN, required=True)
    record: Token = f.item(Token, nested, required=True)


@attrs.frozen(kw_only=True)
class RunnerGrant(IssuedToken):
    """What a host is given for one start beside what the command says, for no command holds a secret: the token of the runner,
    how the provider's program is started, and the profile, each where there is one."""

    provider_config: dict[str, Any] | None = f.document(default=None)
    agent_profile: dict[str, Any] | None = f.document(default=None)


@attrs.frozen(kw_only=True)
class PresentToken:
    """`POST /api/orchestrators/:id/runner-token`: the token that is to be replaced. `lost`: it was before, and the host
    vouches that its runner has never had the answer."""

    token: str = f.text(LONGEST_TOKEN, required=True)
    lost: bool | None = f.boolean()


@attrs.frozen(kw_only=True)
class MintRunnerToken:
    """`POST /api/commands/:id/runner-token`: for the agent that the host is about to start."""

    agent_id: str = f.text(240, required=True)


@attrs.frozen(kw_only=True)
class ExchangeToken:
    """`POST /api/runtime-tokens/interactive-runner`: for the agent that a person runs at a terminal."""

    agent_id: str = f.text(240, required=True)
    orchestrator_id: str | None = f.text(120)
    policy_name: str | None = f.text(120)


@attrs.frozen(kw_only=True)
class RotatedKey:
    """`POST /api/tokens/rotate-key`: which key signs from now on, and until when the others still verify."""

    kid: str = f.text(80, required=True)
    retires: dict[str, int] = f.document()
