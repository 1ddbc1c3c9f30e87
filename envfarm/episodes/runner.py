"""Carries an episode's instructions out: makes the box, asks the policy, runs tools, writes the trajectory, has the work graded.

Called by the controllers, once per attempt. What happens next is the machine's to say; what a failure means stands on its class. The
runner stores no outcome: its caller commits the one that it returns.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from envfarm.core import scaffold
from envfarm.core.action import Bash
from envfarm.core.awake import awake_timeout
from envfarm.core.change import Change
from envfarm.core.episode import EpisodeSpec
from envfarm.core.errors import (
    BoxBroken,
    BoxLost,
    ContextExhausted,
    EnvfarmError,
    GraderError,
    PolicyError,
    SandboxError,
    StoreError,
    Unattended,
    boundary,
)
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.image import Environment
from envfarm.core.observing import UNOBSERVED, Observer
from envfarm.core.outcome import Invalid, Outcome
from envfarm.core.program import Part
from envfarm.core.protocols import Box, Clock, Grader, Player, Policy, Program, SandboxProvider, TellsOutages, TrajectoryStore
from envfarm.core.sampled import Sampled
from envfarm.core.sandbox import Holder, SandboxSpec
from envfarm.core.storable import encodable, storable
from envfarm.core.task import Task
from envfarm.core.trajectory import End, Header, Step, Trajectory
from envfarm.core.usage import Bill
from envfarm.episodes.box_meter import BoxMeter
from envfarm.episodes.change_text import git_diff, listed
from envfarm.episodes.events import (
    ActionTimedOut,
    Cancelled,
    Decided,
    Event,
    Failed,
    Graded,
    LeftAlone,
    Observed,
    OutOfContext,
    ProgramEnded,
    Resumed,
    Started,
    ThinkingTimedOut,
)
from envfarm.episodes.instructions import Append, AskPolicy, Grade, Instruction, Keep, RunProgram, RunTool, Stop
from envfarm.episodes.machine import Machine, observation_digest, reached_the_box
from envfarm.episodes.tools import Call, Tools, as_event
from envfarm.grading.procedure import blind_rounds

CLOSE_S = 60.0
"""How long a box may take to go away before it is left to the collector."""
GRACE_S = 90.0
"""How much longer than its own limit a tool or a program may take before its box is judged. boxd kills at the limit, and a box whose client
still has to find out whether it is lost needs some of it."""
LABEL_SLACK_S = 3600.0
"""Added to the time that a box is worked in, for the label after which anybody may collect it: it may have to wait long for a place."""
SYSTEM_MOUNTS = ("/proc", "/sys", "/dev", "/run")

CALLED_OFF = Cancelled("the episode was called off")

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt at one episode."""

    spec: EpisodeSpec
    task: Task
    environment: Environment
    policy: Player
    agents_environment: Environment | None = None
    """What the agent's box is made of where that is more than the task's own, which alone grading has."""
    epoch: int = 0
    earlier: Trajectory | None = None
    """The last attempt's record, where there is one: continued if a replay agrees with it."""
    fork: tuple[Step, ...] | None = None
    """Instead of the last attempt's: the steps of another episode, which this one is a fork of."""
    cancel: asyncio.Event | None = None
    """Set by whoever calls the episode off. (Cancelling the task instead only interrupts: the episode can be resumed.)"""
    grace_s: float = GRACE_S
    bill: Bill = field(default_factory=Bill)
    """What its boxes used, agent's and grader's, written as each goes away."""


