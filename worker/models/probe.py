"""Loading a checked model in a child first: whatever LightGBM does with it, the trader lives on."""

from __future__ import annotations

import resource
import subprocess
import sys

from worker.models.booster import import_lightgbm
from worker.models.validation import ModelRefused

SECONDS = 20.0
MEMORY_BYTES = 4 * 1024**3


def probe_in_child(text: str, features: int) -> None:
    """Load and predict rows of zeros and of ones, bounded in time and memory. Raises ModelRefused."""
    command = [sys.executable, "-m", "worker.models.probe", str(features)]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ModelRefused("file", f"LightGBM did not come back within {SECONDS:g} s") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise ModelRefused("file", f"LightGBM fails with code {done.returncode}", words[-1] if words else "")


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    lightgbm = import_lightgbm()
    import numpy as np

    rows = np.array([[0.0] * int(sys.argv[1]), [1.0] * int(sys.argv[1])])
    answer = lightgbm.Booster(model_str=sys.stdin.read()).predict(rows, num_threads=1)
    if not np.isfinite(answer).all():
        sys.exit("predicts what is not finite")


if __name__ == "__main__":
    _main()
