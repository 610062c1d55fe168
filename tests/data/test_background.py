from pathlib import Path

import numpy as np
import pytest

from gsclip.data.background import remove_background

REAL_DATA = Path(__file__).parents[2].parent / "shared" / "data" / "mvtec_3d_ad"
SIDE = 240


def rays(side=SIDE):
    """(side, side, 3) viewing rays of a pin-hole camera with a field of view of 28 degrees, z = 1."""
    v, u = (np.mgrid[:side, :side] - (side - 1) / 2) / (2 * side)
    return np.stack([u, v, np.ones_like(u)], axis=-1)


def table_scene(size=0.05, tilt=0.3, noise=0.002, dropout=0.45, sphere_at=(0.0, 0.0), radius=0.25, side=SIDE):
    """A ball before a tilted table, both in units of the table's width ``size``.

    Returns:
        points (h, w, 3) float32 with NaN, and the ball's mask (h, w).
    """
    random = np.random.default_rng(7)
    direction = rays(side)
    normal = np.array([0, np.sin(tilt), -np.cos(tilt)])
    depth = -2.3 * np.cos(tilt) / (direction @ normal)
    depth = depth + noise * random.standard_normal(depth.shape)
    depth[random.random(depth.shape) < dropout] = np.nan
    centre = np.array([*sphere_at, 1.9])
    along = direction @ centre / (direction**2).sum(axis=-1)
    off = ((along[..., None] * direction - centre) ** 2).sum(axis=-1)
    ball = off < radius**2
    half = np.sqrt(np.where(ball, radius**2 - off, 0)) / np.linalg.norm(direction, axis=-1)
    depth[ball] = (along - half)[ball]
    return (depth[..., None] * direction * size).astype(np.float32), ball


@pytest.mark.parametrize("size", [0.01, 0.08, 80.0], ids=["10 mm", "80 mm", "in millimetres"])
def test_a_ball_is_parted_from_a_tilted_noisy_table_at_any_scale(size):
    points, ball = table_scene(size)
    found = remove_background(points)
    np.testing.assert_array_equal(found.part, ball)
    np.testing.assert_allclose(found.plane[:3], [0, np.sin(0.3), -np.cos(0.3)], atol=2e-3)
    assert found.note.startswith("table removed; components clear of the edge kept")


def test_the_plane_is_where_the_table_is_and_faces_the_sensor():
    points, _ = table_scene(size=1.0, tilt=0.0, noise=0.0)
    np.testing.assert_allclose(remove_background(points).plane, [0, 0, -1, 2.3], atol=1e-6)


def test_finer_grids_give_the_same_part():
    points, ball = table_scene(side=400)
    np.testing.assert_array_equal(remove_background(points).part, ball)


def test_a_part_split_by_a_shadow_is_kept_whole():
    points, ball = table_scene()
    points[:, 112:128] = np.nan  # wider than the window: two components
    found = remove_background(points)
    ball[:, 112:128] = False
    np.testing.assert_array_equal(found.part, ball)
    assert "2 components" in found.note


def test_specks_off_the_table_are_not_part():
    points, ball = table_scene()
    points[30:36, 30:36] *= 0.8  # 36 points, 0.46 table widths above it
    np.testing.assert_array_equal(remove_background(points).part, ball)


def scatter_above_the_table(points, share, height, rows=slice(60, 90), columns=slice(20, 50)):
    """Lift that share of the points of a patch of the table by ``height`` table widths; returns the lifted mask."""
    direction = rays()
    normal = np.array([0, np.sin(0.3), -np.cos(0.3)])
    lifted = np.zeros(points.shape[:2], dtype=bool)
    lifted[rows, columns] = np.random.default_rng(3).random(lifted[rows, columns].shape) < share
    depth = (height * 0.05 - 2.3 * np.cos(0.3) * 0.05) / (direction @ normal)
    points[lifted] = (depth[..., None] * direction)[lifted].astype(np.float32)
    return lifted


@pytest.mark.parametrize(
    ("share", "height", "is_part"),
    [(0.3, 0.02, False), (1.0, 0.02, True), (0.3, 0.3, True)],
    ids=["a low and thin fleck", "a low and dense piece", "a high and perforated piece"],
)
def test_flecks_of_the_table_are_parted_from_pieces_of_the_part(share, height, is_part):
    points, ball = table_scene()
    lifted = scatter_above_the_table(points, share, height)
    lost = 0.05 * lifted.sum()  # a few points of a thin patch have no neighbour within the window
    part = remove_background(points).part
    assert (part & ball).sum() == ball.sum()
    assert abs((part & lifted).sum() - is_part * lifted.sum()) <= is_part * lost
    assert not (part & ~ball & ~lifted).any()


