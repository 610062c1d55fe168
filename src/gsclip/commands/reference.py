"""`gsclip reference`."""

from __future__ import annotations

from pathlib import Path

from gsclip.detector import model_version, read_config
from gsclip.errors import InputError
from gsclip.monitoring.drift import read_samples
from gsclip.monitoring.log import LOG_FOLDER, read_window
from gsclip.monitoring.reference import FALSE_ALARM_RATE, SETTINGS_FILE, make_reference


def reference_files(
    output: Path,
    *,
    samples: Path | None = None,
    model: Path | None = None,
    monitoring: Path | None = None,
    scans: int = 1000,
    rate: float = FALSE_ALARM_RATE,
) -> str:
    """Make a reference of the monitoring, from a ``samples.csv`` and its model, or from the newest scans of a log.

    Args:
        output: folder of the reference.
        samples: file that `gsclip score` wrote for scans known to be in order.
        model: folder of the model that scored them.
        monitoring: folder of the monitoring whose log holds such scans, all of one model.
        scans: newest ones of the log at most.
        rate: share of windows without drift that raise an alarm.

    Returns:
        What was made, on one line.

    Raises:
        InputError: neither or both sources are given, or what they hold cannot be used.
    """
    if (monitoring is None) == (samples is None) or (samples is None) != (model is None):
        raise InputError("reference", "needs one source", "give --samples with --model, or --monitoring")
    if samples is not None and model is not None:
        rows, version, where = read_samples(samples), model_version(read_config(model)), str(samples)
    else:
        where = str((monitoring or Path()) / LOG_FOLDER)
        rows = read_window(where, scans).rows
        models = sorted(set(rows["model"])) if len(rows) else [""]
        if len(models) > 1:
            problem = f"holds scans of several models among the newest {len(rows)}: {', '.join(models)}"
            raise InputError(where, problem, "take fewer scans, by --scans")
        version = models[0]
    if output.exists() and not (output / SETTINGS_FILE).is_file():
        problem = "is no reference of an earlier call, and one would replace it"
        raise InputError(output, problem, "choose another --output")
    count = make_reference(rows, output, model=version, name=where, rate=rate)
    return f"reference of {count} scans, model {version}, false alarms in {100 * rate:g} % of windows"
