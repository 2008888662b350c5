"""``make stop-bench``: how fast and how surely the stop works, written to docs/measured/stop.md.

``--trials`` is the number of gate trials; the cancel rows take a tenth of it, those with something broken a hundredth,
unless told otherwise. It ends by itself and shows how far it is.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.bench import stop_cancel, stop_gate, stop_rows
from tests.bench.figures import machine, milliseconds, percentile
from worker.compose import SWITCH_SECONDS

REPORT = Path(__file__).parents[2] / "docs" / "measured" / "stop.md"

INTRODUCTION = """# The stop, measured

Written by `{command}`. Milliseconds.

Real `emergency` and `trading` processes over a real server that keeps every write; the venue is the simulated exchange
on loopback, and what it saw arrive is the witness of the cancel rows, on the same monotonic clock as the stop.
Percentiles are by nearest rank. Rows that wait for most of their time are measured in up to three installations at
once, which take turns from the first order placed until the first cancel has come in.

{machine}
"""

GATE = """
## After the SET, does an order pass the gate?

Two processes offer orders to the gate as fast as it answers while `trading_settings` is SET to OFF at a random moment.
No other worker runs: this is what holds when everything else is dead. An **escape** is an order whose gate call began
after the SET was acknowledged. One whose call was under way by then is **in flight**; the emergency worker finds and
cancels it. Lateness is from the acknowledgement to the end of its gate call. A trial was **under load** where an order
passed in the 3 ms before its SET.

| trials | under load | let through in all | **escapes** | in flight | lateness p50 | max |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""

CANCEL = """
## After the stop, when are fifty working orders gone?

**First cancel** is the arrival of the first cancel request at the venue. **Proven empty** is the arrival of the last of
the readings that prove it: two empty lists at least 100 ms apart, after the time in which an order could still arrive.
Every trial ended with fifty of fifty cancelled, no order left, and a report saying STOPPED.

| stop | trials | first cancel p50 | p99 | max | proven empty p50 | p99 | max |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""

MATRIX = """
## With something else broken

The same fifty orders and the same witness. A pass is a trial that ended with all fifty cancelled, two empty lists after
the in-flight window, and a report saying STOPPED. The jobs worker and the web run in no trial but those in which they
are killed: a stop needs neither. With one venue of three dead, the fifty orders are at each, and what counts is the
later of the two others; their accounts are STOPPED while that one's goes on, and it is STOPPED when its venue is back.

| broken | stop by | passes | first cancel p50 | max | proven empty p50 | max |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
"""

NOTES = """
What the figures contain: a trader that is frozen is given 1 s to acknowledge, then killed, and another 1 s passes for
what it may have sent; with Redis away nobody can acknowledge, so that 3.25 s must pass; a STOP_FILE is looked for four
times a second; a mute venue gets its first cancel at once, and its proof when it answers again. The aims are a first
cancel within 5 ms (p99) by a write or a signal, within 300 ms without notifications or by file, and a proof within
300 ms (p99) where the trader acknowledges. With fewer than a hundred trials p99 is the maximum.
"""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make stop-bench", description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help="gate trials (N)")
    parser.add_argument("--cancels", type=int, help="trials of each cancel row; a tenth of N")
    parser.add_argument("--slow", type=int, help="trials of each row with something broken; a hundredth of N")
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args()
    given.cancels = given.cancels or max(1, given.trials // 10)
    given.slow = given.slow or max(1, given.trials // 100)
    given.matrix = max(1, given.slow // 10)
    return given


def main() -> None:
    """Measure everything, then write the report in one go."""
    given = arguments()
    sys.setswitchinterval(SWITCH_SECONDS)  # the witness is a thread of this process: it must not wait 5 ms for its turn
    rows = stop_rows.rows()
    columns = (TextColumn("{task.description:48}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        refresh_per_second=2,  # drawing it takes the interpreter from the witness
    ) as progress:
        gate_task = progress.add_task("gate", total=given.trials)
        tasks = [progress.add_task(r.name, total=given.slow if r.slow else given.cancels, start=False) for r in rows]
        gate = stop_gate.measure(given.trials, lambda: progress.advance(gate_task))
        samples = []
        for row, task in zip(rows, tasks, strict=True):
            progress.start_task(task)
            trials = given.slow if row.slow else given.cancels
            samples.append(stop_cancel.measure(row, trials, lambda task=task: progress.advance(task)))
        matrix = stop_rows.matrix()
        matrix_task = progress.add_task("with something else broken", total=given.matrix * len(matrix))
        broken = [stop_cancel.measure(row, given.matrix, lambda: progress.advance(matrix_task)) for row in matrix]
    command = f"make stop-bench N={given.trials} CANCELS={given.cancels} SLOW={given.slow}"
    text = INTRODUCTION.format(command=command, machine="\n".join(machine()))
    text += GATE + gate_line(gate)
    text += CANCEL + "".join(cancel_line(r.name, s) for r, s in zip(rows, samples, strict=True))
    text += MATRIX + "".join(matrix_line(r, s, given.matrix) for r, s in zip(matrix, broken, strict=True)) + NOTES
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(text)
    sys.stdout.write(f"{given.out}\n")
    if gate.escapes:
        sys.exit(f"{gate.escapes} orders passed the gate after the stop: {shlex.join(sys.argv)}")


def gate_line(gate: stop_gate.GateFigures) -> str:
    late = gate.lateness_ms
    return (
        f"| {gate.trials:,} | {gate.under_load:,} | {gate.admitted:,} | **{gate.escapes}** | {gate.in_flight:,} "
        f"| {milliseconds(percentile(late, 0.5))} | {milliseconds(max(late))} |\n\n"
        f"The SET itself took {milliseconds(percentile(gate.set_ms, 0.5))} (p50), "
        f"{milliseconds(percentile(gate.set_ms, 0.99))} (p99), {milliseconds(max(gate.set_ms))} (max).\n"
    )


def cancel_line(name: str, samples: list[stop_cancel.Sample]) -> str:
    cells = [name, f"{len(samples):,}"]
    for values in ([s.first_cancel for s in samples], [s.proven for s in samples]):
        cells += [milliseconds(v) for v in (percentile(values, 0.5), percentile(values, 0.99), max(values))]
    return f"| {' | '.join(cells)} |\n"


def matrix_line(row: stop_cancel.Row, samples: list[stop_cancel.Sample], trials: int) -> str:
    cells = [row.broken, row.name, f"{len(samples)} of {trials}"]
    for values in ([s.first_cancel for s in samples], [s.proven for s in samples]):
        cells += [milliseconds(percentile(values, 0.5)), milliseconds(max(values))]
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    main()
