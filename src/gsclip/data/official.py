"""How many samples the official data sets hold, so that an incomplete copy can be told from a complete one.

Only what their authors publish: MVTec 3D-AD, table 1 of Bergmann et al. (VISAPP 2022); Eyecandies, table "Format" of
the download page; Real3D-AD, table "Dataset Statistic" of the repository; Anomaly-ShapeNet, its repository (four scans
for training a category; the numbers in the test split are not listed there).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gsclip.data import anomaly_shapenet, eyecandies, labelled_clouds, mvtec3d, real3d_ad

GOOD, ABNORMAL, ALL = "good", "abnormal", "all"

# Category: train, validation, test good, test abnormal; 0 where there are none.
_MVTEC_3D_AD = {
    "bagel": (244, 22, 22, 88),
    "cable_gland": (223, 23, 21, 87),
    "carrot": (286, 29, 27, 132),
    "cookie": (210, 22, 28, 103),
    "dowel": (288, 34, 26, 104),
    "foam": (236, 27, 20, 80),
    "peach": (361, 42, 26, 106),
    "potato": (300, 33, 22, 92),
    "rope": (298, 33, 32, 69),
    "tire": (210, 29, 25, 87),
}
_EYECANDIES = dict.fromkeys(eyecandies.OFFICIAL_CATEGORIES, (1000, 100, 25, 25))
_REAL3D_AD = {
    **dict.fromkeys(real3d_ad.OFFICIAL_CATEGORIES, (4, 0, 50, 50)),
    "chicken": (4, 0, 52, 54),
    "shell": (4, 0, 52, 48),
}
_ANOMALY_SHAPENET = dict.fromkeys(anomaly_shapenet.OFFICIAL_CATEGORIES, (4, 0, 0, 0))


def _table(counts: Mapping[str, tuple[int, int, int, int]]) -> dict[tuple[str, str, str], int]:
    table = {}
    for name, (train, validation, good, abnormal) in counts.items():
        for split, defect, number in (
            ("train", GOOD, train),
            ("train", ALL, train),
            ("validation", GOOD, validation),
            ("validation", ALL, validation),
            ("test", GOOD, good),
            ("test", ABNORMAL, abnormal),
            ("test", ALL, good + abnormal),
        ):
            if number:
                table[name, split, defect] = number
    return table


# Data set: categories and splits that it has.
OFFICIAL_PLACES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        mvtec3d.DATASET: (mvtec3d.OFFICIAL_CATEGORIES, mvtec3d.SPLITS),
        eyecandies.DATASET: (eyecandies.OFFICIAL_CATEGORIES, eyecandies.SPLITS),
        real3d_ad.DATASET: (real3d_ad.OFFICIAL_CATEGORIES, labelled_clouds.SPLITS),
        anomaly_shapenet.DATASET: (anomaly_shapenet.OFFICIAL_CATEGORIES, labelled_clouds.SPLITS),
    }
)

# Data set: (category, split, "good", "abnormal" or "all"): number of samples.
OFFICIAL_COUNTS: Mapping[str, Mapping[tuple[str, str, str], int]] = MappingProxyType(
    {
        mvtec3d.DATASET: _table(_MVTEC_3D_AD),
        eyecandies.DATASET: _table(_EYECANDIES),
        real3d_ad.DATASET: _table(_REAL3D_AD),
        anomaly_shapenet.DATASET: _table(_ANOMALY_SHAPENET),
    }
)
