"""Duplicates: found by both criteria, tied into groups that have one name."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jaxtyping import Float32, UInt8

from pipeline.labels.duplicates import MOST_PAIRS, Pairs, groups, near_duplicates, perceptual_hash


def blobs(seed: int) -> UInt8[np.ndarray, "64 64 3"]:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_CUBIC), np.uint8)


def ties(*ends: tuple[int, int]) -> Pairs:
    both = np.array(ends, np.int64).reshape(-1, 2)
    return Pairs(both[:, 0], both[:, 1], np.ones(len(both), np.float32))


def found(pairs: Pairs) -> list[tuple[int, int]]:
    return [*zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)]


def distance(first: UInt8[np.ndarray, "8"], second: UInt8[np.ndarray, "8"]) -> int:
    return int(np.bitwise_count(first ^ second).sum())


def test_the_hash_survives_compression_and_scaling() -> None:
    pixels = blobs(0)
    jpeg = cv2.imdecode(
        cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR
    )
    scaled = cv2.resize(pixels, (150, 130), interpolation=cv2.INTER_CUBIC)
    assert distance(perceptual_hash(pixels), perceptual_hash(np.asarray(jpeg, np.uint8))) <= 4
    assert distance(perceptual_hash(pixels), perceptual_hash(np.asarray(scaled, np.uint8))) <= 4


def test_the_hash_tells_different_images_apart() -> None:
    assert distance(perceptual_hash(blobs(0)), perceptual_hash(blobs(1))) > 16


@st.composite
def images(draw: st.DrawFn) -> tuple[UInt8[np.ndarray, "n 8"], Float32[np.ndarray, "n 4"]]:
    n = draw(st.integers(0, 12))
    hashes = draw(arrays(np.uint8, (n, 8), elements=st.sampled_from([0, 1, 3, 255])))
    embeddings = draw(arrays(np.float32, (n, 4), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0])))
    return hashes, embeddings


@given(
    images=images(),
    max_hamming=st.integers(0, 20),
    min_cosine=st.sampled_from([-0.503, 0.33, 0.83, 0.97]),
)
@settings(max_examples=40)
def test_the_pairs_are_those_of_comparing_all_with_all(
    images: tuple[UInt8[np.ndarray, "n 8"], Float32[np.ndarray, "n 4"]],
    max_hamming: int,
    min_cosine: float,
) -> None:
    hashes, embeddings = images
    lengths = np.linalg.norm(embeddings, axis=1) + 1e-12
    cosines = (embeddings @ embeddings.T) / np.outer(lengths, lengths)
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(axis=2)
    expected = np.argwhere(np.triu((apart <= max_hamming) & (cosines >= min_cosine), 1))
    pairs = near_duplicates(hashes, embeddings, max_hamming=max_hamming, min_cosine=min_cosine)
    assert found(pairs) == [tuple(pair) for pair in expected.tolist()]


def test_either_criterion_alone_is_not_enough() -> None:
    hashes = np.zeros((3, 8), np.uint8)
    hashes[2] = 255
    embeddings = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    assert found(near_duplicates(hashes, embeddings, max_hamming=4, min_cosine=0.9)) == []


def test_more_images_than_are_looked_up_at_once_are_all_compared() -> None:
    hashes = np.random.default_rng(0).integers(0, 256, (600, 8), np.uint8)
    hashes[599] = hashes[3]
    embeddings = np.ones((600, 2), np.float32)
    pairs = near_duplicates(hashes, embeddings, max_hamming=2, min_cosine=0.9)
    assert found(pairs) == [(3, 599)]
    assert pairs.cosine[0] == pytest.approx(1.0)


def test_the_limit_is_for_each_image_and_not_for_all_of_them() -> None:
    pairs = near_duplicates(
        np.repeat(np.array([0, 255], np.uint8), 30)[:, None].repeat(8, 1),
        np.ones((60, 2)),
        max_hamming=4,
        min_cosine=0.9,
    )
    assert len(pairs.first) == 2 * 30 * 29 // 2 > MOST_PAIRS


def test_a_thousand_blank_images_are_one_group_and_not_half_a_million_pairs() -> None:
    pairs = near_duplicates(
        np.zeros((1000, 8), np.uint8), np.ones((1000, 2), np.float16), max_hamming=4, min_cosine=0.9
    )
    assert np.bincount(pairs.first).max() == MOST_PAIRS
    assert len(set(groups(1000, pairs, [""] * 1000, [str(i) for i in range(1000)]))) == 1


def test_ties_are_passed_on_through_pairs_and_given_groups() -> None:
    named = groups(6, ties((0, 1), (4, 2)), ["", "g", "g", "", "", "h"], list("fedcba"))
    assert named == ["b", "b", "b", "c", "b", "a"]


def test_an_empty_given_group_ties_nothing() -> None:
    assert groups(3, ties(), ["", "", ""], list("abc")) == list("abc")


def test_no_images_are_in_no_groups() -> None:
    assert groups(0, ties(), [], []) == []


def test_groups_need_a_given_group_and_an_id_for_each_image() -> None:
    with pytest.raises(ValueError, match="2 images, 1 given groups, 2 ids"):
        groups(2, ties(), [""], ["a", "b"])


@given(
    given_groups=st.lists(st.sampled_from(["", "g", "h", "i"]), min_size=1, max_size=15),
    ends=st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=8),
)
@settings(max_examples=50)
def test_all_that_is_tied_has_one_name_which_is_an_id_of_its_own(
    given_groups: list[str], ends: list[tuple[int, int]]
) -> None:
    n = len(given_groups)
    ids = [f"{(7 * i) % 16:02}" for i in range(n)]
    pairs = [(a, b) for a, b in ends if max(a, b) < n]
    named = groups(n, ties(*pairs), given_groups, ids)
    assert all(named[a] == named[b] for a, b in pairs)
    assert all(
        len({named[i] for i in range(n) if given_groups[i] == group}) <= 1 for group in "ghi"
    )
    assert all(name == min(ids[i] for i in range(n) if named[i] == name) for name in named)
