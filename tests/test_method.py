"""The method as a whole, at the size of the embedded backbone: every part learns, and objects and views stay apart."""

import copy
import dataclasses
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.detectors import PARAMS, as_if_trained, untrained_detector
from tests.learning import (
    TERMS,
    absorbed_biases,
    counted,
    digests,
    encode_depth,
    expected_trainable,
    gradients_of_each,
    trainable,
    training_data,
    within,
)
from torch.nn import functional

from gsclip.data.preparation import prepare_sample
from gsclip.data.procedural.dataset import generate_scan
from gsclip.errors import InputError
from gsclip.features.backbone import load_backbone
from gsclip.features.images import depth_images
from gsclip.prompts.geometry_prompts import build_prompts, load_prompts
from gsclip.prompts.grouping import stack_groupings
from gsclip.scores.scoring import score_views
from gsclip.scores.similarity import class_logits
from gsclip.storage import save_module
from gsclip.streams.streams import build_streams, load_streams, save_streams
from gsclip.training.checkpoints import Checkpoint
from gsclip.training.losses import detection_losses
from gsclip.training.stage1 import train_stage1
from gsclip.training.stage2 import runs_in_bfloat16, train_stage2
from gsclip.views.views import Views

ROUNDING = 1e-11  # of gradients in double precision: rounding is a hundred times shorter, a true one longer
WEIGHTS = ("prompts.safetensors", "refinement.safetensors", "depth_stream/adapter_model.safetensors")
FAMILIES = ("elbow", "jar_lid", "impeller")


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


@pytest.fixture(scope="module")
def data(backbone, tmp_path_factory):
    data = training_data(tmp_path_factory.mktemp("data"), backbone, PARAMS)
    yield data
    data.close()


def build(builder, backbone, params):
    """Fresh weights, as the pipeline seeds them."""
    torch.manual_seed(params.seed)
    return builder(backbone, params)


@pytest.fixture
def prompts(backbone):
    return build(build_prompts, backbone, PARAMS.stage1)


@pytest.fixture
def streams(backbone):
    return build(build_streams, backbone, PARAMS.stage2)


# --- every part learns, from either loss alone


@pytest.fixture(scope="module")
def double_clip(backbone):
    """Double precision tells a short gradient from none."""
    return copy.deepcopy(backbone.clip).double()


@pytest.fixture(scope="module")
def double_batch(data):
    """Both objects."""
    batch = data.batch(data.names)
    arrays = {name: value for name, value in vars(batch.grouping).items() if value.dtype == np.float32}
    grouping = dataclasses.replace(batch.grouping, **{name: value.astype(np.float64) for name, value in arrays.items()})
    return dataclasses.replace(batch, tokens=batch.tokens.double(), depth=batch.depth.double(), grouping=grouping)


@pytest.fixture(scope="module")
def stage1(backbone, double_clip, double_batch):
    """Prompts in training mode, and their gradients from either loss."""
    prompts = build(build_prompts, backbone, PARAMS.stage1).double().train()
    losses = detection_losses(double_batch.tokens, prompts(double_clip, double_batch.grouping), double_batch)
    return SimpleNamespace(prompts=prompts, gradients=gradients_of_each(losses, trainable(prompts)))


@pytest.mark.parametrize("term", TERMS)
def test_either_loss_alone_reaches_every_parameter_of_the_prompts(stage1, term):
    absorbed = absorbed_biases(stage1.prompts)
    assert len(absorbed) == 22
    assert within(stage1.gradients[term], ROUNDING) == set(absorbed)


@pytest.mark.parametrize("term", TERMS)
def test_either_loss_alone_reaches_every_token_of_the_prompts(stage1, term):
    for name in ("normal_context", "abnormal_context", "deep_tokens"):
        assert (stage1.gradients[term][f"prompts.{name}"].norm(dim=-1) > ROUNDING).all(), name


@pytest.mark.parametrize("term", TERMS)
def test_either_loss_alone_reaches_the_prototypes_nearest_to_the_outliers(stage1, double_batch, term):
    defect = stage1.prompts.defect
    with torch.no_grad():
        features = stage1.prompts.encoder(double_batch.grouping).point
        chosen = defect.outlier_scores(features).topk(defect.outliers, dim=1).indices
        outliers = features.gather(1, chosen[..., None].expand(-1, -1, features.shape[-1])).flatten(0, 1)
        nearest = functional.cosine_similarity(outliers[:, None], defect.prototypes[None], dim=-1).argmax(1)
    reached = stage1.gradients[term]["defect.prototypes"].norm(dim=1) > ROUNDING
    assert 1 < reached.sum() < len(reached)
    assert set(reached.nonzero().flatten().tolist()) == set(nearest.tolist())


