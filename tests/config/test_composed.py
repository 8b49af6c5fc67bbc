"""What Hydra made of conf/ is kept for the stages of a rebuild, and changes nothing."""

import hydra
import pytest

from pipeline import config
from pipeline.config import compose, composed, files

pytestmark = pytest.mark.usefixtures("project")


def load_anew() -> dict[str, object]:
    """As another process would."""
    compose._load.cache_clear()
    return config.load().plain()


@pytest.fixture
def whole() -> dict[str, object]:
    """The configuration without anything kept, of which all is kept then."""
    plain = load_anew()
    composed.keep(files.files(files.read_yaml(files.PARAMS)), files.digest())
    return plain


def test_a_stage_reads_what_was_kept_and_needs_no_hydra(
    whole: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(hydra, "compose")
    assert load_anew() == whole


@pytest.mark.parametrize("left", ["", '{"version": "cut', '{"version": "of other files"}'])
def test_what_is_damaged_or_of_other_files_is_composed_anew(
    left: str, whole: dict[str, object]
) -> None:
    composed.KEPT.write_text(left)
    assert load_anew() == whole
