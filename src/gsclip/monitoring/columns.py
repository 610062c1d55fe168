"""Columns of ``samples.csv`` that are monitored, in the order in which the file holds them."""

SCORE_COLUMNS = ("object_score", "map_max", "map_mean", "score_p99", "view_probability_mean")
INPUT_COLUMNS = (
    "points",
    "spacing",
    "extent_x",
    "extent_y",
    "extent_z",
    "normal_consistency",
    "roughness",
    "gap_ratio",
    "visible_share",
    "rendered_mean",
    "rendered_std",
    "depth_mean",
    "depth_std",
)
VALUE_COLUMNS = SCORE_COLUMNS + INPUT_COLUMNS
EMBEDDING = "embedding"  # what all of the following columns together are called
EMBEDDING_SIZE = 16
EMBEDDING_COLUMNS = tuple(f"embedding_{number:02d}" for number in range(EMBEDDING_SIZE))
