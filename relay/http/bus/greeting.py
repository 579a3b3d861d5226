"""What a hello leads to: who the client is, its place in the log, and its agent's registration (BUS-2, BUS-6, BUS-8)."""

from typing import Any

from relay import wire
from relay.fleet import Fleet, Forbidden, agents, bus_sessions
from relay.http.auth import Principal
from relay.http.feed import Feed, Matcher, everything
from relay.http.reach import card, of_everybody, policy_named
from relay.wire import bus

from . import ends
from .deeds import Client
from .ends import Ended

__all__ = ["identified", "listening", "placed", "registered", "welcome"]


def identified(hello: bus.Hello, principal: Principal, fleet: Fleet, within: float) -> Client:
    """Who says hello. Raises what is wrong with the hello."""
    agent_id = hello.agent_id if hello.role.kind is not None else None
    if hello.role.kind is not None and agent_id is None:
        raise wire.Invalid([f"agentId: is required for a {hello.role}"])
    of_everybody(fleet.store, principal, agent_id, "agentId")
    if not principal.may("event:read") or not (agent_id is None or principal.may("agent:write")):
        raise Forbidden("forbidden")
    if agent_id is not None:
        card(principal, fleet.store, agent_id, policy_named(hello.meta))
    return Client(fleet, principal, hello.role, hello.component_id, agent_id, hello.instance_id, within)


async def placed(client: Client, hello: bus.Hello) -> tuple[int, bool]:
    """The event that the client goes on after, and whether it was told up to there before."""
    now = client.fleet.events.last_id
    after = await client.fleet.bus_sessions.ask(bus_sessions.Begin(client.place, hello.after, now))
    return (now, False) if after is None else (after, True)


async def registered(agent_id: str, client: Client, hello: bus.Hello) -> None:
    """Registers the agent. Raises `Ended` if somebody else has done so since: who registers last has the session, whoever
    hears first of having done so."""
    card = wire.RegisterAgent(
        id=agent_id,
        kind=hello.role.kind,
        status=hello.status,
        ready=hello.ready,
        label=hello.label,
        tags=hello.tags,
        capabilities=hello.capabilities,
        machine=hello.machine,
        instance_id=hello.instance_id,
        meta=hello.meta,
        provider_capabilities=hello.provider_capabilities,
    )
    await client.fleet.agents[agent_id].ask(agents.Register(card))
    now = agents.get_agent(client.fleet.store, agent_id)
    if hello.instance_id is not None and now.instance_id != hello.instance_id:
        raise Ended(ends.TAKEN_OVER)


def listening(client: Client, place: int) -> Feed:
    """What the client is told from there on (BUS-8)."""
    return Feed(client.fleet.events, _matcher(client, place), place)


def _matcher(client: Client, place: int) -> Matcher:
    if client.agent_id is None:
        return everything
    if client.role is bus.Role.ORCHESTRATOR:
        return client.fleet.orders(client.agent_id)
    return client.fleet.matcher(client.agent_id, place)


def welcome(client: Client, feed: Feed, *, resumed: bool, reset: bool) -> dict[str, Any]:
    """The frame that answers the hello."""
    members = {
        "type": "welcome",
        "protocol": bus.PROTOCOL,
        "sessionId": client.fleet.system.new_id("bus"),
        "agentId": client.agent_id,
        "lastEventId": feed.cursor,
        "heartbeatMs": round(bus.HEARTBEAT * 1000),
        "serverTime": round(client.fleet.system.wall() * 1000),
        "resumed": resumed,
        "reset": reset or None,
    }
    return {name: value for name, value in members.items() if value is not None}
