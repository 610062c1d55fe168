"""The learned part of a detector that works on images, as one ONNX file for other programs.

Inputs are the rendered and the depth images of v views, as :mod:`gsclip.features.images` makes them; output the refined
tokens G. Both encoders (LoRA merged) and the SRM are inside; rendering, prompts and scores are not.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gsclip.data.procedural.dataset import generate_scan
from gsclip.data.sample import Scan
from gsclip.detector import Detector
from gsclip.errors import GsclipError
from gsclip.features.backbone import Backbone
from gsclip.features.encode import encode_views
from gsclip.features.images import depth_images, rendered_images
from gsclip.features.types import VisualEncoder
from gsclip.params import FeaturesParams
from gsclip.storage import atomic_path, sha256, write_json
from gsclip.streams.depth_lora import merge_depth_stream
from gsclip.streams.refinement import SynergisticRefinement

MAX_DIFFERENCE = 1e-3  # of unit tokens
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20


class RefinedTokens(nn.Module):
    """From the images of one object to its tokens G.

    Args:
        backbone: with the rendered stream.
        depth: the depth stream, merged.
        refinement: SRM.
        config: layers.
    """

    def __init__(
        self, backbone: Backbone, depth: VisualEncoder, refinement: SynergisticRefinement, config: FeaturesParams
    ) -> None:
        super().__init__()
        self._backbone, self._config = backbone, config
        self.rendered, self.depth, self.refinement = backbone.clip.visual, depth, refinement

    def forward(
        self, rendered: Float[Tensor, "v 3 h w"], depth: Float[Tensor, "v 3 h w"]
    ) -> Float[Tensor, "v t d"]:
        """Unit tokens, class token first."""
        first, second = (
            encode_views(
                self._backbone,
                visual,
                images,
                local_blocks=self._config.local_blocks,
                local_layers=self._config.local_layers,
            )
            for visual, images in ((self.rendered, rendered), (self.depth, depth))
        )
        return self.refinement(first[None], second[None])[0]


def export_onnx(detector: Detector, path: Path, scan: Scan | None = None) -> float:
    """Write ``path`` and, beside it, ``<path>.json`` with its checksum, what it takes and gives, and the model's facts.

    Args:
        detector: of both streams.
        path: of the ONNX file.
        scan: what the file is checked on, run by ONNX Runtime; a generated one by default.

    Returns:
        The largest difference of a token's component between the file and the detector, all patches encoded: what
        the file does, whatever ``predict.patches`` says.

    Raises:
        GsclipError: where packages are missing, the detector has no depth stream, or the difference exceeds
            :data:`MAX_DIFFERENCE`; then nothing is written.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise GsclipError(f"export needs {', '.join(missing)}; install them: pip install {' '.join(missing)}")
    if detector.depth_stream is None or detector.refinement is None:
        raise GsclipError("the model has no depth stream: nothing of it but the frozen backbone works on images")
    import onnxruntime

    whole = detector.with_predict(patches="all", profile="full")
    views = whole.render(whole.prepare(scan or generate_scan("elbow", 0, None, 0)))
    config = detector.config.features
    images = {
        "rendered": rendered_images(views, config.rendered_encoding).contiguous(),
        "depth": depth_images(views, config.depth_encoding).contiguous(),
    }
    depth = merge_depth_stream(detector.depth_stream)
    module = RefinedTokens(detector.backbone, depth, detector.refinement, config).eval()
    count = torch.export.Dim("views", min=2, max=64)
    with torch.no_grad():
        program: Any = torch.onnx.export(
            module,
            tuple(images.values()),
            dynamo=True,
            dynamic_shapes=({0: count}, {0: count}),
            input_names=list(images),
            output_names=["tokens"],
            opset_version=OPSET,
            verbose=False,
        )
    facts = {**detector.config.facts(), "features": config.model_dump(mode="json"), "gsclip": version("gsclip")}
    program.model.metadata_props["gsclip"] = json.dumps(facts, sort_keys=True)
    with atomic_path(path) as temporary:
        program.save(temporary, external_data=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(temporary, options, providers=["CPUExecutionProvider"])
        expected = whole.refine(views, whole.encode(views)).numpy()
        result = session.run(None, {name: image.numpy() for name, image in images.items()})[0]
        difference = float(np.abs(result - expected).max())
        if not difference <= MAX_DIFFERENCE:
            raise GsclipError(f"the exported file differs from the model by {difference:.1e}: not written")
        checksum = sha256(temporary)
    write_json(
        path.with_name(path.name + ".json"),
        {
            "sha256": checksum,
            "inputs": {name: ["views", *image.shape[1:]] for name, image in images.items()},
            "outputs": {"tokens": ["views", *expected.shape[1:]]},
            "max_difference": difference,
            "model": facts,
        },
    )
    return difference
