"""What the stop bench measures: each row its own way of stopping, or of being broken while it stops."""

from __future__ import annotations

from dataclasses import replace

from tests.bench.stop_cancel import HUNG_SECONDS, Bench, Row

AT_ONCE = 3
"""So many installations of a row that waits for seconds in each trial: they hardly ever compute at once."""


def rows() -> list[Row]:
    """All rows, each its own way of stopping."""
    return [
        Row("SET trading_settings, everything well", Bench.set_off),
        Row("SET trading_settings, notifications off", Bench.set_off, prepare=Bench.mute_notifications, at_once=2),
        Row("STOP_FILE", Bench.touch_stop_file, at_once=2),
        Row("SIGUSR1 to emergency", Bench.send_signal),
        Row(
            "SET trading_settings, trader SIGSTOPped",
            Bench.set_off,
            prepare=Bench.freeze_trader,
            slow=True,
            at_once=AT_ONCE,
        ),
        Row("STOP_FILE, Redis down", Bench.touch_stop_file, prepare=Bench.kill_redis, slow=True, at_once=AT_ONCE),
        Row(
            "STOP_FILE, Redis hung (SIGSTOP)",
            Bench.touch_stop_file,
            prepare=Bench.freeze_redis,
            slow=True,
            at_once=AT_ONCE,
        ),
        Row(
            f"SET trading_settings, venue mute for {HUNG_SECONDS:g} s",
            Bench.set_off,
            prepare=Bench.hang_venue,
            slow=True,
            at_once=AT_ONCE,
        ),
    ]


def matrix() -> list[Row]:
    """Stops with something else broken: what counts is that each ends in a proof."""
    set_off, stop_file = Bench.set_off, Bench.touch_stop_file
    faults: dict[str, tuple[int, str] | str] = {
        "429": (429, '{"message": "slow down"}'),
        "500": (500, "<html>upstream</html>"),
        "200 with garbage": (200, "!?"),
    }
    found = [
        Row("SET", set_off, prepare=Bench.kill_trader, broken="trader dead"),
        Row("SET", set_off, prepare=Bench.kill_jobs, broken="jobs worker dead, in the middle of a job"),
        Row("SET", set_off, prepare=Bench.kill_web, broken="web dead"),
        Row("SET", set_off, prepare=Bench.kill_last_venue, broken="one account's venue dead of three", accounts=3),
        Row("SET", set_off, prepare=Bench.spin_trader, broken="trader spinning at 100 %"),
        Row(
            "SET",
            set_off,
            prepare=Bench.kill_emergency_soon,
            broken="emergency killed in the middle of the stop",
            counts=False,
        ),
        Row("DEL trading_settings", Bench.delete_settings, prepare=Bench.fill_redis, broken="Redis full"),
        Row("STOP_FILE", stop_file, prepare=Bench.fill_redis, broken="Redis full"),
        Row("STOP_FILE", stop_file, prepare=Bench.make_redis_read_only, broken="Redis read-only"),
        Row("FLUSHALL itself", Bench.flush, broken="Redis flushed"),
        *(
            Row(
                "SET",
                set_off,
                prepare=lambda bench, fault=fault: bench.break_venue(fault),
                broken=f"venue answers {name} for {HUNG_SECONDS:g} s",
            )
            for name, fault in faults.items()
        ),
    ]
    busy = {Bench.spin_trader, Bench.kill_jobs, Bench.kill_web}  # these compute for most of a trial
    return [replace(row, at_once=1 if row.prepare in busy else AT_ONCE) for row in found]
