"""The page opens by itself, says what it was given, and lets no name become markup."""

import dataclasses
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from pipeline.config.schema import Bootstrap
from pipeline.evaluation import (
    calibration,
    conformal,
    crossval,
    evidence,
    facts,
    measuring,
    metrics,
    places,
    ranking,
    slices,
    stability,
)
from pipeline.evaluation import headline as headline_figures
from pipeline.evaluation.figures import Figure
from pipeline.evaluation.rules import Sentence
from pipeline.report import contents as report
from pipeline.report import page as report_page
from pipeline.report import search_tables


def render(given: report.Report) -> str:
    return report_page.render(given, report_page.contents(given))


EVIL = "<script>alert(1)</script>"
CLASSES = ["cat", "dog", EVIL, '" onerror="x']
AUDIT = pd.DataFrame(
    {
        "kind": ["uniform"],
        "fraction": [0.1],
        "n_planted": [10],
        "n_suspect": [20],
        "precision": [0.432],
        "recall": [0.864],
        "average_precision": [0.765],
        "random_average_precision": [0.1],
    }
)
ROBUSTNESS = pd.DataFrame(
    {
        "threat": ["attack", "attack", "attack alone", "corruption", "corruption", "certificate"],
        "method": ["no attack", "FGSM", "Square", "no corruption", "fog", "randomized smoothing"],
        "severity": [0.0, 8.0, 8.0, 0.0, 3.0, 16.0],
        "n": 6,
        "accuracy": [0.9, 0.125, 0.5, 0.9, 0.375, 0.5],
        "low": 0.1,
        "high": 0.95,
        "balanced_accuracy": 0.5,
        "as_file": 0.5,
        "largest_class": 0.625,
        "details": "L-infinity, radius 8 of 255, 1 step",
    }
)
VOID = {"meta", "img", "br"}


LOOKED = {
    f"regions/{name}": Figure(value=value, n=6, method="m", meaning="m", low=0.4, high=0.7)
    for name, value in (("shuffled", 0.62), ("deletion", 0.5), ("drop", 0.25))
} | {"regions/drop_anywhere": Figure(value=0.1875, n=6, method="m", meaning="m")}


