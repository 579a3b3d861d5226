"""The fleet: agents, hosts, workspaces, merges, messages, tasks and commands, each owned by durable actors.

`async with open_fleet(system, store) as fleet:` is the whole of it. Each concept has a module with its messages
(`fleet.agents["a1"].ask(agents.SetStatus(...))`) and its queries (`agents.list_agents(store)`).

Where what is; `_x_protocol` is what can be said to an actor, `_x_rules` are decisions without actor and clock, `_x_rows` is SQL:

- the whole: _fleet, _actor, _errors, _moment, _records, _staged, _waiting, _paths, _bystanders, _machine, machines, matching,
  health
- agents: agents, _agent_protocol, _agent_rules, _agent_actions, _cards, _contact, _controllers, _prompts, _permissions,
  _restart_spawn,
  timeline
- messages (the post office): messages, _post_protocol, _letters, _addresses, _recent, _mailboxes, _claims, _read_marks,
  _reactions, _queue, obligations
- how far they get: deliveries, _delivery_protocol, _delivery_rules, _delivery_terms, _delivery_rows, _delivery_queue,
  _rungs, bus_sessions
- tasks (a part of the post office): tasks, _task_protocol, _task_rules, _task_rows, _task_book, _task_draft
- what is outside: integrations, callbacks; channels, _channel_protocol, _channel_cards, _bindings, _pool_rules; connectors,
  _connector_rules, _programs, _secrets
- configured: config, _config_rows, _config_values; policies, _policy_protocol, _policy_rules, _policy_news, _policy_orders,
  _policy_commands, _policy_reports, _policy_views; providers, _outfits
- pairs: pairs, _pair_protocol, _pair_rules
- automations: automations, _automation_protocol, _automation_rules, _automation_rows, _automation_decisions, _automation_deeds,
  _automation_pace, _calendar; triggers, _trigger_rules
- recipes: recipes, _recipe_protocol, _recipe_rules, _recipe_rows, _recipe_start, _recipe_work, _recipe_attendance,
  _recipe_decision, _recipe_stop
- hosts: orchestrators, _orchestrator_protocol, _orchestrator_rules, _orchestrator_rows, _rosters,
  _upgrades, _upgrade_chain, _reclaim, hosts, _dispatch, _placement; commands, _command_protocol, _command_rules,
  _command_rows, _command_hooks, _new_command
- access: tokens, _token_protocol, _token_rules, _token_rows, _token_notes, _token_profiles, _runner_tokens, denials
- work: workspaces, _workspace_protocol, _workspace_actions, _workspace_rows, _owners, _settlement, merges, _auto_merge,
  stewards
- what happened, and what is over: _event_types, activity, _audit; maintenance, _absence, jobs, _job_book, _job_works;
  restoring, restored_tokens
"""

from ._audit import Caller as Caller
from ._errors import (
    Conflict as Conflict,
    Forbidden as Forbidden,
    Invalid as Invalid,
    NotFound as NotFound,
    Settled as Settled,
    Unprocessable as Unprocessable,
)
from ._fleet import Fleet as Fleet, open_fleet as open_fleet
from ._paths import within as within
from .matching import Matcher as Matcher
