import torch

from gsclip.features.stem import ConvolutionalStem


def test_every_stage_halves_the_resolution():
    stem = ConvolutionalStem((8, 16, 24), (1, 0, 2), 40)
    assert stem(torch.randn(2, 3, 64, 48)).shape == (2, 40, 8, 6)


def test_a_patch_depends_on_its_surroundings_alone():
    torch.manual_seed(0)
    stem = ConvolutionalStem((8, 16), (1, 1), 12)
    for parameter in stem.parameters():  # the residual blocks start as the identity
        torch.nn.init.normal_(parameter, std=0.2)
    image = torch.randn(1, 3, 96, 96)
    whole, crop = stem(image), stem(image[..., 32:80, 16:64])
    torch.testing.assert_close(crop[..., 4:-4, 4:-4], whole[..., 12:16, 8:12], rtol=1e-4, atol=1e-4)
    assert (crop[..., 0, 0] - whole[..., 8, 4]).abs().max() > 1e-3  # at its border a crop lacks them


def test_residual_blocks_start_as_the_identity():
    torch.manual_seed(0)
    with_blocks = ConvolutionalStem((8,), (2,), 12)
    without = ConvolutionalStem((8,), (0,), 12)
    without.stages[0].load_state_dict(with_blocks.stages[0].state_dict())
    without.project.load_state_dict(with_blocks.project.state_dict())
    image = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(with_blocks(image), without(image), rtol=0, atol=0.2)
