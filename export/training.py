"""Fitting the weights: augmented, smoothed, averaged, and resumable after a kill."""

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from export import architectures
from export.augmentation import augment
from export.datasets import Dataset, to_input, write_whole
from export.evaluation import auroc
from export.recipe import Recipe, TrainingRecipe

_VALIDATION_BATCH = 64
_STRESS_SEED = 7
Report = Callable[[str], None]
Network = TypeVar("Network", bound=nn.Module)


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """What one epoch reached, measured with the averaged weights."""

    number: int
    seconds: float
    quantized: bool = False
    """Whether the weights were rounded to the INT8 grid in this epoch."""
    training_loss: float
    validation_loss: float
    """Cross-entropy on the validation split as it is."""
    validation_auroc: float
    stressed_loss: float
    """Cross-entropy on the validation split under one fixed draw of the augmentation: the figure that early stopping
    follows, because robustness decides in the field and the plain split is too easy to tell epochs apart."""
    stressed_auroc: float


def train(recipe: Recipe, dataset: Dataset, weights: Path | None, folder: Path, report: Report) -> list[Epoch]:
    """Trains, or goes on from ``folder/checkpoint.pt``; ``folder/best.pt`` holds the kept weights.

    The draw of each epoch depends on the seed and the epoch's number only, so a resumed run equals an unbroken one.

    Args:
        recipe: What to train.
        dataset: Its images.
        weights: ImageNet weights to start from, or none for a random start.
        folder: Where the checkpoint lives.
        report: Takes one line of progress at a time.

    Returns:
        The history, one entry per epoch.
    """
    _keep_freed_memory()
    torch.set_flush_denormal(True)
    torch.manual_seed(recipe.seed)
    run = _Run(recipe, dataset, weights, folder)
    run.resume(report)
    while not run.finished:
        run.epoch(report)
    return run.history


def trained(recipe: Recipe, folder: Path) -> architectures.MobileNetV2Grey:
    """The network with the kept weights of a finished training, on the INT8 grid where it was trained for that."""
    network = architectures.build(recipe.training.architecture, len(recipe.findings))
    network.load_state_dict(torch.load(folder / "best.pt", weights_only=True))
    if recipe.training.quantized_epochs:
        network.snap_weights()
    return network.eval()


def history(folder: Path) -> list[Epoch]:
    """The epochs that stand in ``folder/checkpoint.pt``; none where training has not begun."""
    path = folder / "checkpoint.pt"
    return msgspec.convert(torch.load(path, weights_only=True)["history"], list[Epoch]) if path.exists() else []


def eligible(recipe: TrainingRecipe, epochs: list[Epoch]) -> list[Epoch]:
    """The epochs whose weights may be kept: the quantization-aware ones, where the recipe has such."""
    return [epoch for epoch in epochs if epoch.quantized or not recipe.quantized_epochs]


def is_finished(recipe: TrainingRecipe, epochs: list[Epoch]) -> bool:
    """Whether all epochs are done, or the last ``patience`` eligible ones brought nothing better."""
    losses = [epoch.stressed_loss for epoch in eligible(recipe, epochs)]
    stale = bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= recipe.patience
    return len(epochs) >= recipe.epochs or stale