@pytest.mark.parametrize("term", TERMS)
def test_the_attention_of_the_gddm_learns_all_but_the_bias_of_its_keys(stage1, term):
    """Such a bias adds the same to all scores of a row, and softmax takes it off."""
    query, key, value = stage1.gradients[term]["defect.attention.in_proj_bias"].chunk(3)
    assert query.norm() > ROUNDING
    assert key.norm() <= ROUNDING
    assert value.norm() > ROUNDING
    assert all(part.norm() > ROUNDING for part in stage1.gradients[term]["defect.attention.in_proj_weight"].chunk(3))


@pytest.fixture(scope="module")
def stage2(backbone, double_clip, double_batch):
    """Streams in training mode, their gradients from either loss at the start and after one step."""
    streams = build(build_streams, backbone, PARAMS.stage2)
    depth_stream, refinement = (module.double().train() for module in streams)
    with torch.no_grad():
        text = build(build_prompts, backbone, PARAMS.stage1).double().eval()(double_clip, double_batch.grouping)
    learned = trainable(depth_stream, refinement)

    def gradients(change=lambda depth: depth):
        depth = change(encode_depth(backbone, depth_stream, double_batch.depth, PARAMS.features))
        return gradients_of_each(detection_losses(refinement(double_batch.tokens, depth), text, double_batch), learned)

    without_class_token = gradients(lambda depth: torch.cat([depth[:, :, :1].detach(), depth[:, :, 1:]], 2))
    first = gradients()
    torch.optim.Adam(learned.values(), lr=1e-3).step()
    return SimpleNamespace(first=first, second=gradients(), without_class_token=without_class_token)


@pytest.mark.parametrize("term", TERMS)
def test_either_loss_alone_reaches_every_parameter_of_the_streams(stage2, term):
    """B is zero at the start, so that A has no gradient in the first step; from the second on both have one."""
    sides_a = {name for name in stage2.first[term] if "lora_A" in name}
    assert len(sides_a) == 8
    assert within(stage2.first[term], ROUNDING) == within(stage2.first[term], 0) == sides_a
    assert not within(stage2.second[term], ROUNDING)


def test_segmentation_reaches_the_last_block_through_the_class_token_alone(stage2):
    """LoRA sits in the MLPs. The local path leaves them out, and no block follows that would read what they give."""
    gradients = stage2.without_class_token["segmentation"]
    sides_b = {name: gradient for name, gradient in gradients.items() if "lora_B" in name}
    assert within(sides_b, 0) == {name for name in sides_b if "resblocks.3." in name}


@pytest.fixture(scope="module")
def trained(backbone, data, tmp_path_factory):
    """Both stages, trained for one and two steps; what there was before, and the checkpoints of the end."""
    folder = tmp_path_factory.mktemp("checkpoints")
    prompts, streams = build(build_prompts, backbone, PARAMS.stage1), build(build_streams, backbone, PARAMS.stage2)
    frozen = [digests(module) for module in (backbone.clip, streams[0])]
    start = {name: parameter.clone() for name, parameter in trainable(prompts, *streams).items()}
    checkpoints = [Checkpoint(folder, name, "key") for name in ("stage1", "stage2")]
    stage1 = PARAMS.stage1.model_copy(update={"epochs": 1})
    train_stage1(prompts, backbone, data, stage1, checkpoints[0])
    learned = {name: value.clone() for name, value in prompts.state_dict().items()}
    stage2 = PARAMS.stage2.model_copy(update={"epochs": 2})  # A follows B
    train_stage2(*streams, prompts, backbone, data, PARAMS.features, stage2, checkpoints[1])
    return SimpleNamespace(
        prompts=prompts,
        streams=streams,
        start=start,
        frozen=frozen,
        learned=learned,
        optimizers=[checkpoint.load()["optimizer"]["param_groups"] for checkpoint in checkpoints],
    )


def test_training_changes_every_part_and_no_bit_of_what_is_frozen(backbone, trained):
    learned = trainable(trained.prompts, *trained.streams)
    assert not {name for name, value in learned.items() if torch.equal(value, trained.start[name])}
    assert all(torch.equal(value, trained.learned[name]) for name, value in trained.prompts.state_dict().items())
    depth_stream = trained.streams[0]
    assert [digests(module) for module in (backbone.clip, depth_stream)] == trained.frozen
    assert len(trained.frozen[0]) == len(list(backbone.clip.parameters()))
    for module in (backbone.clip, depth_stream):
        assert all(parameter.grad is None for parameter in module.parameters() if not parameter.requires_grad)