class Page(HTMLParser):
    """Collects what a test asks for and checks that tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.images += [dict(attrs)] if tag == "img" else []
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def full() -> report.Report:
    """Every section, with hostile names wherever a name can stand."""
    image = np.full((20, 30, 3), 128, dtype=np.uint8)
    labels = np.array([0, 0, 1, 1, 2, 3])
    probs = np.eye(4)[[0, 1, 1, 1, 2, 2]] * 0.6 + 0.1
    correct = probs.argmax(axis=1) == labels
    bootstrap = Bootstrap(n_resamples=20, level=0.9)
    sets = conformal.calibrated(labels, probs, level=0.9, by_class=True)
    shifted = stability.table(labels, probs, {"shift_2px": probs[::-1]})
    return report.Report(
        evidence=evidence.Evidence(
            project="fieldmark",
            model="tiny_net",
            dataset=EVIL,
            classes=CLASSES,
            n_test=6,
            level=0.9,
            robustness={
                "robustness/adversarial_linf8": Figure(
                    value=0.125, n=6, method="FGSM", meaning="what is left", low=0.1, high=0.95
                )
            },
            figures=headline_figures.figures(labels, probs, bootstrap, seed=0)
            | calibration.figures(labels, probs, bootstrap, seed=0)
            | stability.flips(shifted)
            | LOOKED,
            caveats=[EVIL],
            verdict=[
                Sentence(kind="trust", words="Four of six."),
                Sentence(kind="beware", words=f"It misses {EVIL}."),
            ],
            facts=facts.Facts(
                min_n=2,
                classes=[],
                weaker=[],
                small_slices=[f"{EVIL} (1)"],
                label_columns=[EVIL],
                sets=[],
                set_level=0.9,
                doubted=1,
                doubted_wrong=0.5,
                doubted_test=1,
                leaked=0,
                promises=places.Promises(
                    target_risk=0.05,
                    column=EVIL,
                    n=1,
                    worst=EVIL,
                    worst_accuracy=0.5,
                    left_out=[EVIL],
                ),
            ),
            seed=3,
            git_commit="abc123",
            data_hash="def456",
            config_yaml=f"lr: 0.1 # {EVIL}",
            versions={"numpy": "2.4"},
        ),
        latency_ms=9.23,
        per_class=measuring.per_class(labels, probs, CLASSES, bootstrap, seed=0),
        sets=conformal.coverage(labels, probs, sets, CLASSES),
        calibration=calibration.before_and_after(
            headline_figures.figures(labels, probs, bootstrap, seed=0),
            labels,
            probs,
            1.5,
            bootstrap,
            seed=0,
        ),
        stability=shifted,
        context=stability.table(labels, probs, {"border_alone": probs}),
        confusion=metrics.confusion(labels, probs, CLASSES),
        reliability=metrics.reliability(labels, probs, 10),
        risk_coverage=metrics.risk_coverage(labels, probs),
        ranking=ranking.table(labels, probs, CLASSES, 0.9),
        roc=ranking.roc(labels, probs, CLASSES),
        precision_recall=ranking.precision_recall(labels, probs, CLASSES),
        places=places.table(
            places.Held(places.KNOWN, correct, correct, ~correct),
            [places.Held(EVIL, correct, correct, ~correct)],
        ),
        slices=slices.slices(pd.DataFrame({"camera": [EVIL] * 6}), correct, min_n=1),
        robustness=ROBUSTNESS,
        robustness_classes=pd.DataFrame({"class": [EVIL], "n": [6], "accuracy": [0.25]}),
        breaking_points=pd.DataFrame(
            {"corruption": ["fog"], "accuracy": [0.375], "breaks_at": ["3"]}
        ),
        mistakes=[
            report.Mistake(name=EVIL, label=EVIL, predicted='"><b>', confidence=0.93, image=image)
        ],
        looked=[
            report.Looked(
                name=EVIL,
                label=EVIL,
                predicted="cat",
                confidence=0.93,
                boxed=True,
                in_box=False,
                image=image,
            )
        ],
        label_check=report.LabelCheck(
            findings=pd.DataFrame(
                {"finding": [EVIL, "blur", "dark"], "n": [1234, 0, 0], "note": [EVIL, "", ""]}
            ),
            audit=AUDIT,
            n_decided=7,
            n_changed=3,
            pairs=[
                report.Pair(
                    why="labels differ",
                    names=(EVIL, "b.png"),
                    labels=("cat", EVIL),
                    cosine=0.99,
                    image=image,
                    other=image,
                )
            ],
            outliers=[report.Outlier(name=EVIL, label=EVIL, image=image)],
            suspects=[
                report.Suspect(name=EVIL, label="cat", suggested=EVIL, score=0.9, image=image)
            ],
        ),
        leaderboard=report.Leaderboard(
            rows=pd.DataFrame(
                {
                    "name": ["tiny_net", EVIL],
                    "val_accuracy": [0.9, 0.8],
                    "val_accuracy_low": [0.85, 0.7],
                    "val_accuracy_high": [0.95, 0.9],
                    "latency/p50_ms": [9.0, 30.0],
                    "stopped": ["", EVIL],
                    "within_budget": [True, False],
                    "pareto": [True, False],
                }
            ),
            metric="val_accuracy",
            budget_ms=20.0,
            choice=[f"No clear winner: {EVIL}"],
        ),
        sufficiency=report.Sufficiency(
            measured=pd.DataFrame(
                {
                    "candidate": "tiny",
                    "name": EVIL,
                    "class": ["", EVIL] * 2,
                    "n": [50, 50, 100, 100],
                    "draw": 0,
                    "value": [0.7, 0.6, 0.8, 0.75],
                }
            ),
            forecast=pd.DataFrame(
                {
                    "candidate": "tiny",
                    "name": EVIL,
                    "class": ["", EVIL] * 3,
                    "n": [50, 50, 100, 100, 200, 200],
                    "value": [0.7, 0.6, 0.8, 0.75, 0.85, 0.82],
                    "low": [0.65, 0.5, 0.75, 0.7, 0.8, 0.7],
                    "high": [0.75, 0.7, 0.85, 0.8, 0.9, 0.9],
                }
            ),
            metric="accuracy",
            sentences=[f"Photograph {EVIL} first."],
            expected_wrong=5.0,
            n_labels=100,
        ),
        tuning=report.Tuning(
            rows=pd.DataFrame(
                {
                    "number": [0, 1, 2],
                    "value": [0.8, np.nan, 0.9],
                    "params_lr": [0.1, 0.01, 0.0004],
                    "stopped": [False, True, False],
                }
            ),
            metric="val_accuracy",
            direction="maximize",
            importance=pd.DataFrame({"hyperparameter": [EVIL, "lr"], "importance": [0.8, 0.2]}),
            remarks=[f"The best {EVIL} lies at the end."],
        ),
        history=pd.DataFrame(
            {"epoch": [0, 1], "train_loss": [1.0, 0.5], "val_accuracy": [0.5, 0.8]}
        ),
        quarantine=pd.DataFrame(
            {"name": [f"{EVIL}{i}.png" for i in range(25)], "reason": ["truncated"] * 25}
        ),
    )


@pytest.fixture(scope="module")
def page(full: report.Report) -> str:
    return render(full)


def test_hostile_names_stay_text(page):
    tags = Page(page).tags
    assert EVIL not in page
    assert {"script", "b", "iframe", "object", "link"}.isdisjoint(tags)
    assert not [name for name, _ in Page(page).attributes if name.startswith("on")]


def test_the_page_asks_for_nothing_outside_itself(page):
    targets = [value or "" for name, value in Page(page).attributes if name in {"src", "href"}]
    assert targets
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert "url(" not in page
    assert "@import" not in page


def test_what_was_looked_for_and_not_found_is_one_line(page):
    assert "Nothing was found of: blur; dark." in page


def test_headers_are_words(page):
    assert "ms per photo" in page and "p50 ms" not in page and "latency/" not in page


def test_every_link_leads_to_a_section(page):
    attributes = Page(page).attributes
    links = {(value or "").removeprefix("#") for name, value in attributes if name == "href"}
    assert links == {value for name, value in attributes if name == "id"}


def test_every_picture_has_an_alternative_text(page):
    images = Page(page).images
    assert len(images) == 19
    assert all(image["alt"] for image in images)


def test_tags_are_balanced_and_there_is_one_main_heading(page):
    parsed = Page(page)
    assert parsed.open == []
    assert parsed.tags.count("h1") == 1


def test_figures_are_shown_as_people_read_them(page):
    assert "4 of 6 test images correctly" in page
    assert "66.7\u202f%" in page


def test_the_chosen_candidate_is_marked_once(page):
    assert page.count('class="badge"') == 1


def test_the_best_trials_come_first_and_stopped_ones_are_left_out(full):
    assert search_tables.best_trials(full.tuning)["number"].tolist() == [2, 0]
    falling = dataclasses.replace(full.tuning, direction="minimize")
    assert search_tables.best_trials(falling)["number"].tolist() == [0, 2]


def test_a_setting_that_was_searched_is_spelled_as_params_yaml_wants_it(full):
    rows = full.tuning.rows.assign(**{"params_fit.weight_decay": [0.1, 0.2, 0.3]})
    page = render(dataclasses.replace(full, tuning=dataclasses.replace(full.tuning, rows=rows)))
    assert ">fit.weight_decay</th>" in page


def test_a_trial_that_was_stopped_never_counts_whatever_value_it_had(full):
    rows = full.tuning.rows.assign(value=[0.8, 0.99, 0.9])
    stopped = dataclasses.replace(full.tuning, rows=rows)
    assert search_tables.best_trials(stopped)["number"].tolist() == [2, 0]
    page = render(dataclasses.replace(full, tuning=stopped))
    assert "1 of them was stopped early, as unpromising" in page
    assert "A cross is a trial that was stopped" in page
    whole = render(
        dataclasses.replace(
            full, tuning=dataclasses.replace(full.tuning, rows=rows.assign(stopped=False))
        )
    )
    assert "stopped" not in whole


def test_the_leaderboard_shows_intervals_and_why_there_is_no_clear_winner(page):
    assert "0.900 (0.850 to 0.950)" in page and "within budget" not in page
    assert "No clear winner: &lt;script&gt;" in page


def test_the_page_says_what_more_photos_would_bring_and_what_doubted_labels_leave(page):
    assert "Is this enough data?" in page and "Photograph &lt;script&gt;" in page
    assert "0.820 (0.700 to 0.900)" in page and "200 photos" in page
    assert (
        "expects 5.0\u202f% of the labels to be wrong" in page
        and "about 95.0\u202f% of images" in page
    )


def test_how_good_the_search_for_wrong_labels_is_stands_beside_what_it_found(page, full):
    assert all(figure in page for figure in ("0.432", "0.864", "0.765"))
    assert "7 images, and changed 3 labels" in page
    unmeasured = dataclasses.replace(full.label_check, audit=AUDIT[:0])
    assert "label_check.audit.fractions is empty" in render(
        dataclasses.replace(full, label_check=unmeasured)
    )


def test_what_attacks_leave_stands_beside_its_threat_model_and_the_largest_class(page):
    assert "radius 8 of 255, 1 step" in page
    assert "12.5\u202f%" in page and "what is left" in page
    assert "reaches 62\u202f%" in page


def test_a_part_of_robustness_that_was_not_measured_leaves_the_rest(full):
    for threat in ("attack", "corruption"):
        alone = ROBUSTNESS[ROBUSTNESS["threat"] == threat]
        page = render(dataclasses.replace(full, robustness=alone))
        assert 'id="robustness"' in page


def test_small_numbers_are_not_rounded_away(page):
    assert "0.0004" in page


def test_only_the_first_files_in_quarantine_are_listed(page):
    assert "25 files could not be used" in page
    assert "alert(1)&lt;/script&gt;19.png" in page
    assert "alert(1)&lt;/script&gt;20.png" not in page


def test_sections_without_content_are_left_out(full):
    bare = dataclasses.replace(
        full,
        mistakes=[],
        looked=[],
        evidence=full.evidence.model_copy(update={"caveats": []}),
        history=None,
        quarantine=full.quarantine[:0],
        slices=full.slices[:0],
        ranking=full.ranking[:0],
        sufficiency=dataclasses.replace(full.sufficiency, sentences=[]),
        robustness=full.robustness[:0],
    )
    ids = {value for name, value in Page(render(bare)).attributes if name == "id"}
    always = {"verdict", "classes", "trust", "sets", "stability", "promises", "reforms"}
    assert ids == always | {"labels", "candidates", "tuning", "made"}


def test_a_name_that_is_not_unicode_can_be_written(full):
    page = render(
        dataclasses.replace(
            full, evidence=full.evidence.model_copy(update={"dataset": "caf\udce9"})
        )
    )
    assert "caf?" in page.encode("utf-8").decode()


def test_the_same_report_gives_the_same_page(full, page):
    assert render(full) == page


def test_the_verdict_stands_before_all_else(page):
    assert page.index('id="verdict"') < page.index('id="caveats"') < page.index('id="classes"')
    assert page.index("Four of six.") < page.index("It misses &lt;script&gt;")


def test_classes_and_slices_too_small_to_judge_are_named_as_such(page):
    assert page.count("too few images to judge") == 2  # the two classes with one image
    assert "Too few images to judge: &lt;script&gt;alert(1)&lt;/script&gt; (1)." in page
    assert "since the label follows from it: &lt;script&gt;" in page


def test_flips_and_parts_are_shown_in_words(page):
    assert "a shift of two pixels" in page
    assert "only the border (the centre blanked)" in page


def test_where_it_looked_is_shown_with_its_checks_and_what_follows(page):
    section = page[page.index('id="looked"') : page.index('id="labels"')]
    assert section.count("<img") == 1 and "strongest part outside the given box" in section
    assert "0.62 (0.40 to 0.70)" in section and "25.0\u202f% on average" in section
    assert "<strong>Do not read these maps:</strong> it is not shown that blurring" in section


def test_few_test_images_stand_beside_all_images_with_words_on_which_decide(full, page):
    labels, probs = np.arange(60) % 3, np.eye(3)[(np.arange(60) + (np.arange(60) < 9)) % 3]
    folds = [crossval.Fold(0, np.arange(i, 60, 4), probs[i::4], 45) for i in range(4)]
    evidence = full.evidence.model_copy(
        update={
            "figures": full.evidence.figures | crossval.figures(labels, folds, 0.9),
            "facts": full.evidence.facts.model_copy(
                update={"cross_validated": crossval.summary(folds)}
            ),
        }
    )
    beside = render(dataclasses.replace(full, evidence=evidence))
    assert "The model on 6 test images" in beside and "Its settings on all 60 images" in beside
    assert "85.0\u202f%" in beside and "the cross-validated accuracy decides" in beside
    assert 'id="cross-validation"' not in page, "where there are enough test images"


def test_why_few_test_images_judge_alone_is_said(full):
    why = crossval.CrossValidated(not_measured=f"it was trained on {EVIL}")
    known = full.evidence.facts.model_copy(update={"cross_validated": why})
    evidence = full.evidence.model_copy(update={"facts": known})
    page = render(dataclasses.replace(full, evidence=evidence))
    assert "it was trained on &lt;script&gt;" in page
    assert "the test images alone decide on promotion" in page
