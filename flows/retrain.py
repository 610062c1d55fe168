"""The retraining flow: fetch, check, every stage of ``dvc.yaml`` as a task, gate, register, report, push.

``python -m flows.retrain`` runs it once. It works in a clone of its own (:mod:`flows.clone`): the folder of the source
is only read, and gets a branch and tags at the very end. Where ``PREFECT_API_URL`` names no server, Prefect starts one
for the time of the run.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import shutil
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.settings import get_current_settings
from prefect.states import Completed, State

from flows import clone as clones
from flows.journal import Journal
from flows.locks import exclusive
from flows.pipeline import (
    DVC_FILE,
    LOCK_FILE,
    Outcome,
    Stage,
    StageError,
    locked_parameters,
    read_stages,
    run_command,
    run_stage,
)
from flows.run_report import REPORT_FILE, Registered, changes_table, markdown_report, read_metrics
from flows.secrets import without_secrets
from gsclip.errors import GsclipError, InputError
from gsclip.promotion import registry
from gsclip.promotion.champion import fetch, recorded_md5
from gsclip.promotion.gate import Verdict
from gsclip.storage import atomic_directory

ARTIFACT_KEY = "retraining-report"
CHANGES_KEY = "retraining-metrics"
LINK_KEY = "retraining-page"
STATE_NAMES = {Outcome.RAN: "Completed", Outcome.UNCHANGED: "Unchanged", Outcome.RESTORED: "Restored"}
TIMEOUT_SECONDS = 12 * 3600
MODEL, PREDICTIONS, PREPARED = "models/gsclip", "outputs/predictions", "data/prepared"

_OWN: dict[str, Any] = {"retries": 0, "cache_policy": NO_CACHE, "persist_result": False}
# What crosses a network is tried again.
_TRANSPORT: dict[str, Any] = {**_OWN, "retries": 2}


@task(**_OWN)
def stage(name: str, workspace: Path, scheduler: str = "") -> State[Outcome]:
    """Bring one stage up to date; the task's state says whether there was anything to do.

    What comes from an earlier run is compared with its checksums; where it is damaged for good, the stage runs again.
    """
    log = get_run_logger().info
    outcome = run_stage(name, workspace, log, scheduler)
    if outcome is not Outcome.RAN and (lost := clones.restore_damaged(workspace, log, name)):
        log(f"made again: {', '.join(lost)}")
        outcome = run_stage(name, workspace, log, scheduler)
    return Completed(name=STATE_NAMES[outcome], message=f"{name}: {outcome}", data=outcome)


@task(name="fetch", **_TRANSPORT)
def fetch_source(work: Path, source: str, branch: str | None) -> str:
    """Bring the clone to the newest commit of the source; return it."""
    return clones.prepare_clone(work, source, branch, get_run_logger().info)


@task(name="pull", **_TRANSPORT)
def pull(clone: Path) -> int:
    """Bring raw data here; return the number of its ``.dvc`` files."""
    log = get_run_logger().info
    count = clones.pull_data(clone, log)
    if lost := clones.restore_damaged(clone, log):
        raise StageError(f"raw data are damaged in the cache, which has been cleared of them: {', '.join(lost)}")
    return count


@task(name="quarantine", **_OWN)
def quarantine(clone: Path) -> dict[str, int]:
    """Count scans that are used and, by check, those that were left out; ``data/prepared/rejected.csv`` names them."""
    accepted, rejected = clone / PREPARED / "index.csv", clone / PREPARED / "rejected.csv"
    counts = {"accepted": len(pd.read_csv(accepted))} if accepted.is_file() else {}
    if rejected.is_file():
        table = pd.read_csv(rejected)
        counts["rejected"] = len(table)
        if "check" in table:
            counts.update({f"rejected by {name}": int(count) for name, count in table["check"].value_counts().items()})
    get_run_logger().info("scans: %s", ", ".join(f"{count} {name}" for name, count in counts.items()) or "no list")
    return counts


@task(name="gate", **_OWN)
def gate(clone: Path, champion: registry.Version | None) -> Verdict:
    """Compare the new model with the champion on the same test samples."""
    log = get_run_logger().info
    folder = clone / ".gsclip" / "champion"
    shutil.rmtree(folder, ignore_errors=True)
    if champion is not None:
        cache = clone / ".gsclip" / "champions"
        with atomic_directory(folder) as temporary:
            (temporary / "model").symlink_to(fetch(str(clone), champion, cache).resolve())
            if _locked(clone, champion.commit, PREPARED) == _locked(clone, None, PREPARED):
                predictions = fetch(str(clone), champion, cache, PREDICTIONS)
                (temporary / "predictions").symlink_to(predictions.resolve())
    run_command([sys.executable, "-m", "gsclip.stages.gate"], clone, log, "the gate", "gsclip.stages.gate")
    return Verdict.from_json(json.loads((clone / ".gsclip" / "gate.json").read_text(encoding="utf-8")))


@task(name="register", **_OWN)
def register(clone: Path, verdict: Verdict, version: str, reason: str) -> list[str]:
    """Commit the results and tag them; return the tags. Nothing is published yet."""
    stage_name = registry.CHAMPION if verdict.promoted else registry.CHALLENGER
    clones.commit_results(clone, f"Retraining: {version}, {stage_name}\n\nReason: {reason}")
    summary = without_secrets(" ".join(verdict.reasons))
    return [
        registry.register(clone, version, summary),
        registry.assign(clone, version, stage_name, summary),
    ]


@task(name="push", **_TRANSPORT)
def push(clone: Path, tags: list[str]) -> None:
    """Push data and models, then branch and tags at once: a version that can be seen is there whole."""
    log = get_run_logger().info
    clones.push_bytes(clone, log)
    clones.push_commit(clone, tags, log)


# Prefect stores the exception of a failed flow, whatever is set: as JSON, not as a pickle.
@flow(name="retrain", persist_result=False, result_serializer="json", timeout_seconds=TIMEOUT_SECONDS)
def retrain(
    source: str | None = None,
    work: str | None = None,
    branch: str | None = None,
    reason: str = "by hand",
    publish: bool = True,
    retry_seconds: int = 60,
    scheduler: str = "",
) -> str:
    """Retrain on the newest commit, decide about the model, report.

    Args:
        source: git repository that is retrained, a folder or an address; by default the one that holds this flow.
        work: folder that belongs to the retraining; by default ``.gsclip/retrain`` in the source's folder.
        branch: of the source; by default the one that is checked out there.
        reason: why it runs, for the report: a schedule, an event.
        publish: whether branch, tags and bytes go to the source and to the DVC remote.
        retry_seconds: pause before what crosses a network is tried again.
        scheduler: address of a Dask scheduler whose workers compute in the place of this machine's cores.

    Returns:
        The report in Markdown, which is also the artifact ``retraining-report``.
    """
    faulthandler.register(signal.SIGUSR1)  # where it stands, into the worker's log, for whoever wonders
    context = FlowRunContext.get()
    run = str(context.flow_run.id) if context and context.flow_run else str(uuid.uuid4())
    repository = clones.find_source(source)
    if work is None and "://" in repository:
        raise InputError("work", "an address has no folder to work in", "name one")
    folder = Path(work or Path(repository) / ".gsclip" / "retrain").resolve()
    with exclusive(folder):
        journal = Journal(folder / "logs", run)
        return _retrain(folder, repository, branch, reason, publish, journal, retry_seconds, scheduler)


def _retrain(
    work: Path,
    source: str,
    branch: str | None,
    reason: str,
    publish: bool,
    journal: Journal,
    retry_seconds: int,
    scheduler: str,
) -> str:
    """Work while the lock is held."""
    clone = work / "clone"
    again: dict[str, Any] = {"retry_delay_seconds": retry_seconds}
    journal.write("begun", source=source, reason=reason)
    try:
        with journal.step("fetch") as facts:
            facts["commit"] = revision = fetch_source.with_options(**again)(work, source, branch)
        with journal.step("pull") as facts:
            facts["data_files"] = pull.with_options(**again)(clone)
        before = locked_parameters(clone)
        outcomes, seconds = run_stages(read_stages(clone / DVC_FILE), clone, journal, scheduler)
        with journal.step("quarantine") as facts:
            facts["scans"] = scans = quarantine(clone)
        known = registry.read_registry(clone)
        with journal.step("gate") as facts:
            verdict, twin = _decide(clone, known)
            facts.update(promoted=verdict.promoted, reasons=verdict.reasons)
        version, tags = twin, []
        with journal.step("register") as facts:
            if twin is None:
                version = known.next_version
                tags = register(clone, verdict, version, reason)
            else:
                clones.commit_results(clone, f"Retraining: the model is that of {twin}\n\nReason: {reason}")
            facts.update(version=version, tags=tags)
        registered = Registered(str(version), bool(tags), None if known.champion is None else known.champion.version)
        report = without_secrets(
            markdown_report(
                run=f"{journal.path.stem}, {reason}",
                commit=revision[:10],
                workspace=clone,
                outcomes=outcomes,
                seconds=seconds,
                scans=scans,
                metrics=read_metrics(clone),
                verdict=verdict,
                registered=registered,
                before=before,
                after=locked_parameters(clone),
                log=journal.path,
            )
        )
        _publish_report(report, verdict, clone, revision)
        if publish:
            with journal.step("push"):
                push.with_options(**again)(clone, tags)
    except BaseException as error:
        journal.write("ended", outcome="failed", seconds=journal.seconds(), error=f"{type(error).__name__}: {error}")
        raise
    journal.write("ended", outcome="completed", seconds=journal.seconds(), version=version)
    return report


def run_stages(
    stages: tuple[Stage, ...], workspace: Path, journal: Journal, scheduler: str = ""
) -> tuple[dict[str, Outcome], dict[str, float]]:
    """Run one task a stage, one after the other, since DVC allows one run in a workspace.

    Returns:
        Outcomes and seconds by stage.

    Raises:
        StageError: of the first stage that fails; those after it do not run.
    """
    states: dict[str, State[Any]] = {}
    outcomes: dict[str, Outcome] = {}
    seconds: dict[str, float] = {}
    for member in stages:
        start = journal.seconds()
        with journal.step(member.name) as facts:
            named = stage.with_options(name=member.name, task_run_name=member.name)
            upstream = [states[name] for name in member.upstream]
            states[member.name] = named(member.name, workspace, scheduler, wait_for=upstream, return_state=True)
            outcomes[member.name] = states[member.name].result()
            facts["outcome"] = outcomes[member.name]
        seconds[member.name] = journal.seconds() - start
    return outcomes, seconds


def _decide(clone: Path, known: registry.Registry) -> tuple[Verdict, str | None]:
    """The gate's verdict, and the version that has the very same model already.

    A model that is registered is never promoted again by itself: someone may have gone back from it.
    """
    model = _locked(clone, None, MODEL)
    twins = [member for member in known.versions if _locked(clone, member.commit, MODEL) == model]
    if not twins:
        return gate(clone, known.champion), None
    if known.champion in twins:
        return Verdict(False, ("The model is the champion's, bit for bit.",)), twins[-1].version
    name = twins[-1].version
    reason = f"The model is that of {name}, bit for bit, which is not the champion: `gsclip registry promote {name}`."
    return Verdict(False, (reason,)), name


def _locked(clone: Path, commit: str | None, path: str) -> str | None:
    """Checksum of an output in the ``dvc.lock`` of a commit, or of the clone; ``None`` where it has none."""
    try:
        text = (
            (clone / LOCK_FILE).read_text(encoding="utf-8")
            if commit is None
            else registry.git("show", f"{commit}:{LOCK_FILE}", cwd=clone)
        )
        return recorded_md5(yaml.safe_load(text), path)
    except (OSError, LookupError, registry.GitError):
        return None


def _publish_report(report: str, verdict: Verdict, clone: Path, revision: str) -> None:
    create_markdown_artifact(key=ARTIFACT_KEY, markdown=report, description=f"Retraining of {revision[:10]}")
    if verdict.metrics:
        create_table_artifact(key=CHANGES_KEY, table=changes_table(verdict), description="Challenger minus champion")
    page = clone / REPORT_FILE
    if page.is_file():
        create_link_artifact(key=LINK_KEY, link=page.as_uri(), link_text="Page of the results, on the worker's machine")


def main() -> int:
    """Run the flow once; print the report and where to look."""
    parser = argparse.ArgumentParser(prog="python -m flows.retrain", description="Run the retraining flow once.")
    parser.add_argument("--source", help="git repository, a folder or an address (default: this one)")
    parser.add_argument("--work", help="folder that belongs to the retraining (default: SOURCE/.gsclip/retrain)")
    parser.add_argument("--branch", help="of the source (default: the one that is checked out)")
    parser.add_argument("--reason", default="by hand", help="why it runs, for the report")
    parser.add_argument("--retry-seconds", type=int, default=60, help="pause before a transfer is tried again")
    parser.add_argument("--no-publish", dest="publish", action="store_false", help="change nothing but the work folder")
    parser.add_argument("--scheduler", default="", help="address of a Dask scheduler (docs/scaling.md)")
    # An orderly exit on SIGTERM, so that Prefect stops its temporary server, too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        print(retrain(**vars(parser.parse_args())))
    except GsclipError as error:
        print(f"gsclip: {error}", file=sys.stderr)
        return 2
    address = get_current_settings().ui_url
    print(f"Runs, logs and reports: {address or 'run `prefect server start`, then open http://127.0.0.1:4200'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
