"""Parameters of the pipeline: one frozen model per group of ``params.yaml``, checked once at the edge.

The library never reads ``params.yaml``; the stages do, and pass values on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gsclip.errors import InputError, one_line
from gsclip.features.types import DepthEncoding, RenderedEncoding

Profile: TypeAlias = Literal["full", "fast"]
Patches: TypeAlias = Literal["all", "part"]
MapScore: TypeAlias = Literal["highest_point", "highest_patches"]  # see gsclip.scores.scoring.score_views

PARAMS_FILE = "params.yaml"
LONGEST_PROMPT = 70  # of the 77 tokens of CLIP's context; start, shape token, words and end take the others


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScanParams(_Group):
    """How a scan becomes a sample; the model's configuration holds it, so that scoring does what training did."""

    background: Literal["auto", "none"] = Field(
        description="auto: organised scans lose their background; none: every finite point is kept"
    )
    max_points: int = Field(ge=1000, le=10_000_000, description="clouds of more points are thinned to at most so many")


class PrepareParams(_Group):
    """Which samples enter, and as what."""

    dataset: Literal["procedural", "mvtec_3d_ad", "eyecandies", "real3d_ad", "anomaly_shapenet", "own_parts"]
    root: str = Field(description="folder of the data set; empty for procedural")
    auxiliary_categories: tuple[str, ...] = Field(min_length=1, description="trained on, with masks")
    test_categories: tuple[str, ...] = Field(min_length=1, description="scored, never trained on")
    auxiliary_samples: int = Field(ge=2, description="per category; procedural only")
    calibration_samples: int = Field(ge=2, description="per auxiliary category, for the threshold; procedural only")
    test_samples: int = Field(ge=2, description="per category; procedural only")
    rejected_share_limit: float = Field(ge=0, le=1, description="the stage fails when more scans are rejected")
    background: Literal["auto", "none"] = Field(description="see ScanParams")
    max_points: int = Field(ge=1000, le=10_000_000, description="see ScanParams")
    mask_color: str = Field(
        default="ff0000", pattern="^[0-9a-fA-F]{6}$", description="rrggbb of defects in coloured clouds; own_parts only"
    )
    seed: int

    @model_validator(mode="after")
    def _disjoint(self) -> PrepareParams:
        both = sorted(set(self.auxiliary_categories) & set(self.test_categories))
        if both:
            raise ValueError(f"{', '.join(both)} cannot be both auxiliary and test: the score would not be zero-shot")
        for categories in (self.auxiliary_categories, self.test_categories):
            if len(set(categories)) < len(categories):
                raise ValueError("a category is named twice")
        return self

    @property
    def scan(self) -> ScanParams:
        """How a scan becomes a sample."""
        return ScanParams(background=self.background, max_points=self.max_points)


class RenderParams(_Group):
    """The views."""

    cameras: Literal["front", "full"]
    views: int = Field(ge=1, le=9)
    image_size: int = Field(ge=32, description="pixels; must be the backbone's")


class FeaturesParams(_Group):
    """The frozen backbone and the cloud that PointNet++ sees."""

    backbone: str = Field(description="embedded, or a vision transformer of open_clip")
    weights: str = Field(description="open_clip only: pretrained tag, file, or random")
    weights_sha256: str = Field(description="expected SHA-256 of the weights file; empty: see load_backbone")
    rendered_encoding: RenderedEncoding = Field(description="what the channels of rendered views hold")
    depth_encoding: DepthEncoding = Field(description="what the channels of depth views hold")
    local_blocks: int = Field(ge=1, description="last blocks with value-value attention")
    local_layers: tuple[int, ...] = Field(min_length=1, description="blocks whose patch tokens are averaged")
    cloud_points: int = Field(ge=256, le=32767)

    @property
    def backbone_arguments(self) -> tuple[str, str, str]:
        """Arguments of :func:`gsclip.features.backbone.load_backbone`."""
        return (self.backbone, self.weights, self.weights_sha256)


class Stage1Params(_Group):
    """Geometry-aware prompts."""

    prompts: Literal["learned", "hand_written"] = Field(description="hand_written: the baseline that learns nothing")
    pointnet_weights: str = Field(description="file of a pointnet2_sem_seg checkpoint (S3DIS); empty: from scratch")
    pointnet_sha256: str = Field(description="expected SHA-256 of that file; empty: not checked")
    shape_prompt: bool
    defect_prompt: bool
    context_tokens: int = Field(ge=1)
    deep_tokens: int = Field(ge=0)
    prototypes: int = Field(ge=1, description="l of the GDDM")
    outliers: int = Field(ge=1, description="k of the GDDM")
    defect_tokens: int = Field(ge=1)
    epochs: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    micro_batch_size: int = Field(ge=1, description="samples of one pass; gradients add up to those of batch_size")
    learning_rate: float = Field(gt=0, le=1)
    seed: int

    @model_validator(mode="after")
    def _fitting(self) -> Stage1Params:
        if self.deep_tokens > self.context_tokens:
            raise ValueError("deep_tokens replace context_tokens: there cannot be more of them")
        if self.defect_tokens > self.outliers:
            raise ValueError("defect_tokens are taken from the outliers: there cannot be more of them")
        if self.context_tokens + self.defect_tokens > LONGEST_PROMPT:
            raise ValueError(f"context_tokens and defect_tokens together exceed {LONGEST_PROMPT}")
        return self