def test_the_optimizers_are_those_of_the_method(trained):
    """All of the prompts at one rate; the SRM at its own, LoRA at a tenth of that."""
    first, second = trained.optimizers
    assert [len(group["params"]) for group in first] == [len(trainable(trained.prompts))]
    assert first[0]["betas"] == (0.5, 0.999)
    assert first[0]["lr"] == PARAMS.stage1.learning_rate
    depth_stream, refinement = trained.streams
    assert [len(group["params"]) for group in second] == [len(trainable(refinement)), len(trainable(depth_stream))]
    assert [group["lr"] for group in second] == pytest.approx([PARAMS.stage2.learning_rate * rate for rate in (1, 0.1)])


def test_trainable_parameters_are_those_of_the_architecture(prompts, streams):
    expected = expected_trainable(
        PARAMS.stage1, PARAMS.stage2, vision_width=192, vision_blocks=4, text_width=64, text_blocks=4, dimension=128
    )
    assert counted(prompts, *streams) == expected
    assert expected == {
        "prompts": 2304,
        "encoder": 966592,
        "shape": 32960,
        "defect": 33280,
        "lora": 61440,
        "refinement": 82048,
    }
    assert sum(expected.values()) == 1178624


# --- objects and views stay apart


def test_a_batch_gives_each_object_the_logits_and_losses_that_it_has_alone(backbone, data, prompts, streams):
    depth_stream, refinement = (module.eval() for module in streams)
    prompts.eval()

    @torch.no_grad()
    def judge(names):
        batch = data.batch(names)
        text = prompts(backbone.clip, batch.grouping)
        refined = refinement(batch.tokens, encode_depth(backbone, depth_stream, batch.depth, PARAMS.features))
        return class_logits(refined, text), detection_losses(refined, text, batch)

    logits, losses = judge(data.names)
    assert (logits[0] - logits[1]).abs().max() > 0.1
    assert (logits[:, 0] - logits[:, 1]).abs().max() > 0.1
    alone = [judge([name]) for name in data.names]
    for index, (own_logits, _) in enumerate(alone):
        torch.testing.assert_close(own_logits[0], logits[index], rtol=0, atol=1e-5)
    for term in TERMS:
        values = [getattr(own_losses, term).item() for _, own_losses in alone]
        assert abs(values[0] - values[1]) > 0.01
        assert getattr(losses, term).item() == pytest.approx(np.mean(values), abs=1e-5)


def test_stage2_sees_the_same_losses_in_a_batch_as_one_by_one(backbone, data, prompts, tmp_path):
    """A learning rate of next to nothing: the curve is that of the weights at the start."""
    still = {"epochs": 1, "learning_rate": 1e-30, "lora_dropout": 0.0, "precision": "float32"}

    def curve(size):
        params = PARAMS.stage2.model_copy(update={**still, "batch_size": size})
        streams = build(build_streams, backbone, params)
        checkpoint = Checkpoint(tmp_path, "stage2", str(size))
        return train_stage2(*streams, prompts, backbone, data, PARAMS.features, params, checkpoint).iloc[0]

    one_by_one, together = curve(1), curve(2)
    for term in (*TERMS, "consistency"):
        assert together[term] == pytest.approx(one_by_one[term], abs=1e-5), term


def test_bfloat16_reaches_the_passes_and_not_the_losses(backbone, data, prompts, tmp_path, monkeypatch):
    """Tokens leave the encoder as bfloat16, losses are float32, and they are those of float32 but for rounding."""
    still = {"epochs": 1, "learning_rate": 1e-30, "lora_dropout": 0.0}
    seen = []

    def watched(tokens, *rest):
        seen.append(tokens.dtype)
        return detection_losses(tokens, *rest)

    monkeypatch.setattr("gsclip.training.stage2.detection_losses", watched)
    curves, passes = {}, {}
    for precision in ("float32", "bfloat16"):
        params = PARAMS.stage2.model_copy(update={**still, "precision": precision})
        depth_stream, refinement = build(build_streams, backbone, params)
        dtypes = passes[precision] = set()
        for module in (refinement.rendered_key, depth_stream.transformer.resblocks[0].mlp):
            module.register_forward_hook(lambda _module, _inputs, out, dtypes=dtypes: dtypes.add(out.dtype))
        checkpoint = Checkpoint(tmp_path, "stage2", precision)
        curves[precision] = train_stage2(
            depth_stream, refinement, prompts, backbone, data, PARAMS.features, params, checkpoint
        ).iloc[0]
        assert {value.dtype for value in trainable(depth_stream, refinement).values()} == {torch.float32}
    assert passes == {"float32": {torch.float32}, "bfloat16": {torch.bfloat16}}
    assert set(seen) == {torch.float32}
    for term in (*TERMS, "consistency"):
        assert curves["bfloat16"][term] == pytest.approx(curves["float32"][term], abs=0.02), term
        assert curves["bfloat16"][term] != curves["float32"][term], term


