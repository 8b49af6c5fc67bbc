"""When drift is tested: on disjoint windows of fixed sizes, once per window.

The chance of a false alarm in a day is divided evenly among all windows that may be tested in a day
(Bonferroni). A verdict is stored, and later looks only read it, so no number of looks, processes or
visitors raises that chance. No image is in two windows of one size. With dense traffic there are
gaps between windows.
"""

import time

import pandas as pd
import sqlalchemy as sa

from pipeline.config import schema
from pipeline.monitor import drift, reading, tables
from pipeline.monitor.tables import checks

DAY_S = 86_400.0


def level(cfg: schema.Drift) -> float:
    """The largest p-value of one window that is an alarm."""
    return cfg.alpha_per_day / (len(cfg.sizes) * cfg.looks_per_day)


def update(engine: sa.Engine, cfg: schema.Drift, *, budget_s: float = 30.0) -> int:
    """Test the windows that are full since the last look, store the verdicts, and return their number.

    It stops after `budget_s` and continues the next time. Raises SQLAlchemyError where the store
    cannot be reached.
    """
    tables.ready(engine)
    end, n = time.monotonic() + budget_s, 0
    with engine.connect() as connection:
        versions = reading.versions(connection)
    for version in versions:
        with engine.connect() as connection:
            reference = reading.reference(connection, version)
        for size in cfg.sizes:
            while time.monotonic() < end and _test_next(engine, cfg, version, size, reference):
                n += 1
    return n


def _test_next(
    engine: sa.Engine, cfg: schema.Drift, version: str, size: int, reference: pd.DataFrame
) -> bool:
    with engine.connect() as connection:  # closed before the test, which takes seconds
        mine = (checks.c.version == version) & (checks.c.size == size)
        last = connection.execute(
            sa.select(checks).where(mine).order_by(checks.c.last_seq.desc()).limit(1)
        ).first()
        gap = DAY_S / cfg.looks_per_day
        # The clock was set back since: the time of the next window may never come.
        ahead = last is not None and last.start > time.time() + gap
        start = last.start + gap if last and not ahead else 0.0
        window = reading.next_window(
            connection, version, size, after=last.last_seq if last else 0, not_before=start
        )
    if len(window) < size:
        return False
    last_seq = int(window["seq"].iloc[-1])
    verdict = {
        "version": version,
        "size": size,
        "last_seq": last_seq,
        "level": level(cfg),
        "start": float(window["time"].iloc[0]),
        "end": float(window["time"].iloc[-1]),
        "p": drift.p_values(reference, window, level=level(cfg), seed=last_seq),
    }
    with engine.begin() as connection:
        # another process may have been faster
        connection.execute(tables.insert_new(engine, checks), [verdict])
    return True
