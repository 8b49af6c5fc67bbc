"""tune: data/preprocess/dev + data/augment + data/model-search/winner.yaml -> data/tune.

trials.csv, search.json, importance.csv   the study, and whether it helped: see search/records
best.yaml          the winner with the best hyperparameters
history.csv        the best trial, epoch by epoch (train/loss, val metrics)
model.safetensors  the final network, with model.json, which says how to build it
validation.csv     id, label and calibrated probabilities, by a network that had not seen them
"""

from functools import partial
from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf

from pipeline.config import Config
from pipeline.config.schema import Candidate
from pipeline.report import study_plots
from pipeline.runs import tracking
from pipeline.search import asking, records, refits, space, trial
from pipeline.search import study as search
from pipeline.search.trial import Budget, Data
from pipeline.storage import csvs
from pipeline.training import augmentation, network, samples


def run(
    cfg: Config,
    *,
    preprocess_dev: Path,
    augment: Path,
    model_search_winner: Path,
    out: Path,
    scratch: Path,
    run_id: str,
) -> dict[str, float]:
    """Search, then fit the best again, with a temperature from images that it had not seen."""
    winner = Candidate.model_validate(OmegaConf.to_container(OmegaConf.load(model_search_winner)))
    policy, symmetry = augmentation.read(augment)
    classes, train, val = samples.train_and_val(preprocess_dev, augment)
    data, metric = Data(train, val, symmetry, policy), f"val/{cfg.tune.metric}"
    study = search.search(
        winner,
        cfg.tune,
        partial(trial.tried, data=data, budget=Budget(), seed=cfg.seed),
        seed=cfg.seed,
        about=trial.key(winner, data, Budget(), cfg.seed),
        on_end=partial(records.log_trial, cfg.plain(), metric, run_id, winner),
    )
    helped = refits.compared(winner, study, data, cfg.tune, cfg.seed)
    best = winner if helped.keep_untuned else space.chosen(winner, study.best_params)
    with tracking.trial_run(run_id, "best", {**cfg.plain(), **best.model_dump()}) as own:
        final = refits.final(best, data, cfg.tune, cfg.seed)
        tracking.log_history(final.history, own)
        figures = {**final.metrics, "gain": helped.gain}
        tracking.log_metrics(figures, step=len(final.history), run_id=own)
        trials_to_plot, direction = records.plotted(study), asking.direction(cfg.tune)
        study_plots.write(scratch, *trials_to_plot, metric=metric, direction=direction)
        tracking.log_files(scratch, share_pictures=True)
    unseen = network.predictions(preprocess_dev, "val", final.val_logits, classes)
    csvs.write(unseen, out / "validation.csv")
    network.save(final.network, best, classes, train[0].shape[0], out)
    OmegaConf.save(OmegaConf.create(best.model_dump(exclude_none=True)), out / "best.yaml")
    csvs.write(pd.DataFrame(final.history), out / "history.csv")
    comparison = helped.plain(cfg.tune.metric)
    return {**final.metrics, **records.write_study(study, winner, cfg.tune, comparison, out)}