def test_a_part_that_is_all_low_and_thin_is_kept():
    points, _ = table_scene(radius=0.0)
    lifted = scatter_above_the_table(points, 0.3, 0.02)
    np.testing.assert_array_equal(remove_background(points).part, lifted)


def test_things_that_the_edge_cuts_are_not_part():
    points, ball = table_scene()
    points[100:160, :12] *= 0.9  # a clamp that reaches into the view
    np.testing.assert_array_equal(remove_background(points).part, ball)


def test_a_part_larger_than_the_view_is_kept():
    points, ball = table_scene(sphere_at=(-0.45, 0.0), dropout=0.0)
    assert ball[:, 0].any()
    found = remove_background(points)
    np.testing.assert_array_equal(found.part, ball)
    assert "reaches the edge" in found.note


def test_a_ball_without_a_table_is_kept_whole():
    points, ball = table_scene()
    points[~ball] = np.nan
    found = remove_background(points)
    np.testing.assert_array_equal(found.part, ball)
    assert found.plane is None


def test_a_bare_table_is_kept_and_the_note_says_so():
    points, _ = table_scene(radius=0.0)
    found = remove_background(points)
    np.testing.assert_array_equal(found.part, np.isfinite(points).all(axis=2))
    assert found.note == "nothing stands off the plane: all finite points kept"


def test_a_border_without_a_plane_keeps_all_points():
    direction = rays()
    depth = 2 + 0.4 * np.sin(9 * direction[..., 0] * 2 * np.pi) * np.cos(9 * direction[..., 1] * 2 * np.pi)
    found = remove_background((depth[..., None] * direction).astype(np.float32))
    assert found.plane is None
    assert found.part.all()


@pytest.mark.parametrize("points", [np.full((60, 60, 3), np.nan), np.ones((60, 60, 3)), np.zeros((1, 1, 3))])
def test_grids_without_extent_do_not_fail(points):
    found = remove_background(points.astype(np.float32))
    np.testing.assert_array_equal(found.part, np.isfinite(points).all(axis=2))


def test_the_same_scan_gives_the_same_result():
    points, _ = table_scene()
    first, second = remove_background(points), remove_background(points.copy())
    assert first.part.tobytes() == second.part.tobytes()
    assert first.plane.tobytes() == second.plane.tobytes()


def test_unorganised_points_are_refused():
    with pytest.raises(ValueError, match="organised"):
        remove_background(np.zeros((100, 3)))


def wedge_on_a_rough_table():
    """A wedge whose thin end lies in the gate of a rough table, seen from above; points and the wedge's mask."""
    random = np.random.default_rng(11)
    direction = rays()
    u, v = direction[..., 0], direction[..., 1]
    wedge = (np.abs(u) < 0.15) & (np.abs(v) < 0.09)
    depth = 2.3 + 0.01 * random.standard_normal(wedge.shape)
    depth[random.random(wedge.shape) < 0.45] = np.nan
    depth[wedge] = (2.3 - 0.4 * (u + 0.15) / 0.3)[wedge]
    return (depth[..., None] * direction).astype(np.float32), wedge


def test_the_foot_of_a_part_on_a_rough_table_is_kept(monkeypatch):
    points, wedge = wedge_on_a_rough_table()
    part = remove_background(points).part
    monkeypatch.setattr("gsclip.data.background.MAX_FOOT_SHARE", -1.0)
    without = remove_background(points).part
    assert (wedge & ~without).sum() > 0.06 * wedge.sum()
    assert (wedge & ~part).sum() < 0.02 * wedge.sum()  # the outermost pixels, which the table makes rough
    assert (part & ~wedge).sum() <= 0.001 * wedge.sum()


def test_a_part_does_not_grow_over_a_smooth_mat(monkeypatch):
    points, wedge = wedge_on_a_rough_table()
    mat = ~wedge
    mat[:50] = mat[-50:] = mat[:, :30] = mat[:, -30:] = False
    points[mat] = (2.3 * rays())[mat].astype(np.float32)
    assert not (remove_background(points).part & mat).any()
    monkeypatch.setattr("gsclip.data.background.MAX_FOOT_SHARE", np.inf)
    assert (remove_background(points).part & mat).sum() > 0.9 * mat.sum()


