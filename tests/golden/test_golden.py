"""Our layers against inputs, weights and outputs of the reference code, computed once on random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gsclip.axes import ABNORMAL, NORMAL
from gsclip.features.value_attention import encode_images
from gsclip.metrics.region_overlap import pro_paper_protocol
from gsclip.prompts.gddm import GeometricDefectDistillation
from gsclip.prompts.grouping import group_cloud, stack_groupings
from gsclip.prompts.pointnet2 import PointNet2, convert_pointnet2_sem_seg
from gsclip.prompts.text import encode_prompts
from gsclip.scores.back_projection import back_project
from gsclip.scores.similarity import class_logits, enlarge_maps, patch_maps
from gsclip.training.losses import dice_loss, focal_loss

FOLDER = Path(__file__).parents[3] / "shared" / "golden"
VISUAL_LAYERS = (6, 12, 18, 24)

if not FOLDER.is_dir():
    pytest.skip("the golden numbers are not there: ../shared/golden", allow_module_level=True)


def golden(name):
    """Arrays of one file as tensors: inputs and outputs, and the weights without their prefix."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        tensors = {key: torch.from_numpy(file[key]) for key in file.files}
    weights = {key.removeprefix("weights/"): tensors[key] for key in tensors if key.startswith("weights/")}
    return {key: value for key, value in tensors.items() if not key.startswith("weights/")}, weights


def assert_agrees(ours, theirs, tolerance=1e-5):
    """Relative to the largest value of the golden array."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * float(theirs.abs().max()))


@pytest.fixture(scope="module")
def visual():
    from open_clip.transformer import QuickGELU, VisionTransformer

    arrays, weights = golden("visual_local_path")
    encoder = VisionTransformer(
        image_size=112, patch_size=14, width=64, layers=24, heads=2, mlp_ratio=4, output_dim=32, act_layer=QuickGELU
    )
    encoder.load_state_dict(weights, strict=True)
    return encoder.eval().requires_grad_(False), arrays


def test_local_path_of_the_visual_encoder(visual):
    encoder, arrays = visual
    encoded = encode_images(encoder, arrays["images"], local_blocks=19, layers=VISUAL_LAYERS)
    assert_agrees(encoded.class_token, arrays["class_feature"])
    for place, layer in enumerate(VISUAL_LAYERS):
        assert_agrees(encoded.patch_tokens[:, place], arrays[f"local_tokens_layer{layer}"][:, 1:])


def test_visual_encoder_without_local_path(visual):
    encoder, arrays = visual
    encoded = encode_images(encoder, arrays["images"], local_blocks=0, layers=VISUAL_LAYERS)
    assert_agrees(encoded.class_token, arrays["class_feature"])
    for place, layer in enumerate(VISUAL_LAYERS):
        assert_agrees(encoded.patch_tokens[:, place], arrays[f"plain_tokens_layer{layer}"][:, 1:])


def test_text_encoder_with_deep_tokens():
    import open_clip

    arrays, weights = golden("text_deep_prompts")
    vision = {"image_size": 16, "patch_size": 16, "width": 64, "layers": 1, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 10, "width": 64, "heads": 2, "layers": 12}
    clip = open_clip.CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text, quick_gelu=True).eval()
    missing, unexpected = clip.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(key.startswith("visual.") or key in ("token_embedding.weight", "logit_scale") for key in missing)
    with torch.no_grad():
        features = encode_prompts(clip, arrays["prompts"], arrays["token_ids"].argmax(1), arrays["deep_tokens"])
    assert_agrees(features, arrays["text_features"])


def test_pointnet2():
    arrays, weights = golden("pointnet2")
    encoder = PointNet2().eval()
    encoder.load_state_dict(convert_pointnet2_sem_seg(weights), strict=True)
    grouping = stack_groupings([group_cloud(points.T.numpy()) for points in arrays["points"]])
    with torch.no_grad():
        features = encoder(grouping)
    top = arrays["top_centroid_features"].transpose(1, 2)
    assert_agrees(features.top, top)
    assert_agrees(features.object, top.amax(1))
    assert_agrees(features.point, arrays["point_features"])


def test_geometric_defect_distillation():
    arrays, weights = golden("gddm")
    names = {
        "normal_prototypes_module.prototypes": "prototypes",
        "outlier_aggregator.point_feat_proj": "project",
        "outlier_aggregator.aggregator_attention": "attention",
        "outlier_aggregator.norm": "norm",
        "outlier_aggregator.ffn.0": "feed_forward",
    }
    state = {
        next(key.replace(theirs, ours) for theirs, ours in names.items() if key.startswith(theirs)): value
        for key, value in weights.items()
    }
    gddm = GeometricDefectDistillation(64, prototypes=32, outliers=12, tokens=1).eval()
    gddm.load_state_dict(state, strict=True)
    with torch.no_grad():
        assert_agrees(gddm.outlier_scores(arrays["point_features"]), arrays["outlier_scores"])
        assert_agrees(gddm(arrays["point_features"]), arrays["defect_tokens"])


def test_similarity_and_map():
    arrays, _ = golden("similarity_map")
    logits = class_logits(arrays["patch_tokens"][:, None], arrays["text_features"])
    probability = logits.softmax(-1)
    assert_agrees(probability[:, 0], arrays["probability"])
    maps = enlarge_maps(patch_maps(probability[:, :, 1:]), arrays["map"].shape[1])
    assert_agrees(maps[:, 0].movedim(1, -1), arrays["map"])


def test_back_projection():
    arrays, _ = golden("back_projection")
    places = arrays["pixel_x_y_visible"]
    objects, views = places.shape[:2]
    maps = arrays["maps"].movedim(-1, 1).unflatten(0, (objects, views))
    for index in range(objects):
        row_column = places[index, :, :, [1, 0]]
        scores, seen = back_project(maps[index], row_column, places[index, :, :, 2].bool())
        assert seen.all()
        assert_agrees(scores.T, arrays["point_scores"][index])


def test_losses():
    arrays, _ = golden("losses")
    maps, mask = arrays["maps"], arrays["mask"][:, 0].bool()
    losses = {
        "focal": focal_loss(maps, mask),
        "dice_abnormal": dice_loss(maps[:, ABNORMAL], mask),
        "dice_normal": dice_loss(maps[:, NORMAL], ~mask),
    }
    for name, value in losses.items():
        assert value.item() == pytest.approx(arrays[name].item(), rel=1e-5), name


def test_per_region_overlap_by_the_paper_protocol():
    arrays, _ = golden("pro_paper_protocol")
    pro = pro_paper_protocol(arrays["maps"].numpy(), arrays["masks"].numpy())
    assert pro == pytest.approx(arrays["pro"].item(), rel=1e-5)
