"""The simulations find what they are for: with one guard of relay's taken away, each of them fails.

A mutation changes one method for the time of a test. It must be found within the runs that the simulation has anyway.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from relay.actors import ActorStopped, System, _cell, _handling
from relay.actors._cell import Cell
from relay.actors._duties import Duties
from relay.actors._family import Family
from relay.actors._mailbox import Mailbox
from relay.actors._orders import Order
from relay.actors._ref import Ref
from relay.actors._reply import Reply
from relay.actors._scheduler import Scheduler
from relay.actors._supervisor import Group
from relay.fleet import (
    _automation_deeds,
    _automation_rows,
    _automation_rules,
    _delivery_rows,
    _pair_rules,
    _queue,
    _recipe_work,
    _task_book,
    _task_rules,
    _upgrade_chain,
    _upgrades,
    agents,
    automations,
    callbacks,
    channels,
    commands,
    deliveries,
    merges,
    messages,
    pairs,
    policies,
    recipes,
    tasks,
    tokens,
)
from relay.fleet._absence import Absence, Missed
from relay.fleet._agent_rules import STALE_AFTER
from relay.fleet._claims import Claims
from relay.fleet._contact import Contact
from relay.fleet._delivery_queue import Queue
from relay.fleet._delivery_terms import Terms
from relay.fleet._policy_orders import Standing
from relay.fleet._recipe_attendance import Attendance
from relay.fleet._task_book import TaskBook
from relay.fleet._task_draft import Draft
from relay.fleet.bus_sessions import BusSessions
from relay.fleet.integrations import Integrations
from relay.fleet.tasks import Compare, Tasks
from relay.fleet.tokens import Authority, Revocations
from relay.fleet.triggers import Triggers
from relay.http.verifying import Verifier
from relay.orchestrator.slots import Fence, Slots
from relay.store import Decision, Event, Write, chain
from relay.store.durable import Durable, _leave
from relay.store.sqlite import SQLiteStore
from relay.testing import _explore
from relay.wire import (
    AgentStatus,
    CommandStatus,
    DeliveryStatus,
    PairStatus,
    PolicyStatus,
    Rung,
    UpgradeStatus,
)

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "fleet")]

import test_lifetimes as lifetimes  # noqa: E402
import test_runtime as runtime  # noqa: E402
import test_simulated_automations as clockwork  # noqa: E402
import test_simulated_bus as places  # noqa: E402
import test_simulated_callbacks as outbox  # noqa: E402
import test_simulated_channels as switching  # noqa: E402
import test_simulated_command_hooks as hooks  # noqa: E402
import test_simulated_commands as settlement  # noqa: E402
import test_simulated_deliveries as ladder  # noqa: E402
import test_simulated_jobs as keepers  # noqa: E402
import test_simulated_maintenance as upkeep  # noqa: E402
import test_simulated_merges as leases  # noqa: E402
import test_simulated_pairs as two  # noqa: E402
import test_simulated_policies as slots  # noqa: E402
import test_simulated_post as post  # noqa: E402
import test_simulated_queue as policy_queue  # noqa: E402
import test_simulated_recipes as once  # noqa: E402
import test_simulated_tasks as work  # noqa: E402
import test_simulated_tokens as access  # noqa: E402
import test_simulated_upgrades as versions  # noqa: E402

Patch = Callable[[Any, str, Callable[..., Any]], None]


def hand_out_the_newest_first(patch: Patch) -> None:
    def tell(tell: Any, self: Any, message: Any) -> None:
        tell(self, message)
        queue = self._cell.queue
        if queue and len(queue) == 3:
            queue.rotate(1)

    patch(Ref, "tell", tell)


def put_what_was_put_aside_behind_the_rest(patch: Patch) -> None:
    def unstash(unstash: Any, self: Any) -> None:
        before = list(self.queue or ())
        unstash(self)
        if before:
            self.queue.rotate(-(len(self.queue) - len(before)))

    patch(Mailbox, "unstash", unstash)


def hand_out_another_while_one_is_in_hand(patch: Patch) -> None:
    def start_burst(start_burst: Any, self: Any, cell: Any, first: Any) -> None:
        start_burst(self, cell, first)
        cell.occupied = False

    patch(Scheduler, "_start_burst", start_burst)


def lose_the_queue_in_a_crash(patch: Patch) -> None:
    def ended(ended: Any, self: Any, error: BaseException | None) -> None:
        if error is not None and self.queue:
            self.queue.clear()
        ended(self, error)

    patch(Cell, "_ended", ended)


def handle_again_what_failed(patch: Patch) -> None:
    handled: dict[Any, list[object]] = {}

    def crash(crash: Any, self: Any, error: BaseException) -> None:
        before = handled.setdefault(self, [])
        if isinstance(error, ValueError) and self.context._message not in before:
            before.append(self.context._message)
            slot, self.context._slot = self.context._slot, None
            self.accept(self.context._message if slot is None else slot)
        crash(self, error)

    patch(Cell, "crash", crash)


def leave_askers_without_an_answer(patch: Patch) -> None:
    patch(Duties, "fail", lambda fail, self, kind, cause: self.disarm())


def leave_askers_of_one_that_stops(patch: Patch) -> None:
    def discard(discard: Any, self: Any, error: BaseException | None) -> None:
        self.unstash()
        for entry in self.queue or ():
            self.system.fates.undelivered += isinstance(entry, Reply)
        self.queue = [entry for entry in self.queue or () if not isinstance(entry, Reply)]
        discard(self, error)

    patch(Mailbox, "discard", discard)


def leave_askers_of_who_was_cut_short(patch: Patch) -> None:
    def break_off(break_off: Any, cell: Any, answer: BaseException) -> None:
        if not isinstance(answer, ActorStopped):
            break_off(cell, answer)

    patch(_cell, "break_off", break_off)


def let_async_handlers_forget_to_answer(patch: Patch) -> None:
    async def finished(finished: Any, self: Any, cell: Any, coroutine: Any) -> Any:
        slot, cell.context._slot = cell.context._slot, None

        async def handle() -> None:
            cell.context._slot = slot
            await coroutine

        return await finished(self, cell, handle())

    patch(Scheduler, "_finished", finished)


def handle_what_nobody_waits_for(patch: Patch) -> None:
    patch(Mailbox, "dropped", lambda dropped, self, reply: not reply.done and dropped(self, reply))


def wait_in_circles(patch: Patch) -> None:
    patch(_handling, "_path", lambda path, *given: None)


def go_on_while_children_end(patch: Patch) -> None:
    async def gone(gone: Any, self: Any) -> None:
        if self.parent is None or self.group is not None:
            await gone(self)

    patch(Cell, "gone", gone)


def go_on_while_tasks_end(patch: Patch) -> None:
    async def close(close: Any, self: Any) -> None:
        if self._background is not None:
            self._background._scope.cancel()

    patch(Duties, "close", close)


def fall_asleep_over_what_is_left_to_do(patch: Patch) -> None:
    patch(Cell, "quiet", lambda quiet, self: not self.occupied)


def tell_of_a_sleep_as_of_a_stop(patch: Patch) -> None:
    def forget(forget: Any, self: Any, cell: Any) -> None:
        forget(self, cell)
        self.watches.tell(cell)

    patch(System, "forget", forget)


def forget_what_was_stashed(patch: Patch) -> None:
    def start(start: Any, self: Any) -> None:
        self.stashed = None
        start(self)

    patch(Cell, "start", start)


def activate_a_key_that_is_falling_asleep(patch: Patch) -> None:
    def look_up(look_up: Any, self: Any, key: object) -> Any:
        if key in self._cells and self._cells[key].passive:
            self._names.pop(self._cells.pop(key).name)
        return look_up(self, key)

    def forget(forget: Any, self: Any, cell: Any) -> None:
        if self._cells.get(cell.key) is cell:
            forget(self, cell)

    patch(Family, "__getitem__", look_up)
    patch(Family, "forget", forget)


def fall_asleep_over_a_message(patch: Patch) -> None:
    def ended(ended: Any, self: Any, error: BaseException | None) -> None:
        if self.passive:
            self.queue = None
        ended(self, error)

    patch(Cell, "_ended", ended)


def skip_the_last_hook(patch: Patch) -> None:
    patch(Cell, "call_stopped", lambda hook, self: None)


def restart_only_who_failed(patch: Patch) -> None:
    """And leave the rest of the group ended."""
    patch(Group, "_start", lambda start, self, cells: start(self, cells[:1]))


def start_again_beside_one_that_ends(patch: Patch) -> None:
    async def decided(decided: Any, self: Any, before: Any = None) -> None:
        if before is None:
            await decided(self)

    patch(Group, "_decided", decided)


def hand_out_what_was_withdrawn(patch: Patch) -> None:
    patch(Order, "take", lambda take, self: take(self) or True)


def start_a_group_in_reverse(patch: Patch) -> None:
    patch(Group, "_start", lambda start, self, cells: start(self, cells[::-1]))


def grant_a_lease_that_is_held(patch: Patch) -> None:
    def handle(handle: Any, self: Any, message: Any, context: Any) -> None:
        if isinstance(message, merges.Acquire):
            self._until = 0.0
        handle(self, message, context)

    patch(merges.MergeLease, "handle", handle)


def give_a_token_again(patch: Patch) -> None:
    patch(merges, "grant", lambda grant, repo, token, asked, moment: grant(repo, 1, asked, moment))


def land_without_a_fence(patch: Patch) -> None:
    def land(land: Any, self: Any, token: int) -> bool:
        self.landed.append(token)
        return True

    patch(leases.Repository, "land", land)


def never_end_a_lease(patch: Patch) -> None:
    patch(merges.MergeLease, "_free", lambda free, self, message, *rest, **more: self.settle(
        message, Decision(reply=False), rest[-1]))  # fmt: skip


def send_again_what_was_sent(patch: Patch) -> None:
    def compose(compose: Any, self: Any, asked: Any, moment: Any, **options: Any) -> Any:
        return compose(self, attrs.evolve(asked, idempotency_key=None), moment, **options)

    patch(messages.PostOffice, "compose", compose)


def let_two_claim(patch: Patch) -> None:
    patch(Claims, "of", lambda of, self, number: None)


def forget_claims_in_a_crash(patch: Patch) -> None:
    patch(Claims, "_read", lambda read, self, *given: {})


def claim_a_message_without_its_task(patch: Patch) -> None:
    patch(Tasks, "claim_with", lambda claim_with, self, message, agent_id: None)


def claim_a_task_without_its_message(patch: Patch) -> None:
    patch(Draft, "_own_message", lambda own, self, task: set())


def claim_a_task_that_is_held(patch: Patch) -> None:
    patch(_task_rules, "holder", lambda holder, task, now: None)


def forget_what_was_decided_on_tasks(patch: Patch) -> None:
    """Until it is durable."""
    patch(TaskBook, "find", lambda find, self, number: _task_book.find_task(self._store, number))


def keep_the_message_of_a_task_that_is_free(patch: Patch) -> None:
    patch(Draft, "_free", lambda free, self, task: None)


def open_what_is_held(patch: Patch) -> None:
    patch(_task_rules, "over", lambda over, task, now: over(task, now + 300))


def open_what_its_former_holder_is_back_for(patch: Patch) -> None:
    patch(_task_rules, "given_up", lambda given_up, task, now, *, back: given_up(task, now, back=False))


def answer_before_the_commit(patch: Patch) -> None:
    def settle(settle: Any, self: Any, message: Any, decision: Any, context: Any) -> None:
        _leave(decision, context._slot, context)
        settle(self, message, decision, context)

    patch(Durable, "settle", settle)


def go_on_after_a_failed_commit(patch: Patch) -> None:
    def settle(settle: Any, self: Any, message: Any, decision: Any, context: Any) -> None:
        slot = context.detach(message)

        def done(error: BaseException | None) -> None:
            self._landed()
            _leave(decision, slot, context)

        self._stage(decision, done)

    patch(messages.PostOffice, "settle", settle)


def link_by_any_request(patch: Patch) -> None:
    def linked(linked: Any, state: Any, link: Any, moment: Any) -> Any:
        return (
            linked(state, attrs.evolve(link, spawn_request_id=state.spawn_request_id), moment)
            if state
            else None
        )

    patch(policies, "linked", linked)


def link_what_is_being_stopped(patch: Patch) -> None:
    def linked(linked: Any, state: Any, link: Any, moment: Any) -> Any:
        return linked(attrs.evolve(state, status=PolicyStatus.STARTING) if state else None, link, moment)

    patch(policies, "linked", linked)


def start_what_is_over(patch: Patch) -> None:
    def write(before: Any, self: Any, slot: Any, request: Any) -> None:
        self._fences.write(slot.policy, Fence(slot.epoch or 0, request))

    patch(Slots, "_raise", write)


def start_without_a_last_look(patch: Patch) -> None:
    patch(Slots, "check", lambda check, self, slot: None)


def start_beside_the_one_before(patch: Patch) -> None:
    async def clear(clear: Any, self: Any, slot: Any, *given: Any, **more: Any) -> None:
        if more:
            await clear(self, slot, *given, **more)

    patch(Slots, "clear", clear)
    patch(
        Slots, "_others", lambda others, self, policy, request: [] if request else others(self, policy, None)
    )


def start_elsewhere_at_once(patch: Patch) -> None:
    patch(Standing, "_elsewhere", lambda elsewhere, self, policy: None)


def forget_where_it_was_restarted(patch: Patch) -> None:
    def restart(restart: Any, self: Any, reason: str) -> Any:
        order = restart(self, reason)
        before = self.state.orchestrator_id if self.state else order.state.orchestrator_id
        return attrs.evolve(order, state=attrs.evolve(order.state, orchestrator_id=before))

    patch(Standing, "restart", restart)


def overtake_what_waits(patch: Patch) -> None:
    def route(route: Any, self: Any, address: str, *given: Any) -> Any:
        agent_id = self._served_by(address.removeprefix("policy:"))
        return route(self, address, *given) if agent_id is None else _queue.Routed(False, agent_id)

    patch(_queue.PolicyQueue, "route", route)


def let_out_what_is_out(patch: Patch) -> None:
    """Neither what was decided a moment ago nor the fence of the row stands in the way."""

    def leave(leave: Any, self: Any, number: int) -> None:
        known = self._recent.find(number)
        if known is None or known.delivery_status is not DeliveryStatus.AVAILABLE:
            leave(self, number)

    patch(_queue.PolicyQueue, "leave", leave)
    patch(
        _queue,
        "Write",
        lambda write, sql, params, rows=None: write(sql.replace(f"{_queue.IS_QUEUED} and", ""), params),
    )


def expire_too_early(patch: Patch) -> None:
    def expire(expire: Any, self: Any, moment: Any, now: int, missed: int) -> Any:
        return expire(self, attrs.evolve(moment, at=moment.at + 4), now + 4_000, missed)

    patch(_queue.PolicyQueue, "expire", expire)


def release_the_newest_first(patch: Patch) -> None:
    patch(_queue.PolicyQueue, "_waiting", lambda waiting, self, *given: waiting(self, *given)[::-1])


def forget_what_waits_in_a_crash(patch: Patch) -> None:
    def waiting(waiting: Any, self: Any, *given: Any) -> list[int]:
        return [number for number in waiting(self, *given) if number in dict(self._moved)]

    patch(_queue.PolicyQueue, "_waiting", waiting)


def release_at_registrations_only(patch: Patch) -> None:
    patch(messages.PostOffice, "_resume", lambda resume, self, policies, context: None)


def take_reports_of_everybody(patch: Patch) -> None:
    def handle(handle: Any, self: Any, message: Any, context: Any) -> Any:
        if isinstance(message, commands.Patch) and self.record is not None:
            message_ = attrs.evolve(message.change, token=self.record.claim_token)
            object.__setattr__(message, "change", message_)
        return handle(self, message, context)

    patch(commands.Command, "handle", handle)


def end_again_what_has_ended(patch: Patch) -> None:
    """Neither the table of moves nor the fence of the row stands in the way."""

    def reopened(record: Any) -> Any:
        return attrs.evolve(record, status=CommandStatus.RUNNING) if record.status.final else record

    def move(move: Any, self: Any, *given: Any) -> Any:
        self.record = reopened(self.record)
        return move(self, *given)

    def moved(moved: Any, *given: Any) -> Any:
        decision = moved(*given)
        write = decision.writes[0]
        row = Write(write.sql.removesuffix(" and status = ?"), write.params[:-1])
        return attrs.evolve(decision, writes=(row, *decision.writes[1:]))

    patch(commands, "moved_by", lambda moved_by, record, change: moved_by(reopened(record), change))
    patch(commands, "moved", moved)
    patch(commands.Command, "_move", move)


def conclude_whatever_has_ended(patch: Patch) -> None:
    def conclude(conclude: Any, self: Any, message: Any, context: Any) -> Any:
        if self.record.status.final:
            self.record = attrs.evolve(self.record, status=CommandStatus.RUNNING)
        return conclude(self, message, context)

    def moved(moved: Any, *given: Any) -> Any:
        decision = moved(*given)
        write = decision.writes[0]
        row = Write(write.sql.removesuffix(" and status = ?"), write.params[:-1])
        return attrs.evolve(decision, writes=(row, *decision.writes[1:]))

    patch(commands.Command, "_conclude", conclude)
    patch(commands, "moved", moved)


def know_what_nobody_has_said(patch: Patch) -> None:
    patch(commands, "timing", lambda timing, *given: attrs.evolve(timing(*given), outcome_unknown=None))


def leave_recipes_to_find_out(patch: Patch) -> None:
    patch(commands, "others_to_tell", lambda others_to_tell, after: False)


def claim_what_is_claimed(patch: Patch) -> None:
    def claim(claim: Any, self: Any, message: Any, claimant: str, context: Any) -> Any:
        if not self._known().status.final:
            self.record = attrs.evolve(self.record, claimant=claimant)
        return claim(self, message, claimant, context)

    patch(commands.Command, "_claim", claim)


def call_back_the_newest_first(patch: Patch) -> None:
    def row(row: Any, self: Any, sql: str, *params: Any) -> Any:
        return row(self, sql.replace("order by id limit 1", "order by id desc limit 1"), *params)

    patch(SQLiteStore, "row", row)


def call_back_while_a_call_is_under_way(patch: Patch) -> None:
    def begin(begin: Any, self: Any, context: Any) -> None:
        before, self._calling = self._calling, {}
        begin(self, context)
        self._calling = before | self._calling

    patch(callbacks.Callbacks, "_begin", begin)


def give_up_after_a_restart(patch: Patch) -> None:
    def started(started: Any, self: Any, context: Any) -> Any:
        for due in self._first_of(self._waiting()):
            if due.attempt:
                self.store.stage(
                    [callbacks._give_up(due.integration, 0, "", None, self.moment())], (), self._owner, print
                )
        return started(self, context)

    patch(callbacks.Callbacks, "started", started)


def begin_a_window_with_a_refusal(patch: Patch) -> None:
    def admit(admit: Any, self: Any, name: str, now: float) -> Any:
        wait = admit(self, name, now)
        if wait:
            self._windows[name].began = now
        return wait

    patch(Integrations, "admit", admit)


def begin_a_window_when_the_file_is_read(patch: Patch) -> None:
    def replace(replace: Any, self: Any, configured: Any) -> None:
        replace(self, configured)
        self._windows.clear()

    patch(Integrations, "replace", replace)


def let_all_integrations_share_a_window(patch: Patch) -> None:
    patch(Integrations, "admit", lambda admit, self, name, now: admit(self, "all", now))


def hear_of_no_agent(patch: Patch) -> None:
    patch(channels, "concerns", lambda concerns, *given: False)


def fill_each_slot_by_itself(patch: Patch) -> None:
    def alone(evaluate: Any, slots: Any, *given: Any) -> Any:
        return [change for slot in slots for change in evaluate([slot], *given)]

    patch(channels, "evaluate", alone)


def keep_whoever_has_a_slot(patch: Patch) -> None:
    def evaluate(evaluate: Any, *given: Any) -> Any:
        return [change for change in evaluate(*given) if change.previous_agent_id is None]

    patch(channels, "evaluate", evaluate)


def move_a_slot_without_a_word(patch: Patch) -> None:
    def change(change: Any, *given: Any) -> Any:
        row, _ = change(*given)
        return row, Event("pool.binding.seen", "server", None, {})

    patch(channels, "change", change)


def take_every_event_for_a_new_one(patch: Patch) -> None:
    patch(channels, "scoped", lambda scoped, key, binding: None)


def reach_those_who_can_be_reached(patch: Patch) -> None:
    """Hazard H-04: an empty slot keeps only its own message from being stored."""

    def reachable(letter: Any) -> bool:
        return not letter.to.startswith("pool:")

    patch(channels, "address_of", lambda address_of, each: each.pool_agent_id or each.target.address)
    patch(
        channels, "SendMany", lambda batch, letters, **more: batch(tuple(filter(reachable, letters)), **more)
    )


def store_an_event_piece_by_piece(patch: Patch) -> None:
    def send_many(send_many: Any, self: Any, message: Any, context: Any) -> None:
        for asked in message.messages[1:]:
            alone = self.compose(asked, self.moment(), even_offline=True, audited=False)
            self.settle(Compare(), alone, context)
        send_many(self, message, context)

    patch(messages.PostOffice, "_send_many", send_many)


def lose_whoever_is_quiet(patch: Patch) -> None:
    patch(Contact, "silent", lambda silent, self, limit: silent(self, min(limit, STALE_AFTER)))


def report_who_was_not_lost(patch: Patch) -> None:
    def reap(reap: Any, self: Any, message: Any, context: Any) -> None:
        if self.card is not None and self.card.status is AgentStatus.STALE:
            self.settle(message, Decision(reply=True), context)
        else:
            reap(self, message, context)

    patch(agents.Agent, "_reap", reap)


def take_the_wall_clock_at_its_word(patch: Patch) -> None:
    patch(Absence, "owed", lambda owed, self, step: Missed())


def trust_the_wall_clock_with_the_audit(patch: Patch) -> None:
    patch(Absence, "leapt", lambda leapt, self: 0.0)


def forget_the_anchor(patch: Patch) -> None:
    def trim(trim: Any, *given: Any) -> Any:
        cut = trim(*given)
        return cut and attrs.evolve(cut, writes=cut.writes[1:])

    patch(chain, "trim", trim)


def keep_the_links_of_what_went(patch: Patch) -> None:
    def trim(trim: Any, *given: Any) -> Any:
        cut = trim(*given)
        return cut and attrs.evolve(cut, writes=cut.writes[:2])

    patch(chain, "trim", trim)


def end_commands_by_the_wall_clock(patch: Patch) -> None:
    patch(commands.Command, "_prolonged", lambda prolonged, self, *given: setattr(self, "_ends", 0.0))


def hand_over_what_somebody_holds(patch: Patch) -> None:
    patch(Queue, "due", lambda due, self, card, handed, limit, **more: due(self, card, {}, limit, **more))
    patch(deliveries, "taken", lambda taken, row, *rest: taken(attrs.evolve(row, rung=Rung.ROUTED), *rest))


def give_a_hand_over_the_token_of_another(patch: Patch) -> None:
    def taken(taken: Any, row: Any, *rest: Any) -> Any:
        return attrs.evolve(taken(row, *rest), token=row.token or 1)

    patch(deliveries, "taken", taken)


def settle_with_a_stale_token(patch: Patch) -> None:
    def judged(judged: Any, row: Any, ack: Any) -> Any:
        return judged(row, ack if row is None else attrs.evolve(ack, token=row.token))

    patch(deliveries, "judged", judged)


def leave_with_a_former_session_what_it_had(patch: Patch) -> None:
    patch(deliveries, "replaced", lambda replaced, row, instance: False)
    patch(_delivery_rows, "overdue", lambda overdue, row, card: "busy")


def hold_silence_against_the_message(patch: Patch) -> None:
    patch(_delivery_rows, "overdue", lambda overdue, row, card: "spent")


def confirm_without_a_read_mark(patch: Patch) -> None:
    patch(messages.PostOffice, "_mark_all", lambda mark, self, message, context: self.settle(
        message, Decision(reply=None), context))  # fmt: skip


def believe_that_every_hand_over_arrives(patch: Patch) -> None:
    """And never look at those that nobody settles."""

    async def put_back(put_back: Any, self: Any, asked: Any, context: Any) -> None:
        pass

    patch(deliveries.Deliveries, "_put_back", put_back)
    patch(Terms, "watch", lambda watch, self, context: None)


def answer_what_was_answered(patch: Patch) -> None:
    """Neither the table of moves nor the fence of the row stands in the way."""

    def moved(moved: Any, pair: Any, event: str, *given: Any, **more: Any) -> Any:
        if event in ("accept", "reject"):
            pair = attrs.evolve(pair, status=PairStatus.PENDING)
        return moved(pair, event, *given, **more)

    def row_of(row_of: Any, *given: Any) -> Write:
        write = row_of(*given)
        sql = write.sql.replace("status = ?", "status <> ?").replace("set status <> ?", "set status = ?")
        return Write(sql, (*write.params[:-1], ""))

    patch(pairs, "moved", moved)
    patch(_pair_rules, "row_of", row_of)


def talk_in_every_pair(patch: Patch) -> None:
    async def say(say: Any, self: Any, *given: Any) -> None:
        pair = self.pair
        self.pair = attrs.evolve(pair, status=PairStatus.ACTIVE)
        try:
            await say(self, *given)
        finally:
            self.pair = pair

    patch(pairs.Pair, "_say", say)


def invite_once_more_after_a_crash(patch: Patch) -> None:
    patch(pairs, "invitation", lambda invitation, pair: attrs.evolve(invitation(pair), idempotency_key=None))


def invite_only_once(patch: Patch) -> None:
    """And not again what was lost on the way."""

    async def look(look: Any, self: Any, *given: Any) -> None:
        self.pair = attrs.evolve(self.pair, message_id=self.pair.message_id or 1)
        await look(self, *given)

    patch(pairs.Pair, "_look", look)


def stay_with_whom_is_gone(patch: Patch) -> None:
    patch(pairs.Pair, "_leave", lambda leave, self, *given: None)


def go_on_from_now(patch: Patch) -> None:
    patch(BusSessions, "_place", lambda place, self, component, now: None)


def go_on_after_what_was_only_told(patch: Patch) -> None:
    def place(place: Any, self: Any, component: str, now: int) -> Any:
        found = place(self, component, now)
        return None if found is None else self.fleet.events.last_id

    patch(BusSessions, "_place", place)


def go_back_for_nobody(patch: Patch) -> None:
    def note(note: Any, self: Any, component: str, place: int, context: Any) -> None:
        note(self, component, max(place, self._place(component, 0) or 0), context)

    patch(BusSessions, "_note", note)


def store_no_confirmation(patch: Patch) -> None:
    async def save(_: Any, self: Any, context: Any) -> None:
        self._unstored, self._saving = {}, False

    patch(BusSessions, "_save", save)


def remember_what_has_ended(patch: Patch) -> None:
    patch(Verifier, "forget", lambda forget, self, jtis: None)


def say_so_before_it_has_ended(patch: Patch) -> None:
    async def commit(commit: Any, self: Any, *given: Any) -> Any:
        self.fleet.revocations.tell(None)
        return await commit(self, *given)

    patch(Authority, "commit", commit)
    patch(Revocations, "tell", lambda tell, self, jtis: tell(self, jtis) if jtis is None else None)


def replace_what_has_ended(patch: Patch) -> None:
    patch(Authority, "_shown", lambda shown, self, jti, *more: tokens.get_token(self.store, jti))
    patch(tokens, "ended", lambda end, token, *more: attrs.evolve(end(token, *more), rows=None))


def keep_what_is_replaced(patch: Patch) -> None:
    async def put(put: Any, self: Any, token: Any, instead_of: Any, *more: Any) -> None:
        await put(self, token, (), *more)

    patch(Authority, "_put", put)


def begin_a_family_with_each(patch: Patch) -> None:
    patch(tokens, "renewed", lambda renewed, *given: _first(renewed(*given)))
    patch(tokens, "reminted", lambda reminted, *given: _first(reminted(*given)))


def _first(token: Any) -> Any:
    return attrs.evolve(token, family=token.jti)


def settle_an_upgrade_at_each_contact(patch: Patch) -> None:
    def again(host: Any) -> Any:
        if host.upgrade is None:
            return host
        return attrs.evolve(host, upgrade=attrs.evolve(host.upgrade, status=UpgradeStatus.PENDING))

    patch(_upgrades, "on_contact", lambda on_contact, host, age: on_contact(again(host), age))
    patch(_upgrades, "settle", lambda settle, host, *given: settle(again(host), *given))


def let_the_deadline_win(patch: Patch) -> None:
    def on_contact(on_contact: Any, host: Any, age: float) -> Any:
        ended = on_contact(host, age)
        late = ended is not None and age > 300
        return (
            _upgrades.Ended("missed", CommandStatus.FAILED, _upgrades.missed(host, host.upgrade))
            if late
            else ended
        )

    patch(_upgrades, "on_contact", on_contact)


def lose_patience_with_an_upgrade(patch: Patch) -> None:
    patch(_upgrades, "on_contact", lambda on_contact, host, age: on_contact(host, age + 200))


def leave_what_was_replaced(patch: Patch) -> None:
    patch(_upgrades, "superseded", lambda superseded, *given: [])


def take_any_command_for_that_of_the_upgrade(patch: Patch) -> None:
    def on_news(on_news: Any, host: Any, command_id: str, *given: Any) -> Any:
        known = host.upgrade.command_id if host is not None and host.upgrade is not None else command_id
        return on_news(host, known, *given)

    patch(_upgrades, "on_news", on_news)


def leave_the_command_of_an_upgrade_open(patch: Patch) -> None:
    async def nothing() -> None: ...

    patch(_upgrade_chain, "_conclude", lambda conclude, *given: nothing())


def begin_again_under_another_key(patch: Patch) -> None:
    def message(message: Any, *given: Any) -> Any:
        return attrs.evolve(message(*given), idempotency_key=None)

    patch(_automation_deeds, "_message", message)


def leave_what_a_crash_has_left(patch: Patch) -> None:
    def going_on(going_on: Any, *given: Any) -> Any:
        return [(run, action) for run, action in going_on(*given) if action is None]

    patch(automations, "going_on", going_on)


def plan_before_the_run_is_there(patch: Patch) -> None:
    async def begin_due(begin_due: Any, self: Any, row: Any, context: Any) -> None:
        at, now = row.record.next_run_at, self.fleet.system.wall()
        if at is None or not self._pace.is_due(at):
            return
        following = _automation_rules.following(row.record.schedule, at, now)
        planned = attrs.evolve(row, record=attrs.evolve(row.record, next_run_at=following))
        await self.commit(Decision(reply=None, writes=(automations.updated(planned),)), context)
        self.row = planned
        await self._begin(automations.Trigger.SCHEDULE, planned, context, due_at=at)

    patch(automations.Automation, "_begin_due", begin_due)


def forget_which_events_were_seen(patch: Patch) -> None:
    def columns(columns: Any, row: Any) -> Any:
        return columns(attrs.evolve(row, cursor=0))

    patch(_automation_rows, "_columns", columns)


def hear_of_events_from_now_on(patch: Patch) -> None:
    patch(Triggers, "_first", lambda first, self: self.store.events.last_id)


async def _nothing(*given: Any) -> None:
    """Is not done."""


def hear_of_no_end(patch: Patch) -> None:
    patch(Triggers, "_end", lambda end, *given: _nothing())


def give_out_a_step_as_another_one(patch: Patch) -> None:
    async def given(given: Any, fleet: Any, run: Any, step: Any) -> Any:
        other = attrs.evolve(step, attempt=fleet.system.random.randrange(10**9))
        return attrs.evolve(await given(fleet, run, other), attempt=step.attempt)

    patch(recipes, "given_out", given)


def say_it_again_when_in_doubt(patch: Patch) -> None:
    def letter_of(letter_of: Any, *given: Any) -> Any:
        return attrs.evolve(letter_of(*given), idempotency_key=None)

    patch(_recipe_work, "letter_of", letter_of)


def wait_only_for_others(patch: Patch) -> None:
    def expects(expects: Any, run: Any) -> bool:
        return bool(expects(run)) and not recipes.due(run)

    patch(recipes, "expects", expects)


def give_the_tasks_of_those_who_are_gone_to_others(patch: Patch) -> None:
    def release(release: Any, self: Any) -> Any:
        before = tasks.GIVEN_UP
        tasks.GIVEN_UP = before.replace(f"{tasks.NOT_A_STEP} and ", "")
        try:
            return release(self)
        finally:
            tasks.GIVEN_UP = before

    patch(_task_rules, "is_done_once", lambda is_done_once, task: False)
    patch(Tasks, "_release_orphaned", release)


def do_again_what_was_done_after_all(patch: Patch) -> None:
    async def done(done: Any, fleet: Any, number: int) -> bool:
        return False

    patch(_recipe_work, "was_done_after_all", done)


def begin_before_those_that_come_first(patch: Patch) -> None:
    def due(due: Any, run: Any) -> Any:
        return [step for step in run.steps if step.status == "waiting"] if run.status == "running" else []

    patch(recipes, "due", due)


def let_those_who_come_late_stay(patch: Patch) -> None:
    patch(recipes, "to_end", lambda to_end, *given: None)


def wait_in_silence(patch: Patch) -> None:
    patch(Attendance, "looked", lambda looked, self, run, moment: run)


@pytest.mark.parametrize(
    ("mutate", "simulation"),
    [
        (hand_out_the_newest_first, runtime.test_what_one_sender_tells_arrives_in_order),
        (put_what_was_put_aside_behind_the_rest, runtime.test_what_one_sender_tells_arrives_in_order),
        (hand_out_another_while_one_is_in_hand, runtime.test_every_message_meets_one_fate_and_every_asker_is_answered),
        (hand_out_another_while_one_is_in_hand, runtime.test_what_one_sender_tells_arrives_in_order),
        (lose_the_queue_in_a_crash, runtime.test_every_message_meets_one_fate_and_every_asker_is_answered),
        (handle_again_what_failed, runtime.test_every_message_meets_one_fate_and_every_asker_is_answered),
        (leave_askers_without_an_answer, runtime.test_every_message_meets_one_fate_and_every_asker_is_answered),
        (leave_askers_of_one_that_stops, runtime.test_every_message_meets_one_fate_and_every_asker_is_answered),
        (leave_askers_of_who_was_cut_short, runtime.test_every_message_meets_one_fate_and_every_asker_is_answered),
        (let_async_handlers_forget_to_answer, runtime.test_every_message_meets_one_fate_and_every_asker_is_answered),
        (handle_what_nobody_waits_for, runtime.test_every_message_meets_one_fate_and_every_asker_is_answered),
        (wait_in_circles, lifetimes.test_actors_that_ask_each_other_never_wait_for_ever),
        (go_on_while_children_end, lifetimes.test_an_incarnation_has_ended_as_a_whole_before_the_next_one_begins),
        (go_on_while_tasks_end, lifetimes.test_an_incarnation_has_ended_as_a_whole_before_the_next_one_begins),
        (fall_asleep_over_what_is_left_to_do,
         lifetimes.test_a_member_stays_awake_while_it_has_something_to_do_and_to_sleep_is_not_to_stop),
        (tell_of_a_sleep_as_of_a_stop,
         lifetimes.test_a_member_stays_awake_while_it_has_something_to_do_and_to_sleep_is_not_to_stop),
        (forget_what_was_stashed, runtime.test_every_message_meets_one_fate_and_every_asker_is_answered),
        (activate_a_key_that_is_falling_asleep,
         runtime.test_a_key_has_one_activation_at_a_time_and_nothing_sent_to_it_is_lost),
        (fall_asleep_over_a_message,
         runtime.test_a_key_has_one_activation_at_a_time_and_nothing_sent_to_it_is_lost),
        (skip_the_last_hook, runtime.test_every_message_meets_one_fate_and_every_asker_is_answered),
        (restart_only_who_failed, runtime.test_a_group_always_comes_back_whole),
        (start_a_group_in_reverse, runtime.test_a_group_always_comes_back_whole),
        (start_again_beside_one_that_ends, runtime.test_nobody_is_started_again_while_one_it_depends_on_is_down),
        (hand_out_what_was_withdrawn, runtime.test_what_a_timer_has_ordered_is_handled_only_while_it_is_wanted),
        (grant_a_lease_that_is_held, leases.test_a_paused_holder_never_lands_after_its_successor_and_no_lease_is_left_behind),
        (give_a_token_again, leases.test_a_paused_holder_never_lands_after_its_successor_and_no_lease_is_left_behind),
        (land_without_a_fence, leases.test_a_paused_holder_never_lands_after_its_successor_and_no_lease_is_left_behind),
        (never_end_a_lease, leases.test_a_paused_holder_never_lands_after_its_successor_and_no_lease_is_left_behind),
        (send_again_what_was_sent, post.test_a_message_is_stored_once_and_what_was_answered_is_there),
        (answer_before_the_commit, post.test_a_message_is_stored_once_and_what_was_answered_is_there),
        (go_on_after_a_failed_commit, post.test_a_message_is_stored_once_and_what_was_answered_is_there),
        (let_two_claim, post.test_a_claim_has_one_holder_at_a_time),
        (forget_claims_in_a_crash, post.test_a_claim_has_one_holder_at_a_time),
        (link_by_any_request, policy_queue.test_mail_for_a_policy_takes_one_way),
        (link_what_is_being_stopped, policy_queue.test_mail_for_a_policy_takes_one_way),
        (start_what_is_over, slots.test_a_policy_never_has_two_live_agents_for_one_slot),
        (start_without_a_last_look, slots.test_a_policy_never_has_two_live_agents_for_one_slot),
        (start_beside_the_one_before, slots.test_a_policy_never_has_two_live_agents_for_one_slot),
        (start_elsewhere_at_once, slots.test_a_policy_never_has_two_live_agents_for_one_slot),
        (forget_where_it_was_restarted, slots.test_a_policy_that_is_moved_leaves_by_way_of_the_host_that_has_its_agent),
        (overtake_what_waits, policy_queue.test_mail_for_a_policy_takes_one_way),
        (let_out_what_is_out, policy_queue.test_mail_for_a_policy_takes_one_way),
        (expire_too_early, policy_queue.test_mail_for_a_policy_takes_one_way),
        (release_the_newest_first, policy_queue.test_mail_for_a_policy_takes_one_way),
        (forget_what_waits_in_a_crash, policy_queue.test_mail_that_an_agent_is_there_for_does_not_wait),
        (release_at_registrations_only, policy_queue.test_mail_that_an_agent_is_there_for_does_not_wait),
        (take_reports_of_everybody, settlement.test_a_command_ends_once_and_every_change_is_told_once),
        (end_again_what_has_ended, settlement.test_a_command_ends_once_and_every_change_is_told_once),
        (claim_what_is_claimed, settlement.test_a_command_ends_once_and_every_change_is_told_once),
        (conclude_whatever_has_ended, settlement.test_a_command_ends_once_and_every_change_is_told_once),
        (leave_recipes_to_find_out, hooks.test_a_run_is_seen_no_later_than_its_commands),
        (know_what_nobody_has_said, settlement.test_a_command_ends_once_and_every_change_is_told_once),
        (call_back_the_newest_first, outbox.test_every_callback_arrives_in_order_or_is_given_up_after_its_tries),
        (call_back_while_a_call_is_under_way, outbox.test_every_callback_arrives_in_order_or_is_given_up_after_its_tries),
        (give_up_after_a_restart, outbox.test_every_callback_arrives_in_order_or_is_given_up_after_its_tries),
        (begin_a_window_with_a_refusal, outbox.test_in_a_window_no_more_than_so_many_pass_whoever_else_calls),
        (begin_a_window_when_the_file_is_read, outbox.test_in_a_window_no_more_than_so_many_pass_whoever_else_calls),
        (let_all_integrations_share_a_window, outbox.test_in_a_window_no_more_than_so_many_pass_whoever_else_calls),
        (hear_of_no_agent, switching.test_slots_follow_the_agents_and_an_event_reaches_all_bindings_or_none),
        (fill_each_slot_by_itself, switching.test_slots_follow_the_agents_and_an_event_reaches_all_bindings_or_none),
        (keep_whoever_has_a_slot, switching.test_slots_follow_the_agents_and_an_event_reaches_all_bindings_or_none),
        (move_a_slot_without_a_word, switching.test_slots_follow_the_agents_and_an_event_reaches_all_bindings_or_none),
        (take_every_event_for_a_new_one, switching.test_slots_follow_the_agents_and_an_event_reaches_all_bindings_or_none),
        (reach_those_who_can_be_reached, switching.test_slots_follow_the_agents_and_an_event_reaches_all_bindings_or_none),
        (store_an_event_piece_by_piece, switching.test_slots_follow_the_agents_and_an_event_reaches_all_bindings_or_none),
        (claim_a_message_without_its_task, work.test_a_task_and_its_messages_have_one_holder_who_loses_them_only_to_time),
        (claim_a_task_without_its_message, work.test_a_task_and_its_messages_have_one_holder_who_loses_them_only_to_time),
        (claim_a_task_that_is_held, work.test_a_task_and_its_messages_have_one_holder_who_loses_them_only_to_time),
        (forget_what_was_decided_on_tasks, work.test_a_task_and_its_messages_have_one_holder_who_loses_them_only_to_time),
        (keep_the_message_of_a_task_that_is_free, work.test_a_task_and_its_messages_have_one_holder_who_loses_them_only_to_time),
        (open_what_is_held, work.test_a_task_and_its_messages_have_one_holder_who_loses_them_only_to_time),
        (open_what_its_former_holder_is_back_for, work.test_a_task_and_its_messages_have_one_holder_who_loses_them_only_to_time),
        (lose_whoever_is_quiet, upkeep.test_nothing_ends_before_its_time_and_each_end_is_told_once),
        (report_who_was_not_lost, upkeep.test_nothing_ends_before_its_time_and_each_end_is_told_once),
        (take_the_wall_clock_at_its_word, upkeep.test_nothing_ends_before_its_time_and_each_end_is_told_once),
        (trust_the_wall_clock_with_the_audit, keepers.test_the_chain_is_whole_and_nothing_goes_before_its_time),
        (forget_the_anchor, keepers.test_the_chain_is_whole_and_nothing_goes_before_its_time),
        (keep_the_links_of_what_went, keepers.test_the_chain_is_whole_and_nothing_goes_before_its_time),
        (end_commands_by_the_wall_clock, upkeep.test_nothing_ends_before_its_time_and_each_end_is_told_once),
        (hand_over_what_somebody_holds, ladder.test_a_message_has_one_taker_at_a_time_and_ends_by_evidence),
        (give_a_hand_over_the_token_of_another, ladder.test_a_message_has_one_taker_at_a_time_and_ends_by_evidence),
        (settle_with_a_stale_token, ladder.test_a_message_has_one_taker_at_a_time_and_ends_by_evidence),
        (leave_with_a_former_session_what_it_had, ladder.test_a_message_has_one_taker_at_a_time_and_ends_by_evidence),
        (hold_silence_against_the_message, ladder.test_a_message_has_one_taker_at_a_time_and_ends_by_evidence),
        (confirm_without_a_read_mark, ladder.test_a_message_has_one_taker_at_a_time_and_ends_by_evidence),
        (believe_that_every_hand_over_arrives, ladder.test_a_message_has_one_taker_at_a_time_and_ends_by_evidence),
        (answer_what_was_answered, two.test_pairs_move_by_their_table_and_only_active_ones_talk),
        (talk_in_every_pair, two.test_pairs_move_by_their_table_and_only_active_ones_talk),
        (invite_once_more_after_a_crash, two.test_pairs_move_by_their_table_and_only_active_ones_talk),
        (invite_only_once, two.test_pairs_move_by_their_table_and_only_active_ones_talk),
        (stay_with_whom_is_gone, two.test_pairs_move_by_their_table_and_only_active_ones_talk),
        (begin_again_under_another_key, clockwork.test_no_run_is_dispatched_twice_and_none_is_lost),
        (leave_what_a_crash_has_left, clockwork.test_no_run_is_dispatched_twice_and_none_is_lost),
        (plan_before_the_run_is_there, clockwork.test_no_run_is_dispatched_twice_and_none_is_lost),
        (forget_which_events_were_seen, clockwork.test_no_run_is_dispatched_twice_and_none_is_lost),
        (hear_of_events_from_now_on, clockwork.test_no_run_is_dispatched_twice_and_none_is_lost),
        (hear_of_no_end, clockwork.test_no_run_is_dispatched_twice_and_none_is_lost),
        (go_on_from_now, places.test_a_component_that_comes_back_misses_nothing),
        (go_on_after_what_was_only_told, places.test_a_component_that_comes_back_misses_nothing),
        (go_back_for_nobody, places.test_a_component_that_comes_back_misses_nothing),
        (store_no_confirmation, places.test_a_component_that_comes_back_misses_nothing),
        (give_out_a_step_as_another_one, once.test_recipes_never_run_a_step_twice),
        (say_it_again_when_in_doubt, once.test_recipes_never_run_a_step_twice),
        (wait_only_for_others, once.test_recipes_never_run_a_step_twice),
        (give_the_tasks_of_those_who_are_gone_to_others, once.test_a_step_that_somebody_began_is_for_nobody_else),
        (do_again_what_was_done_after_all, once.test_recipes_never_run_a_step_twice),
        (begin_before_those_that_come_first, once.test_recipes_never_run_a_step_twice),
        (wait_in_silence, once.test_recipes_never_run_a_step_twice),
        (let_those_who_come_late_stay, once.test_recipes_never_run_a_step_twice),
        (remember_what_has_ended, access.test_a_token_of_a_revoked_family_never_passes),
        (say_so_before_it_has_ended, access.test_a_token_of_a_revoked_family_never_passes),
        (replace_what_has_ended, access.test_a_token_of_a_revoked_family_never_passes),
        (keep_what_is_replaced, access.test_a_token_of_a_revoked_family_never_passes),
        (begin_a_family_with_each, access.test_a_token_of_a_revoked_family_never_passes),
        (settle_an_upgrade_at_each_contact, versions.test_an_upgrade_comes_out_once),
        (let_the_deadline_win, versions.test_an_upgrade_comes_out_once),
        (lose_patience_with_an_upgrade, versions.test_an_upgrade_comes_out_once),
        (leave_what_was_replaced, versions.test_an_upgrade_comes_out_once),
        (take_any_command_for_that_of_the_upgrade, versions.test_an_upgrade_comes_out_once),
        (leave_the_command_of_an_upgrade_open, versions.test_an_upgrade_comes_out_once),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # what a broken runtime leaves behind
def test_a_guard_that_is_missing_is_noticed(
    mutate: Callable[[Patch], None], simulation: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def patch(owner: Any, name: str, changed: Callable[..., Any]) -> None:
        before = getattr(owner, name)
        if isinstance(before, property):
            monkeypatch.setattr(owner, name, property(lambda self: changed(before.fget, self)))
        else:
            monkeypatch.setattr(owner, name, lambda *given, **more: changed(before, *given, **more))

    mutate(patch)
    monkeypatch.setattr(_explore, "SHRINKS", 0)  # the first failure will do
    with pytest.raises(Exception) as found:
        simulation()
    assert any("replay: pytest" in note for note in found.value.__notes__)
    del found
    gc.collect()  # here, and not in another test