class EpisodeRunner:
    """Runs episodes with one provider, grader and store. Holds no state between them."""

    def __init__(
        self,
        provider: SandboxProvider,
        grader: Grader,
        trajectories: TrajectoryStore,
        clock: Clock,
        *,
        faults: FaultPoints = NO_FAULTS,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self.provider = provider
        self.grader = grader
        self.trajectories = trajectories
        self.clock = clock
        self.faults = faults
        self.observer = observer

    async def run(self, assignment: Assignment) -> Outcome:
        """Play to the end, or on from where the earlier attempt broke off.

        Raises nothing but cancellation; the box is closed in every case.
        An earlier attempt that has its verdict is not played again: its outcome is returned, for a caller who died before the commit.
        """
        end = assignment.earlier.end if assignment.earlier else None
        if end is not None and not isinstance(end.outcome, Invalid):
            return end.outcome
        return await _Play(self, assignment).run()


class _Play:
    """One attempt in progress."""

    def __init__(self, farm: EpisodeRunner, job: Assignment) -> None:
        self._farm = farm
        self._job = job
        limits = job.task.limits
        budgets = job.spec.budgets
        self._budgets = budgets.model_copy(update={"seconds": min(budgets.seconds, limits.agent_s)})
        spec = job.spec.model_copy(update={"budgets": self._budgets})
        self._machine = Machine(spec, mode=job.task.plan.mode, whole=isinstance(job.policy, Program))
        self._attempt = job.earlier.header.attempt + 1 if job.earlier else 0
        self._agreed: bool | None = None
        if job.spec.branch is not None:
            self._agreed = job.fork is not None or bool(job.earlier and job.earlier.header.agreed)
        self._steps: list[Step] = []
        self._box: Box | None = None
        self._meter: BoxMeter | None = None
        self._tools: Tools | None = None
        self._has_header = False
        self._change = ""
        self._began = farm.clock.monotonic()
        self._watching: asyncio.Task[None] | None = None
        self._interruptible = False
        self._called_off = False

    async def run(self) -> Outcome:
        try:
            event: Event = await self._guarded(self._set_up())
            while True:
                for instruction in self._machine.handle(event, self._farm.clock.monotonic()):
                    if isinstance(instruction, Stop):
                        return await self._stop(instruction)
                    answer = await self._carry_out(instruction)
                    if answer is not None:
                        event = answer
                        break
        finally:
            if self._watching is not None:
                self._watching.cancel()
            await self._close_box()

    async def _set_up(self) -> Event:
        await self._open_box()
        earlier = self._job.earlier
        if earlier is not None and isinstance(self._job.policy, Program):
            await self._begin(f"{_why_again(earlier)}; a program cannot go on from a record, so the episode started again")
            return Started()
        past = earlier.steps if earlier is not None else ()
        why = _why_again(earlier)
        if self._job.fork is not None and self._job.spec.branch is not None:
            past, why = self._job.fork, f"a fork of {self._job.spec.branch.episode}"
        if not past:
            await self._begin(why)
            return Started()
        differs_at = await self._replay(past)
        if differs_at is None:
            await self._begin(f"{why}; {len(past)} recorded steps were replayed and agreed")
            for step in past:
                await self._append(step)
            return Resumed(past)
        # The box is not where the record ends, and cannot be brought there: nothing of this attempt's past can be kept.
        await self._close_box()
        self._attempt += 1
        self._agreed = None if self._agreed is None else False
        await self._open_box()
        await self._begin(f"{why}; the replay differed at step {differs_at}, so the episode started again")
        return Started()

    async def _open_box(self) -> None:
        self._farm.faults.reach("box create")
        with boundary(SandboxError, "making the box"):
            self._meter = BoxMeter(self._sandbox_spec(), "agent", self._job.bill, self._farm.observer)
            self._box = await self._meter.create(self._farm.provider)
        plan = self._job.task.plan
        self._tools = Tools(self._box, plan)
        with boundary(SandboxError, "marking the box's tree"):
            if plan.mode == "replayed":
                await self._box.mark(["/"], exclude=(*SYSTEM_MOUNTS, *([scaffold.ROOT] if self._job.agents_environment else [])))
            else:
                await self._box.mark([plan.work_dir])

    def _sandbox_spec(self) -> SandboxSpec:
        limits = self._job.task.limits
        environment = self._job.agents_environment or self._job.environment
        holder = self._holder(2 * self._budgets.seconds + limits.verifier_s)  # twice: outages of the policy may take as long again
        return SandboxSpec.within(limits, environment, holder=holder)

    def _holder(self, work_s: float) -> Holder:
        """This attempt, as the holder of boxes for so much work."""
        deadline = self._farm.clock.now() + timedelta(seconds=work_s + LABEL_SLACK_S)
        spec = self._job.spec
        return Holder(run_id=spec.run_id, episode_id=spec.episode_id, deadline=deadline, epoch=self._job.epoch)

    async def _begin(self, because: str) -> None:
        header = Header(
            episode=self._job.spec,
            environment_digest=(self._job.agents_environment or self._job.environment).digest,
            instruction=self._job.task.instruction,
            box=f"{self._farm.provider.name}:{self._the_box.box_id}",
            attempt=self._attempt,
            epoch=self._job.epoch,
            started_because=because,
            agreed=self._agreed,
        )
        with boundary(StoreError, "writing the trajectory"):
            await self._farm.trajectories.append(self._job.spec.episode_id, header)
        self._has_header = True

    async def _replay(self, steps: tuple[Step, ...]) -> int | None:
        """Do the recorded steps again. The first one whose observation differs, or None."""
        for step in steps:
            if not reached_the_box(step):
                continue
            asked = getattr(step.action, "timeout_s", None) or self._budgets.action_s
            timeout_s = min(asked, self._budgets.action_s)
            try:
                seen = await self._run_tool(RunTool(step.action, step.index, timeout_s))
            except BoxBroken:
                return step.index
            if observation_digest(seen) != step.observation_digest:
                return step.index
        return None

    async def _carry_out(self, instruction: Instruction) -> Event | None:  # noqa: PLR0911 - one line per instruction
        match instruction:
            case Append(step):
                return await self._guarded(self._append(step))
            case Keep(sampled):
                return await self._guarded(self._append(sampled))
            case _ if self._called_off:
                return CALLED_OFF
            case AskPolicy():
                return await self._guarded(self._unless_cancelled(self._ask(instruction)))
            case RunTool():
                return await self._guarded(self._unless_cancelled(self._run_tool(instruction)))
            case RunProgram():
                return await self._guarded(self._unless_cancelled(self._run_program(instruction)))
            case Grade():
                return await self._guarded(self._unless_cancelled(self._grade()))
            case Stop():
                raise ValueError("Stop ends the loop that calls this")

    async def _guarded(self, work: Coroutine[Any, Any, T]) -> T | OutOfContext | LeftAlone | Failed:
        """The work's event; a classified failure becomes one."""
        try:
            return await work
        except ContextExhausted:
            return OutOfContext()
        except Unattended:
            return LeftAlone()
        except EnvfarmError as e:
            return Failed(e.policy, str(e))

    async def _unless_cancelled(self, work: Coroutine[Any, Any, Event]) -> Event:
        """The work's event, or that the episode was called off, which ends the work.

        One task watches for the whole attempt and cancels this one, as `asyncio.timeout` does: no action costs a task.
        """
        me = asyncio.current_task()
        if self._job.cancel is None or me is None:
            return await work
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(self._job.cancel, me))
        before, self._interruptible = me.cancelling(), True
        try:
            return await work
        except asyncio.CancelledError:
            if self._called_off and me.uncancel() <= before:
                return CALLED_OFF
            raise
        finally:
            self._interruptible = False

    async def _watch(self, cancel: asyncio.Event, playing: asyncio.Task[Any]) -> None:
        await cancel.wait()
        self._called_off = True
        if self._interruptible:
            playing.cancel()

    async def _ask(self, ask: AskPolicy) -> Event:
        with self._farm.observer.span("think", policy=self._job.spec.policy.name):
            return await self._ask_in_time(ask)

    async def _ask_in_time(self, ask: AskPolicy) -> Event:
        loop, policy = asyncio.get_running_loop(), self._the_policy
        end = loop.time() + ask.timeout_s
        thinking = asyncio.ensure_future(policy.next_action(self._job.task.instruction, tuple(self._steps)))
        try:
            while not thinking.done():
                outage_s = _outage_s(policy)
                left_s = end + min(outage_s, ask.longest_outage_s) - loop.time()
                if left_s <= 0:
                    return ThinkingTimedOut(outage_s)
                await asyncio.wait({thinking}, timeout=left_s)
            with boundary(PolicyError, "the policy"):
                decision = await thinking
        finally:
            if not thinking.done():
                thinking.cancel()
                await asyncio.wait({thinking})
        return Decided(decision.action, decision.call, self._farm.clock.now(), _outage_s(policy))

    async def _run_tool(self, run: RunTool) -> Observed | ActionTimedOut:
        if self._tools is None:
            raise SandboxError("there is no box")
        with self._farm.observer.span("exec", tool=run.action.tool, step=run.index):
            work = self._tools.run(run.action, Call(f"step-{run.index}", run.timeout_s))
            return await self._in_time(f"the tool {run.action.tool}", run.timeout_s, work)

    async def _run_program(self, run: RunProgram) -> ProgramEnded:
        program, spec, box, at = self._job.policy, self._job.spec, self._the_box, self._farm.clock.now()
        if not isinstance(program, Program):
            raise PolicyError("the policy is no program")
        part = Part(
            episode=spec.episode_id,
            instruction=self._job.task.instruction,
            work_dir=self._job.task.plan.work_dir,
            calls=self._budgets.turns,
            tokens=self._budgets.tokens,
            seed=spec.seed,
            timeout_s=run.timeout_s,
            longest_outage_s=run.longest_outage_s,
        )
        try:
            with self._farm.observer.span("exec", tool="program", step=0):
                result = await self._in_time("the program", run.timeout_s + run.longest_outage_s, program.play(box, part))
        except BoxBroken:
            if program.sampled is not None:  # it counts, so a trainer needs what led to it
                await self._append(program.sampled)
            raise
        sampled = program.sampled or Sampled(episode=spec.episode_id)
        return ProgramEnded(Bash(command=program.command), as_event(result, run.timeout_s), sampled, at)

    async def _in_time(self, what: str, timeout_s: float, work: Coroutine[Any, Any, T]) -> T:
        """The work's result. That it does not come is the box's doing, unless the box is found to be lost when it is asked anything."""
        grace_s = self._job.grace_s
        try:
            async with awake_timeout(timeout_s + grace_s):
                with boundary(SandboxError, what):
                    return await work
        except TimeoutError as e:
            broken = BoxBroken(f"the box did not answer {grace_s:.0f} s after the end of the time of {what}")
            try:
                await self._the_box.stats()
            except BoxLost as lost:
                raise lost from e
            except EnvfarmError as silent:
                raise broken from silent
            raise broken from e

    async def _append(self, line: Step | Sampled) -> None:
        with boundary(StoreError, "writing the trajectory"):
            await self._farm.trajectories.append(self._job.spec.episode_id, line)
        if isinstance(line, Step):
            self._steps.append(line)

    async def _grade(self) -> Event:
        with self._farm.observer.span("grade", mode=self._job.task.plan.mode) as span:
            graded = await self._graded()
            span.note(kind=graded.outcome.kind)
            return graded

    async def _graded(self) -> Graded:
        shown = await git_diff(self._the_box, self._job.task.plan.work_dir)
        change = await self._take_change()
        self._change = shown if shown is not None else listed(change)
        grader, task, environment = self._farm.grader, self._job.task, self._job.environment
        with boundary(GraderError, "grading"):
            if task.plan.mode == "shared":
                return Graded(await grader.grade_in_place(task, self._the_box, change, environment=environment))
            # Before the grader's box: where a node is full of agents' boxes that wait for theirs, none would ever be graded.
            await self._close_box()
            holder = self._holder(blind_rounds(task.plan) * task.limits.verifier_s)
            return Graded(await grader.grade(task, change, environment=environment, holder=holder, bill=self._job.bill))

    async def _take_change(self) -> Change:
        """What the agent did to the tree.

        A box that is lost is known to be so from outside. Any other refusal comes from inside the agent's box (a tree too large to
        carry, say), where the agent may have caused it: that must not buy a retry. Nor does a process that lives on, beside which no
        difference can be believed.
        """
        try:
            with boundary(GraderError, "taking the change"):
                report = await self._the_box.quiesce()
                if not report.ok:
                    raise BoxBroken(f"what it runs would not die: {', '.join(report.remaining[:3])}")
                return await self._the_box.diff()
        except BoxLost:
            raise
        except SandboxError as e:
            raise BoxBroken(f"its change could not be taken: {e}") from e

    async def _stop(self, stop: Stop) -> Outcome:
        if not self._has_header:
            return stop.outcome
        seconds, outcome, change = self._farm.clock.monotonic() - self._began, storable(stop.outcome), encodable(self._change)
        end = End(ended=stop.ended, outcome=outcome, action=stop.unanswered, change=change, seconds=seconds)
        try:
            with boundary(StoreError, "writing the trajectory's end"):
                await self._farm.trajectories.append(self._job.spec.episode_id, end)
        except StoreError as e:
            if isinstance(outcome, Invalid):
                return outcome
            return Invalid(cause=e.policy.cause.value, retryable=e.policy.retry, detail=str(e))
        return outcome

    async def _close_box(self) -> None:
        """Remove the box, whoever is impatient: a cancellation waits until it is gone."""
        if self._box is None or self._meter is None:
            return
        closing = asyncio.ensure_future(self._meter.close(self._box))
        interrupted: asyncio.CancelledError | None = None
        while not closing.done():
            try:
                await asyncio.wait({closing}, timeout=CLOSE_S)
                break
            except asyncio.CancelledError as e:
                interrupted = e
        if not closing.done():
            closing.cancel()
            log.warning("box %s did not close in %.0f s: left to the collector", self._box.box_id, CLOSE_S)
        elif (error := closing.exception()) is not None:
            log.warning("box %s did not close: %s", self._box.box_id, error)
        self._box = self._meter = self._tools = None
        if interrupted is not None:
            raise interrupted

    @property
    def _the_policy(self) -> Policy:
        if isinstance(self._job.policy, Program):
            raise PolicyError("a program is not asked for actions")
        return self._job.policy

    @property
    def _the_box(self) -> Box:
        if self._box is None:
            raise SandboxError("there is no box")
        return self._box


def _outage_s(policy: Policy) -> float:
    return policy.outage_s if isinstance(policy, TellsOutages) else 0.0


def _why_again(earlier: Trajectory | None) -> str:
    if earlier is None:
        return ""
    if earlier.end is None:
        return "the attempt before was interrupted"
    outcome = earlier.end.outcome
    return f"the attempt before failed: {outcome.detail}" if isinstance(outcome, Invalid) else "the attempt before ended"
