"""The enumerations of the contract (messaging-control 1.6, agents-workspaces 1)."""

from enum import StrEnum

__all__ = [
    "RESERVED",
    "ActivityKind",
    "AgentKind",
    "AgentStatus",
    "AgentVerb",
    "ApprovalMode",
    "BindingMode",
    "CommandStatus",
    "ConnectorVerb",
    "DeliveryStatus",
    "Effort",
    "JobOutcome",
    "MessageKind",
    "OrchestratorStatus",
    "OrchestratorVerb",
    "Outcome",
    "Overlap",
    "PairStatus",
    "PermissionAnswer",
    "PolicyStatus",
    "Provider",
    "RecipeStatus",
    "RestartMode",
    "RunStatus",
    "RunTrigger",
    "Rung",
    "StepDecision",
    "StepKind",
    "StepStatus",
    "Strategy",
    "TargetType",
    "TaskChange",
    "TaskSeverity",
    "TaskStatus",
    "UpgradePart",
    "UpgradeStatus",
    "WorkspaceMode",
    "WorkspaceStatus",
    "WorkspaceVerb",
]


class AgentStatus(StrEnum):
    ONLINE = "online"
    IDLE = "idle"
    BUSY = "busy"
    STALE = "stale"
    OFFLINE = "offline"


class AgentVerb(StrEnum):
    """What can be asked of an agent (AGT-30)."""

    RESTART = "restart"
    SHUTDOWN = "shutdown"
    RECONNECT = "reconnect"
    COMPACT = "compact"
    CLEAR_CONTEXT = "clearContext"
    RESUME = "resume"
    INTERRUPT = "interrupt"


class AgentKind(StrEnum):
    PROVIDER = "provider"
    CHANNEL = "channel"
    ORCHESTRATOR = "orchestrator"
    SYSTEM = "system"
    USER = "user"


RESERVED = {"user": AgentKind.USER, "system": AgentKind.SYSTEM}
"""The participants that are there without having registered: the person, and relay itself (3.1)."""


class OrchestratorStatus(StrEnum):
    ONLINE = "online"
    OFFLINE = "offline"


class OrchestratorVerb(StrEnum):
    """What can be asked of a host (`POST /api/orchestrators/:id/actions`)."""

    RESTART = "restart"
    SHUTDOWN = "shutdown"
    UPGRADE = "upgrade"


class UpgradeStatus(StrEnum):
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class UpgradePart(StrEnum):
    """What of a host is upgraded."""

    AUTO = "auto"
    ALL = "all"
    CODEX = "codex"
    CLAUDE = "claude"
    ORCHESTRATOR = "orchestrator"


class PermissionAnswer(StrEnum):
    """What a person says to a question of an agent. `approve-session` holds for the rest of the session; `abort` also
    interrupts the turn."""

    APPROVE = "approve"
    APPROVE_SESSION = "approve-session"
    DENY = "deny"
    ABORT = "abort"


class Provider(StrEnum):
    """`command` is any program that speaks the runner's line protocol."""

    CLAUDE = "claude"
    CODEX = "codex"
    COMMAND = "command"


class ApprovalMode(StrEnum):
    OPEN = "open"
    GUARDED = "guarded"
    READ_ONLY = "read-only"


