import numpy as np
import pytest
import torch
from torch.nn import functional

from gsclip.prompts.grouping import group_cloud, stack_groupings
from gsclip.training.batches import Batch
from gsclip.training.losses import (
    classification_loss,
    consistency_loss,
    detection_losses,
    dice_loss,
    focal_loss,
    segmentation_loss,
)

VIEWS, SIDE, PATCHES, DIMENSION = 3, 8, 4, 5


def two_channels(abnormal):
    return torch.stack([1 - abnormal, abnormal], 1)


# --- hand-computed values


def test_focal_loss_of_one_pixel():
    for probability, truth in ((0.9, True), (0.2, True), (0.3, False)):
        right = probability if truth else 1 - probability
        expected = -((1 - right) ** 2) * np.log(right)
        loss = focal_loss(two_channels(torch.tensor([[[probability]]])), torch.tensor([[[truth]]]))
        assert loss.item() == pytest.approx(expected, rel=1e-3)


def test_focal_loss_is_the_mean_over_pixels_and_images_and_finite_at_the_ends():
    abnormal = torch.tensor([[[0.5, 1.0]], [[0.0, 0.0]]])
    mask = torch.tensor([[[True, True]], [[False, True]]])
    half, wrong = 0.25 * np.log(2), -np.log(2e-5)
    loss = focal_loss(two_channels(abnormal), mask)
    assert loss.item() == pytest.approx((half + 0 + 0 + wrong) / 4, rel=1e-3)


def test_dice_loss_of_a_few_points():
    scores = torch.tensor([[1.0, 1, 0, 0], [0.5, 0.5, 0, 0]])
    mask = torch.tensor([[True, False, True, False], [True, True, True, False]])
    expected = [1 - (2 * 1 + 1) / (2 + 2 + 1), 1 - (2 * 1 + 1) / (1 + 3 + 1)]
    assert dice_loss(scores, mask).item() == pytest.approx(np.mean(expected))
    assert dice_loss(mask.float(), mask).item() == pytest.approx(0)


def test_dice_loss_without_any_defect_is_zero_when_nothing_is_found():
    nothing = torch.zeros(1, 6)
    assert dice_loss(nothing, nothing.bool()).item() == 0
    assert dice_loss(nothing + 1, nothing.bool()).item() == pytest.approx(1 - 1 / 7)


def test_classification_loss_takes_each_view_and_the_averaged_logit():
    logits = torch.tensor([[[2.0, 0.0], [0.0, 4.0]]])  # a view that looks normal, one that looks abnormal
    in_2d = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-4.0))) / 2
    in_3d = np.log1p(np.exp(-1.0))  # mean logits (1, 2)
    loss = classification_loss(logits, torch.tensor([[0, 1]]), torch.tensor([1]))
    assert loss.item() == pytest.approx(in_2d + in_3d, rel=1e-5)


def test_consistency_is_zero_for_equal_directions_and_half_way_for_right_angles():
    same = torch.tensor([[[1.0, 0], [7.0, 0]]])
    right_angle = torch.tensor([[[1.0, 0], [0, 3.0]]])
    assert consistency_loss(same).item() == pytest.approx(0, abs=1e-6)
    assert consistency_loss(right_angle).item() == pytest.approx(1 - 0.5**0.5)


def test_consistency_runs_over_features_not_over_views():
    """Written out view by view; neither their order nor the length of their features matters."""
    random = torch.Generator().manual_seed(0)
    features = torch.randn(2, VIEWS, DIMENSION, generator=random)
    unit = features.numpy() / np.linalg.norm(features.numpy(), axis=2, keepdims=True)
    expected = []
    for views in unit:
        mean = views.mean(axis=0) / np.linalg.norm(views.mean(axis=0))
        expected.append(1 - np.mean([view @ mean for view in views]))
    assert consistency_loss(features).item() == pytest.approx(np.mean(expected), abs=1e-6)
    order = torch.tensor([2, 0, 1])
    assert consistency_loss(features[:, order]).item() == pytest.approx(np.mean(expected), abs=1e-6)
    scaled = features * torch.tensor([1.0, 10, 0.1])[:, None]
    assert consistency_loss(scaled).item() == pytest.approx(np.mean(expected), abs=1e-6)


