-- `delivery`: queued (for a policy), available or expired. `resolved_to`: the agent that the queue gave the message to.
alter table messages add column delivery text not null default 'available';
alter table messages add column resolved_to text;
alter table messages add column expires_at integer;
alter table messages add column queued_at integer;
alter table messages add column available_at integer;
alter table messages add column expired_at integer;
update messages set delivery = 'queued', queued_at = created_at,
  expires_at = created_at + 1000 * coalesce(json_extract(record, '$.maxAgeSeconds'), 86400)
  where address like 'policy:%';
create index messages_by_resolved on messages (resolved_to, id) where resolved_to is not null;
create index messages_queued on messages (address, id) where delivery = 'queued';
create index messages_due on messages (expires_at) where delivery = 'queued';
alter table messages add column reply_expected integer;  -- 1: its sender waits for an answer
create index messages_asking on messages (address, id) where reply_expected = 1;
create index messages_asking_resolved on messages (resolved_to, id) where reply_expected = 1;
create index messages_expired on messages (id) where delivery = 'expired';
create index claims_due on message_claims (expires_at);
-- The task that the claim is also one on: there is then one holder and one end for both.
alter table message_claims add column task_id integer;
create index claims_by_task on message_claims (task_id) where task_id is not null;

create index commands_due on commands (expires_at) where status in ('pending', 'accepted', 'running');

create table managed_agents (
  policy_name text primary key, status text not null, spawn_request_id text, agent_id text,
  orchestrator_id text, record text not null, updated_at integer not null
) without rowid;
create index managed_running on managed_agents (agent_id) where status = 'running';

create table tasks (
  id integer primary key autoincrement, source text not null, key text, target text not null, channel text,
  status text not null, claimed_by text, claim_expires_at integer, orphaned_at integer, message_id integer,
  record text not null, created_at integer not null, updated_at integer not null
);
create unique index tasks_by_key on tasks (source, key) where key is not null;
create index tasks_by_status on tasks (status, id);
create index tasks_by_source on tasks (source, id);
create index tasks_by_target on tasks (target, id);
create index tasks_by_channel on tasks (channel, id) where channel is not null;
create index tasks_by_holder on tasks (claimed_by) where claimed_by is not null;
create index tasks_claim_due on tasks (claim_expires_at) where claim_expires_at is not null;

create table task_events (
  id integer primary key, task_id integer not null, at integer not null, record text not null
);
create index task_events_by_task on task_events (task_id, id);

-- How far a message got with one recipient, from the first hand-over on. `alone`: it was handed over by itself, or is to be.
create table deliveries (
  agent_id text not null, message_id integer not null, rung text not null, token integer not null,
  attempt integer not null, deaths integer not null, alone integer not null, instance_id text, visible_at integer,
  handed_at integer, confirmed_at integer, replied_at integer, reply_id integer, dead_at integer, evidence text,
  error text,
  primary key (agent_id, message_id)
) without rowid;
create index deliveries_by_message on deliveries (message_id);
create index deliveries_open on deliveries (agent_id, message_id) where rung in ('handed', 'routed');
create index deliveries_dead on deliveries (message_id) where rung = 'dead';

create table channel_bindings (
  id text primary key, seq integer not null unique, channel_id text not null, target_type text not null,
  target_id text not null, mode text not null, pool_agent_id text, record text not null, created_at integer not null
) without rowid;
create index bindings_by_channel on channel_bindings (channel_id, seq);
-- The card of every channel has this text, and hardly another.
create index agents_named_channel on agents (id) where instr(record, '"channel"') > 0;
-- One agent holds at most one slot of a pool (M-I23).
create unique index bindings_pool_holder on channel_bindings (target_id, pool_agent_id)
  where target_type = 'pool' and pool_agent_id is not null;

-- `state`: due, sent or failed. `delivery` is what the receiver knows a call by, however often it is tried.
create table callbacks (
  id integer primary key autoincrement, delivery text not null, integration text not null, task_id integer not null,
  event text not null, body text not null, attempt integer not null, due_at integer not null, state text not null,
  error text, created_at integer not null, ended_at integer
);
create index callbacks_due on callbacks (integration, id) where state = 'due';
create index callbacks_ended on callbacks (ended_at) where ended_at is not null;

create table connectors (
  id text primary key, installed integer not null, enabled integer not null, config text not null,
  record text not null, updated_at integer not null
) without rowid;

create table pairs (
  id text primary key, from_id text not null, to_id text not null, status text not null, expires_at integer,
  record text not null, created_at integer not null, updated_at integer not null
) without rowid;
create index pairs_by_age on pairs (created_at);
create index pairs_pending on pairs (expires_at) where status = 'pending';
create index pairs_open_from on pairs (from_id) where status in ('pending', 'active');
create index pairs_open_to on pairs (to_id) where status in ('pending', 'active');

-- What agents report of themselves (`reported`), and the server of their statuses.
create table agent_timeline (
  id integer primary key, agent_id text not null, at integer not null, reported integer not null, dedupe text not null,
  record text not null, unique (agent_id, dedupe)
);
create index timeline_by_agent on agent_timeline (agent_id, id);
create index timeline_reported on agent_timeline (agent_id, id) where reported;

create table message_reactions (
  message_id integer not null, agent_id text not null, emoji text not null, at integer not null,
  primary key (message_id, agent_id, emoji)
) without rowid;

-- What an agent was at some event (SSE-4).
create index cards_told on events (subject, id) where type in ('agent.status', 'agent.removed');

-- How far in the event log a component of the bus has confirmed to be.
create table bus_sessions (
  component_id text primary key, acked_event integer not null, seen_at integer not null
) without rowid;

-- What the activity can be asked for. All three grow at their ends: an audit record costs little more.
alter table activity add column view text;
update activity set view = record ->> '$.view';
create index activity_by_kind on activity (kind, id);
create index activity_by_view on activity (view, id) where view is not null;
create index activity_by_message on activity (message_id, id) where message_id is not null;
