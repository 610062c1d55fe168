"""The monitoring flow: compares the newest scans of a log with the reference, reports, and passes an alarm on.

``python -m flows.monitor [FOLDER]`` runs it once; ``python -m flows.monitor --connect retrain/retrain-weekly`` makes
Prefect start that deployment on an alarm. Where ``PREFECT_API_URL`` names no server, Prefect starts one for the time of
the run: the reports stay, but nothing listens for alarms.
"""

from __future__ import annotations

import argparse
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events import AutomationCore, EventTrigger, ResourceSpecification
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import Automation, Posture
from prefect.events.schemas.events import Event
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Completed, State

from flows.drift_report import markdown_report
from gsclip.errors import GsclipError, InputError
from gsclip.monitoring.cooldown import hold, read_cooldown, start_cooldown
from gsclip.monitoring.drift import PAGE_NAME
from gsclip.monitoring.log import BATCH_TIME, LOG_FOLDER, RUNS_FILE
from gsclip.monitoring.verdict import DEFAULT_WINDOW, Outcome, Verdict, judge_log
from gsclip.run_log import RunLog

DRIFT_EVENT = "gsclip.drift.detected"
RESOURCE = "gsclip.monitoring"
AUTOMATION = "gsclip-retrain-on-drift"
REPORT_KEY, PAGE_KEY = "drift-report", "drift-page"
REPORTS_FOLDER, REFERENCE_FOLDER = "reports", "reference"
PIPELINE_REFERENCE = "outputs/reference"
KEPT_PAGES = 60  # 4 MB each; verdicts are kept for good
STATE_NAMES = {Outcome.DRIFT: "Drift", Outcome.NO_DRIFT: "NoDrift", Outcome.TOO_FEW: "TooFewScans"}


@task(retries=0, cache_policy=NO_CACHE, persist_result=False)
def compare(log: Path, reference: Path, folder: Path, window: int, since: datetime | None) -> Verdict:
    """Judge the newest scans; write page and verdict."""
    return judge_log(log, reference, folder, scans=window, since=since)


@task(retries=2, retry_delay_seconds=10, cache_policy=NO_CACHE, persist_result=False)
def pass_on(verdict: Verdict, folder: Path, page: Path, cooldown_hours: float) -> str:
    """Send the alarm as an event, unless the pause after the last one lasts; say what was done."""
    with hold(folder), get_client(sync_client=True) as client:
        now = datetime.now(UTC)
        cooldown = read_cooldown(folder, timedelta(hours=cooldown_hours), now)
        if cooldown.last is not None and cooldown.until is not None:
            return (
                f"Not passed on: the last alarm was, at {cooldown.last:%Y-%m-%d %H:%M} UTC; "
                f"the next can be from {cooldown.until:%Y-%m-%d %H:%M} UTC."
            )
        listeners = [automation.name for automation in _listening(client)]
        event = _send(client, verdict, folder, page)
        if not listeners:
            return f"Sent as event {DRIFT_EVENT}, but no automation listens for it (docs/operations.md)."
        start_cooldown(folder, now, event=str(event), verdict=verdict.text)
    return f"Passed on as event {DRIFT_EVENT} to {', '.join(listeners)}."


# Prefect stores the exception of a failed flow, whatever is set: as JSON, not as a pickle.
@flow(name="monitor", persist_result=False, result_serializer="json", timeout_seconds=3600)
def monitor(
    folder: str = "monitoring",
    reference: str | None = None,
    window: int = DEFAULT_WINDOW,
    since_hours: float | None = None,
    cooldown_hours: float = 24.0,
) -> State[str]:
    """Compare the newest scans with the reference; on drift, send an event that starts the retraining.

    Args:
        folder: of the monitoring, with the ``log`` that `gsclip score --monitoring` writes; relative to the repository.
        reference: its folder; by default ``reference`` in ``folder`` where it is, else the pipeline's.
        window: number of scans at most.
        since_hours: how old they may be; however old by default.
        cooldown_hours: pause after an alarm was passed on, in which no other is.

    Returns:
        The report in Markdown, which is also the artifact ``drift-report``; the state is named after the verdict.
    """
    workspace, now = Path(__file__).resolve().parents[1], datetime.now(UTC)
    place = workspace / folder
    own = place / REFERENCE_FOLDER
    chosen = workspace / reference if reference else own if own.exists() else workspace / PIPELINE_REFERENCE
    target = place / REPORTS_FOLDER / now.strftime(BATCH_TIME)
    since = None if since_hours is None else now - timedelta(hours=since_hours)
    with RunLog(place / RUNS_FILE, flow_run.id).timed("monitor", window=window) as found:
        verdict = compare(place / LOG_FOLDER, chosen, target, window, since)
        get_run_logger().info("%s", verdict.text)
        page = target / PAGE_NAME
        action = "" if verdict.outcome is not Outcome.DRIFT else pass_on(verdict, place, page, cooldown_hours)
        report = markdown_report(verdict, page=page, reference=chosen, action=action)
        create_markdown_artifact(key=REPORT_KEY, markdown=report, description=verdict.text)
        if page.is_file():
            create_link_artifact(key=PAGE_KEY, link=page.as_uri(), link_text=str(page), description=verdict.text)
        _prune(target.parent)
        found |= {"outcome": verdict.outcome, "scans": verdict.scans, "rejected": verdict.rejected}
        found |= {"columns": verdict.drifted_columns, "action": action}
    return Completed(name=STATE_NAMES[verdict.outcome], message=verdict.text, data=report)