def test_consistency_pulls_the_views_together():
    features = torch.randn(1, VIEWS, DIMENSION, generator=torch.Generator().manual_seed(1)).requires_grad_()
    before = consistency_loss(features)
    before.backward()
    assert (features.grad.abs().sum(-1) > 0).all()
    assert consistency_loss(features - 0.5 * features.grad) < before


# --- several objects


ONE_COUNT = pytest.param(0, id="equal numbers of points")
DIFFERENT_COUNTS = pytest.param(7, id="different numbers of points")


def scene(objects, more_points=0, seed=0):
    """Maps, masks and correspondence of objects, each with so many more points than the one before."""
    random = torch.Generator().manual_seed(seed)
    counts = [20 + more_points * index for index in range(objects)]
    visible = [torch.rand(VIEWS, count, generator=random) < 0.6 for count in counts]
    for seen in visible:
        seen[:, :2] = False  # the first two points are hidden in every view
    return {
        "maps": torch.rand(objects, VIEWS, 2, SIDE, SIDE, generator=random),
        "masks": torch.rand(objects, VIEWS, SIDE, SIDE, generator=random) < 0.2,
        "pixels": [torch.randint(SIDE, (VIEWS, count, 2), generator=random) for count in counts],
        "visible": visible,
        "point_masks": [torch.rand(count, generator=random) < 0.3 for count in counts],
    }


def one(scene, index):
    return {name: values[index : index + 1] for name, values in scene.items()}


def test_segmentation_loss_is_the_sum_of_its_five_terms():
    parts = one(scene(1), 0)
    maps, masks = parts["maps"][0], parts["masks"][0]
    visible, pixels, truth = parts["visible"][0], parts["pixels"][0], parts["point_masks"][0]
    in_2d = focal_loss(maps, masks) + dice_loss(maps[:, 1], masks) + dice_loss(maps[:, 0], ~masks)
    points = []
    for point in range(len(truth)):
        views = np.flatnonzero(visible[:, point])
        if len(views):
            mean = torch.stack([maps[v, :, pixels[v, point, 0], pixels[v, point, 1]] for v in views]).mean(0)
            points.append((mean, truth[point]))
    normal, abnormal = torch.stack([mean for mean, _ in points]).T
    seen_truth = torch.stack([label for _, label in points])
    in_3d = dice_loss(abnormal[None], seen_truth[None]) + dice_loss(normal[None], ~seen_truth[None])
    assert segmentation_loss(**parts).item() == pytest.approx((in_2d + in_3d).item(), rel=1e-5)


def test_points_that_no_view_sees_do_not_count():
    parts = one(scene(1), 0)
    before = segmentation_loss(**parts)
    unseen = ~parts["visible"][0].any(0)
    assert unseen.sum() >= 2
    parts["point_masks"] = [torch.where(unseen, ~parts["point_masks"][0], parts["point_masks"][0])]
    assert segmentation_loss(**parts).item() == before.item()


@pytest.mark.parametrize("more_points", [ONE_COUNT, DIFFERENT_COUNTS])
def test_segmentation_loss_of_several_objects_is_the_mean_of_separate_calls(more_points):
    together = scene(3, more_points)
    separate = [segmentation_loss(**one(together, index)).item() for index in range(3)]
    assert np.ptp(separate) > 1e-3
    assert segmentation_loss(**together).item() == pytest.approx(np.mean(separate), rel=1e-5)


