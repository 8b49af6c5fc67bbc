"""model-search: data/preprocess/dev + data/augment -> data/model-search.

leaderboard.csv  one row per candidate, the winner first: name, title, val metrics, latency, size,
                 training time, why it was left out, within_budget
leaderboard.svg  the metric against latency
search.json      the metric of the comparison, the latency budget, who was better than the winner
                 and too slow, and who was left out
winner.yaml      the winner's name and whole configuration; no timings, so that an equal winner
                 re-runs nothing
"""

import json
from pathlib import Path

from omegaconf import OmegaConf

from pipeline.config import Config
from pipeline.report import plots
from pipeline.search import screening
from pipeline.search.trial import Budget, Data
from pipeline.storage import csvs
from pipeline.training import augmentation, samples


def run(
    cfg: Config, *, preprocess_dev: Path, augment: Path, out: Path, run_id: str
) -> dict[str, float]:
    """Train every candidate on a subset and send the best within the latency budget on."""
    policy, symmetry = augmentation.read(augment)
    _, train, val = samples.train_and_val(preprocess_dev, augment)
    settings = cfg.model_search
    board = screening.screen(
        cfg.candidates,
        Data(train, val, symmetry, policy),
        Budget(settings.train_fraction, settings.latency_runs),
        seed=cfg.seed,
        run_id=run_id,
    )
    metric, budget = f"val/{settings.metric}", settings.latency_budget_ms
    ranked = screening.rank(board, settings.metric, budget)
    csvs.write(ranked, out / "leaderboard.csv")
    (out / "leaderboard.svg").write_bytes(
        plots.leaderboard(ranked[ranked["left_out"] == ""], metric=metric, budget_ms=budget)
    )
    slow = screening.better_but_slow(ranked, settings.metric, budget)
    print(*slow, sep="\n", end="\n" * bool(slow), flush=True)
    compared = {
        "metric": metric,
        "latency_budget_ms": budget,
        "better_but_slow": slow,
        "left_out": screening.left_out(ranked),
    }
    (out / "search.json").write_text(json.dumps(compared) + "\n", encoding="utf-8")
    winner = cfg.candidates[ranked["candidate"].iloc[0]]
    OmegaConf.save(OmegaConf.create(winner.model_dump(exclude_none=True)), out / "winner.yaml")
    best = ranked.iloc[0]
    return {
        key: float(best[key])
        for key in ("val/accuracy", "val/f1_macro", "val/log_loss", "latency/p50_ms")
    }
