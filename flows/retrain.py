"""The retraining flow: every stage of ``dvc.yaml`` as a task, then a report as an artifact.

``python -m flows.retrain [WORKSPACE]`` runs it once. Where ``PREFECT_API_URL`` names no server, Prefect starts one for
the time of the run.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.settings import get_current_settings
from prefect.states import Completed, State

from flows.pipeline import (
    DVC_FILE,
    Outcome,
    Stage,
    commit,
    find_workspace,
    locked_parameters,
    read_stages,
    run_stage,
)
from flows.run_report import markdown_report, read_metrics
from gsclip.errors import GsclipError

ARTIFACT_KEY = "retraining-report"
STATE_NAMES = {Outcome.RAN: "Completed", Outcome.UNCHANGED: "Unchanged", Outcome.RESTORED: "Restored"}


@task(retries=0, cache_policy=NO_CACHE, persist_result=False)
def stage(name: str, workspace: Path, scheduler: str = "") -> State[Outcome]:
    """Bring one stage up to date; the task's state says whether there was anything to do."""
    outcome = run_stage(name, workspace, get_run_logger().info, scheduler)
    return Completed(name=STATE_NAMES[outcome], message=f"{name}: {outcome}", data=outcome)


# Prefect stores the exception of a failed flow, whatever is set: as JSON, not as a pickle.
@flow(name="retrain", persist_result=False, result_serializer="json")
def retrain(workspace: str | None = None, scheduler: str = "") -> str:
    """Bring the pipeline up to date and report.

    Args:
        workspace: folder of the DVC project; by default the repository that holds this flow.
        scheduler: address of a Dask scheduler whose workers compute in the place of this machine's cores.

    Returns:
        The report in Markdown, which is also the artifact ``retraining-report``.
    """
    folder = find_workspace(workspace)
    revision, before = commit(folder), locked_parameters(folder)
    outcomes = run_stages(read_stages(folder / DVC_FILE), folder, scheduler)
    report = markdown_report(
        commit=revision,
        workspace=folder,
        outcomes=outcomes,
        metrics=read_metrics(folder),
        before=before,
        after=locked_parameters(folder),
    )
    create_markdown_artifact(key=ARTIFACT_KEY, markdown=report, description=f"Retraining of {revision}")
    return report


def run_stages(stages: tuple[Stage, ...], workspace: Path, scheduler: str = "") -> dict[str, Outcome]:
    """Run one task a stage, one after the other, since DVC allows one run in a workspace.

    Raises:
        StageError: of the first stage that fails; those after it do not run.
    """
    states: dict[str, State[Any]] = {}
    for member in stages:
        named = stage.with_options(name=member.name, task_run_name=member.name)
        upstream = [states[name] for name in member.upstream]
        states[member.name] = named(member.name, workspace, scheduler, wait_for=upstream, return_state=True)
        states[member.name].result()
    return {name: state.result() for name, state in states.items()}


def main() -> int:
    """Run the flow once; print the report and where to look."""
    parser = argparse.ArgumentParser(prog="python -m flows.retrain", description="Run the retraining flow once.")
    parser.add_argument("workspace", nargs="?", help="folder of the DVC project (default: this repository)")
    parser.add_argument("--scheduler", default="", help="address of a Dask scheduler (docs/scaling.md)")
    # An orderly exit on SIGTERM, so that Prefect stops its temporary server, too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        arguments = parser.parse_args()
        print(retrain(arguments.workspace, arguments.scheduler))
    except GsclipError as error:
        print(f"gsclip: {error}", file=sys.stderr)
        return 2
    address = get_current_settings().ui_url
    print(f"Runs, logs and reports: {address or 'run `prefect server start`, then open http://127.0.0.1:4200'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
