"""What an agent is started with, beside what is asked for: what its profile says, and how its provider is configured.

1. What is asked for wins over the profile, and the profile over the provider's usual approval mode. Tags and capabilities of
   the profile come on top; its arguments come before the others, for the last one counts.
2. A command says all of it but what may be a secret: the variables of provider and profile, and what the agent is told. The
   host fetches those when it starts the agent, with a token of its own (`fetched`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from relay import wire
from relay.store import Store

from ._config_rows import find_versions
from ._config_values import AGENT_PROFILE
from ._errors import Conflict, Invalid
from .providers import PROVIDERS, find_config, is_configured

__all__ = ["completed", "fetched", "managed", "outfitted"]

ANY = "any"
OWN = ("model", "effort", "prompt")
"""What counts as it is asked for, if it is."""
TOGETHER = ("tags", "capabilities", "provider_args")
MOST = 100  # elements of each of those (O-03)


def completed(store: Store, body: Any) -> Any:
    """The body of a spawn, with the provider of its profile if it names none."""
    if (
        not isinstance(body, dict)
        or body.get("provider") is not None
        or not isinstance(body.get("profile"), str)
    ):
        return body
    profile = _find(store, body["profile"].strip())
    known = profile is not None and profile.provider in set(wire.Provider)
    return {**body, "provider": profile.provider} if profile is not None and known else body


def outfitted(store: Store, asked: wire.SpawnAgent) -> wire.SpawnAgent:
    """With all that its profile says, and with an approval mode. Raises `Invalid`: the profile is not there, or is for
    another provider."""
    profile = _profile(store, asked.profile, asked.provider)
    mode = asked.approval_mode or _mode(store, asked.provider, profile)
    return attrs.evolve(asked, **_dressed(asked, profile), approval_mode=mode)


def managed(store: Store, policy: wire.SpawnPolicy) -> wire.SpawnPolicy:
    """As `outfitted`, of what a policy says; raises `Conflict`, as it is not the policy's words that are refused."""
    try:
        profile = _profile(store, policy.profile, policy.provider)
        mode = policy.permission_mode or _mode(store, policy.provider, profile)
        return attrs.evolve(policy, **_dressed(policy, profile), permission_mode=mode)
    except Invalid as error:
        raise Conflict(str(error)) from None


def fetched(store: Store, params: Mapping[str, Any]) -> dict[str, Any]:
    """What a host is given for a start with these params (`wire.RunnerGrant`). Raises `Conflict` when the profile has gone
    meanwhile."""
    name, provider = params.get("profile"), params.get("provider")
    entry = find_versions(store, AGENT_PROFILE, name).live if isinstance(name, str) and name else None
    if name and entry is None:
        raise Conflict(f"profile: there is none {name!r} any more")
    return {
        "provider_config": _configured(store, provider, params.get("providerConfig")),
        "agent_profile": entry.value if entry is not None else None,
    }


def _configured(store: Store, provider: object, asked: Any) -> dict[str, Any] | None:
    """The provider's configuration, with what the spawn says otherwise, member by member; None: only that counts."""
    if not isinstance(provider, str) or not is_configured(store, provider):
        return None
    config = wire.to_json(find_config(store, provider))
    own = {
        name: value for name, value in (asked if isinstance(asked, dict) else {}).items() if value is not None
    }
    for member in ("env", "headless"):
        if isinstance(own.get(member), dict):
            own[member] = {**config.get(member, {}), **own[member]}
    return {**config, **own}


def _find(store: Store, name: str) -> wire.AgentProfile | None:
    entry = find_versions(store, AGENT_PROFILE, name).live
    return wire.decode(wire.AgentProfile, entry.value) if entry is not None else None


def _profile(store: Store, name: str | None, provider: wire.Provider) -> wire.AgentProfile | None:
    if name is None:
        return None
    profile = _find(store, name)
    if profile is None:
        raise Invalid(f"profile: there is none {name!r}; relay profiles list shows those there are")
    if profile.provider not in (None, ANY, provider.value):
        raise Invalid(
            f"profile: {name!r} is for agents of {profile.provider}, and this is one of {provider.value}"
        )
    return profile


def _mode(store: Store, provider: wire.Provider, profile: wire.AgentProfile | None) -> wire.ApprovalMode:
    """Of who asks for none (runner-orchestrator 1.2.1)."""
    if profile is not None and profile.approval_mode is not None:
        return profile.approval_mode
    usual = find_config(store, provider.value).default_approval_mode if provider.value in PROVIDERS else None
    return wire.ApprovalMode(usual) if usual in set(wire.ApprovalMode) else wire.ApprovalMode.GUARDED


def _dressed(asked: wire.SpawnAgent | wire.SpawnPolicy, profile: wire.AgentProfile | None) -> dict[str, Any]:
    """The members that the profile has a say in."""
    if profile is None:
        return {}
    lists = {name: [*getattr(profile, name), *getattr(asked, name)] for name in TOGETHER}
    for name, both in lists.items():
        lists[name] = list(dict.fromkeys(both)) if name != "provider_args" else both
        if len(lists[name]) > MOST:
            raise Invalid(f"{name}: with those of profile {profile.name!r} there are more than {MOST}")
    own = {name: getattr(asked, name) for name in OWN}
    return {
        **lists,
        **{name: value if value is not None else getattr(profile, name) for name, value in own.items()},
    }
