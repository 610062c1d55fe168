import numpy as np
import pytest
import torch

from gsclip.data.procedural.casting import ball_span, cast, single_thread
from gsclip.data.procedural.sdf import box, sphere, translate, union


def parallel_rays(count=41, half=20.0, start=-100.0):
    ticks = torch.linspace(-half, half, count)
    x, y = (axis.ravel() for axis in torch.meshgrid(ticks, ticks, indexing="ij"))
    origins = torch.stack([x, y, torch.full_like(x, start)])
    return origins, torch.tensor([[0.0], [0.0], [1.0]]).expand_as(origins).contiguous()


def test_rays_meet_a_ball_where_geometry_says():
    origins, directions = parallel_rays()
    off = origins[:2].norm(dim=0)
    inside = off < 9.9
    far = torch.full((origins.shape[1],), 200.0)
    found = cast(sphere(10.0), origins, directions, torch.zeros_like(far), far)
    torch.testing.assert_close(found[inside], 100 - (100 - off[inside] ** 2).sqrt(), atol=0.02, rtol=0)
    assert torch.isinf(found[off > 10.1]).all()


def test_the_nearer_of_two_surfaces_is_met_even_when_thin():
    origins, directions = parallel_rays()
    plate = translate(box((15.0, 15.0, 0.05)), (0, 0, -30.0))
    far = torch.full((origins.shape[1],), 200.0)
    found = cast(union(sphere(10.0), plate), origins, directions, torch.zeros_like(far), far)
    over_plate = origins[:2].abs().amax(dim=0) < 14.9
    torch.testing.assert_close(found[over_plate], torch.full_like(found[over_plate], 69.95), atol=0.01, rtol=0)


def test_nothing_is_met_beyond_the_far_end():
    origins, directions = parallel_rays(3)
    far = torch.full((9,), 50.0)
    assert torch.isinf(cast(sphere(10.0), origins, directions, torch.zeros(9), far)).all()


def test_a_ray_that_cannot_settle_in_time_is_unknown_not_a_miss():
    origins, directions = parallel_rays(1)
    # A field that never falls below a hundredth of a millimetre, nor lets the ray leave.
    found = cast(lambda p: torch.full_like(p[0], 0.01), origins, directions, torch.zeros(1), torch.full((1,), 1e3))
    assert torch.isnan(found).all()


def test_no_rays_meet_nothing():
    assert cast(sphere(1.0), torch.zeros(3, 0), torch.zeros(3, 0), torch.zeros(0), torch.zeros(0)).shape == (0,)


def test_the_span_of_a_ball():
    origins = torch.tensor([[0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 6.0, 0.0], [-20.0, -20.0, -20.0, 20.0]])
    directions = torch.tensor([[0.0], [0.0], [1.0]]).expand(3, 4)
    crossing, near, far = ball_span(origins, directions, torch.tensor([[0.0], [0.0], [1.0]]), 5.0)
    assert crossing.tolist() == [True, True, False, False]  # the last looks away
    np.testing.assert_allclose(near[:2], [16.0, 17.0], atol=1e-5)
    np.testing.assert_allclose(far[:2], [26.0, 25.0], atol=1e-5)


def test_the_number_of_threads_is_restored_after_an_error():
    before = torch.get_num_threads()

    def fail():
        with single_thread():
            raise RuntimeError(f"with {torch.get_num_threads()} thread")

    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="with 1 thread"):
            fail()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
