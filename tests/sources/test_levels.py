"""Folders that are no classes are not taken for classes, and classes with odd names are."""

import shutil
from pathlib import Path

import pytest

from pipeline import FieldmarkError
from pipeline.sources import Item, Skipped, archive, folder
from pipeline.sources.levels import split_of

SPELLINGS = {
    "train": "train TRAIN Training training_set train-images 01_train train2017 trn Trainingsdaten "
    "entraînement Apprentissage conjunto_de_entrenamiento treino Treinamento addestramento обучение "
    "Обучающая_выборка 学習 学習用データ 訓練データ トレーニング 训练 训练集 훈련",
    "val": "val Valid validation VALIDATION_SET dev val2017 Validierung validación Validação "
    "validazione валидация 検証 検証用 验证集 검증",
    "test": "test Testing tests TEST_DATA tst Testdaten prueba teste тест Тестовая テスト テスト用 "
    "测试集 테스트",
}


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def labels(root: Path, class_level: int | None = None) -> set[tuple[str, str]]:
    """Class and split of everything that is read."""
    entries = folder.read(images=root, class_level=class_level)
    return {(entry.label, entry.given_split) for entry in entries if isinstance(entry, Item)}


@pytest.mark.parametrize(
    ("name", "split"),
    [(name, split) for split, names in SPELLINGS.items() for name in names.split()],
)
def test_the_word_for_a_split_is_known_in_its_spellings(name: str, split: str) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize(
    "name",
    ["trains", "tram", "detest", "contest", "latest", "invalid", "validator", "devil", "1", "data"],
)
def test_a_word_that_only_contains_one_is_no_split(name: str) -> None:
    assert split_of(name) == ""


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training", "Testing"), ("train_set", "test_set"), ("学習", "テスト"), ("Обучение", "Тест")],
)
def test_splits_in_other_words_are_read_as_splits(tmp_path: Path, train: str, test: str) -> None:
    make(tmp_path, f"{train}/cat/1.jpg", f"{train}/dog/2.jpg", f"{test}/cat/3.jpg")
    assert labels(tmp_path) == {("cat", "train"), ("dog", "train"), ("cat", "test")}


IN_DOUBT = {
    "annotations beside splits": ["train/a/1.jpg", "val/a/2.jpg", "test/a/3.jpg", "annotations/1.xml"],
    "predictions beside splits": ["train/a/1.jpg", "test/a/3.jpg", "pred/1.jpg"],
    "predictions beside one split": ["train/1.jpg", "pred/1.jpg"],
    "labels beside one split": ["training/a/1.jpg", "labels/1.txt"],
    "splits of images that a list labels": ["train/1.jpg", "test/2.jpg", "train.csv"],
    "a split that may be either": ["train/a/1.jpg", "train/b/2.jpg", "eval/a/3.jpg"],
    "one split and what holds no image": ["train/a/1.jpg", "train/b/2.jpg", "docs/readme.txt"],
    "one split that holds classes": ["train/a/1.jpg", "train/b/2.jpg", "extra/3.jpg"],
    "numbered sets": ["set1/a/1.jpg", "set1/b/2.jpg", "set2/a/3.jpg", "set2/b/4.jpg", "set2/c/5.jpg"],
    "folds": [f"fold{k}/{label}/1.jpg" for k in range(5) for label in "ab"],
    "cameras": ["left/a/1.jpg", "left/b/2.jpg", "right/a/3.jpg", "right/b/4.jpg", "about.txt"],
    "splits below the classes": ["a/train/1.jpg", "a/test/2.jpg", "b/train/3.jpg", "b/test/4.jpg"],
    "images and their masks": ["images/1.jpg", "masks/1.png"],
    "splits below images and labels": ["images/train/1.jpg", "images/val/2.jpg", "labels/train/1.txt"],
    "sets below a split": [f"train/set{k}/{label}/1.jpg" for k in (1, 2) for label in "ab"],
    "images and labels below a split": ["train/images/1.jpg", "train/labels/1.txt", "test/images/2.jpg"],
    "one folder around the splits": ["photos/train/a/1.jpg", "photos/test/a/2.jpg"],
}  # fmt: skip


