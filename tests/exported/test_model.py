"""An exported folder as serving loads it: it predicts what the file does, or is refused."""

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

from pipeline import FieldmarkError
from pipeline.exported import engines, model
from pipeline.pixels import images


def jpeg(colour: tuple[int, int, int], side: int = 60) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (side, side + 7), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def test_the_model_answers_as_the_file_does_for_images_prepared_as_the_preprocess_stage_does(
    export: Path,
) -> None:
    loaded = model.load(export)
    data = jpeg((220, 30, 30))
    prepared = loaded.prepare(data)
    settings = json.loads((export / "signature.json").read_text())["preprocess"]
    assert (prepared == images.square(images.decode(data, max_pixels=None), **settings)).all()
    assert (loaded.prepare(images.decode(data, max_pixels=None)) == prepared).all()
    direct = ort.InferenceSession(export / "model.onnx").run(
        ["probs", "ood", "sketch"], {"images": prepared[None]}
    )
    for output, expected in zip(loaded.predict(prepared[None]), direct, strict=True):
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)
    assert loaded.classes[int(loaded.predict(prepared[None]).probs.argmax())] == "red"


def test_both_engines_agree_whether_a_call_has_all_cores_or_one(export: Path) -> None:
    some = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    whole, *others = [
        make(export / "model.onnx", lanes=n).run(some)
        for make in (engines.onnx_runtime, engines.openvino)
        for n in (1, 2)
    ]
    for other in others:
        for one, same in zip(whole, other, strict=True):
            np.testing.assert_allclose(one, same, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("file", "content", "word"),
    [
        ("model.onnx", b"not a model", "cannot run it"),
        ("model.onnx", None, "cannot be read"),
        ("signature.json", b"{", "not valid JSON"),
        ("signature.json", b"{}", "classes"),
        ("thresholds.json", b'{"abstain": {"confidence": 0.5}}', "ood"),
        (
            "thresholds.json",
            b'{"abstain": {"confidence": NaN}, "ood": {"score": 1}}',
            "abstain.confidence",
        ),
    ],
)
def test_a_damaged_export_is_refused_with_a_word(
    export: Path, file: str, content: bytes | None, word: str
) -> None:
    (export / file).unlink()
    if content is not None:
        (export / file).write_bytes(content)
    with pytest.raises(FieldmarkError, match=word):
        model.load(export)


@pytest.mark.parametrize(
    "classes", [["red", "green"], ["red", "blue", "green"], ["red", "green", "green"]]
)
def test_a_signature_with_other_classes_than_its_model_is_refused(
    export: Path, classes: list[str]
) -> None:
    signature = json.loads((export / "signature.json").read_text())
    (export / "signature.json").write_text(json.dumps(signature | {"classes": classes}))
    with pytest.raises(
        FieldmarkError, match=r"signature\.json: its classes are not those of model\.onnx"
    ):
        model.load(export)


def test_a_model_that_names_no_classes_must_have_as_many_as_its_signature(export: Path) -> None:
    nameless = onnx.load(export / "model.onnx")
    del nameless.metadata_props[:]
    onnx.save(nameless, export / "model.onnx")
    assert model.load(export).classes == ["red", "green", "blue"]
    signature = json.loads((export / "signature.json").read_text())
    (export / "signature.json").write_text(json.dumps(signature | {"classes": ["red", "green"]}))
    with pytest.raises(FieldmarkError, match="do not fit 2 classes"):
        model.load(export)


@pytest.mark.parametrize(
    ("operator", "constant", "word"),
    [
        ("Mul", [np.nan] * 3, "not a finite number"),
        ("Mul", [0.5] * 3, "do not add up to 1"),
        ("Add", [2, -1, -1], "do not add up to 1"),
    ],
    ids=["no numbers", "half of each chance", "chances below 0"],
)
def test_a_model_that_answers_with_no_chances_is_refused(
    export: Path, operator: str, constant: list[float], word: str
) -> None:
    broken = onnx.load(export / "model.onnx")
    softmax = next(node for node in broken.graph.node if node.op_type == "Softmax")
    softmax.output[0] = "chances"
    broken.graph.node.append(onnx.helper.make_node(operator, ["chances", "constant"], ["probs"]))
    broken.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array(constant, np.float32), "constant")
    )
    onnx.save(broken, export / "model.onnx")
    with pytest.raises(FieldmarkError, match=word):
        model.load(export)


@pytest.mark.parametrize(
    ("off_by", "seconds", "engine"),
    [(0, [2, 1], "other"), (0, [1, 2], "onnxruntime"), (0.05, [2, 1], "onnxruntime")],
    ids=["faster", "slower", "faster and wrong"],
)
def test_another_engine_is_chosen_where_it_is_faster_and_says_the_same(
    off_by: float, seconds: list[float], engine: str, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(file: Path, *, lanes: int = 1) -> engines.Engine:
        ours = engines.onnx_runtime(file, lanes=lanes)
        return engines.Engine(
            "other", lambda pixels: [output + np.float32(off_by) for output in ours.run(pixels)]
        )

    monkeypatch.setattr(engines, "openvino", other)
    monkeypatch.setattr(engines, "_seconds", lambda *_: seconds)
    assert model.load(export).engine.name.split()[0] == engine


def test_the_version_of_a_folder_changes_with_its_files(export: Path) -> None:
    before = model.fingerprint(export)
    thresholds = json.loads((export / "thresholds.json").read_text())
    thresholds["abstain"]["confidence"] = 0.7
    (export / "thresholds.json").write_text(json.dumps(thresholds))
    assert model.fingerprint(export) != before


def test_neither_torch_nor_mlflow_is_loaded_for_a_folder(export: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from pipeline.exported import model
model.load(Path({str(export)!r}))
print(sorted({{"torch", "mlflow", "pytorch_lightning", "optuna"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sets_for_other_classes_are_refused(export: Path) -> None:
    thresholds = json.loads((export / "thresholds.json").read_text())
    thresholds["sets"]["least_probability"] = [0.2]
    (export / "thresholds.json").write_text(json.dumps(thresholds))
    with pytest.raises(FieldmarkError, match="sets do not fit 3 classes"):
        model.load(export)


def test_a_set_that_would_be_empty_holds_the_likeliest_class(export: Path) -> None:
    thresholds = json.loads((export / "thresholds.json").read_text())
    thresholds["sets"]["least_probability"] = [1.1, 1.1, 1.1]
    (export / "thresholds.json").write_text(json.dumps(thresholds))
    loaded = model.load(export)
    outputs = loaded.predict(loaded.prepare(jpeg((220, 30, 30)))[None])
    assert loaded.judge(outputs, 1).members == ["red"]
