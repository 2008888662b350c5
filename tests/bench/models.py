"""``python -m tests.bench.models``: what LightGBM does with malformed files, and what sixbot says of each.

Writes docs/measured/models.md. LightGBM's part is the recorded observation beside the files; ours is
``sixbot model check``, run anew on every one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.table import machine

OUT = Path("docs/measured/models.md")
SIGNALS = {-6: "aborts (SIGABRT)", -8: "dies of SIGFPE", -11: "crashes (SIGSEGV)"}
LIMIT_SECONDS = 20
INTRODUCTION = (
    "Each file is one mutation of `valid_control.txt`. LightGBM's column is recorded (4.6.0 and 4.7.0, alike); "
    "sixbot's is `sixbot model check`, each in a process of its own, {limit} s at most. The slowest took {slowest:.1f} "
    "s from the start of Python to its end."
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One run of the command."""

    name: str
    code: int
    said: str
    seconds: float


def check(file: Path) -> Verdict:
    """Run the command on a file; longer than 20 s is a failure of ours and ends the bench."""
    start = time.monotonic()
    command = [sys.executable, "-m", "worker", "model", "check", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * LIMIT_SECONDS, check=False)
    said = (done.stdout + done.stderr).strip().removeprefix("sixbot: ").removeprefix(f"{file}: ")
    return Verdict(file.name, done.returncode, said, time.monotonic() - start)


def observed(found: dict[str, Any]) -> str:
    """What the recording says LightGBM did with a file, in a few words."""
    code, out, problem = found["rc"], found["out"], found["err"]
    if isinstance(code, str):
        return "never comes back" + (" after a clean load" if "LOADED" in out else "")
    when = " at the first predict" if "LOADED" in out else " at load"
    if code in SIGNALS:
        return SIGNALS[code] + when
    if code:
        return f"refuses: {problem.rpartition('LightGBMError: ')[2].partition(' /tmp/')[0]}"
    predicted = re.search(r"\[([^,\]]+)", out)
    return f"loads it and predicts {float(predicted.group(1)):.4g}" if predicted else "loads it"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main(root: Path) -> int:
    """Write the table; 1 where a verdict is missing, late or wrong."""
    folder = root / "lightgbm" / "malformed"
    recorded = json.loads((folder / "OBSERVED.json").read_text())["observed"]
    verdicts = [check(file) for file in sorted(folder.glob("*.txt"))]
    real = [check(f) for f in sorted((root / "lightgbm").iterdir()) if f.is_file()]
    lines = [
        "# Model files measured by `python -m tests.bench.models`",
        "",
        machine(),
        "",
        INTRODUCTION.format(limit=LIMIT_SECONDS, slowest=max(v.seconds for v in verdicts)),
        "",
        "| file | LightGBM | sixbot says | exit |",
        "| --- | --- | --- | --- |",
        *(
            f"| `{v.name}` | {cell(observed(recorded[Path(v.name).stem]))} | {cell(v.said)} | {v.code} |"
            for v in verdicts
        ),
        "",
        "Real models, all of them accepted:",
        "",
        "| file | sixbot says | exit |",
        "| --- | --- | --- |",
        *(f"| `{v.name}` | {cell(v.said)} | {v.code} |" for v in real),
        "",
    ]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join(lines))
    sys.stdout.write(f"{len(verdicts)} malformed and {len(real)} real files; written: {OUT}\n")
    wrong = [v.name for v in verdicts if v.code != (0 if v.name == "valid_control.txt" else 1)]
    wrong += [v.name for v in real if v.code] + [v.name for v in [*verdicts, *real] if v.seconds > LIMIT_SECONDS]
    if wrong:
        sys.stderr.write(f"not as it must be: {', '.join(wrong)}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(os.environ.get("SIXBOT_TEST_DATA", "../shared/data")).resolve()))
