"""evaluate: data/preprocess/test + data/tune (+ what earlier stages found, for the report) ->
data/evaluate.

evidence.json    every figure with its interval, n, method and meaning, and the verdict
                 (evaluation/evidence); origin.json: the code, data and settings behind it
summary.json     the few that `dvc metrics show` lists
sets.json        the thresholds of conformal sets, for export (evaluation/conformal)
*.csv, worst.npy, plots/
                 the tables and pictures behind the figures (evaluation/tables), and what attacks,
                 corruptions and noise leave (robustness/measure)
regions.csv, regions.npy, region_maps.npy
                 where in a photo answers rest (training/regions)
report.html      all of that as one page that opens by itself; drawings/: its figures, one by one;
                 reforms.md: the checklist of report/reforms
"""

from pathlib import Path

from pipeline.config import Config
from pipeline.evaluation import (
    caveats,
    conformal,
    evidence,
    facts,
    measuring,
    outcome,
    tables,
)
from pipeline.evaluation import places as promised
from pipeline.report import page, reading
from pipeline.robustness.measure import robustness
from pipeline.runs import lineage, tracking
from pipeline.training import answers, augmentation, crossval, network, places, regions
from pipeline.training.refit import Recipe


def run(
    cfg: Config,
    *,
    preprocess_test: Path,
    preprocess_dev: Path,
    augment: Path,
    tune: Path,
    ingest_quarantine: Path,
    label_check: Path,
    model_search: Path,
    out: Path,
) -> dict[str, float]:
    """Predict the test images once, and say how good that is, how sure, and where it fails."""
    trained, winner, classes, _ = network.load(tune)
    settings, seed = cfg.evaluate, cfg.seed
    test = answers.of_test_images(trained, preprocess_test, classes, settings.altered_images, seed)
    sets = conformal.from_validation(tune, classes, **settings.conformal.model_dump())
    figures, measured = measuring.measured(test, sets, settings, seed)
    recipe = Recipe(winner, *augmentation.read(augment), cfg.tune.refit, seed)
    folders = {"preprocess_dev": preprocess_dev, "augment": augment, "tune": tune}
    elsewhere, promises = places.measured(trained, test, recipe, cfg.export, settings, **folders)
    crossed, done = crossval.measured(test, recipe, settings, preprocess_dev, augment)
    measured["places"], figures = elsewhere, figures | promised.figures(elsewhere) | crossed
    figures |= regions.measured(trained, test, settings.regions, cfg.preprocess.fit, seed, out)
    earlier = {"label_check": label_check, "model_search": model_search}
    robust = robustness(trained, test.images, test.labels, classes, settings.robustness, seed, out)
    beside = (robust.warnings, promises, done, robust.breaking)
    known = facts.gather(test, measured, earlier, settings, *beside)
    cautions = caveats.caveats(test.rows, winner, label_check, model_search)
    remarks = [*robust.warnings, *robust.notes, *cautions]
    about = evidence.of_test_images(classes, len(test.rows), settings.bootstrap.level)
    about |= {"project": cfg.name, "model": winner.title, "defense": winner.defended, "seed": seed}
    about |= lineage.origin(tune)
    findings = evidence.concluded(figures, robust.figures, known, remarks, about)
    evidence.write(findings, out)
    conformal.write(sets, out)
    tables.write(preprocess_test, test, measured, settings, out)
    tracking.describe(outcome.reached(findings))
    page.write(reading.report(out, ingest_quarantine=ingest_quarantine, tune=tune, **earlier), out)
    return {**evidence.flat(figures), **robust.values(), "test/n": float(len(test.rows))}
