"""Fitting the weights of one member: augmented, smoothed, averaged, and resumable after a kill."""

import ctypes
import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export import architectures, objectives
from export.augmentation import augment
from export.datasets import Dataset, to_input, write_whole
from export.objectives import Figures, Truth
from export.recipe import MemberRecipe, Recipe, TrainingRecipe
from export.steps import Report

_VALIDATION_BATCH = 64
_STRESS_SEED = 7
_CHECKPOINT, _BEST, _FLOAT = "checkpoint.pt", "best.pt", "float.pt"
Network = TypeVar("Network", bound=nn.Module)
State = dict[str, Tensor]


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """What one epoch reached, measured with the averaged weights."""

    number: int
    seconds: float
    quantized: bool = False
    """Whether the weights were rounded to the INT8 grid in this epoch."""
    training_loss: float
    validation: Figures
    """On the validation split as it is."""
    stressed: Figures
    """On the validation split under one fixed draw of the augmentation: early stopping follows its loss, because
    robustness decides in the field and the plain split is too easy to tell epochs apart."""


def key(recipe: Recipe, member: MemberRecipe, fingerprint: str, start: str) -> str:
    """Hex name of everything that decides a member's weights: data, split, network, augmentation, seed, start."""
    shared = msgspec.structs.replace(recipe.training, members=(member,))
    parts = (recipe.findings, recipe.structure, recipe.seed, recipe.side, recipe.dataset, shared, fingerprint, start)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]


class Task(NamedTuple):
    """One member to fit."""

    recipe: Recipe
    member: MemberRecipe
    folder: Path
    """Where its checkpoint lives; ``best.pt`` there holds the kept weights."""


class Data(NamedTuple):
    """What a training looks at."""

    dataset: Dataset
    lungs: NDArray[np.uint8] | None
    """[N, side, side] of 0 and 1, the lungs with a margin, where the training wants to know them."""


def train(task: Task, data: Data, start: Callable[[nn.Module], None], report: Report) -> list[Epoch]:
    """Trains a member, or goes on from its checkpoint; returns the history, one entry per epoch.

    The draw of each epoch depends on the seed and the epoch's number only, so a resumed run equals an unbroken one.

    Args:
        task: Which member, and where it is kept.
        data: Its images.
        start: Puts the first weights into the member's network.
        report: Takes one line of progress at a time.
    """
    recipe = task.recipe
    _keep_freed_memory()
    torch.manual_seed(recipe.seed)
    # Flushing is a setting of the thread: whoever computes in this process afterwards wants it as it was.
    torch.set_flush_denormal(True)
    try:
        run = _Run(task, data, start)
        run.resume(report)
        while not is_finished(recipe.training, run.history):
            run.epoch(report)
    finally:
        torch.set_flush_denormal(False)
    return run.history


def trained(task: Task) -> architectures.Member:
    """The member with the kept weights of a finished training, on the INT8 grid where it was trained for that."""
    network = _loaded(task, _BEST)
    if task.recipe.training.quantized_epochs:
        architectures.snap_weights(network)
    return network


def trained_in_float(task: Task) -> architectures.Member | None:
    """The member as it was before any rounding; none where the recipe rounds from the first epoch on."""
    name = _FLOAT if task.recipe.training.quantized_epochs else _BEST
    return _loaded(task, name) if (task.folder / name).exists() else None


def history(folder: Path) -> list[Epoch]:
    """The epochs that stand in ``folder/checkpoint.pt``; none where training has not begun."""
    path = folder / _CHECKPOINT
    return msgspec.convert(torch.load(path, weights_only=True)["history"], list[Epoch]) if path.exists() else []


def eligible(recipe: TrainingRecipe, epochs: list[Epoch]) -> list[Epoch]:
    """The epochs whose weights may be kept: the quantization-aware ones, where the recipe has such."""
    return [epoch for epoch in epochs if epoch.quantized or not recipe.quantized_epochs]


def is_finished(recipe: TrainingRecipe, epochs: list[Epoch]) -> bool:
    """Whether all epochs are done, or the last ``patience`` eligible ones brought nothing better."""
    losses = [epoch.stressed.loss for epoch in eligible(recipe, epochs)]
    stale = bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= recipe.patience
    return len(epochs) >= recipe.epochs or stale


