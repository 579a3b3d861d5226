"""Bindings: where a channel leads. Their targets, their addresses, their rows."""

from __future__ import annotations

from relay import wire
from relay.store import Event, Store, Write

from ._addresses import is_agent_id
from ._errors import Invalid
from ._records import text_of

__all__ = ["address_of", "change", "delete", "insert", "list_bindings", "target_of"]

Type = wire.TargetType

LONGEST_ADDRESS = 240  # of a message


def list_bindings(store: Store, channel_id: str | None = None) -> list[wire.Binding]:
    """The oldest first; those of one channel, or all."""
    sql = "select record from channel_bindings where (?1 is null or channel_id = ?1) order by seq"
    return [wire.decode(wire.Binding, record) for (record,) in store.rows(sql, channel_id)]


def target_of(asked: wire.NewBinding) -> wire.BindingTarget:
    """The target that a new binding names, in one of three ways (CHN-6); raises `Invalid`."""
    target = asked.target
    if target is None and asked.target_type is not None:
        target = wire.BindingTarget(type=asked.target_type, id=asked.target_id)
    if target is None:
        raise Invalid("target: an address such as tag:t is required, or an object with type and id")
    if target.type is Type.BROADCAST:
        return wire.BindingTarget(type=Type.BROADCAST)
    if target.id is None:
        raise Invalid(f"target: a target of type {target.type} needs an id")
    if target.type is Type.AGENT and not is_agent_id(target.id):
        raise Invalid(f"target: {target.id} is no agent's id, but an address of another kind")
    if wire.length(target.address) > LONGEST_ADDRESS:
        raise Invalid(f"target: its address is longer than {LONGEST_ADDRESS} characters")
    return target


def address_of(binding: wire.Binding) -> str:
    """Where mail for this binding goes (8.2, CHN-9); raises `Invalid` if it cannot go anywhere now."""
    target = binding.target
    if target.type is Type.ORCHESTRATOR:
        raise Invalid(f"{binding.id} leads to {target.address}, and an orchestrator takes no messages")
    if target.type is Type.POOL:
        if binding.pool_agent_id is None:
            raise Invalid(f"{binding.id} leads to {target.address}, and no agent holds its slot")
        return binding.pool_agent_id
    return target.address


def insert(binding: wire.Binding, seq: int) -> Write:
    target = binding.target
    return Write(
        "insert into channel_bindings"
        " (id, seq, channel_id, target_type, target_id, mode, pool_agent_id, record, created_at)"
        " values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            binding.id,
            seq,
            binding.channel_id,
            target.type,
            target.id or "",
            binding.mode,
            binding.pool_agent_id,
            _record(binding),
            round((binding.created_at or 0.0) * 1000),
        ),
    )


def delete(binding: wire.Binding) -> Write:
    return Write("delete from channel_bindings where id = ?", (binding.id,), 1)


def change(binding: wire.Binding, made: wire.SlotChange) -> tuple[Write, Event]:
    """The slot of `binding`, as it is now, has changed so: the row, and what is announced."""
    write = Write(
        "update channel_bindings set pool_agent_id = ?, record = ? where id = ? and pool_agent_id is ?",
        (made.new_agent_id, _record(binding), binding.id, made.previous_agent_id),
        1,
    )
    return write, Event("pool.binding.changed", "server", binding.id, wire.to_json(made))


def _record(binding: wire.Binding) -> str:
    return text_of(wire.to_json(binding))
