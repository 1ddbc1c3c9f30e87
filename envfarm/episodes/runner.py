"""Carries out an episode's instructions: creates the box, asks the policy, runs tools, writes the trajectory, has the work graded.

The machine decides what happens next; `core.errors` decides what a failure means. The runner returns the outcome and does not store it:
its caller commits it.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
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
    StepsLost,
    StoreError,
    Unattended,
    boundary,
)
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.ids import BoxId
from envfarm.core.image import Environment
from envfarm.core.model_call import Conversation
from envfarm.core.observing import UNOBSERVED, Observer
from envfarm.core.outcome import Invalid, Outcome
from envfarm.core.program import Part
from envfarm.core.protocols import (
    Adopts,
    Box,
    Clock,
    Grader,
    Player,
    Policy,
    Program,
    Remembers,
    SandboxProvider,
    TellsOutages,
    TrajectoryStore,
)
from envfarm.core.sampled import Sampled
from envfarm.core.sandbox import Holder, SandboxSpec
from envfarm.core.storable import encodable, storable
from envfarm.core.task import Task
from envfarm.core.trajectory import End, Header, Step, Trajectory
from envfarm.core.usage import Bill
from envfarm.core.why import counted
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
from envfarm.episodes.tools import Call, Tools, as_event, commands_of, name_of
from envfarm.grading.guesses import blind_rounds

CLOSE_S = 60.0
"""How long a box may take to close before it is left to the collector."""
GRACE_S = 150.0
"""How long beyond its own limit a tool or a program may take before its box counts as broken. boxd kills at the limit; the client may need
part of this time to find out whether the box is lost."""
GRADE_AGAIN_S = (1.0, 5.0)
"""Waits before a change is graded once more that the grader failed to grade. Afterwards the attempt has failed."""
LABEL_SLACK_S = 3600.0
"""Added to a box's working time in the label after which anybody may collect it: the box may wait long for a place."""
SYSTEM_MOUNTS = ("/proc", "/sys", "/dev", "/run")

CALLED_OFF = Cancelled("the episode was cancelled")

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
    """What the agent's box is made of, if that is more than the task's own environment. Grading uses the task's own."""
    epoch: int = 0
    earlier: Trajectory | None = None
    """The last attempt's record, if any. It is continued if a replay agrees with it."""
    fork: tuple[Step, ...] | None = None
    """Replaces the last attempt's record: the steps of the episode that this one forks."""
    cancel: asyncio.Event | None = None
    """Set to cancel the episode. (Cancelling the asyncio task only interrupts it: the episode can be resumed.)"""
    handed_over: asyncio.Event | None = None
    """Set before the task is cancelled where another process goes on: the box is left to it, if it can adopt it."""
    grace_s: float = GRACE_S
    bill: Bill = field(default_factory=Bill)
    """What its boxes used, the agent's and the grader's; written as each box closes."""


