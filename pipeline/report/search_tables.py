"""What was compared and tried, as tables for people."""

import pandas as pd

from pipeline.report.contents import Tuning

TRIAL_ROWS = 5


def candidate_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard for people: an interval stands in the cell of its figure."""
    table = rows.drop(columns=["within_budget", "pareto"])
    for low in [str(name) for name in table.columns if str(name).endswith("_low")]:
        name, high = low.removesuffix("_low"), low.replace("_low", "_high")
        table[name] = [
            f"{value:.3f} ({a:.3f} to {b:.3f})"
            for value, a, b in table[[name, low, high]].to_numpy(dtype=float)
        ]
        table = table.drop(columns=[low, high])
    if (table["stopped"] == "").all():
        return table.drop(columns="stopped")
    return table.rename(columns={"stopped": "why it ended"})


def best_trials(tuning: Tuning) -> pd.DataFrame:
    """The best trials that ran to their end, the best first."""
    ended = tuning.rows[~tuning.rows["stopped"]].dropna(subset=["value"]).drop(columns="stopped")
    best = ended.sort_values(["value", "number"], ascending=[tuning.direction == "minimize", True])
    return best.head(TRIAL_ROWS).rename(columns=lambda name: name.removeprefix("params_"))
