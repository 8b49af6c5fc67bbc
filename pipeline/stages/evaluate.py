"""evaluate: data/preprocess/test + data/tune (+ what earlier stages found, for the report) ->
data/evaluate.

evidence.json    every figure with its interval, n, method and meaning (evaluation/evidence)
predictions.csv, per_class.csv, slices.csv, risk_coverage.csv, worst.csv, worst.npy, plots/
                 the tables and pictures behind the figures (evaluation/tables)
robustness.csv, robustness_classes.csv, breaking_points.csv
                 what attacks, corruptions and noise leave (robustness/measure)
report.html      all of that as one page that opens by itself (report/page)
"""

from pathlib import Path

from pipeline.config import Config
from pipeline.evaluation import caveats, evidence, tables
from pipeline.evaluation.evidence import Evidence
from pipeline.report import page, reading
from pipeline.robustness.measure import robustness
from pipeline.runs import lineage, provenance
from pipeline.storage import table
from pipeline.training import network, samples


def run(
    cfg: Config,
    *,
    preprocess_test: Path,
    tune: Path,
    ingest_quarantine: Path,
    label_check: Path,
    model_search: Path,
    out: Path,
) -> dict[str, float]:
    """Predict the test images once, and say how good that is, how sure, and where it fails."""
    trained, winner, classes, _ = network.load(tune)
    rows = table.read(preprocess_test)
    test = samples.load(preprocess_test, classes)
    probs = network.probabilities(trained, test)
    trusted = ~rows["suspect"].to_numpy(bool)
    figures = evidence.figures(test.labels, probs, trusted, cfg.evaluate.bootstrap, cfg.seed)
    robust = robustness(trained, test, test.labels, classes, cfg.evaluate.robustness, cfg.seed, out)
    commit, versions = provenance.code_in_words()
    findings = Evidence(
        model=winner.title,
        dataset=f"{len(rows)} test images of {len(classes)} classes",
        classes=classes,
        n_test=len(rows),
        level=cfg.evaluate.bootstrap.level,
        figures=figures,
        robustness=robust.figures,
        caveats=caveats.caveats(rows, winner, label_check, model_search) + robust.warnings,
        seed=cfg.seed,
        git_commit=commit,
        data_hash=lineage.outputs().get("data/ingest", "unknown"),
        versions=versions,
        config_yaml=(tune / "best.yaml").read_text(encoding="utf-8"),
    )
    evidence.write(findings, out)
    tables.write(preprocess_test, rows, test.labels, probs, classes, cfg.evaluate, out)
    earlier = {"label_check": label_check, "model_search": model_search, "tune": tune}
    contents = reading.report(out, ingest_quarantine=ingest_quarantine, **earlier)
    (out / "report.html").write_text(page.render(contents), encoding="utf-8")
    return {**evidence.flat(figures), **robust.values(), "test/n": float(len(rows))}
