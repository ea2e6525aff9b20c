"""A model's recipe: everything that decides what comes out of ``scanside-export build``, as one strict schema."""

import difflib
import hashlib
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml

from edge.errors import UsageError

Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
_UNKNOWN_KEY = re.compile(r"unknown field `(?P<key>[^`]*)`(?: - at `\$\.?(?P<where>[^`]*)`)?")


class RecipeError(UsageError):
    """A recipe that cannot be used; the message is one line."""


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every part of a recipe: read only, named fields, unknown keys are errors."""


class FindingRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One finding that the network answers for."""

    code: str
    """Code value, for example ``233604007``."""
    scheme: str
    """Coding scheme designator as DICOM names it (PS3.16, section 8), for example ``SCT``."""
    meaning: str
    """Code meaning, the words that people read."""
    label: str
    """The value of the data set's column ``label`` that means this finding is present."""


class DatasetRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which images, and who is kept apart from whom."""

    name: str
    """What the data set is called in the model card."""
    licence: str
    """Its licence, for the model card."""
    path: str
    """Folder of the data set, relative to the recipe; ``--dataset`` overrides it."""
    labels: str = "labels.csv"
    """CSV in that folder with the columns ``path``, ``label``, ``finding``, ``patient_id``."""
    reserved: tuple[str, ...] = ()
    """CSVs, relative to the data set's folder, whose patients go to the test split: their images are used elsewhere."""
    train: Fraction = 0.72
    """Share of the patients that the weights are fitted on; the shares add up to 1."""
    validation: Fraction = 0.14
    """Share for early stopping, calibration of probabilities and operating points."""
    calibration: Fraction = 0.04
    """Share for the ranges of the quantizers, used for nothing else."""
    test: Fraction = 0.10
    """Share that nothing else touches: the figures in the bundle (reserved patients come on top)."""

    def __post_init__(self) -> None:
        total = self.train + self.validation + self.calibration + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train, validation, calibration and test add up to {total:g}; make them add up to 1")


class AugmentationRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a training image may be changed; every range is symmetric around "unchanged" and drawn per image."""

    rotation_degrees: float = 8.0
    shift: Fraction = 0.06
    """Share of the side."""
    scale: Fraction = 0.12
    aspect: Fraction = 0.12
    """Width against height: detectors differ in shape and the input recipe squashes."""
    log_gamma: float = 0.35
    contrast: Fraction = 0.25
    brightness: Fraction = 0.12
    shading: Fraction = 0.15
    """Amplitude of a smooth gain field (heel effect, scatter)."""
    noise: Fraction = 0.03
    """Largest standard deviation of the grain, share of full scale."""
    smallest_side: Positive = 112
    """Images are resampled down to between this and the input's side, and back."""
    sharpen: Fraction = 0.6
    """Largest amount of unsharp masking: images resized on the device are crisper than those of the data set."""
    erase: Fraction = 0.3
    """Chance that one rectangle is blanked, so that no marker in a corner is learned."""


class TrainingRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the weights are fitted."""

    architecture: Literal["mobilenet_v2"] = "mobilenet_v2"
    weights: str | None = None
    """ImageNet weights to start from, relative to the recipe; without them the start is random."""
    epochs: Positive = 8
    quantized_epochs: Annotated[int, msgspec.Meta(ge=0)] = 3
    """How many of them, the last ones, round the weights to the INT8 grid in the forward pass (quantization-aware)."""
    patience: Positive = 3
    """Epochs without a better validation loss before training stops."""
    batch_size: Positive = 32
    learning_rate: Annotated[float, msgspec.Meta(gt=0.0)] = 2e-4
    weight_decay: Annotated[float, msgspec.Meta(ge=0.0)] = 0.02
    label_smoothing: Fraction = 0.1
    ema_decay: Fraction = 0.995
    """Decay per step of the averaged weights, which are the ones kept."""
    balance_classes: bool = True
    """Weigh positives and negatives equally in the loss."""
    augmentation: AugmentationRecipe = AugmentationRecipe()


class OnnxRuntimeRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Static QDQ quantization for ONNX Runtime."""

    calibrator: Literal["minmax", "percentile", "entropy"] = "minmax"
    percentile: float = 99.99
    """Share of the activations inside the range, for the calibrator ``percentile``."""
    float_convolutions: tuple[str, ...] = ()
    """Prefixes of module paths whose convolutions stay in float, for example ``stem`` or ``blocks.1``."""


class OpenVinoRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Post-training quantization for OpenVINO through NNCF."""

    preset: Literal["performance", "mixed"] = "performance"
    bias_correction: bool = True
    """Whether NNCF shifts biases to make up for the mean error of each layer."""
    fast_bias_correction: bool = True
    float_convolutions: tuple[str, ...] = ()


class QuantizationRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the two INT8 models are made."""

    onnxruntime: OnnxRuntimeRecipe = OnnxRuntimeRecipe()
    openvino: OpenVinoRecipe = OpenVinoRecipe()


class OperatingPointRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a threshold on the calibrated probability is chosen, on the validation split."""

    name: str = "balanced"
    min_sensitivity: Fraction = 0.97
    """The highest threshold that keeps this sensitivity is taken."""
    indeterminate_share: Fraction = 0.025
    """Share of the validation images, those nearest to the threshold, that the indeterminate band covers."""


class Recipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model, from data to bundle."""

    id: str
    version: str
    title: str
    intended_use: str
    not_looked_for: str
    """What people may expect and the model does not look for."""
    weak_spots: tuple[str, ...]
    """What the card must warn of, beyond what is measured."""
    body_part: str
    """DICOM Body Part Examined that the model accepts."""
    views: tuple[str, ...]
    """DICOM View Position values that the model accepts."""
    modalities: tuple[str, ...]
    age_years_from: float
    """Youngest age that the model accepts, inclusive."""
    age_years_below: float
    """The age from which on it does not."""
    findings: tuple[FindingRecipe, ...]
    seed: int
    side: Positive = 224
    """Height and width of the network's input in pixels."""
    dataset: DatasetRecipe
    training: TrainingRecipe = TrainingRecipe()
    quantization: QuantizationRecipe = QuantizationRecipe()
    operating_point: OperatingPointRecipe = OperatingPointRecipe()
    golden_tolerance: dict[str, float]
    """By output (logits, cam, embedding), the largest absolute difference from its golden value on a device."""


def read_recipe(path: Path) -> Recipe:
    """Reads and checks ``recipe.yaml``.

    Raises:
        RecipeError: The file is missing, no YAML, or breaks the schema; names the key and the nearest valid one.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        return msgspec.convert(tree, Recipe)
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}; give the path of a recipe.yaml") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML ({' '.join(str(error).split())}); correct that line") from error
    except msgspec.ValidationError as error:
        raise RecipeError(f"{path}: {_explain(str(error))}") from error


def training_key(recipe: Recipe, data_fingerprint: str) -> str:
    """Hex name of everything that decides the trained weights: data, split, network, augmentation, seed."""
    parts = (recipe.findings, recipe.seed, recipe.side, recipe.dataset, recipe.training, data_fingerprint)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]


def _explain(message: str) -> str:
    match = _UNKNOWN_KEY.search(message)
    if match is None:
        return message
    known = sorted(_field_names(Recipe))
    near = difflib.get_close_matches(match["key"], known, n=1, cutoff=0.0)
    where = f"{match['where']}." if match["where"] else ""
    return f"unknown key {where}{match['key']!r}; the nearest valid key is {near[0]!r}"


def _field_names(kind: type[msgspec.Struct]) -> set[str]:
    names: set[str] = set()
    for field in msgspec.structs.fields(kind):
        names.add(field.name)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            names |= _field_names(field.type)
    return names
