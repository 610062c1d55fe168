"""Figures that other authors published, quoted for orientation: per cent, whole data sets, CLIP ViT-L/14@336."""

from __future__ import annotations

from dataclasses import dataclass

MVTEC_3D_AD, EYECANDIES = "mvtec_3d_ad", "eyecandies"


@dataclass(frozen=True)
class Published:
    """One row of a published table; ``None`` where no figure was published or found.

    Attributes:
        method: name of the method.
        dataset: as in the index.
        protocol: what was trained on and tested on.
        o_auroc: object AUROC in per cent.
        o_ap: object average precision in per cent.
        pixel_auroc: AUROC over whole grids (P-AUROC of the papers) in per cent.
        pixel_pro: PRO over whole grids by the papers' protocol of 200 thresholds, in per cent.
        source: where it was published.
    """

    method: str
    dataset: str
    protocol: str
    o_auroc: float | None
    o_ap: float | None
    pixel_auroc: float | None
    pixel_pro: float | None
    source: str


ONE_VS_REST = "one-vs-rest, 3D only"
CROSS_DATA_SET = "cross-data-set from MVTec 3D-AD, 3D only"
_GS_CLIP = "arXiv:2602.19206"
_POINTAD = "arXiv:2410.00320"

PUBLISHED = (
    Published("GS-CLIP", MVTEC_3D_AD, ONE_VS_REST, 83.6, 96.5, 96.3, 86.4, _GS_CLIP),
    Published("PointAD", MVTEC_3D_AD, ONE_VS_REST, 82.0, 94.2, 95.5, 84.4, _POINTAD),
    Published("GS-CLIP", EYECANDIES, ONE_VS_REST, 71.5, None, None, 73.8, _GS_CLIP),
    Published("PointAD", EYECANDIES, ONE_VS_REST, 69.1, 73.8, 92.1, 71.3, _POINTAD),
    Published("GS-CLIP", EYECANDIES, CROSS_DATA_SET, 70.3, 75.3, 92.9, 73.4, _GS_CLIP),
    Published("PointAD", EYECANDIES, CROSS_DATA_SET, 69.5, 74.3, 91.8, 71.4, _POINTAD),
)


@dataclass(frozen=True)
class PublishedAblation:
    """One row of the ablation of the paper (Table 4), MVTec 3D-AD one-vs-rest, CLIP ViT-L/14@336, per cent."""

    row: str
    o_auroc: float
    o_ap: float
    pixel_auroc: float
    pixel_pro: float


PUBLISHED_ABLATION = (
    PublishedAblation("render + learnable prompt", 80.9, 91.7, 93.5, 83.1),
    PublishedAblation("+ SRM", 82.3, 93.9, 94.6, 84.8),
    PublishedAblation("+ SRM + shape", 82.5, 94.8, 95.2, 85.1),
    PublishedAblation("+ SRM + defect", 82.9, 94.4, 95.6, 85.6),
    PublishedAblation("+ SRM + shape + defect", 83.1, 96.2, 96.0, 86.2),
    PublishedAblation("+ SRM + shape + defect + L_con", 83.6, 96.5, 96.3, 86.4),
)


def published_for(dataset: str) -> tuple[Published, ...]:
    """Rows about a data set; those about MVTec 3D-AD for one that nobody has published on."""
    rows = tuple(row for row in PUBLISHED if row.dataset == dataset)
    return rows or tuple(row for row in PUBLISHED if row.dataset == MVTEC_3D_AD)
