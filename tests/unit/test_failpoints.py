"""Failpoints: what the code passes, what is declared and what is documented are the same."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import ConfigError
from worker.failpoints import FAILPOINTS, arm, failpoint, parse

ROOT = Path(__file__).parents[2]
PASS = re.compile(r'failpoint\("([a-z_.]+)"\)')


def test_failpoints_when_the_code_is_read_are_each_passed_in_exactly_one_place() -> None:
    found = [name for path in (ROOT / "worker").rglob("*.py") for name in PASS.findall(path.read_text())]
    assert sorted(found) == sorted(FAILPOINTS)
    assert len(FAILPOINTS) >= 40


def test_reference_page_when_read_lists_exactly_the_failpoints() -> None:
    text = (ROOT / "docs" / "reference" / "failpoints.md").read_text()
    assert dict(re.findall(r"^\| `([a-z_.]+)` \| (.+) \|$", text, re.MULTILINE)) == FAILPOINTS


@pytest.mark.parametrize("setting", ["nonsense", "gate.before:0", "gate.before:", "gate.before:x", "gate.before:-1"])
def test_arm_when_the_setting_names_nothing_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="SIXBOT_FAILPOINT"):
        parse(setting)


def test_failpoint_when_unarmed_does_nothing() -> None:
    arm(None)
    failpoint("gate.before")


def test_failpoint_when_armed_for_the_second_pass_survives_the_first_and_kills_at_the_second() -> None:
    program = (
        "from worker.failpoints import arm, failpoint\n"
        "arm('gate.before:2')\n"
        "failpoint('gate.after'); failpoint('gate.before'); print('one', flush=True)\n"
        "failpoint('gate.before'); print('two', flush=True)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ}, cwd=ROOT, check=False
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "one\n")