class Stage2Params(_Group):
    """Synergistic views."""

    depth_stream: bool = Field(description="depth stream and SRM; off: the rendered stream alone")
    lora_rank: int = Field(ge=1)
    lora_alpha: int = Field(ge=1)
    lora_dropout: float = Field(ge=0, lt=1)
    lora_learning_rate_factor: float = Field(gt=0)
    consistency_weight: float = Field(ge=0, description="alpha; 0 switches L_con off")
    gradient_checkpointing: bool = Field(description="less memory for more time: activations are computed twice")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        description="of the passes in training, weights stay float32; auto: bfloat16 where the processor has it"
    )
    epochs: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    micro_batch_size: int = Field(ge=1, description="samples of one pass; gradients add up to those of batch_size")
    learning_rate: float = Field(gt=0, le=1)
    seed: int


class PredictParams(_Group):
    """From maps to scores."""

    smoothing: float = Field(ge=0, description="sigma in pixels of the organised grid, or in point spacings")
    map_weight: float = Field(
        ge=0, le=1, description="share of the map in the object score, 0.5 in the paper; the views have the rest"
    )
    map_score: MapScore = Field(
        "highest_point",
        description="what the maps give: the paper's highest point, or the views' highest patches, never raised",
    )
    rgb: bool = Field(description="the scan's colours as one more view, where it has them (multimodal scores)")
    self_similarity: float = Field(
        default=0.0,
        ge=0,
        le=4,
        description="exponent by which point scores rise where the part is unlike the rest of itself; 0: the paper's",
    )
    patches: Patches = Field(
        default="all",
        description="what goes through the encoders: all patches of the views, as in the paper, or those of the part",
    )
    profile: Profile = Field(
        default="full",
        description="full: all views in float32; fast: few views, of which the patches of the part alone, in bfloat16 "
        "where it is fast",
    )


class EvaluateParams(_Group):
    """Metrics."""

    pro_limit: float = Field(gt=0, le=1, description="false positive rate up to which PRO is integrated")
    bootstrap_repeats: int = Field(ge=0)
    seed: int


class CrossParams(_Group):
    """Cross-data-set evaluation."""

    dataset: Literal["mvtec_3d_ad", "eyecandies", "real3d_ad", "anomaly_shapenet"]
    root: str = Field(description="folder of the other data set; empty: no cross-data-set evaluation")
    categories: tuple[str, ...] = Field(description="which of its categories; empty: all")


class ExperimentsParams(_Group):
    """Ablation and protocols: many runs."""

    seeds: tuple[int, ...] = Field(min_length=1, description="of the training; tables give their spread")
    one_vs_rest: tuple[str, ...] = Field(min_length=1, description="categories that are the auxiliary one in turn")
    meshes: str = Field(description="folder of good meshes that the comparison damages; empty: none")
    mesh_parts: int = Field(ge=1, description="number of meshes taken, evenly from all that are there")

    @model_validator(mode="after")
    def _distinct(self) -> ExperimentsParams:
        for name in ("seeds", "one_vs_rest"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: a value is named twice")
        return self


class GateParams(_Group):
    """When a retrained model becomes the champion; see :mod:`gsclip.promotion.gate`."""

    confidence: float = Field(gt=0.5, lt=1, description="of the bounds of a difference, each")
    tolerance: float = Field(ge=0, le=1, description="by how much a metric may be worse, at its lower bound")
    category_loss: float = Field(ge=0, le=1, description="by how much a metric of one category may be worse")
    seconds_per_object: float = Field(gt=0, description="budget from a prepared sample to its scores")
    model_megabytes: float = Field(gt=0, description="budget of the model's folder")
    timed_samples: int = Field(ge=0, description="test samples whose time is taken; 0: none, no budget of time")


class ReportParams(_Group):
    """The page."""

    gallery: int = Field(ge=0, description="number of best and of worst samples shown")


class Params(_Group):
    """All groups."""

    prepare: PrepareParams
    render: RenderParams
    features: FeaturesParams
    stage1: Stage1Params
    stage2: Stage2Params
    predict: PredictParams
    evaluate: EvaluateParams
    cross: CrossParams
    gate: GateParams
    experiments: ExperimentsParams
    report: ReportParams

    @model_validator(mode="after")
    def _fitting(self) -> Params:
        if self.stage1.outliers > self.features.cloud_points:
            raise ValueError("stage1.outliers exceed features.cloud_points")
        if self.cross.root and self.cross.dataset == self.prepare.dataset:
            raise ValueError("cross.dataset is the data set trained on: name its categories in prepare instead")
        unknown = set(self.experiments.one_vs_rest) - {
            *self.prepare.auxiliary_categories,
            *self.prepare.test_categories,
        }
        if unknown:
            raise ValueError(f"experiments.one_vs_rest: {', '.join(sorted(unknown))} not among prepare's categories")
        return self


def load_params(path: str | Path = PARAMS_FILE) -> Params:
    """Read and check a parameter file.

    Raises:
        InputError: naming the file and the offending parameter.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(path, f"cannot be read ({one_line(error, None)})", "give a YAML file") from error
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(path, f"{place}: {first['msg']}", "see gsclip.params") from error
