-- Every write and deletion of a configured value is a version. The live value is the newest, unless that is a deletion.
create table config_versions (
  namespace text not null, key text not null, version integer not null, deleted integer not null, value text not null,
  updated_by text, updated_at integer not null, primary key (namespace, key, version)
) without rowid;

create table provider_configs (provider text primary key, record text not null, updated_at integer not null) without rowid;

-- The number of the last start or stop of a policy's agent, and the command that it was. Hosts heed no older ones.
alter table managed_agents add column epoch integer not null default 0;
alter table managed_agents add column command_id text;

-- `family` is the jti of the first of those that replaced each other. Seconds, as in the token.
create table tokens (
  jti text primary key, family text not null, sub text not null, role text not null, expires_at integer,
  revoked_at integer, replaced_by text, record text not null, created_at integer not null
) without rowid;
create index tokens_by_family on tokens (family);
create index tokens_by_age on tokens (created_at);
create index tokens_by_subject on tokens (sub);

create table recipe_instances (
  id text primary key, seq integer not null unique, recipe text not null, status text not null, record text not null,
  created_at integer not null, updated_at integer not null
) without rowid;
create index recipe_instances_by_status on recipe_instances (status, seq);

-- Instants are epoch milliseconds; `planned_at` is when `next_run_at` was decided. `event` is the type that it waits for;
-- it has seen all up to `event_cursor`, and `waiting` is what it has seen and could not begin yet.
-- A run keeps its `action` until that is dispatched.
create table automations (
  id text primary key, seq integer not null unique, next_run_at integer, planned_at integer not null, event text,
  event_cursor integer not null, waiting text, record text not null, created_at integer not null, updated_at integer not null
) without rowid;
create index automations_by_time on automations (next_run_at) where next_run_at is not null;
create table automation_runs (
  id text primary key, seq integer not null unique, automation_id text not null, status text not null,
  command_id text, task_id integer, action text, record text not null, started_at integer not null
) without rowid;
create index automation_runs_by_command on automation_runs (command_id) where command_id is not null and status = 'running';
create index automation_runs_by_task on automation_runs (task_id) where task_id is not null and status = 'running';
create index automation_runs_by_automation on automation_runs (automation_id, seq);
create index automation_runs_by_status on automation_runs (status, seq);

create table maintenance_jobs (name text primary key, record text not null) without rowid;

-- The audit: see chain.py. What was recorded before is linked in the order of its ids.
create table audit_chain (
  seq integer primary key autoincrement, activity_id integer not null, content text not null, digest text not null
);
with recursive link (seq, id, content, digest) as (
  select 0, 0, '', ''
  union all
  select link.seq + 1, a.id, a.content, relay_digest(link.digest, link.seq + 1, a.content)
  from link join (
    select id, relay_digest(id, client_id, kind, view, agent_id, message_id, record, created_at) as content from activity
  ) a on a.id = (select min(id) from activity where id > link.id)
)
insert into audit_chain (seq, activity_id, content, digest)
select seq, id, content, digest from link where seq > 0 order by seq;
create trigger activity_is_linked after insert on activity begin
  insert into audit_chain (seq, activity_id, content, digest)
  select given.seq, new.id, own.content, relay_digest(given.before, given.seq, own.content)
  from (select relay_digest(new.id, new.client_id, new.kind, new.view, new.agent_id, new.message_id, new.record,
                            new.created_at) as content) own,
       (select coalesce((select seq from sqlite_sequence where name = 'audit_chain'), 0) + 1 as seq,
               coalesce((select digest from audit_chain order by seq desc limit 1),
                        (select value ->> '$.digest' from meta where key = 'audit.anchor'), '') as before) given;
end;
create trigger activity_never_changes before update on activity begin
  select raise(abort, 'a record of the audit never changes');
end;
