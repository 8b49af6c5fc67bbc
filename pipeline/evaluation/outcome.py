"""What a rebuild reached, in two lines for the terminal."""

from pathlib import Path

from pipeline import FieldmarkError
from pipeline.evaluation import evidence
from pipeline.evaluation.evidence import Evidence
from pipeline.evaluation.figures import Figure

NEXT = "source .venv/bin/activate; fieldmark review, promote, serve"


def of(folder: Path) -> Evidence:
    """The evidence of a rebuild. Raises FieldmarkError before the first one."""
    if not (folder / evidence.FILE).exists():
        raise FieldmarkError("nothing was evaluated yet; `make repro` trains a model and tests it")
    return evidence.read(folder)


def reached(judged: Evidence) -> str:
    """The accuracy with its interval, and what always guessing the largest class would reach."""
    accuracy, guess = judged.figures["accuracy"], judged.figures.get("largest_class")
    beside = f"; always guessing the largest class: {guess.value:.1%}" if guess else ""
    return f"{accuracy.value:.1%} right{_interval(accuracy)} on {judged.n_test} test photos{beside}"


def next_steps(uncommitted: bool) -> str:
    """What to do with it."""
    keep = "Keep it: git commit -am 'what you tried'. " if uncommitted else ""
    return f"{keep}The report: data/evaluate/report.html. Then: {NEXT}"


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f" ({100 * figure.low:.1f} to {100 * figure.high:.1f})"
