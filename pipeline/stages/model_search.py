"""model-search: data/preprocess/dev + data/augment -> data/model-search.

leaderboard.csv  a row a candidate, the winner first: its slot and name, val metrics, latency, size,
                 training time, within_budget
leaderboard.svg  the metric against latency
search.json      the metric of the comparison, the latency budget, and who was better than the
                 winner and too slow
winner.yaml      the winner's name and whole configuration; no timings, so that an equal winner
                 re-runs nothing
"""

import json
from pathlib import Path

from omegaconf import OmegaConf

from pipeline.config import Config
from pipeline.config.schema import Candidate
from pipeline.report import plots
from pipeline.search import screening
from pipeline.storage import csvs
from pipeline.training import augmentation, samples

SLOTS = ("network", "scratch", "classical")


def run(cfg: Config, *, preprocess_dev: Path, augment: Path, out: Path) -> dict[str, float]:
    """Train every candidate on a subset and send the best within the latency budget on."""
    policy, symmetry = augmentation.read(augment)
    _, train, val = samples.train_and_val(preprocess_dev, augment)
    part = train.take(screening.subset(train.labels, cfg.model_search.train_fraction, cfg.seed))
    candidates = {
        slot: Candidate(
            name=slot, model=getattr(cfg, slot), fit=cfg.fit.changed(getattr(cfg, slot).fit)
        )
        for slot in SLOTS
    }
    board = screening.screen(
        candidates,
        part,
        val,
        symmetry=symmetry,
        policy=policy,
        seed=cfg.seed,
        latency_runs=cfg.model_search.latency_runs,
    )
    metric = f"val/{cfg.model_search.metric}"
    budget = cfg.model_search.latency_budget_ms
    ranked = screening.rank(board, cfg.model_search.metric, budget)
    csvs.write(ranked, out / "leaderboard.csv")
    (out / "leaderboard.svg").write_bytes(
        plots.leaderboard(ranked, metric=metric, budget_ms=budget)
    )
    slow = screening.better_but_slow(ranked, cfg.model_search.metric, budget)
    print(*slow, sep="\n", end="\n" * bool(slow), flush=True)
    (out / "search.json").write_text(
        json.dumps({"metric": metric, "latency_budget_ms": budget, "better_but_slow": slow}) + "\n",
        encoding="utf-8",
    )
    winner = candidates[ranked["candidate"].iloc[0]]
    OmegaConf.save(OmegaConf.create(winner.model_dump(exclude_none=True)), out / "winner.yaml")
    best = ranked.iloc[0]
    return {
        key: float(best[key])
        for key in ("val/accuracy", "val/f1_macro", "val/log_loss", "latency/p50_ms")
    }
