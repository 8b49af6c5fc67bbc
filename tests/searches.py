"""Settings of a search over toys."""

from typing import Any

from pipeline.config.schema import ModelSearch

ONE_RUNG = [{"train_fraction": 1.0}]


def settings(**changes: Any) -> ModelSearch:
    """A search on one rung without cross-validation, otherwise as `changes` say."""
    plain = {
        "rungs": ONE_RUNG,
        "min_train_images": 1,
        "cross_validation": {"below": 0, "folds": 2, "repeats": 1},
        "metric": "accuracy",
        "bootstrap": {"n_resamples": 50, "level": 0.9},
        "indistinct": 1.0,
        "clearly_faster": 0.9,
        "latency_budget_ms": 1e6,
        "latency_runs": 1,
        "batch_runs": 0,
        "size_budget_mb": None,
        "budget_minutes": None,
        "sufficiency": {
            "draws": 0,
            "fractions": [0.25, 0.5, 1.0],
            "more": [0.25, 1.0],
            "n_resamples": 50,
        },
    }
    return ModelSearch.model_validate({**plain, **changes})
