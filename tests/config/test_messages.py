import pytest

from pipeline import one_line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("no\n  route\tto host\n"), "no route to host"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("\n"), "ValueError"),
        (ValueError("x" * 999), "x" * 300),
    ],
)
def test_what_a_library_says_fits_into_one_line(error: Exception, said: str) -> None:
    assert one_line(error) == said
