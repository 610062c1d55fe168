"""The paper's size: ViT-L/14 at 336 pixels with random weights, and the stages as presets/paper.yaml has them."""

from pathlib import Path

import pytest
import torch
from tests.learning import (
    DAMAGED,
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

from gsclip.features.backbone import load_backbone
from gsclip.params import load_params
from gsclip.prompts.geometry_prompts import build_prompts
from gsclip.streams.streams import build_streams
from gsclip.training.losses import detection_losses

PAPER = load_params(Path(__file__).parents[1] / "presets" / "paper.yaml")
SMALL = 1e-7  # of gradients; the shortest is a hundred times as long


@pytest.fixture(autouse=True, scope="module")
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(PAPER.features.backbone, "random")


@pytest.fixture(scope="module")
def data(backbone, tmp_path_factory):
    data = training_data(tmp_path_factory.mktemp("data"), backbone, PAPER)
    yield data
    data.close()


@pytest.fixture(scope="module")
def prompts(backbone):
    torch.manual_seed(PAPER.stage1.seed)
    return build_prompts(backbone, PAPER.stage1)


@pytest.fixture(scope="module")
def streams(backbone):
    torch.manual_seed(PAPER.stage2.seed)
    return build_streams(backbone, PAPER.stage2)


@pytest.fixture(scope="module")
def stage1(backbone, data, prompts):
    """Gradients of either loss on both objects, in training mode."""
    batch = data.batch(data.names)
    losses = detection_losses(batch.tokens, prompts.train()(backbone.clip, batch.grouping), batch)
    return gradients_of_each(losses, trainable(prompts))


@pytest.fixture(scope="module")
def stage2(backbone, data, prompts, streams):
    """Gradients of either loss on the damaged object, in training mode."""
    depth_stream, refinement = streams
    batch = data.batch([DAMAGED])
    with torch.no_grad():
        text = prompts.eval()(backbone.clip, batch.grouping)
        for name, parameter in depth_stream.named_parameters():
            if "lora_B" in name:  # zero at the start, and then A has no gradient in the first step
                parameter.normal_(std=0.02, generator=torch.Generator().manual_seed(len(name)))
    depth_stream.transformer.grad_checkpointing = PAPER.stage2.gradient_checkpointing
    depth = encode_depth(backbone, depth_stream.train(), batch.depth, PAPER.features)
    losses = detection_losses(refinement.train()(batch.tokens, depth), text, batch)
    return gradients_of_each(losses, trainable(*streams))


def test_the_preset_is_the_papers_configuration():
    views, features, stage1, stage2, predict = PAPER.render, PAPER.features, PAPER.stage1, PAPER.stage2, PAPER.predict
    assert (views.cameras, views.views, views.image_size) == ("front", 9, 336)
    assert (features.backbone, features.weights) == ("ViT-L-14-336", "openai")
    assert (features.rendered_encoding, features.depth_encoding) == ("grey", "grey")
    assert (features.local_blocks, features.local_layers, features.cloud_points) == (19, (24,), 3000)
    assert (stage1.prompts, stage1.shape_prompt, stage1.defect_prompt) == ("learned", True, True)
    assert (stage1.context_tokens, stage1.deep_tokens, stage1.prototypes, stage1.outliers) == (12, 4, 32, 12)
    assert (stage1.epochs, stage1.batch_size, stage1.learning_rate) == (15, 4, 2e-3)
    assert (stage2.depth_stream, stage2.lora_rank, stage2.lora_alpha, stage2.lora_dropout) == (True, 8, 16, 0.1)
    assert (stage2.epochs, stage2.learning_rate, stage2.lora_learning_rate_factor) == (10, 5e-4, 0.1)
    assert (stage2.consistency_weight, stage2.precision) == (0.3, "float32")
    assert (predict.smoothing, predict.map_weight, predict.map_score) == (4, 0.5, "highest_point")
    assert not predict.rgb


@pytest.mark.parametrize("term", TERMS)
def test_either_loss_alone_reaches_every_parameter_of_the_prompts(prompts, stage1, term):
    gradients, absorbed = stage1[term], absorbed_biases(prompts)
    assert len(absorbed) == 22
    assert not within({name: gradient for name, gradient in gradients.items() if name not in absorbed}, SMALL)
    for name, norm_bias in absorbed.items():  # zero but for rounding
        assert gradients[name].norm() < 0.01 * gradients[norm_bias].norm(), name


@pytest.mark.parametrize("term", TERMS)
def test_either_loss_alone_reaches_every_token_of_the_prompts(stage1, term):
    assert stage1[term]["prompts.deep_tokens"].shape == (8, 4, 768)  # layers 2 to 9
    for name in ("normal_context", "abnormal_context", "deep_tokens"):
        assert (stage1[term][f"prompts.{name}"].norm(dim=-1) > SMALL).all(), name


@pytest.mark.parametrize("term", TERMS)
def test_either_loss_alone_reaches_every_parameter_of_the_streams(stage2, term):
    assert sum("lora_" in name for name in stage2[term]) == 2 * 2 * 24
    assert not within(stage2[term], SMALL)


def test_trainable_parameters_are_those_of_the_architecture(prompts, streams):
    expected = expected_trainable(
        PAPER.stage1, PAPER.stage2, vision_width=1024, vision_blocks=24, text_width=768, text_blocks=12, dimension=768
    )
    assert counted(prompts, *streams) == expected
    assert expected == {
        "prompts": 43008,
        "encoder": 966592,
        "shape": 395520,
        "defect": 3057664,
        "lora": 1966080,
        "refinement": 2949888,
    }
    assert sum(expected.values()) == 9378752


def test_a_step_changes_all_that_learns_and_no_bit_of_what_is_frozen(backbone, prompts, streams, stage1, stage2):
    learned = trainable(prompts, *streams)
    assert learned.keys() == stage1["segmentation"].keys() | stage2["segmentation"].keys()
    frozen = [digests(module) for module in (backbone.clip, streams[0])]
    before = {name: parameter.clone() for name, parameter in learned.items()}
    torch.optim.Adam(learned.values(), lr=PAPER.stage2.learning_rate).step()
    assert not {name for name, parameter in learned.items() if torch.equal(parameter, before[name])}
    assert [digests(module) for module in (backbone.clip, streams[0])] == frozen
    assert len(frozen[0]) == len(list(backbone.clip.parameters()))
    for module in (backbone.clip, streams[0]):
        assert all(parameter.grad is None for parameter in module.parameters() if not parameter.requires_grad)
