"""Thresholds and colours: from the calibration samples, and from nothing else."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from tests.detectors import untrained_detector

from gsclip.data.index import INDEX_COLUMNS
from gsclip.data.preparation import prepare_sample
from gsclip.data.procedural.dataset import generate_scan
from gsclip.errors import GsclipError
from gsclip.features.backbone import load_backbone
from gsclip.metrics.threshold import BINS, best_f1_threshold
from gsclip.packs import PackFolders
from gsclip.scores.prediction import Prediction
from gsclip.storage import write_pack
from gsclip.training.calibration import calibrate

DEFECTS = {"vase": [None, "bulge"], "castle_nut": [None, "hole"]}


def index_of(samples):
    rows = [
        {"name": name, "dataset": "procedural", "category": name.split("/")[0], "split": "validation",
         "defect": name.split("/")[2], "label": int("/good/" not in name),
         "scan_path": "", "mask_path": "", "color_path": ""}
        for name in samples
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(INDEX_COLUMNS))


@pytest.fixture(scope="module")
def detector():
    return untrained_detector(load_backbone(), stage2={"depth_stream": False})


@pytest.fixture(scope="module")
def samples():
    made = {}
    for category, defects in DEFECTS.items():
        for number, defect in enumerate(defects):
            scan = generate_scan(category, number, defect, 0, grid=(120, 120))
            made[f"{category}/validation/{defect or 'good'}/{number:03d}"] = prepare_sample(scan)
    return made


def packed(detector, samples, folder):
    """Folders of packs of the samples; packs of other categories do not exist."""
    folders = PackFolders(folder / "prepared", folder / "views", folder / "features")
    for category in sorted({name.split("/")[0] for name in samples}):
        paths = folders.paths(category)
        with (
            write_pack(paths[0]) as prepared,
            write_pack(paths[1]) as views,
            write_pack(paths[2]) as tokens,
            write_pack(paths[3]) as groupings,
        ):
            for name in (name for name in samples if name.startswith(category)):
                rendered = detector.render(samples[name])
                prepared.add(name, samples[name])
                views.add(name, rendered)
                tokens.add(name, detector.encode(rendered))
                groupings.add(name, detector.group(samples[name]))
    return folders


def test_thresholds_are_those_of_best_f1_over_the_samples_and_over_all_their_points(detector, samples, tmp_path):
    folders = packed(detector, samples, tmp_path)
    calibrated = calibrate(detector, folders, index_of([*samples, "elbow/test/good/000"]), list(samples))
    predictions = {name: detector.predict(sample, detector.render(sample)) for name, sample in samples.items()}
    labels = np.array(["/good/" not in name for name in samples])
    expected, _ = best_f1_threshold(labels, np.array([entry.object_score for entry in predictions.values()]))
    assert calibrated.config.threshold == pytest.approx(expected, abs=1e-6)
    masks = np.concatenate([sample.mask for sample in samples.values()])
    scores = np.concatenate([entry.point_scores for entry in predictions.values()])
    _, best = best_f1_threshold(masks, scores)
    alarms = scores >= calibrated.config.point_threshold
    assert 2 * (alarms & masks).sum() / (alarms.sum() + masks.sum()) == pytest.approx(best, abs=1e-3)
    assert calibrated.config.score_range[1] == pytest.approx(scores.max(), abs=1e-6)


@dataclasses.dataclass
class Told:
    """Predicts what it is told, by the number of points of a sample."""

    scores: dict

    def predict(self, sample, *_):
        values = self.scores[len(sample.points)]
        return Prediction(float(values.max()), values, np.zeros(2, np.float32), np.zeros((2, 3, 3), np.float32))


def told(detector, samples, change):
    """The detector with point scores given by a function of each sample."""
    scores = {len(sample.points): change(sample) for sample in samples.values()}
    assert len(scores) == len(samples)
    replaced = untrained_detector(detector.backbone, stage2={"depth_stream": False})
    replaced.predict = Told(scores).predict
    return replaced


def ground_truth(sample):
    return np.where(sample.mask, 0.8, 0.2).astype(np.float32)


def test_points_of_all_samples_count_together(detector, samples, tmp_path):
    folders, index = packed(detector, samples, tmp_path), index_of(samples)
    config = calibrate(told(detector, samples, ground_truth), folders, index, list(samples)).config
    assert config.point_threshold == pytest.approx(0.5, abs=1 / BINS)
    assert config.threshold == pytest.approx(0.5)


def test_all_points_of_a_thinned_cloud_count_each_with_its_own_ground_truth(detector, samples, tmp_path):
    thinned = {}
    for name, sample in samples.items():
        # Nine points of the scan are near each kept one on the good surface, two on a defect: one of them defective.
        nearest = np.repeat(np.arange(len(sample.points)), np.where(sample.mask, 2, 9)).astype(np.int32)
        truth = sample.mask[nearest] & (np.arange(len(nearest)) % 2 == 0)
        thinned[name] = dataclasses.replace(
            sample, pixels=None, grid=None, grid_mask=None, nearest=nearest, scan_mask=truth
        )

    def noisy(sample):
        noise = np.random.default_rng(len(sample.points)).normal(scale=0.25, size=len(sample.points))
        return np.clip(ground_truth(sample) + noise, 0, 1).astype(np.float32)

    replaced = told(detector, thinned, noisy)
    config = calibrate(replaced, packed(detector, thinned, tmp_path), index_of(samples), list(samples)).config
    scores = np.concatenate([sample.spread(noisy(sample)) for sample in thinned.values()])
    truth = np.concatenate([sample.scan_mask for sample in thinned.values()])
    threshold, _ = best_f1_threshold(truth, scores)
    assert config.point_threshold == pytest.approx(threshold, abs=2 / BINS)
    kept = np.concatenate([noisy(sample) for sample in thinned.values()])
    of_kept, _ = best_f1_threshold(np.concatenate([sample.mask for sample in thinned.values()]), kept)
    assert abs(of_kept - threshold) > 0.01  # the kept points alone would say something else
    medians = [np.median(sample.spread(noisy(sample))) for sample in thinned.values()]
    assert config.score_range == pytest.approx((np.median(medians), scores.max()))


def test_samples_without_ground_truth_and_without_defective_points_give_no_point_threshold(detector, samples, tmp_path):
    unknown = {name: dataclasses.replace(sample, mask=None) for name, sample in samples.items()}
    hidden = {name: dataclasses.replace(sample, mask=np.zeros_like(sample.mask)) for name, sample in samples.items()}
    scores = told(detector, samples, ground_truth)
    for place, changed in (("unknown", unknown), ("hidden", hidden)):
        folders = packed(detector, changed, tmp_path / place)
        config = calibrate(scores, folders, index_of(samples), list(samples)).config
        assert config.point_threshold is None
        assert config.threshold == pytest.approx(0.5)
    mixed = {name: unknown[name] if name.startswith("vase") else sample for name, sample in samples.items()}
    folders = packed(detector, mixed, tmp_path / "mixed")
    config = calibrate(scores, folders, index_of(samples), list(samples)).config
    assert config.point_threshold == pytest.approx(0.5, abs=1 / BINS)


def test_samples_of_other_names_are_not_read(detector, samples, tmp_path):
    chosen = [name for name in samples if name.startswith("vase")]

    def misleading(sample):  # those of other names need a higher threshold
        is_chosen = any(sample is samples[name] for name in chosen)
        return ground_truth(sample) if is_chosen else np.where(sample.mask, 0.9, 0.7).astype(np.float32)

    folders, index = packed(detector, samples, tmp_path), index_of(samples)
    config = calibrate(told(detector, samples, misleading), folders, index, chosen).config
    assert config.point_threshold == pytest.approx(0.5, abs=1 / BINS)
    everything = calibrate(told(detector, samples, misleading), folders, index, list(samples)).config
    assert everything.point_threshold == pytest.approx(0.75, abs=1 / BINS)


def test_one_label_alone_is_refused(detector, samples, tmp_path):
    good = [name for name in samples if "/good/" in name]
    folders = PackFolders(tmp_path, tmp_path, tmp_path)
    with pytest.raises(GsclipError, match="calibration needs normal and defective auxiliary samples"):
        calibrate(detector, folders, index_of(samples), good)
