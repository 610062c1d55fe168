"""The 3D encoder: PointNet++ in its semantic-segmentation layout (Qi et al., NeurIPS 2017; method, section 4)."""

from __future__ import annotations

import pickle  # its error alone: nothing is unpickled but what is allowed below
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gsclip.errors import InputError, one_line
from gsclip.prompts.grouping import CENTROIDS, Grouping
from gsclip.prompts.norm_pooling import highest_of_normed
from gsclip.storage import sha256

INPUT_CHANNELS = 9  # xyz three times: the S3DIS checkpoint expects xyz, colour and normalised location
POINT_CHANNELS = 128
OBJECT_CHANNELS = 512
_ABSTRACTION_WIDTHS = ((32, 32, 64), (64, 64, 128), (128, 128, 256), (256, 256, 512))
_PROPAGATION_WIDTHS = ((128, 128, 128), (256, 128), (256, 256), (256, 256))
_PROPAGATION_INPUTS = (128, 64 + 256, 128 + 256, 256 + 512)
# Such checkpoints keep the accuracy they reached as a number of numpy, written by old and by new versions of it.
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
_NUMPY_NUMBERS: list[Any] = [
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    _NUMPY_SCALAR,
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
]


@dataclass(frozen=True)
class CloudFeatures:
    """What PointNet++ says about a batch of clouds.

    Attributes:
        point: F_p, (b, n, 128).
        object: F_e, (b, 512), the maximum over the top centroids.
        top: (b, 16, 512), features of the top centroids.
    """

    point: Float[Tensor, "b n 128"]
    object: Float[Tensor, "b 512"]
    top: Float[Tensor, "b m 512"]