def test_other_losses_of_several_objects_are_the_mean_of_separate_calls():
    random = torch.Generator().manual_seed(2)
    logits = torch.randn(3, VIEWS, 2, generator=random)
    view_labels, labels = torch.randint(2, (3, VIEWS), generator=random), torch.tensor([0, 1, 1])
    pieces = [(logits[i : i + 1], view_labels[i : i + 1], labels[i : i + 1]) for i in range(3)]
    expected = np.mean([classification_loss(*piece).item() for piece in pieces])
    assert classification_loss(logits, view_labels, labels).item() == pytest.approx(expected, rel=1e-5)

    features = torch.randn(3, VIEWS, DIMENSION, generator=random)
    expected = np.mean([consistency_loss(features[i : i + 1]).item() for i in range(3)])
    assert consistency_loss(features).item() == pytest.approx(expected, rel=1e-5)


def test_the_view_average_never_mixes_objects():
    """Objects of constant and different values: averages over views stay those values."""
    logits = torch.tensor([10.0, -10.0, 0.0])[:, None, None] * torch.tensor([1.0, -1.0])
    logits = logits.expand(3, VIEWS, 2)
    labels = torch.tensor([0, 1, 0])
    loss = classification_loss(logits, labels[:, None].expand(3, VIEWS), labels)
    assert loss.item() == pytest.approx(2 * np.log(2) / 3, abs=1e-4)  # only the undecided third object costs


def make_batch(objects, more_points):
    parts = scene(objects, more_points)
    random = np.random.default_rng(0)
    clouds = [group_cloud(random.uniform(-0.5, 0.5, (256, 3))) for _ in range(objects)]
    return Batch(
        names=[f"washer/train/dent/{index:03d}" for index in range(objects)],
        labels=torch.arange(objects) % 2,
        view_labels=parts["masks"].flatten(2).any(-1).long(),
        masks=parts["masks"],
        depth=torch.zeros(objects, VIEWS, SIDE, SIDE),
        pixels=parts["pixels"],
        visible=parts["visible"],
        point_masks=parts["point_masks"],
        tokens=torch.zeros(objects, VIEWS, 1 + PATCHES**2, DIMENSION),
        grouping=stack_groupings(clouds),
    )


def part_of(batch, index):
    names = ("names", "labels", "view_labels", "masks", "depth", "pixels", "visible", "point_masks", "tokens")
    piece = {name: getattr(batch, name)[index : index + 1] for name in names}
    return Batch(**piece, grouping=batch.grouping)


@pytest.mark.parametrize("more_points", [ONE_COUNT, DIFFERENT_COUNTS])
def test_detection_losses_of_a_batch_are_the_mean_of_its_objects_and_reach_tokens_and_prompts(more_points):
    batch = make_batch(2, more_points)
    random = torch.Generator().manual_seed(3)
    tokens = torch.randn(2, VIEWS, 1 + PATCHES**2, DIMENSION, generator=random).requires_grad_()
    prompts = functional.normalize(torch.randn(2, 2, DIMENSION, generator=random), dim=-1).requires_grad_()
    together = detection_losses(tokens, prompts, batch)
    for name in ("classification", "segmentation"):
        pieces = [
            getattr(detection_losses(tokens[i : i + 1], prompts[i : i + 1], part_of(batch, i)), name).item()
            for i in range(2)
        ]
        assert getattr(together, name).item() == pytest.approx(np.mean(pieces), rel=1e-5)
    # The class token is judged by the classification alone, the patches by the segmentation alone.
    by_class, by_prompts = torch.autograd.grad(together.classification, (tokens, prompts), retain_graph=True)
    assert (by_class[:, :, 0].abs().sum(-1) > 0).all()
    assert by_class[:, :, 1:].abs().sum() == 0
    assert (by_prompts.abs().sum(-1) > 0).all()
    by_patches, by_prompts = torch.autograd.grad(together.segmentation, (tokens, prompts))
    assert by_patches[:, :, 0].abs().sum() == 0
    assert (by_patches[:, :, 1:].abs().sum(-1) > 0).all()
    assert (by_prompts.abs().sum(-1) > 0).all()
