"""The pause between alarms: it lasts, it ends, and neither a wrong clock nor a damaged file holds it for ever."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from gsclip.errors import InputError
from gsclip.monitoring.cooldown import STATE_FILE, hold, read_cooldown, start_cooldown

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def test_pause_lasts_as_long_as_it_is_told(tmp_path):
    assert not read_cooldown(tmp_path, DAY, NOON).waiting
    start_cooldown(tmp_path, NOON, verdict="drift")
    assert read_cooldown(tmp_path, DAY, NOON + timedelta(hours=23)).until == NOON + DAY
    assert not read_cooldown(tmp_path, DAY, NOON + DAY).waiting
    assert not read_cooldown(tmp_path, timedelta(0), NOON).waiting


def test_an_alarm_of_the_future_does_not_count(tmp_path):
    start_cooldown(tmp_path, NOON + timedelta(days=400))
    assert not read_cooldown(tmp_path, DAY, NOON).waiting


@pytest.mark.parametrize("content", ["", "{}", '{"time": "noon"}', '{"time": "2026-03-01T12:00:00"}', "[1]"])
def test_a_damaged_file_is_told(tmp_path, content):
    (tmp_path / STATE_FILE).write_text(content)
    with pytest.raises(InputError, match=r"last_alarm\.json: does not hold the time"):
        read_cooldown(tmp_path, DAY, NOON)


def test_two_at_once_pass_one_alarm_on(tmp_path):
    passed = []

    def alarm():
        with hold(tmp_path):
            if not read_cooldown(tmp_path, DAY, NOON).waiting:
                passed.append(1)
                start_cooldown(tmp_path, NOON)

    threads = [threading.Thread(target=alarm) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 1
