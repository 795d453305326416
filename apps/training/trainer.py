"""Training: one loop for all tasks, on one device or, under ``torchrun``, on several."""

import copy
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, Optional

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from streamdrnn import save_model
from streamdrnn.apps.training import checkpoint, network
from streamdrnn.apps.training.checkpoint import Checkpoint, Progress
from streamdrnn.apps.training.csv_log import CSVLog
from streamdrnn.apps.training.evaluation import evaluate
from streamdrnn.apps.training.network import KINDS, Model, NetworkRecipe
from streamdrnn.apps.training.prediction import entropy, predict
from streamdrnn.apps.training.run_folder import RunFolder
from streamdrnn.apps.training.tasks.task import Batch, Recipe, Split, Task
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from streamdrnn.errors import InputError
from streamdrnn.state import StreamState, batch_dim

Report = Callable[[int, int, float], None]
"""Called after each step with the step, the number of steps, and the loss."""


class Learner(nn.Module):
    """What a gradient step differentiates: the loss of a batch."""

    def __init__(self, model: Model, per_step: bool) -> None:
        super().__init__()
        self.model = model
        self.per_step = per_step

    def forward(self, batch: Batch, state: Optional[StreamState]) -> tuple[Tensor, StreamState]:
        logits, state = predict(self.model, batch, state, self.per_step)
        return entropy(logits.float().flatten(0, -2), batch.target.flatten()), state


