"""Stage predict: scores the test samples and the auxiliary samples that the threshold comes from.

The good ones among them, none of which was trained on, are the reference of the monitoring.
"""

from __future__ import annotations

from gsclip.data.datasets import TEST, role
from gsclip.detector import Detector, model_version
from gsclip.monitoring.reference import make_reference
from gsclip.monitoring.rows import SAMPLES_FILE, samples_table
from gsclip.params import Params
from gsclip.predicting import write_predictions
from gsclip.stages import common
from gsclip.storage import atomic_directory, write_csv
from gsclip.training.selection import calibration_names


def predict(params: Params) -> None:
    """Write ``outputs/predictions``, a pack of predictions per category and ``samples.csv``; ``outputs/reference``."""
    detector = Detector.from_pretrained(common.MODEL)
    auxiliary = params.prepare.auxiliary_categories
    index = common.index()
    index["role"] = [role(category, auxiliary) for category in index["category"]]
    index = index[(index["role"] == TEST) | index["name"].isin(calibration_names(index, auxiliary))]
    with atomic_directory(common.PREDICTIONS) as folder:
        samples = samples_table(write_predictions(detector, index, common.FOLDERS, folder))
        write_csv(folder / SAMPLES_FILE, samples)
    make_reference(samples, common.REFERENCE, model=model_version(detector.config), smallest=0)


if __name__ == "__main__":
    common.run(predict)
