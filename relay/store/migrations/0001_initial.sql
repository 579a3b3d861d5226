-- All instants are epoch milliseconds. `record` is the JSON text of the contract's record.

create table agents (
  id text primary key, status text not null, kind text not null, label text,
  record text not null, updated_at integer not null
) without rowid;

create table orchestrators (
  id text primary key, agent_id text not null, status text not null,
  record text not null, updated_at integer not null
) without rowid;

create table workspaces (
  id text primary key, status text not null, repo_root text, worktree_path text, agent_id text,
  record text not null, updated_at integer not null
) without rowid;
create index workspaces_by_repository on workspaces (repo_root);
create index workspaces_by_path on workspaces (worktree_path);

-- autoincrement: a message may be deleted, and clients poll by the ids they have seen, so none is ever given again.
create table messages (
  id integer primary key autoincrement, sender text not null, address text not null, kind text not null,
  thread_id integer not null, idempotency_key text, record text not null, created_at integer not null
);
create index messages_by_address on messages (address, id);
create index messages_by_thread on messages (thread_id, id);
create unique index messages_by_key on messages (sender, idempotency_key) where idempotency_key is not null;

create table message_reads (
  agent_id text not null, message_id integer not null, at integer not null,
  primary key (agent_id, message_id)
) without rowid;
create index message_reads_by_message on message_reads (message_id);

create table message_claims (
  message_id integer primary key, agent_id text not null, expires_at integer not null
);

create table commands (
  id text primary key, seq integer not null unique, type text not null, source text not null,
  target text not null, status text not null, correlation_id text, created_at integer not null,
  expires_at integer, record text not null
) without rowid;
create index commands_by_target on commands (target, status, seq);
create index commands_by_correlation on commands (correlation_id);

create table merge_leases (
  repo_root text primary key, token integer not null, workspace_id text not null, holder text not null,
  command_id text not null, acquired_at integer not null, expires_at integer not null
) without rowid;

-- The last fencing token given, per lease: it outlives the lease.
create table fences (name text primary key, token integer not null) without rowid;

create table activity (
  id integer primary key, client_id text not null unique, kind text not null, agent_id text,
  message_id integer, record text not null, created_at integer not null
);
create index activity_by_agent on activity (agent_id, id);

create table events (
  id integer primary key, at integer not null, type text not null, source text not null,
  subject text, data text not null
);

create table meta (key text primary key not null, value text) without rowid;
