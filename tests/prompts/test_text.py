import pytest
import torch
from torch.nn import functional

from gsclip.prompts.text import AsymmetricPrompts, deep_layers, encode_prompts

CONTEXT, DEEP = 6, 3


@pytest.fixture
def prompts(clip, tokenizer):
    torch.manual_seed(1)
    return AsymmetricPrompts(clip, tokenizer, context=CONTEXT, deep=DEEP)


def geometry(clip, batch=2, tokens=1, seed=0):
    """Random shape and defect tokens (b, tokens, width)."""
    width = clip.token_embedding.weight.shape[1]
    return torch.randn(batch, tokens, width, generator=torch.Generator().manual_seed(seed))


def inputs_of_blocks(clip, call):
    """What enters and leaves each text block during ``call``: lists of (i, tokens, width)."""
    entered, left = [], []

    def note(_, arguments, output):
        entered.append(arguments[0].detach().clone())
        left.append(output.detach().clone())

    handles = [block.register_forward_hook(note) for block in clip.transformer.resblocks]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return entered, left


@pytest.mark.parametrize(("layers", "expected"), [(12, 8), (9, 8), (4, 3), (2, 1), (1, 0), (0, 0)])
def test_layers_two_to_nine_take_deep_tokens(layers, expected):
    assert deep_layers(layers) == expected


def test_without_deep_tokens_it_is_the_backbones_own_text_encoder(clip, tokenizer):
    ids = tokenizer(["object.", "damaged object.", "a photo of a washer with a dent"])
    none = torch.zeros(0, 0, clip.token_embedding.weight.shape[1])
    features = encode_prompts(clip, clip.token_embedding(ids), ids.argmax(-1), none)
    torch.testing.assert_close(features, clip.encode_text(ids), rtol=0, atol=1e-5)


def test_what_follows_the_end_token_changes_nothing(clip, tokenizer):
    ids = tokenizer(["object.", "damaged object."])
    deep = geometry(clip, 3, 2)
    embedded, ends = clip.token_embedding(ids), ids.argmax(-1)
    padded = encode_prompts(clip, embedded, ends, deep)
    for index, end in enumerate(ends.tolist()):
        cut = encode_prompts(clip, embedded[index : index + 1, : end + 1], torch.tensor([end]), deep)
        torch.testing.assert_close(cut[0], padded[index], rtol=0, atol=1e-5)


@pytest.mark.parametrize("words", ["object.", "damaged object."])
@pytest.mark.parametrize("defect_tokens", [0, 1, 3])
def test_the_words_stay_in_place_behind_context_and_geometry(clip, tokenizer, prompts, words, defect_tokens):
    shape, defect = geometry(clip), geometry(clip, 2, defect_tokens, seed=1) if defect_tokens else None
    entered, _ = inputs_of_blocks(clip, lambda: prompts(clip, 2, shape, defect))
    abnormal = words != "object."
    layers = len(clip.transformer.resblocks)
    first = entered[layers if abnormal else 0] - clip.positional_embedding[: entered[layers * abnormal].shape[1]]
    ids = tokenizer([words])[0]
    embedded = clip.token_embedding(ids[: ids.argmax() + 1])  # start, words, end
    context = prompts.abnormal_context if abnormal else prompts.normal_context
    for index in range(2):
        parts = [embedded[:1], context, shape[index]]
        if abnormal and defect is not None:
            parts.append(defect[index])
        expected = torch.cat([*parts, embedded[1:]])
        torch.testing.assert_close(first[index], expected.detach(), rtol=0, atol=1e-6)


def test_deep_tokens_replace_the_first_context_tokens_and_nothing_else(clip, prompts):
    entered, left = inputs_of_blocks(clip, lambda: prompts(clip, 2, geometry(clip), geometry(clip, seed=1)))
    layers = len(clip.transformer.resblocks)
    assert DEEP <= CONTEXT
    for encoding in range(2):  # the normal and the abnormal prompt
        for layer in range(1, layers):
            before, after = left[encoding * layers + layer - 1], entered[encoding * layers + layer]
            changed = (before != after).any(-1)
            assert changed[:, 1 : 1 + DEEP].all()
            assert not changed[:, 0].any()
            assert not changed[:, 1 + DEEP :].any()
            expected = prompts.deep_tokens[layer - 1].detach().expand(2, -1, -1)
            torch.testing.assert_close(after[:, 1 : 1 + DEEP], expected, rtol=0, atol=0)


def test_the_words_have_an_effect(clip, prompts):
    with torch.no_grad():
        prompts.abnormal_context[:] = prompts.normal_context
        features = prompts(clip, 1, geometry(clip, 1), None)
        assert (features[:, 0] - features[:, 1]).abs().max() > 1e-3
        prompts.abnormal_words = prompts.normal_words
        same = prompts(clip, 1, geometry(clip, 1), None)
        torch.testing.assert_close(same[:, 0], same[:, 1], rtol=0, atol=1e-6)


def test_the_defect_prompt_changes_the_abnormal_side_alone(clip, prompts):
    shape = geometry(clip)
    with torch.no_grad():
        first, second = (prompts(clip, 2, shape, geometry(clip, seed=seed)) for seed in (1, 2))
        without = prompts(clip, 2, shape, None)
    assert torch.equal(first[:, 0], second[:, 0])
    assert torch.equal(first[:, 0], without[:, 0])
    assert (first[:, 1] - second[:, 1]).abs().max() > 1e-4


def test_features_are_unit_vectors_one_pair_for_each_object(clip, prompts):
    with torch.no_grad():
        features = prompts(clip, 3, geometry(clip, 3), geometry(clip, 3, seed=1))
        assert features.shape == (3, 2, clip.text_projection.shape[1])
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(3, 2), rtol=0, atol=1e-6)
        for index in range(3):
            shape, defect = (geometry(clip, 3, seed=seed)[index : index + 1] for seed in (0, 1))
            torch.testing.assert_close(prompts(clip, 1, shape, defect)[0], features[index], rtol=0, atol=1e-5)
        assert (features[0] - features[1]).abs().max() > 1e-4


def test_without_geometry_all_objects_share_their_prompts(clip, prompts):
    with torch.no_grad():
        features = prompts(clip, 4, None, None)
    torch.testing.assert_close(features, features[:1].expand(4, -1, -1), rtol=0, atol=1e-6)


def test_only_what_is_learned_is_saved(prompts):
    assert set(prompts.state_dict()) == {"normal_context", "abnormal_context", "deep_tokens"}


def test_more_deep_tokens_than_context_are_refused(clip, tokenizer):
    with pytest.raises(ValueError, match="5 deep tokens do not fit into 4 context tokens"):
        AsymmetricPrompts(clip, tokenizer, context=4, deep=5)


def test_every_parameter_and_the_geometry_have_a_gradient_and_the_backbone_has_none(clip, prompts):
    shape, defect = geometry(clip).requires_grad_(), geometry(clip, seed=1).requires_grad_()
    features = prompts(clip, 2, shape, defect)
    target = functional.normalize(torch.randn(features.shape, generator=torch.Generator().manual_seed(4)), dim=-1)
    (features * target).sum().backward()
    learned = {**dict(prompts.named_parameters()), "shape": shape, "defect": defect}
    for name, parameter in learned.items():
        assert parameter.grad is not None, name
        assert (parameter.grad.flatten(1).abs().sum(1) > 0).all() or name.endswith("context"), name
    # Deep tokens take the place of the first context tokens from layer 2 on; in layer 1 these act all the same.
    assert all(parameter.grad is None for parameter in clip.parameters())
