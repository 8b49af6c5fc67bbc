import pytest
import torch

from pipeline.runs import provenance


def broken() -> str:
    raise torch.AcceleratorError("CUDA error: all CUDA-capable devices are busy or unavailable")


def test_the_gpu_that_could_be_used_is_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    monkeypatch.delenv("FIELDMARK_ACCELERATOR", raising=False)
    assert provenance.device().endswith("NVIDIA H100")


def test_a_gpu_that_is_overruled_is_neither_recorded_nor_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", broken)
    monkeypatch.setenv("FIELDMARK_ACCELERATOR", "cpu")
    assert provenance.device().endswith("cores")