class Trainer:
    """One run.

    Args:
        recipe: what is trained, and how.
        task: with its data.
        folder: where the run is kept.
        resume: go on with the run in the folder, if there is one.

    Raises:
        ValueError, TypeError, OSError: the recipe does not fit the data or the machine, or the folder is in use.
    """

    def __init__(self, recipe: Recipe, task: Task, folder: RunFolder, resume: bool) -> None:
        self.task = task
        self.folder = folder
        self.recipe: TrainingRecipe = recipe.training
        self.network: NetworkRecipe = recipe.network
        self._in_16_bits = recipe.in_16_bits
        self.accelerator = self._accelerator()
        self._check_fit()
        self._sizes = (task.input_size, task.num_outputs, task.per_step, task.audio_input)
        self.model = network.seeded(self.network, self.recipe.seed, *self._sizes)
        self._start_or_find(recipe, resume)
        learner = Learner(self.model, task.per_step)
        if self.recipe.compile:
            learner.compile()
        optimizer = make_optimizer(self.recipe, learner.parameters())
        self.learner, self.optimizer = self.accelerator.prepare(learner, optimizer)
        # After the weights, which are the same on all processes: dropout differs.
        set_seed(self.recipe.seed, device_specific=True)
        self.progress = Progress()
        self.state: Optional[StreamState] = None
        self.best: dict[str, Tensor] = {}
        if resume and folder.checkpoint.is_file():
            self._restore(checkpoint.read(folder.checkpoint))
        self._start_logging()

    def run(self, report: Report) -> dict[str, Any]:
        """Train, and measure the best model on the test set.

        Returns:
            the results, as they are written into the run's folder.
        """
        recipe, progress, task = self.recipe, self.progress, self.task
        started = time.monotonic() - progress.seconds
        loss = math.nan
        while progress.step < recipe.steps and not self._has_stopped():
            loss_on_device = self._step(task.batch(progress.step))
            progress.step += 1
            # A GPU would wait if it was asked for the loss of every step.
            if self._is_due(recipe.log_every, recipe.validate_every, recipe.checkpoint_every):
                loss = self._over_processes(loss_on_device)
            report(progress.step, recipe.steps, loss)
            if self._is_due(recipe.log_every):
                self.accelerator.log({"loss": loss, "seconds": time.monotonic() - started}, step=progress.step)
            if self._is_due(recipe.validate_every):
                self._validate()
            progress.seconds = time.monotonic() - started
            if self._is_due(recipe.checkpoint_every) or self._has_stopped():
                self._write_checkpoint()
        self.accelerator.wait_for_everyone()
        results = self._results()
        if self.accelerator.is_main_process:
            self.folder.write_results(results)
        # What holds the group of processes is let go before it ends: alive at the interpreter's end, its threads would
        # abort a process that has done all its work.
        del self.learner
        self.accelerator.free_memory()
        self.accelerator.end_training()
        return results

    def _step(self, batch: Batch) -> Tensor:
        batch = batch.part(self.accelerator.process_index, self.accelerator.num_processes).to(self.accelerator.device)
        state = None if batch.begins or self.state is None else self.state.detach()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.progress.step)
        loss, state = self.learner(batch, state)
        self.state = state if self.task.carries else None
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        if self.recipe.clip:
            self.accelerator.clip_grad_norm_(self.learner.parameters(), self.recipe.clip)
        self.optimizer.step()
        detached: Tensor = loss.detach()
        return detached

    def _is_due(self, *periods: int) -> bool:
        """Whether something is to be done that is done now and then, and after the last step."""
        return self.progress.step == self.recipe.steps or any(self.progress.step % period == 0 for period in periods)

    def _over_processes(self, loss: Tensor) -> float:
        """The mean loss of all processes; ``ValueError`` if it is no number."""
        mean = float(self.accelerator.reduce(loss, "mean"))
        if not math.isfinite(mean):
            raise InputError(f"the loss is not a number at step {self.progress.step}: try a lower learning rate")
        return mean

    def _validate(self) -> None:
        progress, metric = self.progress, self.task.metric
        scores = self._measure(self.model, "valid")
        self.accelerator.log({f"valid_{name}": value for name, value in scores.items()}, step=progress.step)
        sign = 1 if self.task.higher_is_better else -1
        if not progress.best or sign * scores[metric] > sign * progress.best[metric]:
            progress.best, progress.best_step, progress.since_best = scores, progress.step, 0
            self.best = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
            self._save_model()
        else:
            progress.since_best += 1

    def _save_model(self) -> None:
        if self.accelerator.is_main_process:
            notes = {**self.task.notes(), **self.task.notes_of(self.progress.best)}
            save_model(copy.deepcopy(self.model).half() if self._in_16_bits else self.model, self.folder.model, notes)

    def _measure(self, model: Model, split: Split) -> dict[str, float]:
        accelerator = self.accelerator
        return evaluate(model, self.task, split, process=accelerator.process_index, processes=accelerator.num_processes)

    def _results(self) -> dict[str, Any]:
        task, progress = self.task, self.progress
        best = network.load(self.folder.model, self.network, *self._sizes).to(self.accelerator.device)
        return {
            "valid": progress.best,
            "test": self._measure(best, "test"),
            "chance": task.chance,
            "parameters": sum(parameter.numel() for parameter in best.parameters()),
            "steps": progress.step,
            "best_step": progress.best_step,
            "seconds": round(progress.seconds, 1),
        }

    def _has_stopped(self) -> bool:
        """Whether training has gone on for long enough without a better model."""
        return 0 < self.recipe.patience <= self.progress.since_best

    def _accelerator(self) -> Accelerator:
        self.recipe.check()
        if self.recipe.mixed_precision != "no" and not torch.cuda.is_available():
            raise InputError(f"mixed_precision: {self.recipe.mixed_precision} is for GPUs, and there is none")
        self.log = CSVLog(self.folder.log)
        trackers: list[Any] = [self.log, *(["tensorboard"] if self.recipe.tensorboard else [])]
        return Accelerator(
            # Else accelerate sees no process group under torchrun where there is no GPU.
            cpu=not torch.cuda.is_available(),
            mixed_precision=self.recipe.mixed_precision,
            log_with=trackers,
            project_dir=str(self.folder.path),
        )

    def _check_fit(self) -> None:
        self.task.check(self.network)
        processes, batch_size = self.accelerator.num_processes, self.recipe.batch_size
        if batch_size % processes:
            raise InputError(f"batch_size: {batch_size} sequences, expected as many on each of {processes} processes")
        if self.recipe.compile and self.accelerator.device.type != "cuda" and KINDS[self.network.network].is_recurrent:
            # The native kernels are one operator, in which a compiler finds nothing; runs of a skip network it unrolls.
            raise InputError("compile: on a CPU only a cnn network is compiled; recurrent ones have native kernels")

    def _start_or_find(self, recipe: Recipe, resume: bool) -> None:
        processes = self.accelerator.num_processes
        if resume and self.folder.is_started():
            self.folder.check_same(recipe, self.task.notes(), processes)
        elif self.accelerator.is_main_process:
            self.folder.start(recipe, self.task.notes(), processes)
        self.accelerator.wait_for_everyone()

    def _start_logging(self) -> None:
        self.log.first_step = self.progress.step
        options = {"tensorboard": {"purge_step": self.progress.step + 1}} if self.recipe.tensorboard else {}
        self.accelerator.init_trackers("tensorboard", init_kwargs=options)

    def _write_checkpoint(self) -> None:
        gather, scaler = self.accelerator.gather, self.accelerator.scaler
        random = gather(self._random_state().to(self.accelerator.device)).view(self.accelerator.num_processes, -1)
        carried = None
        if self.state is not None:
            # Streams first, as that is the dimension in which processes are joined.
            carried = {
                name: gather(value.detach().movedim(batch_dim(value), 0).contiguous()).movedim(0, batch_dim(value))
                for name, value in self.state.tensors().items()
            }
        if self.accelerator.is_main_process:
            optimizer = checkpoint.optimizer_tensors(self.optimizer)
            scale = {} if scaler is None else scaler.state_dict()
            now = Checkpoint(self.progress, self.model.state_dict(), self.best, optimizer, random, carried, scale)
            checkpoint.write(now, self.folder.checkpoint)

    def _restore(self, saved: Checkpoint) -> None:
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        self.progress, self.best = saved.progress, saved.best
        if self.best:
            # The one in the folder may be of a later measurement, of which the checkpoint does not know.
            self.model.load_state_dict(self.best)
            self._save_model()
        checkpoint.restore(saved, self.model, self.optimizer)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(saved.scaler)
        # A copy, as torch 2.13 reads a state that is a part of another tensor from that tensor's beginning.
        self._set_random_state(saved.rng[process].clone())
        if saved.carried is not None:
            like = self.model.rnn.zero_state(self.recipe.batch_size // processes)
            tensors = [saved.carried[name] for name in like.tensors()]
            mine = iter([t.tensor_split(processes, batch_dim(t))[process].to(self.accelerator.device) for t in tensors])
            self.state = like.map(lambda _: next(mine).clone())

    def _random_state(self) -> Tensor:
        """Of the device that trains, where dropout draws its random numbers."""
        device = self.accelerator.device
        return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()

    def _set_random_state(self, state: Tensor) -> None:
        device = self.accelerator.device
        if device.type == "cuda":
            torch.cuda.set_rng_state(state, device)
        else:
            torch.set_rng_state(state)


def make_optimizer(recipe: TrainingRecipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of a recipe.

    RMSProp is that of the original code (demo.ipynb): TensorFlow's with a decay of 0.9, whose epsilon of 1e-10 is added
    below the square root, where torch adds it above. TensorFlow's mean square also starts at 1, so its first steps are
    smaller.
    """
    parameters = list(parameters)
    if recipe.optimizer == "adam":
        # Biases keep their size: a forget gate's is what remembers.
        matrices = [parameter for parameter in parameters if parameter.ndim > 1]
        biases = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": biases, "weight_decay": 0.0}]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=recipe.learning_rate, betas=(0.9, recipe.beta2)
        )
    return torch.optim.RMSprop(parameters, lr=recipe.learning_rate, alpha=0.9, eps=1e-5)
