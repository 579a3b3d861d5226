"""The calls of `Client`: a module and a class for each concept of the contract, on what `base` has for all of them."""

from .activity import ActivityCalls as ActivityCalls
from .agents import AgentCalls as AgentCalls
from .automations import AutomationCalls as AutomationCalls
from .channels import ChannelCalls as ChannelCalls
from .commands import CommandCalls as CommandCalls
from .config import ConfigCalls as ConfigCalls
from .connectors import ConnectorCalls as ConnectorCalls
from .deliveries import DeliveryCalls as DeliveryCalls
from .maintenance import MaintenanceCalls as MaintenanceCalls
from .messages import MessageCalls as MessageCalls
from .orchestrators import OrchestratorCalls as OrchestratorCalls
from .pairs import PairCalls as PairCalls
from .policies import PolicyCalls as PolicyCalls
from .providers import ProviderCalls as ProviderCalls
from .recipes import RecipeCalls as RecipeCalls
from .tasks import TaskCalls as TaskCalls
from .tokens import TokenCalls as TokenCalls
from .workspaces import WorkspaceCalls as WorkspaceCalls