@pytest.mark.parametrize("names", IN_DOUBT.values(), ids=IN_DOUBT.keys())
def test_folders_that_may_be_no_classes_are_asked_about(tmp_path: Path, names: list[str]) -> None:
    make(tmp_path, *names)
    with pytest.raises(
        FieldmarkError, match=r"set `ingest.source.class_level`.* to 1 .*to 2"
    ) as refusal:
        list(folder.read(images=tmp_path))
    assert "\n" not in str(refusal.value) and str(tmp_path) in str(refusal.value)


CLASSES = {
    "a class called test": ["test/1.jpg", "control/2.jpg"],
    "a class called valid": ["valid/1.jpg", "invalid/2.jpg"],
    "a class called train beside others": ["train/1.jpg", "tram/2.jpg", "bus/3.jpg"],
    "bursts in a class called train": ["train/burst 7/1.jpg", "tram/2.jpg"],
    "the same folders below, and images": ["cat/in/1.jpg", "cat/out/2.jpg", "dog/in/3.jpg", "dog/4.jpg"],
    "one folder of the same name below each": ["cat/images/1.jpg", "dog/images/2.jpg"],
    "patients": ["benign/p1/1.jpg", "benign/p2/2.jpg", "malignant/p3/3.jpg", "malignant/p4/4.jpg"],
    "digits": [f"{digit}/1.png" for digit in range(10)],
    "numbered classes": ["set1/1.jpg", "set2/2.jpg"],
    "photos and drawings": ["photos/1.jpg", "drawings/2.jpg"],
}  # fmt: skip


@pytest.mark.parametrize("names", CLASSES.values(), ids=CLASSES.keys())
def test_classes_whose_names_are_like_those_of_splits_stay_classes(
    tmp_path: Path, names: list[str]
) -> None:
    make(tmp_path, *names)
    assert labels(tmp_path) == {(name.partition("/")[0], "") for name in names}


@pytest.mark.parametrize("level", [1, 2])
def test_a_person_decides_where_the_classes_lie(tmp_path: Path, level: int) -> None:
    make(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "set1/a/3.jpg", "set1/b/4.jpg", "pred/x.txt")
    expected = {
        1: {("train", ""), ("set1", ""), ("pred", "")},
        2: {("a", "train"), ("b", "train"), ("a", ""), ("b", "")},
    }
    assert labels(tmp_path, class_level=level) == expected[level]


def test_no_third_level_is_known(tmp_path: Path) -> None:
    with pytest.raises(FieldmarkError, match="class_level: 1, 2 or null, not 3"):
        list(folder.read(images=make(tmp_path, "a/1.jpg"), class_level=3))


def test_an_archive_is_asked_about_as_its_folder_would_be(tmp_path: Path) -> None:
    make(tmp_path / "in", *IN_DOUBT["cameras"])
    packed = shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "in")
    limits = {"max_member_megabytes": 1.0, "max_ratio": 100.0}
    with pytest.raises(FieldmarkError, match="hold the same folders"):
        list(archive.read(images=packed, **limits))
    entries = list(archive.read(images=packed, class_level=2, **limits))
    assert {e.label for e in entries if isinstance(e, Item)} == {"a", "b"}
    assert [e.name for e in entries if isinstance(e, Skipped)] == ["about.txt"]


@pytest.mark.parametrize(
    "names",
    [
        ("seg_train", "seg_test", "seg_pred"),
        ("imagesTr", "imagesTs", "labelsTr"),
        ("DIV2K_train_HR", "DIV2K_valid_HR"),
        ("x_train", "x_test"),
        ("train_v2", "test_v2"),
        ("train - Copy", "test - Copy"),
        ("cropped-train", "cropped-val", "cropped-test"),
        ("تدريب", "اختبار"),
        ("huấn luyện", "kiểm tra"),
    ],
)
def test_flat_folders_that_differ_in_a_split_alone_are_no_classes(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    make(tmp_path, *(f"{name}/{number}.jpg" for name in names for number in (1, 2)))
    with pytest.raises(FieldmarkError, match="class_level"):
        labels(tmp_path)
    assert {label for label, _ in labels(tmp_path, class_level=1)} == {*names}


@pytest.mark.parametrize(
    "names",
    [
        ("test tube", "beaker"),
        ("training shoe", "tennis shoe"),
        ("tr", "de", "va"),
        ("test a", "a"),
    ],
)
def test_classes_with_such_a_word_in_their_names_stay_classes(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    make(tmp_path, *(f"{name}/1.jpg" for name in names))
    assert {label for label, _ in labels(tmp_path)} == {*names}