class Effort(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


class TargetType(StrEnum):
    """What a channel can be bound to."""

    AGENT = "agent"
    LABEL = "label"
    TAG = "tag"
    CAPABILITY = "capability"
    BROADCAST = "broadcast"
    ORCHESTRATOR = "orchestrator"
    POOL = "pool"
    POLICY = "policy"


class BindingMode(StrEnum):
    """Whether a binding stands alone, or beside others."""

    EXCLUSIVE = "exclusive"
    BROADCAST = "broadcast"


class JobOutcome(StrEnum):
    """How a maintenance job went; `skipped` is one that there is nothing to do for on this server."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


class MessageKind(StrEnum):
    CHAT = "chat"
    CHANNEL_EVENT = "channel.event"
    TASK = "task"
    PAIR = "pair"
    CONTROL = "control"
    SYSTEM = "system"
    SESSION = "session"


class DeliveryStatus(StrEnum):
    QUEUED = "queued"
    AVAILABLE = "available"
    EXPIRED = "expired"


class Rung(StrEnum):
    """How far a message got with one recipient, by evidence. The first five follow each other; two are ends on the way.

    `stored`: it is kept. `routed`: there is somebody whom it is for. `handed`: the bytes left for that agent's runner.
    `confirmed`: the agent's own program acknowledged it, or it was marked as read. `replied`: an answer to it is stored.
    """

    STORED = "stored"
    ROUTED = "routed"
    HANDED = "handed"
    CONFIRMED = "confirmed"
    REPLIED = "replied"
    EXPIRED = "expired"
    DEAD = "dead"

    @property
    def height(self) -> int:
        """Its place on the ladder. What is dead or expired stands at its foot: there is evidence for nothing more."""
        return 0 if self in (Rung.EXPIRED, Rung.DEAD) else list(Rung).index(self)


class Outcome(StrEnum):
    """What became of a hand-over, in the words of whoever took it.

    `busy`: the agent has it and has not come to it. `died`: the agent's program ended over it. `returned`: it was not
    given to the agent, or its end had nothing to do with it.
    """

    CONFIRMED = "confirmed"
    BUSY = "busy"
    REFUSED = "refused"
    DIED = "died"
    RETURNED = "returned"


class PolicyStatus(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FAILED = "failed"


class RestartMode(StrEnum):
    """Whether a policy's agent is started again when it is gone without having been asked to go.

    `on-failure`: not after a session that ended well by itself.
    """

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class ActivityKind(StrEnum):
    MESSAGE = "message"
    REPLY = "reply"
    QUESTION = "question"
    OPERATOR = "operator"
    PAIR = "pair"
    TASK = "task"
    STATE = "state"


class PairStatus(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    ENDED = "ended"
    REJECTED = "rejected"
    EXPIRED = "expired"


class RecipeStatus(StrEnum):
    """How a run of a recipe is (22.8). `held`: nobody knows what came of a step, and a person is to say."""

    STARTING = "starting"
    RUNNING = "running"
    HELD = "held"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


class StepKind(StrEnum):
    """What a step of a recipe is: the start of an agent, a message to it, or a task for it."""

    SPAWN = "spawn"
    MESSAGE = "message"
    TASK = "task"


class StepStatus(StrEnum):
    """How a step of a run is. `asked`: it was given out, and nobody has begun with it."""

    WAITING = "waiting"
    ASKED = "asked"
    RUNNING = "running"
    HELD = "held"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def final(self) -> bool:
        """Whether nothing more is expected of it."""
        return self in (StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.CANCELED)


class StepDecision(StrEnum):
    """What a person says of a step that is held."""

    RETRY = "retry"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class TaskSeverity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class TaskStatus(StrEnum):
    OPEN = "open"
    CLAIMED = "claimed"
    IN_PROGRESS = "in_progress"
    BLOCKED = "blocked"
    ORPHANED = "orphaned"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def final(self) -> bool:
        """Whether it is an end (TSK-5)."""
        return self in (TaskStatus.DONE, TaskStatus.FAILED, TaskStatus.CANCELED)


class CommandStatus(StrEnum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    REJECTED = "rejected"
    CANCELED = "canceled"

    @property
    def final(self) -> bool:
        """Whether nothing follows it (CMD-10)."""
        return self not in (CommandStatus.PENDING, CommandStatus.ACCEPTED, CommandStatus.RUNNING)


class TaskChange(StrEnum):
    """What may happen to a task, in its history."""

    CREATED = "created"
    UPDATED = "updated"
    CLAIMED = "claimed"
    STATUS = "status"
    RELEASED = "released"
    ORPHANED = "orphaned"


class ConnectorVerb(StrEnum):
    """What can be done to a connector (`POST /api/connectors/:id/actions`)."""

    INSTALL = "install"
    UNINSTALL = "uninstall"
    ENABLE = "enable"
    DISABLE = "disable"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    STATUS = "status"
    DOCTOR = "doctor"


class WorkspaceMode(StrEnum):
    ISOLATED = "isolated"
    SHARED = "shared"
    INHERIT = "inherit"


class WorkspaceStatus(StrEnum):
    ACTIVE = "active"
    READY = "ready"
    CONFLICT = "conflict"
    REVIEW_REQUESTED = "review_requested"
    MERGE_PLANNED = "merge_planned"
    MERGED = "merged"
    ABANDONED = "abandoned"
    CLEANUP_REQUESTED = "cleanup_requested"
    CLEANED = "cleaned"


class WorkspaceVerb(StrEnum):
    """What can be done to a workspace (`POST /api/workspaces/:id/actions`)."""

    STATUS = "status"
    READY = "ready"
    CONFLICT_FOUND = "conflict-found"
    REQUEST_REVIEW = "request-review"
    MERGE_PLAN = "merge-plan"
    MERGE = "merge"
    ABANDON = "abandon"
    CLEANUP = "cleanup"


class Strategy(StrEnum):
    AUTO = "auto"
    PR = "pr"
    REBASE_FF = "rebase-ff"


class Overlap(StrEnum):
    """What becomes of a run that is due while an earlier one of the automation is still going on."""

    SKIP = "skip"
    ALLOW = "allow"


class RunTrigger(StrEnum):
    """What a run of an automation was begun by."""

    MANUAL = "manual"
    SCHEDULE = "schedule"
    EVENT = "event"


class RunStatus(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def final(self) -> bool:
        return self is not RunStatus.RUNNING
