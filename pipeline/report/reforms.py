"""The REFORMS checklist, filled from what is on record.

REFORMS (Kapoor et al., Science Advances 2024; reforms.cs.princeton.edu) has 32 items in eight parts
that a claim from machine learning must answer. What no file of the pipeline knows stays open, and is
named as a person's to answer. The questions are put in our own words.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.report import cells
from pipeline.report.contents import Report

FILE = "reforms.md"
SOURCE = "Kapoor et al., Science Advances 2024; reforms.cs.princeton.edu"
PARTS = {
    "1": "Goal of the study",
    "2": "Reproducing it",
    "3": "Quality of the data",
    "4": "Preparation of the data",
    "5": "Modelling",
    "6": "Leakage",
    "7": "Figures and their uncertainty",
    "8": "Limits",
}
Answers = dict[str, str]


class Item(NamedTuple):
    """One item. `answer` is "" where only a person can answer."""

    number: str
    question: str
    answer: str


QUESTIONS = {
    "1a": "About which images is a claim made?",
    "1b": "Why these?",
    "1c": "Why machine learning, and not something simpler?",
    "2a": "Where is the data?",
    "2b": "Where is the code?",
    "2c": "On which machine and libraries did it run?",
    "2d": "Where are the instructions?",
    "2e": "Which command makes every result again?",
    "3a": "Who took the images, when, where and how?",
    "3b": "From what were they chosen, and how?",
    "3c": "Why does this data suit the question?",
    "3d": "What is predicted, and how was the truth found?",
    "3e": "How many images, and how many of each class?",
    "3f": "What is missing?",
    "3g": "Do the images stand for those of the claim?",
    "4a": "What was left out, and why?",
    "4b": "What was done about damaged and impossible images?",
    "4c": "How were the images changed before the model saw them?",
    "5a": "What was trained?",
    "5b": "Why these kinds of model?",
    "5c": "How was it judged?",
    "5d": "How was the winner chosen?",
    "5e": "How were hyperparameters chosen?",
    "5f": "What is it compared with?",
    "6a": "Are the test images kept apart until the end?",
    "6b": "What about duplicates and images that belong together?",
    "6c": "May the model use all that it uses?",
    "7a": "Which figures, and why these?",
    "7b": "How sure are they?",
    "7c": "Which tests, and how are many comparisons corrected?",
    "8a": "What is known of images from elsewhere?",
    "8b": "Where should nobody expect it to hold?",
}


def items(report: Report) -> list[Item]:
    """All 32 items in order, each with its answer, or "" where a person must answer."""
    answers = {**_reproducing(report), **_data(report), **_modelling(report), **_judging(report)}
    return [Item(number, asks, answers.get(number, "")) for number, asks in QUESTIONS.items()]


def write(report: Report, folder: Path) -> None:
    """reforms.md in the folder."""
    (folder / FILE).write_text("\n".join(_lines(items(report))), encoding="utf-8")


def _lines(every: list[Item]) -> Iterator[str]:
    n_open = [item.number for item in every if not item.answer]
    yield "# REFORMS checklist\n"
    yield f"After {SOURCE}. Answers come from the records of this rebuild."
    yield f"Open, for a person to answer: {', '.join(n_open)}."
    part = ""
    for item in every:
        if item.number[0] != part:
            part = item.number[0]
            yield f"\n## {part}. {PARTS[part]}\n"
        yield f"- **{item.number} {item.question}** {item.answer or '*open: only a person knows*'}"
    yield ""


def _reproducing(report: Report) -> Answers:
    evidence = report.evidence
    libraries = ", ".join(f"{name} {version}" for name, version in evidence.versions.items())
    return {
        "2a": f"The images in use have the hash {evidence.data_hash} in dvc.lock. Whether others may "
        f"have them, a person must add.",
        "2b": f"git commit {evidence.git_commit}.",
        "2c": f"{libraries}. requirements.lock pins every library by its hash; the "
        f"record of the run in MLflow names the machine.",
        "2d": "README.md of that commit.",
        "2e": "`make repro` in a clone of that commit with these images; "
        "`fieldmark reproduce VERSION` does it for a registered version.",
    }


def _data(report: Report) -> Answers:
    facts, check = report.evidence.facts, report.label_check
    n_of = dict(zip(check.findings["finding"], check.findings["n"], strict=True))
    classes = ", ".join(f"{each.name}: {each.n}" for each in facts.classes)
    unlabelled = n_of.get("images without a label", 0)
    reasons = report.quarantine["reason"].value_counts()
    listed = "; ".join(f"{reason}: {n}" for reason, n in reasons.items()) or "nothing"
    pairs = n_of.get("near-duplicate pairs", 0)
    return {
        "3d": f"One of {len(facts.classes)} classes per image, as the source labels it; people settled "
        f"{check.n_decided} images and changed {check.n_changed} labels. {facts.doubted} labels are in "
        f"doubt. How the source found the truth, a person must add.",
        "3e": f"{report.sufficiency.n_labels} labelled images; of the test images {classes}.",
        "3f": f"{unlabelled} images have no label.",
        "4a": f"Files left out by ingest, with the reason: {listed}. Exact duplicates count once.",
        "4b": "A file that cannot be read whole is left out and listed in quarantine.csv. Poor images "
        "(dark, blurred, odd size) are flagged and kept.",
        "4c": "One function turns each file into a square array, the same for training and serving; "
        "augmentation changes training images only.",
        "6b": f"{pairs} pairs of near-duplicates, and images of one group, are dealt to one split "
        f"together; {facts.leaked} test images have a near-duplicate that was learned from.",
    }


def _modelling(report: Report) -> Answers:
    board, tuning = report.leaderboard, report.tuning
    guessing = report.evidence.figures["largest_class"].value
    chosen = " ".join([*board.choice, *tuning.remarks])
    names = ", ".join(board.rows["name"].astype(str))
    return {
        "5a": f"{report.evidence.model}; its settings stand in the report.",
        "5b": f"Frozen and trained networks and descriptors made by hand were tried side by side: {names}.",
        "5c": f"Training, validation and test images are dealt by a hash of the image; the "
        f"{report.evidence.n_test} test images are predicted once, at the end.",
        "5d": f"{len(board.rows)} candidates by {board.metric} on validation images, by successive "
        f"halving, within {board.budget_ms:g} ms per image.",
        "5e": f"{len(tuning.rows)} trials by {tuning.metric} on validation images. {chosen}".strip(),
        "5f": f"Always the largest class reaches {cells.share(guessing)}; model-search also tried the "
        f"nearest thumbnail.",
        "6a": "Yes: only evaluate is given them; statistics and choices come from the other images.",
    }


def _judging(report: Report) -> Answers:
    evidence, places = report.evidence, report.evidence.facts.promises
    accuracy = evidence.figures["accuracy"]
    elsewhere = evidence.figures.get("place/accuracy")
    outside = (
        f"With each “{places.column}” left out of the training in turn, {cells.share(elsewhere.value)} of "
        f"{elsewhere.n} images were right."
        if places and elsewhere
        else "Not measured: no column names a place (evaluate.places)."
    )
    limits = " ".join(
        [*(s.words for s in evidence.verdict if s.kind == "beware"), *evidence.caveats]
    )
    return {
        "7a": "Accuracy beside balanced accuracy, F1, Matthews' correlation, ROC area, average "
        "precision and calibration, over all images and class by class: rare classes count.",
        "7b": f"Figures of merit have {evidence.level:.0%} intervals: shares that of Wilson, most others by "
        f"bootstrap over test images; accuracy {cells.share(accuracy.value)} "
        f"({cells.share(accuracy.low or 0.0)} to {cells.share(accuracy.high or 1.0)}).",
        "7c": "Slices: Fisher's exact test with Holm's correction. Versions on the same images: exact "
        "McNemar test. Tuned against untuned: Student's t with the variance of Nadeau and Bengio.",
        "8a": outside,
        "8b": limits,
    }