def predict(network: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """The first output (logits [N, K], or mask [N, 1, H, W]) for images [N, 1, H, W] in 0..1, in batches."""
    _keep_freed_memory()
    network = channels_last(network.eval())
    device = next(network.parameters()).device
    with torch.inference_mode():
        batches = [network(batch.to(device))[0].cpu() for batch in torch.split(images, _VALIDATION_BATCH)]
    return np.asarray(torch.cat(batches).numpy())


def channels_last(network: Network) -> Network:
    """The same network with its weights laid out channels last."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[no-any-return,call-overload]


class _Run:
    def __init__(self, task: Task, data: Data, start: Callable[[nn.Module], None]) -> None:
        recipe, member, self.folder = task
        self.recipe, self.member = recipe, member
        self.how = recipe.training
        dataset = data.dataset
        self.images, self.chosen = _Images(recipe, *data), dataset.indices("train")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = architectures.member(member, len(recipe.findings))
        start(network.network)
        # Channels last is 2.6 times faster than the default on a CPU with AVX-512 (measured); bfloat16 gains nothing
        # there, so mixed precision is for GPUs.
        self.network = channels_last(network).to(self.device)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": self.how.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=self.how.learning_rate,
        )
        self.steps_per_epoch = max(len(self.chosen) // self.how.batch_size, 1)
        total = self.steps_per_epoch * self.how.epochs + 1
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, self.how.learning_rate, total_steps=total, pct_start=0.1
        )
        self.validation, self.truth = self.images.batch(dataset.indices("validation"))
        stress = torch.Generator().manual_seed(_STRESS_SEED)
        self.stressed, self.stressed_truth = self._augmented(dataset.indices("validation"), stress)
        self.history: list[Epoch] = []
        self.steps = 0

    def resume(self, report: Report) -> None:
        path = self.folder / _CHECKPOINT
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.average, self.steps = state["average"], state["steps"]
        self.history = msgspec.convert(state["history"], list[Epoch])
        report(f"{self.member.name}: training goes on after epoch {len(self.history)} of {self.how.epochs}")

    def epoch(self, report: Report) -> None:
        number, started = len(self.history) + 1, time.monotonic()
        random = torch.Generator().manual_seed(self.recipe.seed * 1000 + number)
        order = torch.randperm(len(self.chosen), generator=random).numpy()
        quantized = number > self.how.epochs - self.how.quantized_epochs
        self.network.train()
        total, said = 0.0, started
        for step in range(self.steps_per_epoch):
            batch = self.chosen[order[step * self.how.batch_size : (step + 1) * self.how.batch_size]]
            total += self._step(batch, quantized, random)
            if time.monotonic() - said > 15.0:
                said = time.monotonic()
                report(self._progress(number, step + 1, said - started))
        self._close(number, time.monotonic() - started, total / self.steps_per_epoch, quantized, report)

    def _step(self, batch: NDArray[np.int64], quantized: bool, random: torch.Generator) -> float:
        images, truth = self._augmented(batch, random)
        truth = truth.to(self.device)
        weights = architectures.rounded_weights(self.network) if quantized else {}
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            outputs = torch.func.functional_call(self.network, weights, (images.to(self.device),))
        loss = objectives.loss(self.recipe, outputs, truth)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.scheduler.step()
        self.steps += 1
        decay = min(self.how.ema_decay, self.steps / (self.steps + 10.0))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1.0 - decay)
            else:
                self.average[name].copy_(value)
        return float(loss.detach())

    def _augmented(self, indices: NDArray[np.int64], random: torch.Generator) -> tuple[Tensor, Truth]:
        images, truth = self.images.batch(indices)
        drawn = augment(images, self.how.augmentation, random, masks=truth.masks, lungs=truth.lungs)
        return drawn.images, truth._replace(masks=drawn.masks, lungs=drawn.lungs)

    def _progress(self, number: int, done: int, seconds: float) -> str:
        steps_left = self.steps_per_epoch * (self.how.epochs - number + 1) - done
        left = seconds / done * steps_left / 60.0
        where = f"{self.member.name}: epoch {number}/{self.how.epochs}"
        return f"{where}: step {done}/{self.steps_per_epoch}, {left:.0f} min left at most"

    def _close(self, number: int, seconds: float, training_loss: float, quantized: bool, report: Report) -> None:
        averaged = architectures.member(self.member, len(self.recipe.findings))
        averaged.load_state_dict(self.average)
        if quantized:
            architectures.snap_weights(averaged)
        averaged = averaged.to(self.device)
        epoch = Epoch(
            number=number,
            seconds=seconds,
            quantized=quantized,
            training_loss=training_loss,
            validation=objectives.figures(self.recipe, predict(averaged, self.validation), self.truth),
            stressed=objectives.figures(self.recipe, predict(averaged, self.stressed), self.stressed_truth),
        )
        self.history.append(epoch)
        better = epoch is min(eligible(self.how, self.history), key=lambda each: each.stressed.loss, default=None)
        if better:
            write_whole(self.folder / _BEST, lambda path: _save(self.average, path))
        if number == self.how.epochs - self.how.quantized_epochs:
            write_whole(self.folder / _FLOAT, lambda path: _save(self.average, path))
        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "average": self.average,
            "steps": self.steps,
            "history": msgspec.to_builtins(self.history),
        }
        write_whole(self.folder / _CHECKPOINT, lambda path: _save(state, path))
        report(f"{self.member.name}: {_line(epoch, self.how.epochs)}{' (best, kept)' if better else ''}")


class _Images:
    """The data set as tensors, a batch at a time."""

    def __init__(self, recipe: Recipe, dataset: Dataset, lungs: NDArray[np.uint8] | None) -> None:
        how = recipe.training
        groups = None
        if how.balance_within is not None:
            groups = np.array([str(getattr(row, how.balance_within)) for row in dataset.rows])
        reference = recipe.dataset.reference
        trust = np.array(
            [1.0 if reference is None or row.referenced else reference.others_weight for row in dataset.rows],
            dtype=np.float32,
        )
        weights = np.repeat(trust[:, np.newaxis], dataset.targets.shape[1], axis=1)
        chosen = dataset.indices("train")
        if how.balance_classes:
            weights[chosen] = objectives.class_weights(
                dataset.targets[chosen], None if groups is None else groups[chosen], trust[chosen]
            )
        if reference is not None:
            # However little the others count, the loss must not: what is added to it would decide alone.
            weights[chosen] /= weights[chosen].mean()
        self._pixels, self._masks = dataset.pixels, dataset.masks
        self._targets, self._weights = torch.from_numpy(dataset.targets), torch.from_numpy(weights)
        self._lungs = lungs

    def batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, Truth]:
        """Images [N, 1, H, W] in 0..1 and what is known of them."""
        masks = None
        if self._masks is not None:
            masks = torch.from_numpy(self._masks[indices][:, np.newaxis].astype(np.float32))
        lungs = None
        if self._lungs is not None:
            lungs = torch.from_numpy(self._lungs[indices][:, np.newaxis].astype(np.float32))
        truth = Truth(self._targets[indices], self._weights[indices], masks, lungs)
        return torch.from_numpy(to_input(self._pixels[indices])), truth


def _loaded(task: Task, name: str) -> architectures.Member:
    network = architectures.member(task.member, len(task.recipe.findings))
    network.load_state_dict(torch.load(task.folder / name, weights_only=True, map_location="cpu"))
    return network.eval()


def _save(state: dict[str, Any], path: Path) -> None:
    """Through memory: on a full disk PyTorch's own writer says nothing of it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.write_bytes(buffer.getbuffer())


def _line(epoch: Epoch, epochs: int) -> str:
    name = "Dice" if epoch.validation.dice is not None else "AUROC"
    plain, stressed = (
        f"loss {each.loss:.4f}, {name} {each.dice if each.dice is not None else each.auroc:.4f}"
        for each in (epoch.validation, epoch.stressed)
    )
    rounded = " (rounded weights)" if epoch.quantized else ""
    return (
        f"epoch {epoch.number}/{epochs}{rounded}: {epoch.seconds:.0f} s, training loss {epoch.training_loss:.4f}, "
        f"validation {plain}, stressed {stressed}"
    )


def _keep_freed_memory() -> None:
    """Tells glibc to reuse large blocks rather than hand them back: twice as fast in a VM, where page faults cost."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_mmap_max = -1, -4
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, 2**31 - 1)