def test_a_part_does_not_grow_over_a_table_without_noise():
    # Rounding to float32 alone makes the table rough, and it is finer where the table is nearer.
    direction = rays()
    normal = np.array([0, np.sin(1.0), -np.cos(1.0)])
    depth = 2.3 * normal[2] / (direction @ normal)
    ball = (direction[..., 0] ** 2 + direction[..., 1] ** 2) < 0.07**2
    depth[ball] -= 0.3
    points = (depth[..., None] * direction).astype(np.float32)
    np.testing.assert_array_equal(remove_background(points).part, ball)


@pytest.mark.parametrize(("gap", "is_part"), [(4, True), (14, False)], ids=["beside the part", "far from it"])
def test_a_small_dense_piece_counts_where_it_is_beside_the_part(gap, is_part):
    points, ball = table_scene()
    top = int(np.flatnonzero(ball.any(axis=1))[0])
    piece = np.zeros_like(ball)
    piece[top - gap - 5 : top - gap, SIDE // 2 - 2 : SIDE // 2 + 3] = True
    points[top - gap - 8 : top, SIDE // 2 - 6 : SIDE // 2 + 7] = np.nan  # the shadow between
    points[piece] = (1.7 * 0.05 * rays())[piece].astype(np.float32)
    assert 10 <= piece.sum() < 50
    part = remove_background(points).part
    np.testing.assert_array_equal(part, (ball | piece if is_part else ball) & np.isfinite(points).all(axis=2))


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="real scans of MVTec 3D-AD are not on this machine")
@pytest.mark.parametrize(
    ("name", "components"),
    [
        ("bent/014", 2),  # a low piece of a bent fin behind its shadow
        ("cut/004", 1),
        ("good/000", 1),  # a dense streak of the table on the left
        ("hole/006", 1),
        ("thread/000", 1),  # a thin one on the right
        ("thread/010", 1),  # light of the nut on the table
        ("thread/012", 2),
    ],
)
def test_real_scans_keep_the_part_and_its_defect_and_no_fleck(name, components):
    from gsclip.data.scan_files import read_mask, read_scan

    defect, number = name.split("/")
    folder = REAL_DATA / "cable_gland" / "test" / defect
    points = read_scan(folder / "xyz" / f"{number}.tiff").points
    mask = read_mask(folder / "gt" / f"{number}.png", (400, 400)) & np.isfinite(points).all(axis=2)
    found = remove_background(points)
    assert f"({components} components" in found.note
    assert 22_500 < found.part.sum() < 27_500
    assert (mask & ~found.part).sum() <= (0.02 if name == "bent/014" else 0.0) * mask.sum()


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="real scans of MVTec 3D-AD are not on this machine")
def test_real_scans_lose_at_most_half_a_per_cent_of_their_defects():
    from gsclip.data.mvtec3d import mvtec_3d_ad_index, read_row

    index = mvtec_3d_ad_index(REAL_DATA, ["cable_gland"])
    chosen = [f"cable_gland/test/{name}" for name in ("bent/012", "bent/014", "cut/002", "cut/014", "hole/006")]
    chosen += [f"cable_gland/test/thread/{number}" for number in ("000", "006", "010", "012")]
    defect = lost = 0
    for _, row in index[index["name"].isin(chosen)].iterrows():
        scan = read_row(REAL_DATA, row)
        points = scan.mask & np.isfinite(scan.points).all(axis=2)
        defect += points.sum()
        lost += (points & ~remove_background(scan.points).part).sum()
    assert defect > 3000
    assert lost <= 0.005 * defect


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="real scans of MVTec 3D-AD are not on this machine")
@pytest.mark.parametrize(("name", "grown"), [("cut/014", 400), ("cut/012", 400), ("good/000", 0), ("thread/010", 0)])
def test_real_parts_grow_by_their_foot_alone(monkeypatch, name, grown):
    from gsclip.data.scan_files import read_scan

    defect, number = name.split("/")
    points = read_scan(REAL_DATA / "cable_gland" / "test" / defect / "xyz" / f"{number}.tiff").points
    part = remove_background(points).part
    monkeypatch.setattr("gsclip.data.background.MAX_FOOT_SHARE", -1.0)
    foot = part & ~remove_background(points).part
    assert grown <= foot.sum() <= max(1.5 * grown, 20)
    if grown:
        part_rows = np.flatnonzero(part.any(axis=1))
        assert np.flatnonzero(foot.any(axis=1))[0] > part_rows[-1] - 25  # these stand upright: at their lower end
