"""Whether folders that lie side by side are classes, splits, or a level above the classes.

Names and contents of the folders decide. Where they leave a doubt, a person decides, by
`class_level`.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from pipeline.sources.names import printable

WORDS = {
    "train": "train training trn traindata trainieren trainings learning lernen lern entrainement "
    "apprentissage entrenamiento entrenar aprendizaje treino treinamento addestramento allenamento "
    "apprendimento tranning traening treningowy trening uczenie trenovani oefenen egitim latih "
    "pelatihan træning trénovací تدريب التدريب εκπαίδευση אימון प्रशिक्षण huấnluyện koulutus "
    "обучение обучающая обучающий обучающие тренировка тренировочная тренировочный "
    "тренировочные навчання 学習 訓練 トレーニング 训练 训练用 学习 훈련 학습",
    "val": "تحقق التحقق επικύρωση אימות validointi val vali valid validation validate validating vld dev devel development validierung "
    "validierungs validacion validar validacao validazione convalida validatie validering "
    "walidacja walidacyjny validace dogrulama validasi валидация валидационная валидационный "
    "проверка проверочная проверочный 検証 バリデーション 验证 驗證 검증",
    "test": "اختبار الاختبار δοκιμή בדיקה परीक्षण kiểmtra testi test tests testing tst teste testes prueba pruebas testovaci testowy "
    "тест тесты тестовая тестовый тестовые тестирование テスト 試験 测试 測試 테스트",
}
DOUBTFUL = "eval evaluation evaluate holdout heldout unseen 評価 评估 評估 оценка 평가"
# The words around such a word: training_set, train_images, Trainingsdaten, 学習用データ.
AROUND = (
    "dataset datasets data set sets images image imgs img photos pictures pics samples sample "
    "frames videos clips split splits folder subset partition datensatz daten satz bilder menge "
    "conjunto dados datos imagenes imagens donnees jeu ensemble dati immagini insieme dane veri zbior "
    "выборка данные набор データセット データ セット 用 数据集 數據集 数据 數據 集 데이터셋 데이터 세트 용"
)
# Beside the same other words, as in imagesTr and imagesTs.
SHORT = {"tr": "train", "tra": "train", "ts": "test", "te": "test", "va": "val"}
PARTED = re.compile(r"(?<=[a-z])(?=[A-Z])|[\W_]+")
JOINTS = ("de", "da", "do", "di", "d", "s", "の", "的")  # conjunto de treino, Trainingsdaten
PICTURES = "images image imgs img jpegimages jpgs photos pictures rgb"
BESIDE = (
    "labels label labeltxt annotations annotation anns annots masks mask segmentation segmentations "
    "segmentationclass segmentationobject groundtruth gt boxes bboxes bbox imagesets pred preds "
    "prediction predictions results"
)
NUMBERED = (
    "set subset fold split part partition batch shard chunk group session run round block bin "
    "folder dataset data k satz teil gruppe ensemble partie groupe conjunto parte lote grupo gruppo "
    "часть набор группа 集 組 组 部 セット"
)
NO_IMAGES = (
    "txt md rst csv tsv json jsonl ndjson xml yaml yml toml ini log html pdf doc docx xls xlsx "
    "parquet npy npz mat h5 hdf5 pkl pt pth onnx py ipynb sh zip tar gz names data cache dvc"
)
HOW_TO = (
    "set `ingest.source.class_level` in params.yaml to 1 if they are the classes all the same, to 2 "
    "if the classes lie one level further down, or move elsewhere what is neither"
)


class Contents(NamedTuple):
    """The names of the folders in a folder, and whether a file in it may be an image."""

    folders: frozenset[str]
    pictures: bool


def split_of(name: str) -> str:
    """train, val or test, where the name is one in a common spelling or language; else ""."""
    return _SPLITS.get(_bare(name, _SPLITS), "")


def may_be_image(name: str) -> bool:
    """Whether a name may be an image's, by its ending, before anything is read."""
    return PurePosixPath(name).suffix.casefold().lstrip(".") not in _NO_IMAGES


def are_splits(names: Sequence[str], look: Callable[[int], Contents]) -> bool:
    """Whether each is named like a split, and there are folders below them.

    `look` returns the contents of the folder at a position.
    """
    return (
        bool(names)
        and all(map(split_of, names))
        and any(look(i).folders for i in range(len(names)))
    )


