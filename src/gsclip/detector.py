"""The detector: both stages put together, from the points of a part to its scores. Saved and loaded as one folder.

==========================  ============================================================================
``config.json``             architecture, thresholds, what it was trained on, and the checksums of the other files
``prompts.safetensors``     stage 1: PointNet++, shape prompt, GDDM, context and deep tokens
``refinement.safetensors``  stage 2: SRM
``depth_stream/``           stage 2: LoRA of the depth stream, in PEFT's own format
==========================  ============================================================================

The backbone itself is not in the folder: it is named in the configuration and loaded by
:mod:`gsclip.features.backbone`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from gsclip.data.preparation import prepare_sample
from gsclip.data.sample import Sample, Scan
from gsclip.errors import InputError, one_line
from gsclip.features.backbone import Backbone, load_backbone
from gsclip.features.encode import ViewTokens, rendered_tokens
from gsclip.features.images import color_image, depth_images, part_patches
from gsclip.features.inference import InferenceEncoder, bfloat16_is_fast
from gsclip.features.types import VisualEncoder
from gsclip.parallel import beside, side_by_side
from gsclip.params import (
    FeaturesParams,
    Params,
    PredictParams,
    Profile,
    RenderParams,
    ScanParams,
    Stage1Params,
    Stage2Params,
)
from gsclip.prompts.geometry_prompts import PROMPTS_FILE, Prompts, load_prompts
from gsclip.prompts.grouping import Grouping, group_points, stack_groupings
from gsclip.scores.prediction import Prediction
from gsclip.scores.scoring import score_views
from gsclip.scores.self_similarity import smooth_unlikeness
from gsclip.storage import TRAIN_AGAIN, atomic_directory, save_module, sha256, write_json
from gsclip.streams.depth_lora import merge_depth_stream
from gsclip.streams.refinement import SynergisticRefinement
from gsclip.streams.streams import STREAM_FILES, load_streams, save_streams
from gsclip.views.cameras import fast_views
from gsclip.views.renderer import render_views
from gsclip.views.views import Views

CONFIG_FILE = "config.json"


class Licences(BaseModel):
    """One plain sentence for each part of a model; those that begin with ``check:`` need a look before it is used.

    Attributes:
        code: of this package.
        backbone: of the backbone's weights, which are not in the model's folder.
        data: of the data set that the model was trained on.
        pointnet: of the checkpoint that PointNet++ starts from; ``None`` where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    backbone: str
    data: str
    pointnet: str | None = None


class Origin(BaseModel):
    """What a trained model comes from. Files that the parameters name, such as weights, count by their names alone.

    Attributes:
        data_sha256: see :func:`gsclip.training.selection.data_sha256`.
        parameters_sha256: see :func:`gsclip.training.selection.parameters_sha256`.
        licences: of its parts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_sha256: str
    parameters_sha256: str
    licences: Licences


class DetectorConfig(BaseModel):
    """What it takes to build a detector, its thresholds, and where it comes from.

    Attributes:
        scan: from scans to samples.
        render: views.
        features: backbone.
        stage1: prompts.
        stage2: streams.
        predict: from maps to scores.
        threshold: object scores at or above it are decided abnormal; ``None`` before calibration.
        point_threshold: point scores at or above it are a defect's; ``None`` before calibration, and where the
            calibration had no defective point.
        score_range: point scores of the first and the last colour of heat maps, the same for all scans.
        trained_on: facts for reports: data set, categories, samples, protocol, seeds.
        origin: digests of training data and parameters, licences; ``None`` before training.
        files: SHA-256 of each other file of the model's folder, by its name; set by :meth:`Detector.save`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scan: ScanParams
    render: RenderParams
    features: FeaturesParams
    stage1: Stage1Params
    stage2: Stage2Params
    predict: PredictParams
    threshold: float | None = None
    point_threshold: float | None = None
    score_range: tuple[float, float] = (0.0, 1.0)
    trained_on: dict[str, Any] = {}
    origin: Origin | None = None
    files: dict[str, str] = {}

    @classmethod
    def of(cls, params: Params, **facts: Any) -> DetectorConfig:  # noqa: ANN401 - values of further fields
        """Configuration of a detector as the pipeline's parameters describe it; ``facts`` are further fields."""
        return cls(
            scan=params.prepare.scan,
            render=params.render,
            features=params.features,
            stage1=params.stage1,
            stage2=params.stage2,
            predict=params.predict,
            **facts,
        )

    def facts(self) -> dict[str, Any]:
        """What every table of results says about its model."""
        return {
            **{name: value for name, value in self.trained_on.items() if name != "dataset"},
            "training_dataset": self.trained_on.get("dataset"),
            "protocol": "zero-shot: the test categories were not trained on",
            "cameras": self.render.cameras,
            "views": self.render.views,
            **({} if self.predict.profile == "full" else {"profile": self.predict.profile}),
        }