def predict(network: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """Logits [N, K] for images [N, 1, H, W] in 0..1, in batches."""
    _keep_freed_memory()
    network = channels_last(network)
    with torch.inference_mode():
        logits = torch.cat([network(batch)[0] for batch in torch.split(images, _VALIDATION_BATCH)])
    return np.asarray(logits.numpy())


def channels_last(network: Network) -> Network:
    """The same network with its weights laid out channels last."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[no-any-return,call-overload]


class _Run:
    def __init__(self, recipe: Recipe, dataset: Dataset, weights: Path | None, folder: Path) -> None:
        self.recipe, self.how, self.folder = recipe, recipe.training, folder
        self.pixels, self.targets = dataset.pixels, torch.from_numpy(dataset.targets)
        self.chosen = dataset.indices("train")
        self.network = architectures.build(self.how.architecture, len(recipe.findings))
        if weights is not None:
            self.network.load_imagenet(weights)
        # Channels last is 2.6 times faster than the default on a CPU with AVX-512 (measured); bfloat16 gains nothing.
        self.network = channels_last(self.network)
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
        positive = self.targets[self.chosen].mean(dim=0)
        self.positive_weight = (1.0 - positive) / positive if self.how.balance_classes else torch.ones_like(positive)
        validation = dataset.indices("validation")
        self.validation = torch.from_numpy(to_input(dataset.pixels[validation]))
        self.validation_targets = self.targets[validation]
        stress = torch.Generator().manual_seed(_STRESS_SEED)
        self.stressed = augment(self.validation, self.how.augmentation, stress)
        self.history: list[Epoch] = []
        self.steps = 0

    @property
    def finished(self) -> bool:
        return is_finished(self.how, self.history)

    def resume(self, report: Report) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.average, self.steps = state["average"], state["steps"]
        self.history = msgspec.convert(state["history"], list[Epoch])
        report(f"training goes on after epoch {len(self.history)} of {self.how.epochs}")

    def epoch(self, report: Report) -> None:
        number, started = len(self.history) + 1, time.monotonic()
        random = torch.Generator().manual_seed(self.recipe.seed * 1000 + number)
        order = torch.randperm(len(self.chosen), generator=random).numpy()
        quantized = number > self.how.epochs - self.how.quantized_epochs
        self.network.quantize_weights(quantized)
        self.network.train()
        total, said = 0.0, started
        for step in range(self.steps_per_epoch):
            batch = self.chosen[order[step * self.how.batch_size : (step + 1) * self.how.batch_size]]
            total += self._step(batch, random)
            if time.monotonic() - said > 15.0:
                said = time.monotonic()
                report(self._progress(number, step + 1, said - started))
        self._close(number, time.monotonic() - started, total / self.steps_per_epoch, quantized, report)

    def _step(self, batch: NDArray[np.int64], random: torch.Generator) -> float:
        images = augment(torch.from_numpy(to_input(self.pixels[batch])), self.how.augmentation, random)
        targets, smoothing = self.targets[batch], self.how.label_smoothing
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.network(images)[0]
        weights = torch.where(targets > 0.5, self.positive_weight, torch.ones_like(targets))
        smoothed = targets * (1.0 - smoothing) + smoothing / 2.0
        loss = functional.binary_cross_entropy_with_logits(logits, smoothed, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.scheduler.step()
        self.steps += 1
        decay = min(self.how.ema_decay, self.steps / (self.steps + 10.0))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1.0 - decay)
        return float(loss.detach())

    def _progress(self, number: int, done: int, seconds: float) -> str:
        steps_left = self.steps_per_epoch * (self.how.epochs - number + 1) - done
        left = seconds / done * steps_left / 60.0
        return f"epoch {number}/{self.how.epochs}: step {done}/{self.steps_per_epoch}, {left:.0f} min left at most"

    def _close(self, number: int, seconds: float, training_loss: float, quantized: bool, report: Report) -> None:
        averaged = architectures.build(self.how.architecture, len(self.recipe.findings))
        averaged.load_state_dict(self.average)
        averaged.quantize_weights(quantized)
        averaged.eval()
        targets = self.validation_targets
        plain, stressed = predict(averaged, self.validation), predict(averaged, self.stressed)
        epoch = Epoch(
            number=number,
            seconds=seconds,
            quantized=quantized,
            training_loss=training_loss,
            validation_loss=_loss(plain, targets),
            validation_auroc=_mean_auroc(plain, targets),
            stressed_loss=_loss(stressed, targets),
            stressed_auroc=_mean_auroc(stressed, targets),
        )
        self.history.append(epoch)
        better = epoch is min(eligible(self.how, self.history), key=lambda each: each.stressed_loss, default=None)
        if better:
            write_whole(self.folder / "best.pt", lambda path: torch.save(self.average, path))
        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "average": self.average,
            "steps": self.steps,
            "history": msgspec.to_builtins(self.history),
        }
        write_whole(self.folder / "checkpoint.pt", lambda path: torch.save(state, path))
        report(
            f"epoch {number}/{self.how.epochs}{' (rounded weights)' if quantized else ''}: {seconds:.0f} s, training "
            f"loss {training_loss:.4f}, validation loss {epoch.validation_loss:.4f}, AUROC "
            f"{epoch.validation_auroc:.4f}, stressed loss {epoch.stressed_loss:.4f}, AUROC {epoch.stressed_auroc:.4f}"
            f"{' (best, kept)' if better else ''}"
        )


def _loss(logits: NDArray[np.float32], targets: Tensor) -> float:
    return float(functional.binary_cross_entropy_with_logits(torch.from_numpy(logits), targets))


def _mean_auroc(logits: NDArray[np.float32], targets: Tensor) -> float:
    return float(np.mean([auroc(logits[:, k], targets[:, k].numpy() > 0.5) for k in range(logits.shape[1])]))


def _keep_freed_memory() -> None:
    """Tells glibc to reuse large blocks rather than hand them back: twice as fast in a VM, where page faults cost."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_mmap_max = -1, -4
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, 2**31 - 1)