def doubt(names: Sequence[str], look: Callable[[int], Contents]) -> str:
    """Why folders that are no splits may be no classes either, or "".

    Few folders are looked into where the first hold images, as folders of classes do.
    """
    marks = [_mark(name) for name in names]
    named = [name for name, mark in zip(names, marks, strict=True) if mark]
    others = [name for name, mark in zip(names, marks, strict=True) if not mark]
    beside = f" beside {_some(others)}" if others else ""
    if len(set(marks) - {""}) > 1 and (others or any(look(i) != _EMPTY for i in range(len(names)))):
        listed = "" if others else " (labels in a list are read by `ingest: {use: listing}`)"
        return f"{_some(named)} are names of splits, not of classes{beside}{listed}"
    if others and all(_normal(name) in _ROLES for name in others):
        kinds = {_ROLES[_normal(name)] for name in others}
        if named or len(kinds) > 1:
            return f"{_some(names)} are names of splits or of kinds of files, not of classes"
    if named and others:
        within = [look(i) for i, mark in enumerate(marks) if mark]
        alone = not any(look(i).pictures for i, mark in enumerate(marks) if not mark)
        if all(len(w.folders) >= 2 - alone and not w.pictures for w in within):
            return f"{_some(named)} is the name of a split and holds folders{beside}"
    if twins := _differ_in_splits(names):
        return f"{_some(twins)} differ in the name of a split alone"
    return "" if named else _same_below(names, look)


def _differ_in_splits(names: Sequence[str]) -> list[str]:
    """Names of one or more words that are the same but for a split: seg_train and seg_test."""
    alike: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        words = [_normal(word) for word in PARTED.split(name) if word]
        for i, word in enumerate(words if len(words) > 1 else []):
            if split := _SPLITS.get(word) or SHORT.get(word, ""):
                alike.setdefault((*words[:i], "", *words[i + 1 :]), {})[split] = name
    return next((sorted(splits.values()) for splits in alike.values() if len(splits) > 1), [])


def _same_below(names: Sequence[str], look: Callable[[int], Contents]) -> str:
    within: list[frozenset[str]] = []
    for i in range(len(names)):
        contents = look(i)
        if contents.pictures:
            return ""
        within += [contents.folders] * bool(contents.folders)
    if len(names) == 1 and within and len({split_of(name) for name in within[0]} - {""}) > 1:
        return f"{names[0]} holds splits ({_some(sorted(within[0]))}); name it by `images:`"
    if len(within) < 2:
        return ""
    common = frozenset.intersection(*within)
    numbered = all(_normal(name).strip("0123456789") in _NUMBERED for name in names)
    if len(common) < 2 or (2 * len(common) < len(frozenset.union(*within)) and not numbered):
        return ""
    return f"{_some(names)} hold the same folders ({_some(sorted(common))}) and no image directly"


def _some(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(printable(name) for name in names[:most]) + more


def _mark(name: str) -> str:
    return split_of(name) or "in doubt" * (_bare(name, _DOUBTFUL) in _DOUBTFUL)


def _bare(name: str, words: dict[str, str]) -> str:
    """The word in a name, without numbers and the words that commonly surround it; else ""."""
    return _within(_normal(name), words, depth=3)


def _within(text: str, words: dict[str, str], depth: int) -> str:
    text = text.strip("0123456789")
    if text in words or not depth:
        return text if text in words else ""
    rests = (
        rest
        for around in _AROUND
        for rest in (text.removesuffix(around), text.removeprefix(around))
        if rest != text
    )
    inner = (_within(_unjoined(rest, words), words, depth - 1) for rest in rests)
    return next(filter(None, inner), "")


def _unjoined(word: str, words: dict[str, str]) -> str:
    options = [word]
    for joint in JOINTS:
        options += [word.removesuffix(joint), word.removeprefix(joint)]
    return next((option for option in options if option in words), word)


def _normal(name: str) -> str:
    """Letters and digits alone, without case, accents and width."""
    flat = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    return "".join(letter for letter in flat if letter.isalnum())


_EMPTY = Contents(frozenset(), False)
_NO_IMAGES = frozenset(NO_IMAGES.split())
_SPLITS = {_normal(word): split for split, words in WORDS.items() for word in words.split()}
_DOUBTFUL = {_normal(word): "" for word in DOUBTFUL.split()}
_AROUND = [_normal(word) for word in AROUND.split()]
_NUMBERED = {_normal(word) for word in NUMBERED.split()}
_ROLES = {
    _normal(word): kind
    for kind, words in (("pictures", PICTURES), ("beside", BESIDE))
    for word in words.split()
}
# The words that a column `split` of a listing may hold.
SPLITS = {word.casefold(): split for split, words in WORDS.items() for word in words.split()}