_State: TypeAlias = tuple[tuple[int, int], ...]  # place and version of each parameter


class Detector:
    """GS-CLIP with frozen weights, ready to score.

    Args:
        config: architecture.
        backbone: the loaded backbone that the configuration names.
        prompts: stage 1.
        depth_stream: stage 2, with LoRA; ``None`` when the depth stream is switched off.
        refinement: stage 2, SRM; ``None`` exactly when ``depth_stream`` is.
    """

    def __init__(
        self,
        config: DetectorConfig,
        backbone: Backbone,
        prompts: Prompts,
        depth_stream: VisualEncoder | None,
        refinement: SynergisticRefinement | None,
    ) -> None:
        self.config = config
        self.backbone = backbone
        self.prompts = prompts.eval()
        self.depth_stream = None if depth_stream is None else depth_stream.eval()
        self.refinement = None if refinement is None else refinement.eval()
        self._encoders: dict[str, tuple[_State, InferenceEncoder]] = {}

    @classmethod
    def from_pretrained(cls, folder: str | Path, profile: Profile | None = None) -> Detector:
        """Load a detector that :meth:`save` or the pipeline wrote.

        Args:
            folder: of the detector.
            profile: of the scores, see :class:`~gsclip.params.PredictParams`; by default the one that is saved.

        Raises:
            InputError: when the folder holds no complete detector, or a file that is not the one that was saved.
        """
        folder = Path(folder)
        config = read_config(folder)
        _check_files(folder, config)
        backbone = load_backbone(*config.features.backbone_arguments)
        prompts = load_prompts(folder, backbone, config.stage1)
        detector = cls(config, backbone, prompts, *load_streams(folder, backbone, config.stage2))
        return detector if profile is None else detector.with_predict(profile=profile)

    def save(self, folder: str | Path) -> None:
        """Write the detector; the folder appears whole or not at all, and holds the same bytes for the same weights."""
        with atomic_directory(folder) as temporary:
            save_module(self.prompts, temporary / PROMPTS_FILE)
            if self.depth_stream is not None and self.refinement is not None:
                save_streams(temporary, self.depth_stream, self.refinement)
            files = {name: sha256(temporary / name) for name in _file_names(self.config)}
            write_json(temporary / CONFIG_FILE, self.config.model_copy(update={"files": files}).model_dump(mode="json"))

    def with_predict(self, **changes: Any) -> Detector:  # noqa: ANN401 - values of PredictParams
        """The same weights, from maps to scores by other parameters (:class:`~gsclip.params.PredictParams`)."""
        predict = PredictParams.model_validate({**self.config.predict.model_dump(), **changes})
        config = self.config.model_copy(update={"predict": predict})
        return Detector(config, self.backbone, self.prompts, self.depth_stream, self.refinement)

    def prepare(self, scan: Scan, where: str = "scan", pose: np.ndarray | None = None) -> Sample:
        """Sample of a scan, as the detector was trained on them; see :func:`~gsclip.data.preparation.prepare_sample`.

        Raises:
            InputError: when the scan or the pose cannot be used.
        """
        return prepare_sample(scan, where, pose, self.config.scan)

    @property
    def views(self) -> tuple[int, ...]:
        """Places of the views that are scored, among those of the configuration."""
        config = self.config.render
        if self.config.predict.profile == "full":
            return tuple(range(config.views))
        chosen = fast_views(config.cameras, config.views)
        # The colours are those of the first view.
        return (0, *(place for place in chosen if place)) if self.config.predict.rgb else chosen

    def render(self, sample: Sample) -> Views:
        """Views of a sample that are scored, as the detector was trained on them."""
        config = self.config.render
        return render_views(
            sample, image_size=config.image_size, cameras=config.cameras, views=config.views, chosen=self.views
        )

    def encode(self, views: Views) -> ViewTokens:
        """Tokens of the rendered stream."""
        encoding = self.config.features.rendered_encoding
        return rendered_tokens(self._rendered_encoder(), views, encoding, self._kept(views))

    def group(self, sample: Sample) -> Grouping:
        """Cloud that PointNet++ sees, with its neighbourhoods."""
        return group_points(sample.points, self.config.features.cloud_points)

    @torch.no_grad()
    def text_features(self, grouping: Grouping) -> Float[Tensor, "2 d"]:
        """Unit text features of one object: normal, abnormal."""
        return self.prompts(self.backbone.clip, stack_groupings([grouping]))[0]

    @torch.no_grad()
    def refine(self, views: Views, rendered: ViewTokens) -> Float[Tensor, "v t d"]:
        """Tokens G of every view: both streams refined, or the rendered stream alone; where tokens are given."""
        kept = None if rendered.kept is None else torch.from_numpy(rendered.kept)
        return self._refined(rendered, self._depth_tokens(views, kept))

    def _depth_tokens(self, views: Views, kept: Bool[Tensor, "v p"] | None) -> list[Future[Tensor]]:
        """Begin to encode the depth view of every view, (1, t, d) each; none without depth stream."""
        if self.depth_stream is None:
            return []
        encoder, encoding = self._depth_encoder(self.depth_stream), self.config.features.depth_encoding

        def encode(place: int) -> Float[Tensor, "1 t d"]:
            images = depth_images(views.select([place]), encoding)
            return encoder(images, None if kept is None else kept[place : place + 1])

        return [beside(encode, place) for place in range(len(views.rendered))]

    def _refined(self, rendered: ViewTokens, depth: list[Future[Tensor]]) -> Float[Tensor, "v t d"]:
        """What :meth:`refine` gives, from what :meth:`_depth_tokens` has begun."""
        tokens = torch.from_numpy(rendered.tokens).float()
        refinement = self.refinement
        if refinement is None:
            return tokens
        kept = None if rendered.kept is None else torch.from_numpy(rendered.kept)
        others = [begun.result() for begun in depth]

        def refined(place: int) -> Float[Tensor, "1 t d"]:
            here = None if kept is None else kept[place : place + 1]
            return refinement.refine(tokens[place : place + 1], others[place], here)

        return torch.cat(side_by_side(refined, range(len(tokens))))

    @property
    def part_alone(self) -> bool:
        """Whether the patches of the background are left out."""
        return self.config.predict.patches == "part" or self.config.predict.profile == "fast"

    def _kept(self, views: Views) -> Bool[Tensor, "v p"] | None:
        """Patches that are encoded; ``None``: all."""
        if not self.part_alone:
            return None
        return part_patches(views, len(self.backbone.clip.visual.positional_embedding) - 1)

    def own(self, views: Views, rendered: ViewTokens | None = None) -> tuple[Views, ViewTokens]:
        """The views that are scored, and their rendered tokens: a score does not depend on where they come from.

        Args:
            views: those of :meth:`render`, or all of the configuration, as the packs hold them.
            rendered: their tokens, by :meth:`encode` or from the packs; they are taken where they are of the patches
                that this detector encodes (those of the packs are of all), and computed otherwise.
        """
        views, rendered = self._chosen(views, rendered)
        if rendered is None or (rendered.kept is not None) != self.part_alone:
            rendered = self.encode(views)
        return views, rendered

    def _chosen(self, views: Views, rendered: ViewTokens | None) -> tuple[Views, ViewTokens | None]:
        """Those of the views that are scored."""
        if len(self.views) == len(views.rendered):
            return views, rendered
        return views.select(self.views), None if rendered is None else rendered.select(self.views)

    def color_tokens(self, views: Views) -> Float[Tensor, "1 t d"] | None:
        """Tokens of the scan's own colours, by the frozen stream; ``None`` where they are not to be used."""
        image = color_image(views) if self.config.predict.rgb else None
        return None if image is None else self._rendered_encoder()(image)

    def _rendered_encoder(self) -> InferenceEncoder:
        visual = self.backbone.clip.visual
        return self._encoder("rendered", visual, lambda: visual)

    def _depth_encoder(self, depth_stream: VisualEncoder) -> InferenceEncoder:
        return self._encoder("depth", depth_stream, lambda: merge_depth_stream(depth_stream))

    def _encoder(self, stream: str, source: VisualEncoder, plain: Callable[[], VisualEncoder]) -> InferenceEncoder:
        """Encoder of a stream, made ready once, and again where the weights have changed since."""
        state = tuple((parameter.data_ptr(), parameter._version) for parameter in source.parameters())
        known = self._encoders.get(stream)
        if known is None or known[0] != state:
            config = self.config.features
            fast = self.config.predict.profile == "fast" and bfloat16_is_fast()
            encoder = InferenceEncoder(
                self.backbone,
                plain(),
                local_blocks=config.local_blocks,
                layers=config.local_layers,
                precision=torch.bfloat16 if fast else torch.float32,
            )
            self._encoders[stream] = known = (state, encoder)
        return known[1]

    def predict(
        self, sample: Sample, views: Views, rendered: ViewTokens | None = None, grouping: Grouping | None = None
    ) -> Prediction:
        """Score a prepared and rendered sample; tokens and grouping are computed where they are not given.

        Views and tokens may be those of :meth:`render` and :meth:`encode`, or those of the packs, see :meth:`own`.

        Point scores are those of the sample's points; :meth:`~gsclip.data.sample.Sample.spread` brings those of a
        thinned cloud to all points of the scan.
        """
        config = self.config.predict
        text = beside(lambda: self.text_features(grouping or self.group(sample)))
        unlike = beside(smooth_unlikeness, sample, config.smoothing) if config.self_similarity else None
        views, rendered = self._chosen(views, rendered)
        depth = self._depth_tokens(views, self._kept(views))  # begun before the rendered views: no core waits for these
        views, rendered = self.own(views, rendered)
        prediction = beside(
            score_views,
            sample,
            views,
            self._refined(rendered, depth),
            text.result(),
            smoothing=config.smoothing,
            map_weight=config.map_weight,
            map_score=config.map_score,
            unlike=None if unlike is None else unlike.result(),
            self_similarity=config.self_similarity,
            color_tokens=self.color_tokens(views),
            kept=None if rendered.kept is None else torch.from_numpy(rendered.kept),
        ).result()
        if len(self.views) == self.config.render.views:
            return prediction
        return replace(prediction, places=np.array(self.views))

    def score(
        self, points: np.ndarray, colors: np.ndarray | None = None, pose: np.ndarray | None = None
    ) -> Prediction:
        """Score a scan.

        Args:
            points: (h, w, 3) organised scan, its background is removed; or (n, 3) points of one part. Any unit of
                length; float32, or float64 where the scan is far from its origin.
            colors: uint8 RGB of every point, in the shape of ``points``; read where ``predict.rgb`` is on.
            pose: (3, 3) rotation from the scan's frame to the sensor frame (x to the right, y down, z away from the
                sensor); ``None``: they are the same. The views are taken from there.

        Returns:
            Scores; those of points are in the order of the part's points (see
            :func:`~gsclip.data.preparation.prepare_sample`), and of a cloud there is one for every finite point, of
            one that was thinned, too.

        Raises:
            InputError: when the scan or the pose cannot be used.
        """
        array = np.asarray(points)
        if array.dtype != np.float64:
            array = array.astype(np.float32, copy=False)
        sample = self.prepare(Scan(array, colors=colors), pose=pose)
        prediction = self.predict(sample, self.render(sample))
        return replace(prediction, point_scores=sample.spread(prediction.point_scores))

    def decide(self, object_score: float) -> int | None:
        """1 for abnormal, 0 for normal; ``None`` for a detector without threshold."""
        return None if self.config.threshold is None else int(object_score >= self.config.threshold)


