"""The handle of an attachment: it owns plans, state, clock and counts, and puts the model back."""

import itertools
import threading
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from saccade.core.clock import Clock
from saccade.core.errors import SaccadeError, SelectorError, StateError
from saccade.core.inference import outside_inference
from saccade.core.mechanism import BlockSystem, System
from saccade.core.rows import Rows
from saccade.core.site import Site, Where
from saccade.core.stack import Plan
from saccade.core.state import Memory, MemoryBank
from saccade.ops import Choice
from saccade.run.attached_model import AttachedModel, LayoutOverride, attach_to, inside, models_of
from saccade.run.counts import RunCounts
from saccade.run.explain import explain, probe
from saccade.run.forward_context import ForwardContext
from saccade.run.planner import Planner, named, needs
from saccade.run.recompute import Forwards
from saccade.run.report import Report
from saccade.run.schedule import Schedule
from saccade.run.weak_rows import WeakRows
from saccade.seam.activation_hooks import ActivationHooks
from saccade.seam.family import Family, Inputs, rows_given, rows_of
from saccade.seam.graphs import own_graphs
from saccade.seam.guards import (
    check_interceptor,
    check_need,
    check_seen,
    check_start,
    check_weak,
    close,
    refuse_cache,
    refuse_in_graph,
    refuse_in_place,
    watch,
)
from saccade.seam.interceptor import SiteInterceptor
from saccade.seam.kernel_choice import choose_kernel, operand_dtype, site_device
from saccade.seam.one_by_one import OneRow
from saccade.seam.projection_hooks import ProjectionHooks
from saccade.seam.shadow import refuse_copy

_numbers = itertools.count(1)