def connect(deployment: str) -> str:
    """Make the server start a deployment on every alarm that is passed on; an earlier connection is replaced.

    Args:
        deployment: ``<flow>/<deployment>``.

    Returns:
        Name of the automation: :data:`AUTOMATION`, or that of a trigger of ``prefect.yaml`` that does so already. Two
        would start it twice.

    Raises:
        InputError: the server does not know it.
    """
    with get_client(sync_client=True) as client:
        try:
            target = client.read_deployment_by_name(deployment)
        except (ObjectNotFound, ValueError) as error:
            raise InputError(f"deployment {deployment}", "is not known", "run `prefect deployment ls`") from error
        for other in _listening(client):
            starts = [action.deployment_id for action in other.actions if isinstance(action, RunDeployment)]
            if other.name != AUTOMATION and target.id in starts:
                return other.name
        automation = AutomationCore(
            name=AUTOMATION,
            description=f"Starts {deployment} when the monitoring finds drift.",
            # An update sends what is set here alone: without its posture the server takes no trigger.
            trigger=EventTrigger(
                expect={DRIFT_EVENT},
                match=ResourceSpecification({"prefect.resource.id": RESOURCE}),
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[RunDeployment(source="selected", deployment_id=target.id, parameters=None, job_variables=None)],
        )
        earlier = client.read_automations_by_name(AUTOMATION)
        if earlier:
            client.update_automation(earlier[0].id, automation)
        else:
            client.create_automation(automation)
    return AUTOMATION


def _listening(client: SyncPrefectClient) -> list[Automation]:
    """The automations that an alarm starts."""
    return [
        automation
        for automation in client.read_automations()
        if automation.enabled
        and isinstance(automation.trigger, EventTrigger)
        and DRIFT_EVENT in automation.trigger.expect
    ]


def _send(client: SyncPrefectClient, verdict: Verdict, folder: Path, page: Path) -> Any:  # noqa: ANN401 - a UUID
    """Send the event; return its identifier.

    Over HTTP: ``emit_event`` sends in the background, and an event that does not arrive is no error there.
    """
    event = Event.model_validate(
        {
            "event": DRIFT_EVENT,
            "occurred": datetime.now(UTC),
            "resource": {"prefect.resource.id": RESOURCE, "prefect.resource.name": folder.name},
            "related": [
                {"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}
                for run in filter(None, [flow_run.id])
            ],
            "payload": {
                "verdict": verdict.text,
                "columns": verdict.drifted_columns,
                "kinds": [meaning.name for meaning in verdict.meanings],
                "scans": verdict.scans,
                "rejected": verdict.rejected,
                "models": verdict.models,
                "page": str(page),
            },
        }
    )
    answer = client.request("POST", "/events", json=[event.model_dump(mode="json")])
    answer.raise_for_status()
    return event.id


def _prune(folder: Path) -> None:
    """Remove all pages but the newest; verdicts stay."""
    for page in sorted(folder.glob(f"*/{PAGE_NAME}"))[:-KEPT_PAGES]:
        page.unlink(missing_ok=True)


def main() -> int:
    """Run the flow once and print the report, or connect it to a deployment."""
    parser = argparse.ArgumentParser(prog="python -m flows.monitor", description="Run the monitoring flow once.")
    parser.add_argument("folder", nargs="?", default="monitoring", help="folder of the monitoring (monitoring)")
    parser.add_argument("--reference", help="folder of the reference")
    parser.add_argument("--window", type=int, default=DEFAULT_WINDOW, help="number of scans at most")
    parser.add_argument("--since-hours", type=float, help="how old the scans may be")
    parser.add_argument("--cooldown-hours", type=float, default=24.0, help="pause after an alarm was passed on")
    parser.add_argument("--connect", metavar="FLOW/DEPLOYMENT", help="start this deployment on alarms, from now on")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        if arguments.connect:
            name = connect(arguments.connect)
            print(f"{arguments.connect} starts on alarms from now on (automation {name})")
            return 0
        reference = arguments.reference and str(Path(arguments.reference).resolve())
        folder = str(Path(arguments.folder).resolve())
        print(monitor(folder, reference, arguments.window, arguments.since_hours, arguments.cooldown_hours))
    except GsclipError as error:
        print(f"gsclip: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
