import numpy as np
import torch
from torch.nn import functional

from gsclip.prompts.grouping import group_points, stack_groupings
from gsclip.prompts.hand_written import STATES, HandWrittenPrompts


def test_the_pair_is_the_mean_of_the_sentences_of_each_side_and_the_same_for_all(clip, tokenizer):
    captions = ("{}", "a photo of a {}")
    prompts = HandWrittenPrompts(clip, tokenizer, captions)
    cloud = np.random.default_rng(0).standard_normal((600, 3))
    grouping = stack_groupings([group_points(cloud, 300), group_points(2 * cloud**3, 300)])
    pairs = prompts(clip, grouping)
    assert pairs.shape == (2, 2, clip.text_projection.shape[1])
    torch.testing.assert_close(pairs.norm(dim=-1), torch.ones(2, 2))
    assert torch.equal(pairs[0], pairs[1])
    for side in range(2):
        sentences = [caption.format(state[side].format("object")) for caption in captions for state in STATES]
        features = functional.normalize(clip.encode_text(tokenizer(sentences)), dim=-1)
        torch.testing.assert_close(pairs[0, side], functional.normalize(features.mean(0), dim=-1))


def test_nothing_is_learned_or_saved(clip, tokenizer):
    prompts = HandWrittenPrompts(clip, tokenizer, ("{}",))
    assert not list(prompts.parameters())
    assert not prompts.state_dict()