class SharedMLP(nn.Module):
    """Linear layers with batch normalisation and ReLU, the same for every point; statistics run over all points."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        inputs = (channels, *widths[:-1])
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in zip(inputs, widths, strict=True))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in widths)

    def forward(self, features: Float[Tensor, "*m c_in"]) -> Float[Tensor, "*m c_out"]:
        """Apply all layers."""
        flat = self._layers(features.flatten(0, -2), len(self.norms))
        return flat.view(*features.shape[:-1], -1)

    def _layers(self, flat: Tensor, count: int) -> Tensor:
        for linear, norm in zip(self.linears[:count], self.norms[:count], strict=True):
            flat = functional.relu(norm(linear(flat)), inplace=True)
        return flat


class GroupMLP(SharedMLP):
    """Such layers on groups of neighbours, then the maximum over each group."""

    def forward(self, features: Float[Tensor, "b m k c_in"]) -> Float[Tensor, "b m c_out"]:
        """Apply all layers and take the maximum."""
        last = len(self.norms) - 1
        flat = self.linears[last](self._layers(features.flatten(0, -2), last))
        groups = flat.view(-1, features.shape[2], flat.shape[-1])
        highest = highest_of_normed(groups, cast(nn.BatchNorm1d, self.norms[last]))
        return highest.view(*features.shape[:2], -1)


class PointNet2(nn.Module):
    """Four set abstractions and four feature propagations.

    In evaluation mode the output depends on the grouping alone: same cloud, same bits.
    """

    def __init__(self) -> None:
        super().__init__()
        channels = (INPUT_CHANNELS, *(widths[-1] for widths in _ABSTRACTION_WIDTHS))
        self.abstractions = nn.ModuleList(
            GroupMLP(channels[level] + 3, widths) for level, widths in enumerate(_ABSTRACTION_WIDTHS)
        )
        self.propagations = nn.ModuleList(
            SharedMLP(inputs, widths) for inputs, widths in zip(_PROPAGATION_INPUTS, _PROPAGATION_WIDTHS, strict=True)
        )
        self.head = SharedMLP(POINT_CHANNELS, (POINT_CHANNELS,))

    def forward(self, grouping: Grouping) -> CloudFeatures:
        """Encode a batch of clouds given as a stacked grouping (numpy arrays with a leading axis b)."""
        device = next(self.parameters()).device

        def tensor(name: str) -> Tensor:
            return torch.from_numpy(getattr(grouping, name)).to(device)

        points = tensor("cloud")
        features = [points.repeat(1, 1, INPUT_CHANNELS // 3)]
        for level, abstraction in enumerate(self.abstractions):
            centroids = _gather(points, tensor(f"centroids_{level}"))
            neighbours = tensor(f"neighbours_{level}")
            offsets = _gather(points, neighbours) - centroids[:, :, None]
            grouped = torch.cat([offsets, _gather(features[-1], neighbours)], -1)
            features.append(abstraction(grouped))
            points = centroids
        top = features[-1]
        for level in reversed(range(len(CENTROIDS))):
            carried = _interpolate(
                features[level + 1], tensor(f"interpolation_{level}"), tensor(f"weights_{level}")
            )
            # The lowest level has no skip connection: its features are the coordinates themselves.
            joined = carried if level == 0 else torch.cat([features[level], carried], -1)
            features[level] = self.propagations[level](joined)
        return CloudFeatures(point=self.head(features[0]), object=top.amax(1), top=top)


def _gather(values: Float[Tensor, "b n c"], index: Int[Tensor, "b *m"]) -> Float[Tensor, "b *m c"]:
    """Values at indices into the axis n."""
    return values.flatten(0, 1).index_select(0, _flat(index, values).flatten()).view(*index.shape, -1)


def _interpolate(
    values: Float[Tensor, "b n c"], index: Int[Tensor, "b m k"], weights: Float[Tensor, "b m k"]
) -> Float[Tensor, "b m c"]:
    """Weighted sums of the values at k indices."""
    sums = functional.embedding_bag(
        _flat(index, values).flatten(0, 1),
        values.flatten(0, 1),
        per_sample_weights=weights.to(values.dtype).flatten(0, 1),
        mode="sum",
    )
    return sums.view(*index.shape[:2], -1)


def _flat(index: Int[Tensor, "b *m"], values: Float[Tensor, "b n c"]) -> Int[Tensor, "b *m"]:
    """Indices into the rows of all clouds."""
    first = torch.arange(len(values), device=values.device).view(-1, *[1] * (index.dim() - 1)) * values.shape[1]
    return index.long() + first


def load_pointnet2_sem_seg(encoder: PointNet2, path: str | Path, expected_sha256: str = "") -> None:
    """Load the weights of a ``pointnet2_sem_seg`` checkpoint (such as the widely used one of S3DIS), strictly.

    Nothing is unpickled but tensors, plain values and the numpy numbers that such checkpoints hold beside them.

    Raises:
        InputError: when the file is missing, not the expected one, or does not fit.
    """
    path = Path(path)
    remedy = "name the file of a pointnet2_sem_seg checkpoint with nine input channels"
    if not path.is_file():
        raise InputError(path, "not found", remedy)
    if expected_sha256 and sha256(path) != expected_sha256:
        raise InputError(path, "SHA-256 differs from stage1.pointnet_sha256", "download the file again")
    try:
        with torch.serialization.safe_globals(_NUMPY_NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
        encoder.load_state_dict(convert_pointnet2_sem_seg(content.get("model_state_dict", content)), strict=True)
    except (OSError, RuntimeError, ValueError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(path, f"cannot be loaded ({one_line(error)})", remedy) from error


def convert_pointnet2_sem_seg(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Map a ``pointnet2_sem_seg`` state dict (1x1 convolutions, levels from 1) to the keys of :class:`PointNet2`.

    The classifier ``conv2`` is left out; any other unknown key is kept, so that strict loading reports it.
    """
    converted: dict[str, Tensor] = {}
    for key, value in state.items():
        head, _, rest = key.partition(".")
        if head == "conv2":
            continue
        if head in ("conv1", "bn1"):
            place = "linears" if head == "conv1" else "norms"
            converted[f"head.{place}.0.{rest}"] = value.flatten(1) if value.dim() == 3 else value
            continue
        kind = {"sa": "abstractions", "fp": "propagations"}.get(head[:2])
        if kind is None or not head[2:].isdigit():
            converted[key] = value
            continue
        module, _, tail = rest.partition(".")
        place = {"mlp_convs": "linears", "mlp_bns": "norms"}.get(module, module)
        is_weight = module == "mlp_convs" and tail.endswith("weight")
        converted[f"{kind}.{int(head[2:]) - 1}.{place}.{tail}"] = value.flatten(1) if is_weight else value
    return converted
