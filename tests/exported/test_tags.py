"""What a gate asks of a version stands in its tags."""

from pathlib import Path

from pipeline.exported import tags


def test_flips_and_other_measurements_become_tags_that_gates_can_have_floors_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "best.yaml").write_text("title: tiny\n")
    tested = dict.fromkeys(tags.FIGURES, 0.5) | {"test/n": 40.0, "test/mcc": 0.4}
    tested |= {"stability/flips_shift_2px": 0.0625, "context/border_alone": 0.25}
    checked = {"parity/max_difference": 1e-6, "latency/p50_ms": 12.0}
    given = tags.tags({}, {}, 0, tested, checked, 0.0, tmp_path)
    assert given["stability/flips_shift_2px"] == "0.0625"
    assert given["context/border_alone"] == "0.2500"
    assert given["test/set_coverage"] == "0.5000"
    assert "test/mcc" not in given
