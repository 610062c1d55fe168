"""Stage report: the page, its figures as JSON, and the overlays."""

from __future__ import annotations

from gsclip.params import Params
from gsclip.report.bundle import PackReader, RunFiles, read_run
from gsclip.report.gallery import evaluated_rows, write_overlays
from gsclip.report.page import write_report
from gsclip.stages import common
from gsclip.storage import atomic_directory


def report(params: Params) -> None:
    """Write ``outputs/report`` and ``outputs/overlays``."""
    files = RunFiles.of(".")
    run = read_run(files, params.model_dump(mode="json", exclude={"gate"}))
    reader = PackReader(files)
    with atomic_directory(common.REPORT) as folder:
        write_report(folder, run, reader, gallery=params.report.gallery)
    write_overlays(evaluated_rows(run.samples), reader, common.OVERLAYS, threshold=run.threshold)


if __name__ == "__main__":
    common.run(report)