def read_config(folder: str | Path) -> DetectorConfig:
    """Read the configuration of a saved detector.

    Raises:
        InputError: when there is none, when it is not valid, or when it is of a version that wrote no checksums.
    """
    path = Path(folder) / CONFIG_FILE
    try:
        config = DetectorConfig.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        remedy = "name the folder of a trained model (models/gsclip after `dvc repro`)"
        raise InputError(folder, f"holds no model ({CONFIG_FILE} not found)", remedy) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "content"
        problem = f"is no configuration of a detector of this version ({place}: {first['msg']})"
        raise InputError(path, problem, TRAIN_AGAIN) from error
    except ValueError as error:
        raise InputError(path, f"is no JSON ({one_line(error)})", TRAIN_AGAIN) from error
    if not config.files:
        raise InputError(path, "holds no checksums: it is of an older version", TRAIN_AGAIN)
    return config


def model_version(config: DetectorConfig) -> str:
    """Twelve hexadecimal digits of a saved model: of its configuration, which holds the checksums of its files."""
    content = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _file_names(config: DetectorConfig) -> list[str]:
    """Names of the files beside the configuration, relative to the model's folder."""
    return [PROMPTS_FILE, *(STREAM_FILES if config.stage2.depth_stream else ())]


def _check_files(folder: Path, config: DetectorConfig) -> None:
    for name in _file_names(config):
        path = folder / name
        if not path.is_file():
            raise InputError(path, "file of the model not found", TRAIN_AGAIN)
        if sha256(path) != config.files.get(name):
            problem = f"SHA-256 differs from {CONFIG_FILE}: changed or copied in part since the model was saved"
            raise InputError(path, problem, TRAIN_AGAIN)
