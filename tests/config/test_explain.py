"""What a key means stands in one place, and people and editors find it."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import ROOT
from omegaconf import OmegaConf

from pipeline import FieldmarkError
from pipeline.config import explain, schema

SECTIONS = [
    model
    for model in vars(schema).values()
    if isinstance(model, type) and issubclass(model, schema.Section)
]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("model", SECTIONS, ids=lambda model: model.__name__)
def test_every_key_says_what_it_means(model: type[schema.Section]) -> None:
    if model is schema.FitChanges:  # the keys of Fit, all of them optional
        assert set(model.model_fields) == set(schema.Fit.model_fields)
        return
    missing = [name for name, field in model.model_fields.items() if not field.description]
    assert missing == []


def test_a_key_is_explained_with_its_value_its_range_and_its_place() -> None:
    text = explain.explain("tune.trials")
    assert "tune.trials: 12" in text and "a whole number, more than 0" in text
    assert "conf/tune/default.yaml" in text and "Trials in total" in text


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("candidates.lite0.fit.lr", "conf/fit/default.yaml"),
        ("candidates.small_cnn.fit.lr", "conf/candidate/small_cnn.yaml"),
        ("candidates.lite0.head.hidden", "conf/candidate/efficientnet_lite0.yaml"),
        ("embedding.extractor.taps", "conf/candidate/efficientnet_lite0.yaml"),
        ("seed", "params.yaml"),
    ],
)
def test_it_is_said_which_file_a_value_comes_from(key: str, place: str) -> None:
    assert f"It stands in {place}." in explain.explain(key)


def test_an_unknown_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(FieldmarkError, match="there is no trails; did you mean trials"):
        explain.explain("tune.trails")


def test_the_schema_for_editors_is_the_one_of_the_code() -> None:
    """`fieldmark config --schema > conf/params.schema.json` makes it."""
    assert Path("conf/params.schema.json").read_text() == explain.schema_text() + "\n"


def validated(params: Any) -> None:
    jsonschema.validate(params, json.loads(explain.schema_text()))


def test_the_schema_takes_params_yaml_and_refuses_slips() -> None:
    params = OmegaConf.to_container(OmegaConf.load("params.yaml"))
    assert isinstance(params, dict)
    validated(params)
    validated({**params, "tune": {"use": "default", "trials": 3}})
    for slip in ({"use": "default", "trails": 3}, {"use": "nowhere"}, {"trials": 3}):
        with pytest.raises(jsonschema.ValidationError):
            validated({**params, "tune": slip})
