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
_GS_CLIP = "arXiv:2602.19206"
_POINTAD = "arXiv:2410.00320"

PUBLISHED = (
    Published("GS-CLIP", MVTEC_3D_AD, ONE_VS_REST, 83.6, 96.5, 96.3, 86.4, _GS_CLIP),
    Published("PointAD", MVTEC_3D_AD, ONE_VS_REST, 82.0, 94.2, 95.5, 84.4, _POINTAD),
    Published("GS-CLIP", EYECANDIES, ONE_VS_REST, 71.5, None, None, 73.8, _GS_CLIP),
    Published("PointAD", EYECANDIES, ONE_VS_REST, 69.1, 73.8, 92.1, 71.3, _POINTAD),
)


def published_for(dataset: str) -> tuple[Published, ...]:
    """Rows about a data set; those about MVTec 3D-AD for one that nobody has published on."""
    rows = tuple(row for row in PUBLISHED if row.dataset == dataset)
    return rows or tuple(row for row in PUBLISHED if row.dataset == MVTEC_3D_AD)