@pytest.mark.parametrize("has_it", [False, True])
def test_precision_auto_is_bfloat16_where_the_processor_has_it(monkeypatch, has_it):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: has_it)
    assert runs_in_bfloat16(PARAMS.stage2.model_copy(update={"precision": "auto"})) == has_it
    assert not runs_in_bfloat16(PARAMS.stage2.model_copy(update={"precision": "float32"}))


@pytest.fixture(scope="module")
def scans():
    return [generate_scan(family, 0, None, 0, grid=(120, 120)) for family in FAMILIES]


@pytest.fixture(scope="module")
def parts(backbone, scans):
    """A detector of three views, and sample, views, tokens and grouping of three parts."""
    detector = untrained_detector(backbone, render={"views": 3}, predict={"patches": "all", "self_similarity": 0.0})
    samples = [prepare_sample(scan) for scan in scans]
    groupings = [detector.group(sample) for sample in samples]
    as_if_trained(detector, stack_groupings(groupings))
    views = [detector.render(sample) for sample in samples]
    return detector, list(zip(samples, views, map(detector.encode, views), groupings, strict=True))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_objects_of_a_batch_get_the_scores_that_they_get_alone(backbone, parts, order):
    detector, records = parts
    alone = [detector.predict(*record) for record in records]
    assert np.ptp([prediction.object_score for prediction in alone]) > 1e-3
    samples, views, tokens, groupings = zip(*(records[index] for index in order), strict=True)
    features, predict = detector.config.features, detector.config.predict
    with torch.no_grad():
        text = detector.prompts(backbone.clip, stack_groupings(list(groupings)))
        images = torch.stack([depth_images(seen, features.depth_encoding) for seen in views])
        rendered = torch.stack([torch.from_numpy(seen.tokens).float() for seen in tokens])
        refined = detector.refinement(rendered, encode_depth(backbone, detector.depth_stream, images, features))
    for place, index in enumerate(order):
        together = score_views(
            samples[place],
            views[place],
            refined[place],
            text[place],
            smoothing=predict.smoothing,
            map_weight=predict.map_weight,
            map_score=predict.map_score,
        )
        assert together.object_score == pytest.approx(alone[index].object_score, abs=1e-5)
        np.testing.assert_allclose(together.point_scores, alone[index].point_scores, rtol=0, atol=1e-5)


def test_the_same_scan_scored_twice_gives_the_same_bytes(parts, scans):
    detector, _ = parts
    first, second = (detector.score(scans[0].points) for _ in range(2))
    assert first.object_score == second.object_score
    for name in ("point_scores", "view_probabilities", "view_maps"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 1, 0)])
def test_the_order_of_the_views_does_not_change_what_the_detector_says(parts, order):
    detector, records = parts
    sample, views, _, grouping = records[0]
    fields = [field.name for field in dataclasses.fields(Views) if field.name != "colors"]
    shuffled = dataclasses.replace(views, **{name: getattr(views, name)[list(order)] for name in fields})
    first = detector.predict(sample, views, grouping=grouping)
    second = detector.predict(sample, shuffled, grouping=grouping)
    assert np.ptp(first.view_probabilities) > 1e-3
    assert second.object_score == pytest.approx(first.object_score, abs=1e-6)
    np.testing.assert_allclose(second.point_scores, first.point_scores, rtol=0, atol=1e-6)
    np.testing.assert_allclose(second.view_probabilities, first.view_probabilities[list(order)], rtol=0, atol=1e-6)


# --- weights fit or are refused


@pytest.fixture(scope="module")
def weights(backbone, tmp_path_factory):
    """Folder of untrained weights of both stages."""
    folder = tmp_path_factory.mktemp("weights") / "model"
    save_streams(folder, *build(build_streams, backbone, PARAMS.stage2))
    save_module(build(build_prompts, backbone, PARAMS.stage1), folder / "prompts.safetensors")
    return folder


def load(folder, backbone):
    return load_prompts(folder, backbone, PARAMS.stage1), load_streams(folder, backbone, PARAMS.stage2)


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
@pytest.mark.parametrize("change", ["missing", "added", "misshapen"])
@pytest.mark.parametrize("file", WEIGHTS)
def test_weights_that_do_not_fit_are_refused_by_name(backbone, weights, tmp_path, file, change):
    folder = shutil.copytree(weights, tmp_path / "model")
    state = load_file(folder / file)
    name = sorted(state)[-1]
    if change == "missing":
        del state[name]
    elif change == "added":
        state["more"] = torch.zeros(1)
    else:
        state[name] = torch.cat([state[name], state[name]])
    save_file(state, folder / file)
    with pytest.raises(InputError) as refused:
        load(folder, backbone)
    assert refused.value.where in (str(folder / file), str(folder / "depth_stream"))
    assert ("more" if change == "added" else name.removesuffix(".weight")) in refused.value.problem