class EpisodeRunner:
    """Runs episodes with one provider, grader and store. Keeps no state between episodes."""

    def __init__(
        self,
        provider: SandboxProvider,
        grader: Grader,
        trajectories: TrajectoryStore,
        clock: Clock,
        *,
        grade_again_s: Sequence[float] = GRADE_AGAIN_S,
        faults: FaultPoints = NO_FAULTS,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self.provider = provider
        self.grader = grader
        self.trajectories = trajectories
        self.clock = clock
        self.grade_again_s = grade_again_s
        self.faults = faults
        self.observer = observer

    async def run(self, assignment: Assignment) -> Outcome:
        """Play to the end, continuing an earlier attempt if there is one.

        Raises nothing but cancellation; the box is closed in every case. If the earlier attempt has its verdict, its outcome is
        returned without playing: its host died before the commit.
        """
        end = assignment.earlier.end if assignment.earlier else None
        if end is not None and not isinstance(end.outcome, Invalid):
            return end.outcome
        return await _Play(self, assignment).run()


class _Play:
    """One attempt in progress."""

    def __init__(self, runner: EpisodeRunner, job: Assignment) -> None:
        self._runner = runner
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
        self._conversation = Conversation()
        self._box: Box | None = None
        self._meter: BoxMeter | None = None
        self._tools: Tools | None = None
        self._has_header = False
        self._change = ""
        self._began = runner.clock.monotonic()
        self._watching: asyncio.Task[None] | None = None
        self._interruptible = False
        self._called_off = False

    async def run(self) -> Outcome:
        try:
            event: Event = await self._guarded(self._set_up())
            while True:
                for instruction in self._machine.handle(event, self._runner.clock.monotonic()):
                    if isinstance(instruction, Stop):
                        return await self._stop(instruction)
                    answer = await self._carry_out(instruction)
                    if answer is not None:
                        event = answer
                        break
        except asyncio.CancelledError:
            if self._job.handed_over is not None and self._job.handed_over.is_set():
                await self._leave_box()
            raise
        finally:
            if self._watching is not None:
                self._watching.cancel()
            await self._close_box()

    async def _set_up(self) -> Event:
        earlier = self._job.earlier
        if earlier is not None and await self._adopts_box_of(earlier):
            self._runner.observer.count("gone on", how="adopted")
            return await self._resume(earlier.steps, f"{_why_again(earlier)}; its box lived and was adopted")
        await self._open_box()
        if earlier is not None and isinstance(self._job.policy, Program):
            self._runner.observer.count("gone on", how="anew")
            await self._begin(f"{_why_again(earlier)}; a program cannot be resumed from a record, so the episode started again")
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
            self._runner.observer.count("gone on", how="replayed")
            return await self._resume(past, f"{why}; {counted(len(past), 'recorded step')} replayed and agreed")
        # The box is not in the recorded state and cannot be brought there: none of the recorded steps can be kept.
        if self._job.fork is None and isinstance(self._job.policy, Remembers) and self._job.policy.remembers:
            raise StepsLost(f"{why}; the replay differed at step {differs_at}, and no later step fits: begin another episode")
        self._runner.observer.count("gone on", how="anew")
        await self._close_box()
        self._attempt += 1
        self._agreed = None if self._agreed is None else False
        await self._open_box()
        await self._begin(f"{why}; the replay differed at step {differs_at}, so the episode started again")
        return Started()

    async def _resume(self, past: tuple[Step, ...], because: str) -> Event:
        await self._begin(because, resumed=len(past))
        for step in past:
            call = self._conversation.shortened(step.call) if step.call else None
            await self._append(step.model_copy(update={"call": call}))
        return Resumed(past) if past else Started()

    async def _adopts_box_of(self, earlier: Trajectory) -> bool:
        """Take over the box of an attempt that was interrupted, if it is as the record says: no action was begun behind the recorded ones.

        Such an action's box is in a state that no record has. Where it does not work out, for whatever reason,
        a replay in another one does.
        """
        provider, (made_by, _, box) = self._adopting, earlier.header.box.partition(":")
        if provider is None or made_by != self._runner.provider.name or earlier.end is not None:
            return False
        if earlier.header.environment_digest != self._agents_environment.digest:
            return False
        self._meter = BoxMeter(self._sandbox_spec(), "agent", self._job.bill, self._runner.observer)
        try:
            with boundary(SandboxError, "adopting the box"):
                self._box = await self._meter.adopt(provider, BoxId(box), but=commands_of(len(earlier.steps)))
        except (SandboxError, BoxBroken) as e:
            log.info("box %s of %s is not adopted: %s", box, self._job.spec.episode_id, e)
        if self._box is None:
            self._meter = None
            return False
        self._tools = Tools(self._box, self._job.task.plan)
        return True

    async def _open_box(self) -> None:
        self._runner.faults.reach("box create")
        with boundary(SandboxError, "making the box"):
            self._meter = BoxMeter(self._sandbox_spec(), "agent", self._job.bill, self._runner.observer)
            self._box = await self._meter.create(self._runner.provider)
        plan = self._job.task.plan
        self._tools = Tools(self._box, plan)
        with boundary(SandboxError, "marking the box's tree"):
            if plan.mode == "replayed":
                await self._box.mark(["/"], exclude=(*SYSTEM_MOUNTS, *([scaffold.ROOT] if self._job.agents_environment else [])))
            else:
                await self._box.mark([plan.work_dir])

    def _sandbox_spec(self) -> SandboxSpec:
        limits = self._job.task.limits
        environment = self._agents_environment
        holder = self._holder(2 * self._budgets.seconds + limits.verifier_s)  # twice, since outages of the policy may take as long again
        return SandboxSpec.within(limits, environment, holder=holder)

    def _holder(self, work_s: float) -> Holder:
        """This attempt as the holder of a box that is needed for so long."""
        deadline = self._runner.clock.now() + timedelta(seconds=work_s + LABEL_SLACK_S)
        spec = self._job.spec
        return Holder(run_id=spec.run_id, episode_id=spec.episode_id, deadline=deadline, epoch=self._job.epoch)

    async def _begin(self, because: str, *, resumed: int = 0) -> None:
        header = Header(
            episode=self._job.spec,
            environment_digest=self._agents_environment.digest,
            instruction=self._job.task.instruction,
            box=f"{self._runner.provider.name}:{self._the_box.box_id}",
            attempt=self._attempt,
            epoch=self._job.epoch,
            started_because=because,
            resumed=resumed,
            agreed=self._agreed,
        )
        with boundary(StoreError, "writing the trajectory"):
            await self._runner.trajectories.append(self._job.spec.episode_id, header)
        self._has_header = True

    async def _replay(self, steps: tuple[Step, ...]) -> int | None:
        """Run the recorded steps again. Returns the index of the first step whose observation differs, or None."""
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
                raise ValueError("Stop is handled by the caller's loop")

    async def _guarded(self, work: Coroutine[Any, Any, T]) -> T | OutOfContext | LeftAlone | Failed:
        """The work's event; a classified failure becomes an event, too."""
        try:
            return await work
        except ContextExhausted:
            return OutOfContext()
        except Unattended:
            return LeftAlone()
        except EnvfarmError as e:
            return Failed(e.policy, str(e))

    async def _unless_cancelled(self, work: Coroutine[Any, Any, Event]) -> Event:
        """The work's event, or `CALLED_OFF` if the episode is cancelled, which cancels the work.

        One task watches during the whole attempt and cancels this task, as `asyncio.timeout` does. So no task is created per action.
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
        with self._runner.observer.span("think", policy=self._job.spec.policy.name):
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
        call = self._conversation.shortened(decision.call) if decision.call else None
        return Decided(decision.action, call, self._runner.clock.now(), _outage_s(policy))

    async def _run_tool(self, run: RunTool) -> Observed | ActionTimedOut:
        if self._tools is None:
            raise SandboxError("there is no box")
        with self._runner.observer.span("exec", tool=run.action.tool, step=run.index):
            work = self._tools.run(run.action, Call(name_of(run.index), run.timeout_s))
            return await self._in_time(f"the tool {run.action.tool}", run.timeout_s, work)

    async def _run_program(self, run: RunProgram) -> ProgramEnded:
        program, spec, box, at = self._job.policy, self._job.spec, self._the_box, self._runner.clock.now()
        if not isinstance(program, Program):
            raise PolicyError("the policy is not a program")
        part = Part(
            episode=spec.episode_id,
            instruction=self._job.task.instruction,
            work_dir=self._job.task.plan.work_dir,
            calls=self._budgets.turns,
            tokens=self._budgets.tokens,
            seed=spec.sampling_seed,
            timeout_s=run.timeout_s,
            longest_outage_s=run.longest_outage_s,
        )
        try:
            with self._runner.observer.span("exec", tool="program", step=0):
                result = await self._in_time("the program", run.timeout_s + run.longest_outage_s, program.play(box, part))
        except BoxBroken:
            if program.sampled is not None:  # the outcome counts, so a trainer needs the tokens that led to it
                await self._append(program.sampled)
            raise
        sampled = program.sampled or Sampled(episode=spec.episode_id)
        return ProgramEnded(Bash(command=program.command), as_event(result, run.timeout_s), sampled, at)

    async def _in_time(self, what: str, timeout_s: float, work: Coroutine[Any, Any, T]) -> T:
        """The work's result. If it does not come in time, the box is broken, unless a further request shows that it is lost."""
        grace_s = self._job.grace_s
        try:
            async with awake_timeout(timeout_s + grace_s):
                with boundary(SandboxError, what):
                    return await work
        except TimeoutError as e:
            broken = BoxBroken(f"the box did not answer within {grace_s:.0f} s after the time limit of {what}")
            try:
                await self._the_box.stats()
            except BoxLost as lost:
                raise lost from e
            except EnvfarmError as silent:
                raise broken from silent
            raise broken from e

    async def _append(self, line: Step | Sampled) -> None:
        with boundary(StoreError, "writing the trajectory"):
            await self._runner.trajectories.append(self._job.spec.episode_id, line)
        if isinstance(line, Step):
            self._steps.append(line)

    async def _grade(self) -> Event:
        with self._runner.observer.span("grade", mode=self._job.task.plan.mode) as span:
            graded = await self._graded()
            span.note(kind=graded.outcome.kind)
            return graded

    async def _graded(self) -> Graded:
        shown = await git_diff(self._the_box, self._job.task.plan.work_dir)
        change = await self._take_change()
        self._change = shown if shown is not None else listed(change)
        if self._job.task.plan.mode != "shared":
            # Closed before the grader makes its box: on a node full of agents' boxes that wait for grading, none would ever be graded.
            await self._close_box()
            return Graded(await self._grade_apart(change))
        with boundary(GraderError, "grading"):
            in_place = self._runner.grader.grade_in_place
            return Graded(await in_place(self._job.task, self._the_box, change, environment=self._job.environment))

    async def _grade_apart(self, change: Change) -> Outcome:
        """Grade in fresh boxes. Where the grader fails, the same change is graded again: a replay may not make it a second time."""
        job, again_s = self._job, list(self._runner.grade_again_s)
        while True:
            holder = self._holder(blind_rounds(job.task.plan) * job.task.limits.verifier_s)
            try:
                with boundary(GraderError, "grading"):
                    outcome = await self._runner.grader.grade(job.task, change, environment=job.environment, holder=holder, bill=job.bill)
                if not (again_s and isinstance(outcome, Invalid) and outcome.retryable):
                    return outcome
                why = outcome.detail
            except EnvfarmError as e:
                if not (again_s and e.policy.retry):
                    raise
                why = str(e)
            log.warning("the change of %s could not be graded, and is graded again: %s", job.spec.episode_id, why)
            await asyncio.sleep(again_s.pop(0))

    async def _take_change(self) -> Change:
        """The agent's change of the tree.

        Whether a box is lost is known from outside. Any other refusal comes from inside the agent's box (for example, the change is too
        large), so the agent may have caused it, and it must not buy a retry. The same holds for a process that survives quiescing: no
        difference can be trusted while it runs.
        """
        try:
            with boundary(GraderError, "taking the change"):
                report = await self._the_box.quiesce()
                if not report.ok:
                    raise BoxBroken(f"processes in it could not be killed: {', '.join(report.remaining[:3])}")
                return await self._the_box.diff()
        except BoxLost:
            raise
        except SandboxError as e:
            raise BoxBroken(f"its change could not be taken: {e}") from e

    async def _stop(self, stop: Stop) -> Outcome:
        if not self._has_header:
            return stop.outcome
        seconds, outcome, change = self._runner.clock.monotonic() - self._began, storable(stop.outcome), encodable(self._change)
        end = End(ended=stop.ended, outcome=outcome, action=stop.unanswered, change=change, seconds=seconds)
        try:
            with boundary(StoreError, "writing the trajectory's end"):
                await self._runner.trajectories.append(self._job.spec.episode_id, end)
        except StoreError as e:
            if isinstance(outcome, Invalid):
                return outcome
            return Invalid(cause=e.policy.cause.value, retryable=e.policy.retry, detail=str(e))
        return outcome

    async def _close_box(self) -> None:
        """Close the box. A cancellation takes effect only once the box is closed or `CLOSE_S` has passed."""
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
            log.warning("box %s did not close in %.0f s: it is left to the collector", self._box.box_id, CLOSE_S)
        elif (error := closing.exception()) is not None:
            log.warning("box %s did not close: %s", self._box.box_id, error)
        self._box = self._meter = self._tools = None
        if interrupted is not None:
            raise interrupted

    async def _leave_box(self) -> None:
        """Leave the box to whoever takes the episode over, unless no record names it or nobody can adopt it."""
        adopting, box, meter = self._adopting, self._box, self._meter
        if adopting is None or box is None or meter is None or not self._has_header:
            return
        self._box = self._meter = self._tools = None  # from here on nobody closes it, also if this is interrupted once more
        await meter.leave(adopting, box)

    @property
    def _adopting(self) -> Adopts | None:
        """The provider, if another process can go on in this episode's box. A program would have to begin again, and a box that is graded
        in place may hold what its grader has put there.
        """
        provider, job = self._runner.provider, self._job
        if not isinstance(provider, Adopts) or job.fork is not None or isinstance(job.policy, Program) or job.task.plan.mode == "shared":
            return None
        return provider

    @property
    def _agents_environment(self) -> Environment:
        return self._job.agents_environment or self._job.environment

    @property
    def _the_policy(self) -> Policy:
        if isinstance(self._job.policy, Program):
            raise PolicyError("the policy is a program, which is not asked for actions")
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
        return "the previous attempt was interrupted"
    outcome = earlier.end.outcome
    return f"the previous attempt failed: {outcome.detail}" if isinstance(outcome, Invalid) else "the previous attempt ended"
