"""A model's recipe: everything that decides what comes out of ``scanside-export build``, as one strict schema."""

import difflib
import re
from pathlib import Path
from typing import Annotated, Literal, get_args

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
    labels: tuple[str, ...]
    """The finding is present where the label column holds one of these; "|" parts several values."""


class StructureRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The anatomical structure that a segmentation outlines."""

    code: str
    scheme: str
    meaning: str
    mask_value: Annotated[int, msgspec.Meta(ge=1, le=255)] = 255
    """The grey value that means the structure in the data set's mask images."""


class ReferenceRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A better label that only some images carry: by these alone the model is judged.

    Their patients are for validation and test, and for training as far as ``train`` says; all others are for training
    and calibration. An image whose reference label is neither positive nor negative is left out.
    """

    column: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    train: Fraction = 0.0
    """Share of the images with a reference label that are trained on; what is left is dealt to validation and test."""
    others_weight: Fraction = 1.0
    """What an image without a reference label counts in training, beside 1 for one that has it."""


class DatasetRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which images, and who is kept apart from whom."""

    name: str
    """What the data set is called in the model card."""
    licence: str
    """Its licence, for the model card."""
    path: str
    """Folder of the data set, relative to the recipe; ``--dataset`` overrides it."""
    labels: str | None = "labels.csv"
    """CSV in that folder with a column ``path``; without one, the folder that an image lies in is its label."""
    label_column: str = "label"
    patient_columns: tuple[str, ...] = ("finding", "patient_id")
    """Together they name a patient."""
    reference: ReferenceRecipe | None = None
    lung_value: Annotated[int, msgspec.Meta(ge=1, le=255)] = 255
    """The grey value that means lung in its mask images, for what the training does with the lungs."""
    lungs: str | None = None
    """The recipe of a segmentation that outlines the lungs of a data set without masks, relative to this recipe; it is
    trained first."""
    limit: Positive | None = None
    """Take at most so many images, spread over the labels; all where it is not given."""
    reserved: tuple[str, ...] = ()
    """Other label CSVs, relative to the data set's folder, whose patients all go to the test split."""
    train: Fraction = 0.72
    """Share of the images; shares are of patients and of content, so they hold only roughly."""
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
    unmoved: Fraction = 0.0
    """Share of the images that keep their place: without them a network knows none that fill the frame exactly."""
    background: Fraction = 0.0
    """Chance that all but the lungs, by the data set's masks, is taken from another image or blanked: so nothing out
    there can be learned. Images without a mask keep theirs."""
    mirror: Fraction = 0.0
    """Chance of a left-right mirror: only where the side of the heart does not matter."""
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


Architecture = Literal["mobilenet_v2", "densenet121", "resnet18", "efficientnet_b0", "unet"]


class MemberRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One network of the ensemble that folds into one graph; most models have one member."""

    name: str
    architecture: Architecture = "mobilenet_v2"
    """``mobilenet_v2`` is ours (folded batch norms, one grey channel); the others are MONAI's."""
    view: Literal["grey", "relief"] = "grey"
    """What the member sees: the grey values, or their local contrast, which exposure and processing change little."""
    start: str | None = None
    """Where the weights begin, relative to the recipe: ``.npz`` of ImageNet weights, ``.pt`` with any state dict, or
    another model's ``recipe.yaml``, whose member of the same name is trained first; without it, at random."""


class TrainingRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the weights of every member are fitted."""

    members: tuple[MemberRecipe, ...]
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
    outside_evidence: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    """What evidence outside the lungs, by the data set's masks, costs in the loss: the weight of its mean square in the
    class activation map. So the map says where in the lungs the finding is, and nothing else can be learned."""
    balance_classes: bool = True
    """Weigh positives and negatives equally in the loss."""
    balance_within: Literal["view", "sex"] | None = None
    """Weigh them equally within each value of this column too, so that the column itself predicts nothing."""
    augmentation: AugmentationRecipe = AugmentationRecipe()


class OnnxRuntimeRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Static QDQ quantization for ONNX Runtime."""

    calibrators: tuple[Literal["minmax", "percentile", "entropy"], ...] = ("minmax",)
    """Tried in turn; the one with the smallest shift of the outputs on validation images is kept."""
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
    search: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How many of the most sensitive convolutions may be left in float, one by one, when validation misses the gate."""


class OperatingPointRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a threshold on the calibrated probability is chosen, on the validation split: by one of the two rules."""

    name: str
    min_sensitivity: Fraction | None = None
    """The highest threshold that keeps this sensitivity is taken."""
    min_specificity: Fraction | None = None
    """The lowest threshold that keeps this specificity is taken."""

    def __post_init__(self) -> None:
        if (self.min_sensitivity is None) == (self.min_specificity is None):
            raise ValueError(f"operating point {self.name!r} needs either min_sensitivity or min_specificity")


class OperatingPointsRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The named thresholds that the bundle offers."""

    default: str = "balanced"
    points: tuple[OperatingPointRecipe, ...] = (
        OperatingPointRecipe(name="high_sensitivity", min_sensitivity=0.98),
        OperatingPointRecipe(name="balanced", min_sensitivity=0.95),
        OperatingPointRecipe(name="high_specificity", min_specificity=0.99),
    )
    indeterminate_share: Fraction = 0.025
    """Share of the validation images, those nearest below a threshold, that its indeterminate band covers."""
    prevalence: Fraction = 0.1
    """For the predictive values in the table of cut-offs; the data sets hold far more positives than a clinic sees."""

    def __post_init__(self) -> None:
        if self.default not in [point.name for point in self.points]:
            raise ValueError(f"the default operating point {self.default!r} is not among the points; add or rename it")


class FamiliarityRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the gate for unfamiliar images is set."""

    refused_share: Fraction = 0.01
    """Share of the validation images, and of those that are left out of every split, that may lie beyond the
    threshold."""
    other_frontal: DatasetRecipe | None = None
    """Frontal chest radiographs unlike those of the training: what lies farther out than 99 % of them is called no
    frontal chest rather than unfamiliar."""
    refused: DatasetRecipe | None = None
    """Images that must be refused: measured only, after the threshold is set."""


class GateRecipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What INT8 may cost against FP32, and what the model must reach; one miss and no bundle is written.

    Judged on the test split, for each finding at each operating point, for each engine.
    """

    copies: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Copies of each test image, changed as in training, on which drops and flips are judged beside the image itself:
    for a test split so small that a single image decides. What the model must reach is judged without them."""

    auroc_drop: Fraction = 0.005
    sensitivity_drop: Fraction = 0.01
    specificity_drop: Fraction = 0.01
    decision_flips: Fraction = 0.01
    """Share of the images whose decision changes: INT8 against FP32, and engine against engine."""
    dice_drop: Fraction = 0.005
    faster_than_fp32: Annotated[float, msgspec.Meta(ge=0.0)] = 1.0
    """How many times faster INT8 must be than FP32 in the same engine."""
    capped_shift: Annotated[float, msgspec.Meta(ge=0.0)] = 0.05
    """Largest shift of an output, relative to its largest magnitude where that is above 1, when the CPU's instruction
    set is capped at AVX2."""
    min_auroc: Fraction = 0.0
    min_sensitivity: Fraction = 0.0
    """At the default operating point, as ``min_specificity``."""
    min_specificity: Fraction = 0.0
    max_calibration_error: Fraction = 1.0
    min_dice: Fraction = 0.0
    min_refused: Fraction = 0.0
    """Share of the data set ``familiarity.refused`` that is refused."""
    max_refused_own: Fraction = 1.0
    """Share of the test split that is refused."""


class Recipe(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model, from data to bundle."""

    id: str
    version: str
    task: Literal["classification", "segmentation"] = "classification"
    experimental: bool = False
    """Marked so on the page and in the card: measured on too little to rely on."""
    title: str
    intended_use: str
    not_looked_for: str
    """What people may expect and the model does not look for."""
    weak_spots: tuple[str, ...]
    """What the card must warn of, beyond what is measured."""
    body_parts: tuple[str, ...]
    """DICOM Body Part Examined values that the model accepts."""
    views: tuple[str, ...]
    """DICOM View Position values that the model accepts."""
    modalities: tuple[str, ...]
    age_years_from: float
    """Youngest age that the model accepts, inclusive."""
    age_years_below: float
    """The age from which on it does not."""
    findings: tuple[FindingRecipe, ...] = ()
    """What a classification answers for."""
    structure: StructureRecipe | None = None
    """What a segmentation outlines."""
    seed: int
    side: Positive = 224
    """Height and width of the network's input in pixels."""
    dataset: DatasetRecipe
    training: TrainingRecipe
    quantization: QuantizationRecipe = QuantizationRecipe()
    operating_points: OperatingPointsRecipe = OperatingPointsRecipe()
    familiarity: FamiliarityRecipe | None = None
    """A classification's; a segmentation looks at what a classification has accepted."""
    gate: GateRecipe = GateRecipe()
    golden_tolerance: dict[str, float]
    """By output (logits, cam, embedding; mask), the largest absolute difference from its golden value on a device."""

    def __post_init__(self) -> None:
        if (self.task == "classification") != bool(self.findings):
            raise ValueError("findings belong to a classification, and it needs at least one; correct task or findings")
        if (self.task == "segmentation") != (self.structure is not None):
            raise ValueError("a structure belongs to a segmentation, and it needs one; correct task or structure")
        if (self.task == "classification") != (self.familiarity is not None):
            raise ValueError(
                "familiarity belongs to a classification, and it needs one: no device serves a classifier without it; "
                "correct task or familiarity"
            )


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
        # Sections stand alone, in tuples and beside None.
        for part in (field.type, *get_args(field.type)):
            if isinstance(part, type) and issubclass(part, msgspec.Struct):
                names |= _field_names(part)
    return names
