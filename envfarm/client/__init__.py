"""The typed client for trainers: `Client` for ordinary code, `AsyncClient` for asyncio; the same calls, retries and resumption in both.

Needs pydantic and the standard library alone. What is asked and answered is in `envfarm.core.rollout` and `envfarm.core.listing`.
"""

from envfarm.client.asynchronous import AsyncClient as AsyncClient
from envfarm.client.exchange import RetryPolicy as RetryPolicy
from envfarm.client.exchange import ServerProblem as ServerProblem
from envfarm.client.sync import Client as Client
from envfarm.core.action import Action as Action
from envfarm.core.action import Bash as Bash
from envfarm.core.action import Finish as Finish
from envfarm.core.action import ReadFile as ReadFile
from envfarm.core.action import RunTests as RunTests
from envfarm.core.action import StrReplace as StrReplace
from envfarm.core.episode import Budgets as Budgets
from envfarm.core.episode import PolicySpec as PolicySpec
from envfarm.core.model_call import ModelCall as ModelCall
from envfarm.core.rollout import EpisodeRequest as EpisodeRequest
from envfarm.core.rollout import ForkRequest as ForkRequest
from envfarm.core.rollout import GroupResult as GroupResult
from envfarm.core.rollout import LeaseRequest as LeaseRequest
from envfarm.core.rollout import RewardRequest as RewardRequest
from envfarm.core.rollout import RolloutRequest as RolloutRequest
from envfarm.core.rollout import StepRequest as StepRequest
from envfarm.core.rollout import TaskSelector as TaskSelector
from envfarm.core.usage import UsageQuery as UsageQuery

__all__ = [
    "Action",
    "AsyncClient",
    "Bash",
    "Budgets",
    "Client",
    "EpisodeRequest",
    "Finish",
    "ForkRequest",
    "GroupResult",
    "LeaseRequest",
    "ModelCall",
    "PolicySpec",
    "ReadFile",
    "RetryPolicy",
    "RewardRequest",
    "RolloutRequest",
    "RunTests",
    "ServerProblem",
    "StepRequest",
    "StrReplace",
    "TaskSelector",
    "UsageQuery",
]
