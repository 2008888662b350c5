"""Loading a model in a child first: whatever LightGBM does with it, the process that asks lives on.

The child reads the file from stdin, checks it, loads it, predicts two rows, and writes one line of JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict

import psutil

from worker.models.booster import import_lightgbm
from worker.models.validation import MAX_BYTES, ModelFacts, ModelRefused, check_text

CHECK_SECONDS, LONGEST_START_SECONDS = 18.5, 6.0
"""For somebody who waits since a command was started: a verdict is there within 20 seconds."""
JUDGE_SECONDS = 45.0
"""For a verdict that stays: a busy machine must not make a good model invalid."""
MEMORY_BYTES = 4 * 1024**3


def seconds_left() -> float:
    """What of ``CHECK_SECONDS`` is left since this process began; a busy machine takes some for its start, and a
    process that is older than that was not started for this.
    """
    return CHECK_SECONDS - min(time.time() - psutil.Process().create_time(), LONGEST_START_SECONDS)


def judge_in_child(raw: bytes, seconds: float = JUDGE_SECONDS) -> ModelFacts:
    """Check, load and predict, bounded in time and memory. Raises ModelRefused."""
    if len(raw) > MAX_BYTES:
        raise ModelRefused("file", f"is larger than {MAX_BYTES} bytes", len(raw))
    command = [sys.executable, "-m", "worker.models.probe"]
    try:
        done = subprocess.run(command, input=raw, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise ModelRefused("file", f"no verdict within {seconds:.0f} s") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise ModelRefused("file", f"LightGBM fails with code {done.returncode}", words[-1] if words else "")
    verdict = json.loads(done.stdout.splitlines()[-1])
    if "refused" in verdict:
        raise ModelRefused(verdict["field"], verdict["refused"])
    return ModelFacts(**{**verdict, "feature_names": tuple(verdict["feature_names"])})


def probe_in_child(text: str, features: int) -> None:
    """Likewise for a text of ``features`` features. Raises ModelRefused."""
    facts = judge_in_child(text.encode())
    if len(facts.feature_names) != features:
        raise ModelRefused("max_feature_idx", f"must be {features - 1}", len(facts.feature_names) - 1)


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        verdict: dict[str, object] = asdict(_judge(sys.stdin.buffer.read()))
    except ModelRefused as refused:
        verdict = {"field": refused.field, "refused": refused.problem}
    sys.stdout.write("\n" + json.dumps(verdict) + "\n")


def _judge(raw: bytes) -> ModelFacts:
    facts = check_text(raw)
    lightgbm = import_lightgbm()
    import numpy as np

    width = len(facts.feature_names)
    rows = np.array([[0.0] * width, [1.0] * width])
    try:
        booster = lightgbm.Booster(model_str=raw.decode())
        answer = booster.predict(rows, num_threads=1)
    except json.JSONDecodeError as error:
        raise ModelRefused("parameters", f"LightGBM's package cannot read them: {error}") from error
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        raise ModelRefused("file", f"LightGBM does not load it: {error}") from error
    if answer.size != 2 * facts.num_class:
        raise ModelRefused("num_class", f"LightGBM gives {answer.size // 2} outputs a row", facts.num_class)
    if not np.isfinite(answer).all():
        raise ModelRefused("file", "predicts what is not finite")
    return facts


if __name__ == "__main__":
    _main()
