from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.storage import resumable

KINDS: dict[str, resumable.Kind] = {
    "squares": ((6, 4, 4, 3), np.uint8),
    "scores": ((6, 2), np.float64),
}


def fill(folder: Path, n: int) -> None:
    done, arrays = resumable.begin(folder, KINDS)
    for i in range(done, n):
        arrays["squares"][i], arrays["scores"][i] = i, i
    resumable.mark(folder, n, arrays)


def test_what_was_marked_is_there_again(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    done, arrays = resumable.begin(tmp_path, KINDS)
    assert done == 4
    np.testing.assert_array_equal(arrays["squares"][:, 0, 0, 0], [0, 1, 2, 3, 0, 0])
    np.testing.assert_array_equal(arrays["scores"][:, 1], [0, 1, 2, 3, 0, 0])


def test_without_a_mark_or_an_array_all_begins_anew(tmp_path: Path) -> None:
    assert resumable.begin(tmp_path, KINDS)[0] == 0
    assert resumable.begin(tmp_path, KINDS)[0] == 0
    fill(tmp_path, 4)
    (tmp_path / "scores.npy").unlink()
    done, arrays = resumable.begin(tmp_path, KINDS)
    assert done == 0 and not arrays["squares"].any()


def test_after_a_restart_of_the_machine_all_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, 4)
    started = psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: started + 3600)
    assert resumable.begin(tmp_path, KINDS)[0] == 0


def test_an_array_that_is_taken_is_whole_and_not_filled_again(tmp_path: Path) -> None:
    fill(tmp_path, 6)
    resumable.take(tmp_path, "squares", tmp_path / "out" / "images.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "images.npy")[:, 0, 0, 0], range(6))
    assert resumable.begin(tmp_path, KINDS)[0] == 0