class Run:
    """The handle of an attachment, owner of its plans, state and counts.

    `detach`, or leaving the `with` block, puts the model back as it was.
    """

    def __init__(
        self, target: Any, systems: tuple[System, ...], *, where: Where, rows: Rows | None, schedule: Any, timing: bool
    ) -> None:
        self.target, self.where, self.timing = target, where, timing
        self.name = f"run {next(_numbers)} ({', '.join(s.name for s in systems) or 'no systems'})"
        self.planner, self.state, self.counts = Planner(named(systems), where), MemoryBank(), RunCounts()
        self.clock: Clock | None = None
        self._given_schedule, self._schedule = schedule, None
        self._firsts: dict[tuple[int, str], int] = {}  # the step a model and branch began with, see Clock.first
        self._follow_schedule()
        self._given_step: tuple[int, int] | None = None
        self._rows, self._nth, self._part, self._weak = rows, 0, "", WeakRows()
        self._models: list[AttachedModel] = []
        self._hooks: list[Any] = []
        self._activation_hooks, self._projection_hooks = ActivationHooks(), ProjectionHooks()
        self._memories: dict[Any, dict[str, Memory]] = {}
        self._choices: WeakKeyDictionary[Plan, dict[Any, Choice]] = WeakKeyDictionary()
        self._lock, self._thread = threading.Lock(), None
        self._forwards = Forwards(self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.detach()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_copy(self.name)

    @property
    def sites(self) -> tuple[Site, ...]:
        """The attached sites in order of execution."""
        return tuple(interceptor.site for interceptor in self._interceptors())

    def step(self, index: int, *, of: int) -> None:
        """Set which of `of` steps the following forwards are, where the model receives no timestep to look up.

        Step 0 after another step begins a new generation: state is forgotten. The same step again goes on with it.
        Raises ValueError for a step out of range, SaccadeError where a schedule sets the step.
        """
        if self._schedule is not None:
            raise SaccadeError(
                f"{self.name} looks its steps up in the schedule of {type(self._schedule.scheduler).__name__}; "
                "attach without schedule=, and not a pipeline, to set them by hand"
            )
        if not 0 <= index < of:
            raise ValueError(f"index={index} is no step of={of}; steps run from 0 to of - 1")
        if index and self._given_step is not None and of != self._given_step[1]:
            raise ValueError(
                f"of={of} differs from the {self._given_step[1]} steps given so far; begin again with step 0"
            )
        if index == 0 and self._given_step not in (None, (index, of)):
            self._begin_generation()
        self._given_step = index, of

    def part(self, name: str) -> None:
        """Begin a part of a step that is taken in several, such as one of a video's windows; its forwards follow.

        Each part has its own state, counts the branches of guidance anew, and may start target rows from other noise.
        """
        self._part, self._nth = name, -1

    def detach(self) -> None:
        """Put everything back, forget all state; the report stays. Harmless when repeated."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._activation_hooks.remove()
        self._projection_hooks.remove()
        for attached in self._models:
            attached.undo()
        self.state.clear()
        self._weak.forget()
        self.planner.clear()
        self._memories.clear()
        self._choices.clear()
        self._thread = None
        self._forwards.end()
        self._forwards.detached = True

    def report(self) -> Report:
        """What ran where so far."""
        return self.counts.report(self._models)

    def explain(self, num_steps: int = 28) -> str:
        """What the stack would do at every site over `num_steps`; raises now what a plan would raise then."""
        return explain(self.planner, self.sites, num_steps)

    def begin(self, reading: LayoutOverride) -> None:
        """Put the systems on the target; `attach` calls this once.

        Raises ValueError for timing of a compiled model, SelectorError where nothing is chosen, and as `attach` says.
        """
        for outer, prefix in models_of(self.target):
            model = inside(outer)
            refuse_in_place(model)
            if self.planner.systems:
                refuse_cache(model)
            if self.timing and outer is not model:
                raise ValueError("timing=True needs eager calls; attach the model uncompiled, or leave timing out")
            self._models.append(attached := attach_to(outer, reading, self.name, self.where, prefix))
            attached.undos.append(own_graphs(outer, model, (self.where, *self.planner.systems.values())))
        for interceptor in self._interceptors():
            interceptor.seconds, interceptor.active = 0.0 if self.timing else None, self.timing
        self._check_selectors()
        probe(self.planner, self._interceptors())
        for m in self._models:
            self._hooks += [
                m.outer.register_forward_pre_hook(partial(self._enter, m), with_kwargs=True),
                m.outer.register_forward_hook(partial(self._leave, m), always_call=True),
            ]
            for system in self.planner.systems.values():
                if isinstance(system, BlockSystem):
                    m.surroundings.append(around := system.surround(m.model, tuple(i.site for i in m.interceptors)))
                    m.undos.append(around.undo)
            if self.planner.systems:
                for name, mend in m.family.bypasses.items():
                    m.undos.append(close(m.model, name, mend, lambda: self._thread is not None))

        self._models[0].undos.append(watch(self.target, self._check_target))

    def _check_target(self) -> None:
        now = [model for model, _ in models_of(self.target)]
        if [id(model) for model in now] != [id(attached.outer) for attached in self._models]:
            raise SaccadeError(
                f"a model of {type(self.target).__name__} was replaced after attach, so {self.name} sees none of its "
                "calls; put it back, or attach again"
            )

    def _interceptors(self) -> list[SiteInterceptor]:
        return [interceptor for attached in self._models for interceptor in attached.interceptors]

    def _check_selectors(self) -> None:
        if not self.sites:
            known = [name for attached in self._models for name in attached.alone]
            raise SelectorError(
                f"where={self.where} matches no site; there are {', '.join(known) or 'no attention sites'}"
            )
        for name, system in self.planner.systems.items():
            own = getattr(system, "where", None)
            if isinstance(own, Where) and not any(own.covers(site) for site in self.sites):
                raise SelectorError(f"where={own} of '{name}' matches no attached site; there are {_names(self.sites)}")
            if (check := getattr(system, "check_sites", None)) is not None:
                check(self.sites)

    def _enter(
        self, attached: AttachedModel, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if torch.compiler.is_compiling():
            refuse_in_graph()
        self._claim()
        try:
            with outside_inference():
                self._plan(attached, args, kwargs)
            if self.planner.systems:
                self._forwards.begin(attached.interceptors)
            return self._weak.widen(attached, args, kwargs)
        except BaseException:
            self._thread = None
            raise

    def _leave(self, attached: AttachedModel, module: nn.Module, args: tuple[Any, ...], output: object) -> Any:
        if torch.compiler.is_compiling() or self._thread != threading.get_ident():  # refused at the door
            return None
        self._thread = None
        self._forwards.end()
        for interceptor in attached.interceptors:
            interceptor.view.forget()
            if output is not None:  # None: the forward raised, and that error is on its way
                check_seen(interceptor, attached.model)
        return None if output is None else self._weak.finish(output)

    def _claim(self) -> None:
        with self._lock:
            mine = threading.get_ident()
            if self._thread not in (None, mine):
                raise StateError(
                    f"{self.name} is in a forward in another thread; attach one model per thread, or take turns"
                )
            self._thread = mine

    def _plan(self, attached: AttachedModel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.counts.forwards += 1
        if not self.planner.systems:
            return
        inputs = attached.inputs(args, kwargs)
        if attached.family.aside(inputs):
            self._stand_aside(attached)
            return
        self.planner.begin_forward()
        now = self._context(attached, inputs)
        for around in attached.surroundings:
            around.begin(now.clock, now.rows, len(now.sample))
        for interceptor in attached.interceptors:
            interceptor.layout_q, interceptor.layout_k = (
                self.planner.same(layout) for layout in now.layouts_of(attached, interceptor.site)
            )
            interceptor.ahead = _ahead(attached.family, interceptor, now.inputs)
            self._prepare(attached, interceptor, now)

    def _stand_aside(self, attached: AttachedModel) -> None:
        self._weak.forget()
        for interceptor in attached.interceptors:
            interceptor.plan, interceptor.active, interceptor.seen = None, self.timing, False

    def _prepare(self, attached: AttachedModel, interceptor: SiteInterceptor, now: ForwardContext) -> None:
        assert interceptor.layout_q is not None and interceptor.layout_k is not None
        skipped = attached.family.skipped(attached.model, now.inputs, interceptor.site)
        items = {} if skipped else self.planner.items(interceptor.site, now.clock)
        device = site_device(interceptor.view.module, now.sample)
        dtype = operand_dtype(now.sample, interceptor.view.module)
        interceptor.view.order = attached.family.order(attached.model, now.inputs, device)
        batch, fold = now.sample.shape[0], attached.family.fold(attached.model, now.inputs, interceptor.site)
        interceptor.plan = plan = self.planner.plan(
            interceptor.site, items, interceptor.layout_q, interceptor.layout_k, device, dtype, batch, fold
        )
        interceptor.active, interceptor.open = plan is not None or self.timing, True
        interceptor.rows = None if now.rows is None else now.rows.folded(fold)
        interceptor.seen, interceptor.trains = False, torch.is_grad_enabled()
        interceptor.added = {}
        if plan is None:
            self.counts.count(interceptor)
            return
        check_interceptor(interceptor, attached.replaced(interceptor))
        asked = needs(plan)
        for need in asked:
            check_need(interceptor, need, now.rows)
            self._activation_hooks.ensure(interceptor.view, need)
        if {"host.rotary", "host.raw"} & asked:
            interceptor.view.table = now.table(attached, interceptor.layout_q, device)
        if "host.enter" in asked:
            interceptor.view.noisiest = now.noisiest(attached.family)
        if self.where.heads is not None and (interceptor.heads is None or interceptor.heads.device != device):
            interceptor.heads = interceptor.view.chosen = torch.tensor(self.where.heads, device=device)
        interceptor.added = self._projection_hooks.added(interceptor, plan.adapters, device, dtype)
        interceptor.memories = self._memories_of(interceptor.site.name, now.clock.branch, plan.systems)
        sample = now.sample_of(fold)
        if attached.family.one_by_one:
            interceptor.row_calls, interceptor.turn = self._row_calls(interceptor, plan, now), 0
            sample = sample[:1]
        self.counts.count(interceptor, self._chosen_kernel(interceptor, plan, sample, device))

    def _row_calls(self, interceptor: SiteInterceptor, plan: Plan, now: ForwardContext) -> tuple[OneRow, ...]:
        """What the call of each batch row has of its own, where the host makes one for each."""
        site, rows, branch = interceptor.site.name, now.rows, now.clock.branch
        return tuple(
            OneRow(
                None if rows is None else self.planner.same(rows.only(row)),
                self._memories_of(site, f"{branch} row {row}" if row else branch, plan.systems),
            )
            for row in range(len(now.sample))
        )

    def _chosen_kernel(self, interceptor: SiteInterceptor, plan: Plan, sample: Tensor, device: torch.device) -> Choice:
        choices = self._choices.setdefault(plan, {})
        key = (sample.shape[0], sample.dtype, torch.is_grad_enabled())
        if key not in choices:
            choices[key] = choose_kernel(interceptor, plan, sample, device)
        return choices[key]

    def _memories_of(self, site: str, branch: str, systems: tuple[str, ...]) -> dict[str, Memory]:
        key = (site, branch, self._part, systems)
        if key not in self._memories:
            own = f"{self._part}: {branch}" if self._part else branch
            self._memories[key] = {name: self.state.of(name, site, own) for name in systems}
        return self._memories[key]

    def _context(self, attached: AttachedModel, inputs: Inputs) -> ForwardContext:
        """Clock and rows of this forward; state ticks where a step begins and is cleared where a generation does."""
        family, sample = attached.family, attached.sample(inputs)
        family.check(inputs)
        weak, batch = family.weak(inputs), sample.shape[0]
        clock = self._read(attached, inputs)  # forgets self.clock where a new generation begins
        before = self.clock
        timed = self._schedule is not None or self._given_step is not None
        begins = before is None or not timed or clock.step != before.step
        self._nth = 0 if begins else self._nth + (not weak)
        if begins:
            self.state.tick()
            self.counts.steps += 1
        self.state.begin_forward()
        if torch.is_grad_enabled():
            self.state.leave_inference()
        guided = None if family.guidance is None else family.guidance.now(self.target, inputs)
        branch, rows = rows_of(family.guidance, batch, guided, self._nth, weak)
        if self._rows is not None:
            rows = rows_given(self._rows, family.guidance, batch)
        if self._schedule is not None and clock.step == 0 and not (self._schedule.begin or self._part):
            check_start(rows, sample)
        at = (id(attached), branch)
        first = self._firsts[at] = min(self._firsts.get(at, clock.step), clock.step)
        self.clock = replace(clock, branch=branch, part=self._part, first=first)
        check_weak(family, asked := self.planner.weak_weight(self.clock))
        rows = self._weak.begin(family.name, asked, rows, self.clock)
        if rows is not None:  # a view stands for the batch with its weak rows, which are made outside
            sample = sample[:1].expand(rows.n, *sample.shape[1:])
        return ForwardContext(inputs, sample, self.clock, self.planner.same(rows))

    def _read(self, attached: AttachedModel, inputs: Inputs) -> Clock:
        given = inputs.get(attached.family.time_name)
        if self._given_step is not None:
            return Clock(step=self._given_step[0], num_steps=self._given_step[1], given=given)
        self._follow_schedule()
        if self._schedule is None or given is None:
            if (asking := self._asking()) is not None:
                raise ValueError(
                    f"{asking} needs the step of a forward; attach the pipeline, give schedule=, "
                    "or tell it by run.step(i, of=n)"
                )
            return Clock(given=given)
        if self._schedule.refresh():
            self._begin_generation()
        return self._schedule.clock(given, attached.family.time_scale, attached.family.time_offset)

    def _follow_schedule(self) -> None:
        """The scheduler given to `attach`, or the one the pipeline has now."""
        scheduler = getattr(self.target, "scheduler", None) if self._given_schedule is None else self._given_schedule
        if scheduler is not (None if self._schedule is None else self._schedule.scheduler):
            self._schedule = None if scheduler is None else Schedule(scheduler)

    def _begin_generation(self) -> None:
        self.state.clear()
        self._firsts.clear()
        self.clock = None

    def _asking(self) -> str | None:
        """Who wants to know the step: the run's `during`, or a system that says its plan follows the step."""
        if self.where.during != (0.0, 1.0):
            return f"during={self.where.during}"
        return next((f"'{name}'" for name, s in self.planner.systems.items() if getattr(s, "timed", False)), None)


def _ahead(family: Family, interceptor: SiteInterceptor, inputs: Inputs) -> int | None:
    if not family.ordered(interceptor.view.module, inputs):
        return None
    return 0 if (size := family.cache_span(inputs, interceptor.site)) is None else size.before


def _names(sites: tuple[Site, ...]) -> str:
    return ", ".join(site.name for site in sites)
