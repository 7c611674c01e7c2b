"""The trainer: a trial as a sequence of short units of work, each asked for at the gate.

A unit is one optimizer step or one evaluation batch. Between units a trial can rest, hold, give its memory back, be
checkpointed or end, and none of that changes a number it produces.
"""

import logging
import math
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import nn

from trainables.checkpoints.file_store import CheckpointStore, State
from trainables.data.windows import TrialData
from trainables.errors import DivergedError
from trainables.schema import ExecutionRecord, TrialSpec
from trainables.training import memory
from trainables.training.bootstrap import Floats
from trainables.training.branching import Branches
from trainables.training.checkpoint_schedule import CheckpointSchedule
from trainables.training.evaluation import EvaluationPass
from trainables.training.gate import Action, StepGate
from trainables.training.learner import Learner, Randomness, Schedule
from trainables.training.losses import make_loss
from trainables.training.progress import Judged, TrialProgress, Waits
from trainables.training.ranks import ALONE, Ranks
from trainables.training.result import MetricRow, SliceReport, TrialResult, share_columns
from trainables.training.scoring import TrialScorer

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0  # longest silence at the gate: a report to Tune is due about once a second
LARGE_PARAMETERS = 80_000_000  # parameters and moments of 1 GB, which takes seconds to write


class Trainer:
    """Trains one trial.

    Nothing touches the device before the gate first lets a unit pass: the model is built then, or restored from the
    newest checkpoint in the store. On a CPU, a trial that is killed at any moment and made again over the same store
    ends with the same bits, given an equal execution record and library versions.
    """

    def __init__(
        self,
        spec: TrialSpec,
        record: ExecutionRecord,
        data: TrialData,
        *,
        gate: StepGate,
        store: CheckpointStore | None = None,
        judge_test: bool = True,
        branches: Branches | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """Set a trial up.

        Args:
            spec: what is trained; its key names the trial.
            record: how: micro-batch, threads, checkpoint interval.
            data: windows, on the device to train on.
            gate: asked before every unit of work.
            store: where checkpoints go. Without one nothing is saved, and RELEASE holds instead.
            judge_test: whether the test split is touched, once, at the end; without it the result has no numbers of it.
            branches: trials that go on from states of this one.
            ranks: of the trial, of which this is rank 0.

        Raises:
            ConfigError: the loss does not fit the task.
        """
        self._spec, self._record, self._data = spec, record, data
        self._gate, self._judge_test = gate, judge_test
        self._ranks = ranks
        self._branches = branches or Branches((), n_windows=len(data.train), storage=None)
        self._keeper = CheckpointSchedule(store, spec, record.checkpoint_interval_s)
        self._device = data.train.device
        assert self._device.type == record.device, "the data must be on the device that the record names"
        self._judge = TrialScorer(data, spec.task)
        self._loss = make_loss(spec.training, spec.task.outcome, self._judge.prior)
        self._schedule = Schedule(spec, len(data.train))
        self._randomness = Randomness(self._device, spec.training.seed)
        self._progress = TrialProgress()
        self._judged: Judged | None = None
        self._learner: Learner | None = None
        self._evaluation: EvaluationPass | None = None
        self._waits = Waits()
        self._opened = False
        self._started = False
        self._pending: list[MetricRow] = []
        self._outputs: dict[str, Floats] = {}
        self._result: TrialResult | None = None

    @property
    def done(self) -> bool:
        """Whether the trial is over."""
        return self._result is not None

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole trial; early stopping may end it before."""
        return self._schedule.total_steps

    @property
    def model(self) -> nn.Module | None:
        """The model, with the gradients of its latest step; None while nothing is on the device."""
        return self._learner.model if self._learner is not None else None

    @property
    def eager(self) -> str:
        """Why training steps are not a CUDA graph; empty where they are, will be, or nothing is on the device."""
        return self._learner.eager if self._learner is not None else ""

    @property
    def _trained(self) -> bool:
        """Whether the last epoch has been validated."""
        return self._progress.stopped or self._progress.epoch == self._spec.training.epochs

    def advance(self, max_seconds: float, until: Collection[int] = ()) -> SliceReport:
        """Work for about `max_seconds`, one unit at least, or wait at the gate for at most about a second.

        A loss that is not finite ends the trial as ``diverged``; it is not raised.

        Args:
            max_seconds: of work.
            until: numbers of epochs after which to return at once: it is decided there whether the trial goes on.

        Raises:
            OSError: a checkpoint could not be written or read. Nothing is lost: call again, and it is tried again.
            FencedError: a newer attempt owns the trial.
            CheckpointError: the store holds another trial's checkpoint.
        """
        torch.set_num_threads(self._record.threads)
        if not self._opened:
            self._waits, self._opened = self._keeper.noted(), True
        deadline = time.monotonic() + max_seconds
        worked, action = False, Action.RUN
        with self._randomness.active():
            while not self.done:
                action = self._gate.check()
                if action not in (Action.RUN, Action.THROTTLE):
                    self._settle()
                    if not self.done:
                        self._pause(action)
                    break
                epoch = self._progress.epoch
                if action is Action.RUN or self._rested():
                    self._work()
                    worked = True
                decides = self._progress.epoch != epoch and self._progress.epoch in until
                if decides or time.monotonic() >= deadline:
                    break
            self._settle()
        return self._report(action, worked)

    def save(self, *, meanwhile: bool = False) -> None:
        """Write a checkpoint now. Without a store, or with nothing on the device, there is nothing to write.

        Args:
            meanwhile: a large one is copied to the host, and written while the trial goes on.

        Raises:
            OSError: it could not be written; the trial is as before.
            FencedError: a newer attempt owns the trial.
        """
        if self._keeper.store is None or self._learner is None:
            return
        self._note_peak()
        learner, copy = self._learner, meanwhile and self._spec.model.n_params >= LARGE_PARAMETERS
        self._keeper.save(
            lambda: self._state(learner, self._progress.state(), copy=copy), self._progress, self._waits, meanwhile=copy
        )

    def _state(self, learner: Learner, progress: dict[str, Any], *, copy: bool = False) -> State:
        return {
            **learner.state(copy=copy),
            "random": self._randomness.state(),
            "progress": progress,
            "judged": self._judged.state() if self._judged else None,
        }

    def result(self) -> TrialResult:
        """How the trial ended; call it when `done`."""
        assert self._result is not None, "the trial is not over"
        return self._result

    @property
    def judged_weights(self) -> dict[str, torch.Tensor] | None:
        """The model's state after the judged epoch, on the CPU; call it when `done`. None where the trial diverged."""
        return self._judged.weights if self._judged is not None and not self.result().diverged else None

    def predictions(self) -> pd.DataFrame:
        """Predictions of the judged weights, for validation and (unless diverged) test; call it when `done`.

        Columns date, asset, split, label, logit (of values the predicted mean; of classes a logit each). The selection
        part of validation, where there is one, is a split of its own.
        """
        return self._judge.predictions(self._outputs)

    # ---- at the gate --------------------------------------------------------------------------------------------

    def _rested(self) -> bool:
        """Rest after THROTTLE; whether the rest is over."""
        waited = self._gate.wait(HEARTBEAT_S)
        self._waits.throttled_seconds += waited
        return waited < HEARTBEAT_S

    def _pause(self, action: Action) -> None:
        """Save what is new; then end (STOP, DRAIN), or wait with the memory (HOLD) or without it (RELEASE)."""
        self._keeper.settle()
        if not self._keeper.has(self._progress):
            self.save()
        if action in (Action.STOP, Action.DRAIN):
            self._keeper.note(self._waits)
            return
        if action is Action.RELEASE and self._keeper.has(self._progress):
            self._free()
        self._waits.held_seconds += self._gate.wait(HEARTBEAT_S)

    def _free(self) -> None:
        """Give the device's memory back."""
        if self._learner is None:
            return
        self._note_peak()
        self._learner.free()
        self._learner = self._evaluation = None

    # ---- units of work ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        learner = self._learner or self._build()
        try:
            if self._evaluation is None:
                self._train(learner)
            else:
                self._evaluate(learner, self._evaluation)
        except DivergedError as error:
            self._diverged(error)
        if self._keeper.due:
            self._settle()
            if not self.done:
                self.save(meanwhile=True)

    def _build(self) -> Learner:
        """Put the trial on the device: from the newest checkpoint, or from the seed."""
        memory.reset_peak(self._device)
        self._randomness.restart()
        learner = Learner(self._spec, self._record, self._schedule, self._loss, self._device, ranks=self._ranks)
        state = self._keeper.load()
        self._progress, self._judged = TrialProgress(), None
        if state is not None:
            learner.load(state)
            self._randomness.load(state["random"])
            self._progress = TrialProgress.of(state["progress"])
            self._judged = Judged(**state["judged"]) if state["judged"] else None
        if not self._started:
            self._pending = list(self._progress.rows)  # those before a crash may never have arrived
        self._learner, self._started = learner, True
        self._keeper.begin(self._progress)
        self._plan_evaluation(learner)
        return learner

    def _train(self, learner: Learner) -> None:
        progress, table = self._progress, self._data.train.table
        # Before the step: every later state of this trial then says that those of its branches are written.
        for branch in self._branches.leave_at(progress.step):
            self._count(learner.read())
            self._branches.leave(branch, progress.step, self._state(learner, progress.branch(self._spec.key)))
        if self._spec.training.judged_epoch == "best":
            self._keep_judged(learner)  # the step changes the model
        started, waited_s = time.perf_counter(), table.waited_s
        losses = learner.step(self._data.train, progress.step)
        progress.step += 1
        progress.samples += self._schedule.batch
        if progress.step == self._schedule.end_of(progress.epoch + 1):
            losses += learner.read()
        progress.train_seconds += time.perf_counter() - started
        progress.waited_seconds += table.waited_s - waited_s
        self._count(losses)
        self._plan_evaluation(learner)

    def _settle(self) -> None:
        """Wait for the steps that were launched, so that progress is what the tensors are."""
        if self._learner is None:
            return
        started = time.perf_counter()
        try:
            losses = self._learner.read()
            self._progress.train_seconds += time.perf_counter() - started
            self._count(losses)
        except DivergedError as error:
            self._diverged(error)

    def _count(self, losses: list[float]) -> None:
        for loss in losses:
            self._progress.loss = loss
            self._progress.epoch_loss += loss

    def _diverged(self, error: DivergedError) -> None:
        """End at the step that was refused; later ones that were launched did nothing."""
        self._progress.samples -= (self._progress.step - error.step) * self._schedule.batch
        self._progress.step = error.step
        self._end(str(error))

    def _plan_evaluation(self, learner: Learner) -> None:
        """Validation is due after an epoch and after the last step; then test, with training for the gap to it."""
        progress, splits = self._progress, self._judge.splits
        if self._trained:
            assert self._judged is not None
            if self._judged.weights is not None:
                learner.put(self._judged.weights)
            names = ["test", "train"] if self._judge_test else ["train"]
        elif progress.step == self._schedule.end_of(progress.epoch + 1):
            names = [name for name in splits if name in ("selection", "validation")]
            names += ["train"] if self._judge.values else []
        else:
            self._evaluation = None
            return
        chosen = {name: splits[name] for name in names}
        self._evaluation = EvaluationPass(chosen, self._record.micro_batch, self._ranks)

    def _evaluate(self, learner: Learner, evaluation: EvaluationPass) -> None:
        started = time.perf_counter()
        evaluation.advance(learner.model, self._spec.dtype)
        found = evaluation.outputs() if evaluation.done else None  # which waits for the device
        self._progress.evaluation_seconds += time.perf_counter() - started
        if found is not None:
            outputs = {
                name: self._judge.in_label_units(outputs_N, self._progress.step) for name, outputs_N in found.items()
            }
            if self._trained:
                self._end(final=outputs)
            else:
                self._close_epoch(learner, outputs)

    def _close_epoch(self, learner: Learner, outputs: dict[str, Floats]) -> None:
        progress, training = self._progress, self._spec.training
        residual_variance = self._judge.residual_variance(outputs["train"]) if self._judge.values else None
        values, value, lower = self._judge.of_epoch(outputs, residual_variance, training.early_stopping)
        progress.epoch += 1
        schedule = self._schedule
        train_loss = progress.epoch_loss / (schedule.end_of(progress.epoch) - schedule.end_of(progress.epoch - 1))
        row = MetricRow(
            progress.step, progress.epoch, {"train_loss": train_loss, "lr": schedule.rate(progress.step - 1), **values}
        )
        progress.rows.append(row)
        self._pending.append(row)
        progress.epoch_loss = 0.0
        progress.watch(value, training.early_stopping, lower_is_better=lower)
        if training.judged_epoch == "last" or progress.best_epoch == progress.epoch:
            kept = {name: torch.from_numpy(part_N) for name, part_N in outputs.items() if name != "train"}
            self._judged = Judged(progress.epoch, kept, residual_variance)
        self._plan_evaluation(learner)

    def _keep_judged(self, learner: Learner) -> None:
        """Copy the judged weights where the model still has them."""
        if self._judged is not None and self._judged.weights is None:
            self._judged = replace(self._judged, weights=learner.weights())

    # ---- the end ------------------------------------------------------------------------------------------------

    def _end(self, reason: str = "", final: dict[str, Floats] | None = None) -> None:
        """Judge the weights of the judged epoch, and let go of all tensors. A reason means that the trial diverged.

        Args:
            reason: what diverged.
            final: their outputs for test and training; None where the trial diverged.
        """
        self._keeper.close()
        if final is not None and self._learner is not None:
            self._keep_judged(self._learner)
        progress, judged = self._progress, self._judged
        if judged is not None:
            self._outputs |= {name: outputs_N.numpy() for name, outputs_N in judged.outputs.items()}
        if final is not None and "test" in final:
            self._outputs["test"] = final["test"]
        if self._spec.training.judged_epoch == "best" and progress.epoch and not math.isfinite(progress.best_metric):
            log.warning("no epoch had a value of the metric that chooses among them: the last one is judged")
        residual_variance = judged.residual_variance if judged else None
        columns, collapsed = self._judge.columns(self._outputs, residual_variance)
        if final is not None:
            columns |= self._judge.training_columns(final["train"], residual_variance)
        self._free()
        self._result = TrialResult(
            status="diverged" if reason else "finished",
            reason=reason,
            epochs=progress.epoch,
            steps=progress.step,
            best_epoch=progress.best_epoch,
            judged_epoch=judged.epoch if judged else None,
            collapsed=collapsed,
            diverged=bool(reason),
            train_base_rate=self._judge.prior.mean,
            train_residual_variance=residual_variance,
            train_seconds=progress.train_seconds,
            evaluation_seconds=progress.evaluation_seconds,
            held_seconds=self._waits.held_seconds,
            throttled_seconds=self._waits.throttled_seconds,
            samples_per_second=progress.samples / progress.train_seconds if progress.samples else None,
            peak_bytes=progress.peak_bytes,
            data_wait_share=progress.waited_seconds / progress.train_seconds if progress.samples else None,
            columns_by_split=columns | share_columns(self._judge.prior),
            branched_from=progress.branched_from or None,
            branched_at=progress.branched_at,
        )

    def _note_peak(self) -> None:
        self._progress.peak_bytes = max(self._progress.peak_bytes, memory.peak_bytes(self._device))

    def _report(self, action: Action, worked: bool) -> SliceReport:
        rows, self._pending = self._pending, []
        progress = self._progress
        return SliceReport(
            kind="progress" if worked or rows or self.done else "heartbeat",
            step=progress.step,
            total_steps=self.total_steps,
            epoch=progress.epoch,
            loss=progress.loss,
            gradient_norm=self._learner.gradient_norm if self._learner else None,
            rows=rows,
            action=action,
            saved=self._keeper.has(progress),
            done=self.done,
            held_s=self._waits.held_seconds,
            throttled_s=self._waits.throttled_seconds,
            train_s=progress.train_seconds,
        )
