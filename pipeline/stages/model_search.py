"""model-search: data/preprocess/dev + data/augment -> data/model-search.

leaderboard.csv  one row per candidate, the winner first: see search/screening and search/leaderboard
leaderboard.svg  the metric against latency
search.json      the metric of the comparison, the latency budget, and sentences: on the choice, on who
                 was better than the winner and too slow or too large, and on who was left out
learning_curve.csv, forecast.csv, sufficiency.json   whether the photos suffice: see search/sufficiency
winner.yaml      the winner's name and whole configuration; no timings, so that an equal winner
                 re-runs nothing
"""

import json
from pathlib import Path

from omegaconf import OmegaConf

from pipeline.config import Config
from pipeline.report import plots
from pipeline.search import ensemble, leaderboard, screening, sufficiency
from pipeline.search.trial import Data
from pipeline.storage import csvs
from pipeline.training import augmentation, samples


def run(
    cfg: Config, *, preprocess_dev: Path, augment: Path, out: Path, run_id: str
) -> dict[str, float]:
    """Compare the candidates by successive halving, and send the best within the limits on."""
    policy, symmetry = augmentation.read(augment)
    classes, train, val = samples.train_and_val(preprocess_dev, augment)
    settings, data = cfg.model_search, Data(train, val, symmetry, policy)
    seed = cfg.seed
    screened = screening.screen(cfg.candidates, data, settings, seed=seed, run_id=run_id)
    screened, candidates = ensemble.joined(
        screened, cfg.candidates, settings, seed=seed, run_id=run_id
    )
    ranked, notes = leaderboard.ordered(screened, settings, cfg.seed)
    csvs.write(ranked, out / "leaderboard.csv")
    metric, budget = f"val/{settings.metric}", settings.latency_budget_ms
    (out / "leaderboard.svg").write_bytes(
        plots.leaderboard(ranked[ranked["left_out"] == ""], metric=metric, budget_ms=budget)
    )
    print(*notes["better_but_slow"], *notes["choice"], sep="\n", flush=True)
    compared = {"metric": metric, "latency_budget_ms": budget, **notes}
    (out / "search.json").write_text(json.dumps(compared) + "\n", encoding="utf-8")
    winner = candidates[ranked["candidate"].iloc[0]]
    OmegaConf.save(OmegaConf.create(winner.model_dump(exclude_none=True)), out / "winner.yaml")
    enough = sufficiency.write(candidates, ranked, data, classes, settings, cfg.seed, out)
    named = ("val/accuracy", "val/f1_macro", "val/log_loss", "latency/p50_ms")
    return {**{key: float(ranked[key].iloc[0]) for key in named}, **enough}
