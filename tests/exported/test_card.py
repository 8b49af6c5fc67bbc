"""The model card has its nine sections, and says in them what is on record."""

from toys import TIMM, candidate

from pipeline.evaluation.evidence import Evidence
from pipeline.evaluation.facts import ClassFacts, Facts, SliceFacts
from pipeline.evaluation.figures import Figure
from pipeline.evaluation.places import Promises
from pipeline.evaluation.rules import Sentence
from pipeline.exported.card import card

THRESHOLDS = {
    "abstain": {
        "confidence": 0.625,
        "target_risk": 0.05,
        "delta": 0.1,
        "guaranteed": True,
        "val_coverage": 0.8,
    },
    "ood": {"score": 2.5, "quantile": 0.99},
    "sets": {"level": 0.9, "by_class": True},
}
ANT = ClassFacts(
    name="ant", n=20, n_right=15, n_answers=16, recall=0.75, low=0.6, high=0.9, confused_with=""
)
EVIDENCE = Evidence.model_construct(
    dataset="40 test images of 3 classes",
    classes=["ant", "bee", "猫"],
    level=0.95,
    seed=3,
    figures={
        "accuracy": Figure(value=0.91, n=40, method="m", meaning="m", low=0.85, high=0.95),
        "set_size": Figure(value=1.1, n=40, method="m", meaning="m"),
        "place/accuracy": Figure(value=0.34, n=99, method="m", meaning="m", low=0.25, high=0.44),
    },
    robustness={},
    facts=Facts.model_construct(
        classes=[ANT],
        weaker=[SliceFacts(name="night = yes", n=9, accuracy=0.5, elsewhere=0.95)],
        small_slices=["camera = b (3)"],
        doubted=7,
        doubted_wrong=3.5,
        promises=Promises(target_risk=0.05, column="camera"),
    ),
    verdict=[
        Sentence(kind="trust", words="It is right."),
        Sentence(kind="beware", words="It misses ants."),
    ],
    caveats=["One source."],
)
SECTIONS = [
    *("Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data"),
    *("Quantitative analyses", "Ethical considerations", "Caveats and recommendations"),
]


def written() -> str:
    made = candidate(TIMM)
    return card(made, 32, EVIDENCE, THRESHOLDS, data_hash="d0d0", commit="c0c0")


def test_the_sections_are_those_of_the_paper_in_their_order() -> None:
    assert [line[3:] for line in written().splitlines() if line.startswith("## ")] == SECTIONS


def test_the_card_says_what_it_is_and_how_good() -> None:
    facts = [
        "test_resnet",
        "ant, bee, 猫",
        "40 test images",
        "| accuracy | 0.9100 | 0.8500 to 0.9500 | 40 |",
        "| set size | 1.1000 | - | 40 |",
        "| place/accuracy | 0.3400 | 0.2500 to 0.4400 | 99 |",
        "| ant | 75.0 % | 60.0 % to 90.0 % | 20 |",
        "`d0d0`",
        "`c0c0`",
        "seed 3",
        "confidence of 0.625: at most 5% of its answers are wrong, with probability 90%",
        "score of 2.50: 1% of",
        "90% of the images of each class",
        "weaker where night = yes: 50.0 % of 9 right",
        "camera = b (3)",
        "7 labels of all images are in doubt",
        "- It misses ants.\n- One source.",
    ]
    assert [text for text in facts if text not in written()] == []
    assert "It is right." not in written()


def test_what_only_a_person_knows_is_left_to_a_person() -> None:
    assert written().count("A person must say this.") == 4
