"""The HTTP contract as classes, and the way between them and JSON.

Records are what relay keeps and answers; the other classes are what it accepts. Limits and vocabularies of the
specification stand in the fields and nowhere else.
"""

from . import bus as bus
from ._fields import Instant as Instant, length as length
from ._json import Invalid as Invalid, decode as decode, encode as encode, to_json as to_json
from .activity import Activity as Activity, NewActivity as NewActivity
from .agents import (
    ActOnAgent as ActOnAgent,
    Agent as Agent,
    DecidePermission as DecidePermission,
    Heartbeat as Heartbeat,
    OpenTerminal as OpenTerminal,
    PromptAgent as PromptAgent,
    RegisterAgent as RegisterAgent,
    SetLabel as SetLabel,
    SetReady as SetReady,
    SetStatus as SetStatus,
    SetTags as SetTags,
    TimelineEntry as TimelineEntry,
    TimelineEvent as TimelineEvent,
)
from .automations import (
    Automation as Automation,
    AutomationAction as AutomationAction,
    AutomationRun as AutomationRun,
    AutomationSchedule as AutomationSchedule,
    ChangeAutomation as ChangeAutomation,
    ComingRuns as ComingRuns,
    CronSchedule as CronSchedule,
    EventSchedule as EventSchedule,
    HeldAction as HeldAction,
    IntervalSchedule as IntervalSchedule,
    ManualSchedule as ManualSchedule,
    MessageAction as MessageAction,
    NewAutomation as NewAutomation,
    OnceSchedule as OnceSchedule,
    RunDispatch as RunDispatch,
    RunEvent as RunEvent,
    SpawnAction as SpawnAction,
    TaskAction as TaskAction,
)
from .channels import (
    Binding as Binding,
    BindingTarget as BindingTarget,
    Channel as Channel,
    ChannelEvent as ChannelEvent,
    FannedOut as FannedOut,
    NewBinding as NewBinding,
    SlotChange as SlotChange,
    target_at as target_at,
)
from .commands import (
    ClaimCommand as ClaimCommand,
    Command as Command,
    NewCommand as NewCommand,
    PatchCommand as PatchCommand,
)
from .config import (
    AgentProfile as AgentProfile,
    ConfigEntry as ConfigEntry,
    ConfigKey as ConfigKey,
    ProfileInstructions as ProfileInstructions,
    Restart as Restart,
    SetConfig as SetConfig,
    SpawnPolicy as SpawnPolicy,
    StewardConfig as StewardConfig,
    UpdatedBy as UpdatedBy,
)
from .connectors import (
    Connector as Connector,
    ConnectorAction as ConnectorAction,
    ConnectorAnswer as ConnectorAnswer,
    ConnectorConfig as ConnectorConfig,
    ConnectorResult as ConnectorResult,
)
from .deliveries import (
    Ack as Ack,
    AckDeliveries as AckDeliveries,
    AckResult as AckResult,
    AckResults as AckResults,
    HandOver as HandOver,
    HandOvers as HandOvers,
    Progress as Progress,
    Redeliver as Redeliver,
    Redelivered as Redelivered,
    TakeDeliveries as TakeDeliveries,
)
from .health import Counts as Counts, Health as Health, Stats as Stats
from .integrations import (
    Integration as Integration,
    IntegrationEvent as IntegrationEvent,
    IntegrationSettings as IntegrationSettings,
)
from .maintenance import (
    AuditDamage as AuditDamage,
    AuditVerdict as AuditVerdict,
    Job as Job,
    JobRun as JobRun,
    Reaped as Reaped,
    Retention as Retention,
)
from .messages import (
    Attachment as Attachment,
    Broadcast as Broadcast,
    Claim as Claim,
    ClaimMessage as ClaimMessage,
    Cursor as Cursor,
    Delivery as Delivery,
    MarkRead as MarkRead,
    Message as Message,
    Obligation as Obligation,
    React as React,
    Reaction as Reaction,
    SendMessage as SendMessage,
)
from .orchestrators import (
    ExitedAgent as ExitedAgent,
    ManagedAgent as ManagedAgent,
    Orchestrator as Orchestrator,
    OrchestratorAction as OrchestratorAction,
    OrchestratorHeartbeat as OrchestratorHeartbeat,
    QueuedSpawn as QueuedSpawn,
    Reclaim as Reclaim,
    RegisteredOrchestrator as RegisteredOrchestrator,
    RegisterOrchestrator as RegisterOrchestrator,
    Roster as Roster,
    SpawnAgent as SpawnAgent,
    Upgrade as Upgrade,
    UpgradeOrchestrator as UpgradeOrchestrator,
)
from .pairs import (
    Member as Member,
    Pair as Pair,
    PairMessage as PairMessage,
    ProposePair as ProposePair,
)
from .policies import PolicyReport as PolicyReport, PolicyState as PolicyState
from .providers import (
    Headless as Headless,
    ProviderConfig as ProviderConfig,
    ProviderLookup as ProviderLookup,
    SetProviderConfig as SetProviderConfig,
)
from .recipes import (
    DecideStep as DecideStep,
    LoadedRecipe as LoadedRecipe,
    Recipe as Recipe,
    RecipeInput as RecipeInput,
    RecipeInstance as RecipeInstance,
    RecipeRole as RecipeRole,
    RecipeStarted as RecipeStarted,
    RecipeStep as RecipeStep,
    RecipeStop as RecipeStop,
    RunningStep as RunningStep,
    StartRecipe as StartRecipe,
    StopRecipe as StopRecipe,
)
from .tasks import (
    ClaimTask as ClaimTask,
    Ingested as Ingested,
    SetTaskStatus as SetTaskStatus,
    Task as Task,
    TaskClaim as TaskClaim,
    TaskEvent as TaskEvent,
)
from .tokens import (
    LONGEST_TOKEN as LONGEST_TOKEN,
    Constraints as Constraints,
    ExchangeToken as ExchangeToken,
    IssuedToken as IssuedToken,
    MintRunnerToken as MintRunnerToken,
    NewToken as NewToken,
    PresentToken as PresentToken,
    RotatedKey as RotatedKey,
    RunnerGrant as RunnerGrant,
    Token as Token,
)
from .vocabulary import (
    RESERVED as RESERVED,
    ActivityKind as ActivityKind,
    AgentKind as AgentKind,
    AgentStatus as AgentStatus,
    AgentVerb as AgentVerb,
    ApprovalMode as ApprovalMode,
    BindingMode as BindingMode,
    CommandStatus as CommandStatus,
    ConnectorVerb as ConnectorVerb,
    DeliveryStatus as DeliveryStatus,
    Effort as Effort,
    JobOutcome as JobOutcome,
    MessageKind as MessageKind,
    OrchestratorStatus as OrchestratorStatus,
    OrchestratorVerb as OrchestratorVerb,
    Outcome as Outcome,
    Overlap as Overlap,
    PairStatus as PairStatus,
    PermissionAnswer as PermissionAnswer,
    PolicyStatus as PolicyStatus,
    Provider as Provider,
    RecipeStatus as RecipeStatus,
    RestartMode as RestartMode,
    Rung as Rung,
    RunStatus as RunStatus,
    RunTrigger as RunTrigger,
    StepDecision as StepDecision,
    StepKind as StepKind,
    StepStatus as StepStatus,
    Strategy as Strategy,
    TargetType as TargetType,
    TaskChange as TaskChange,
    TaskSeverity as TaskSeverity,
    TaskStatus as TaskStatus,
    UpgradePart as UpgradePart,
    UpgradeStatus as UpgradeStatus,
    WorkspaceMode as WorkspaceMode,
    WorkspaceStatus as WorkspaceStatus,
    WorkspaceVerb as WorkspaceVerb,
)
from .workspaces import (
    MergeLease as MergeLease,
    RepoSteward as RepoSteward,
    Workspace as Workspace,
    WorkspaceAction as WorkspaceAction,
    WorkspaceOutcome as WorkspaceOutcome,
    WorkspaceReport as WorkspaceReport,
)
