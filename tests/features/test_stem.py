import torch

from gsclip.features.stem import ConvolutionalStem


def test_every_stage_halves_the_resolution():
    stem = ConvolutionalStem((8, 16, 24), (1, 0, 2), 40)
    assert stem(torch.randn(2, 3, 64, 48)).shape == (2, 40, 8, 6)


def test_a_patch_depends_on_its_surroundings_alone():
    torch.manual_seed(0)
    stem = ConvolutionalStem((8, 16), (1, 1), 12)
    image = torch.randn(1, 3, 96, 96)
    whole, crop = stem(image), stem(image[..., 32:80, 16:64])
    torch.testing.assert_close(crop[..., 4:-4, 4:-4], whole[..., 12:16, 8:12], rtol=1e-4, atol=1e-4)
    assert (crop[..., 0, 0] - whole[..., 8, 4]).abs().max() > 1e-3  # at its border a crop lacks them


def test_folding_takes_the_batch_norms_in_and_leaves_the_function():
    torch.manual_seed(0)
    stem = ConvolutionalStem((8, 16), (1, 2), 12, normalised=True)
    for _ in range(5):
        stem(2 * torch.randn(4, 3, 32, 32) + 1)
    stem.eval()
    folded = stem.folded()
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(folded(image), stem(image), rtol=1e-4, atol=1e-5)
    plain = ConvolutionalStem((8, 16), (1, 2), 12)
    plain.load_state_dict(folded.state_dict(), strict=True)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in stem.modules())  # the original is untouched
