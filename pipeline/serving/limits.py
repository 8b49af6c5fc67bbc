"""Limits on a request (bytes, media types, images) and on all requests at once."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from functools import cache

from fastapi import Request
from pydantic import Field, ValidationError, create_model
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from pipeline.config.schema import Serving
from pipeline.serving import base64_text
from pipeline.serving.answers import Images
from pipeline.serving.problems import Refusal, busy

MB = 10**6


class Admission:
    """Counts the images of requests under way, the bytes of their files and the bytes that decoding takes.

    It refuses a request beyond the limits, so no queue grows without end. Beside others, a request
    may take half of the room that they leave (dynamic thresholds, Choudhury and Hahne, IEEE/ACM ToN
    1998): so small requests get in beside large ones.
    """

    def __init__(self, max_images: int, max_bytes: int, max_decoding: int) -> None:
        self._most = {"images": max_images, "size": max_bytes, "decoding": max_decoding}
        self._in_use = dict.fromkeys(self._most, 0)

    @property
    def images(self) -> int:
        """The number of images of requests under way."""
        return self._in_use["images"]

    @contextmanager
    def request(self) -> Iterator["Share"]:
        """One request, from its first byte to its answer; raises Refusal (429) when full."""
        share = Share(self)
        try:
            share.add(images=1)
            yield share
        finally:
            for kind, amount in share.amounts.items():
                self._in_use[kind] -= amount

    def admit(self, kind: str, amount: int, already: int) -> None:
        """Add `amount` for a request that already holds `already`.

        Raises Refusal: 429 where there is no room, 413 where there never will be.
        """
        others = self._in_use[kind] - already
        room = self._most[kind] - others
        if others and already + amount > 1:
            room //= 2
        if already + amount > room:
            if kind == "decoding" and already + amount > self._most[kind]:
                raise Refusal(413, "too-large", self._too_much(already + amount))
            raise busy("the server is busy; try again shortly", 1.0)
        self._in_use[kind] += amount

    def _too_much(self, decoding: int) -> str:
        most = self._most["decoding"] / MB
        return (
            f"decoding the images of this request takes {decoding / MB:.0f} MB in all; the limit "
            f"is {most:.0f} MB, so send fewer at a time"
        )


class Share:
    """The share of one request."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.amounts = {"images": 0, "size": 0, "decoding": 0}

    def add(self, *, images: int = 0, size: int = 0, decoding: int = 0) -> None:
        """Add images, bytes of their files, or bytes that decoding takes.

        Raises Refusal (429 or 413) where there is no room.
        """
        for kind, amount in {"images": images, "size": size, "decoding": decoding}.items():
            if amount:
                self._admission.admit(kind, amount, self.amounts[kind])
                self.amounts[kind] += amount


class _InMemory(MultiPartParser):
    spool_max_size = 2**40  # images are never stored, not even in a temporary file


async def read(request: Request, share: Share, cfg: Serving) -> list[bytes]:
    """The image files in a request; raises Refusal where it is too large, too slow or has none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if (
        kind != "multipart/form-data"
        and kind not in ("application/json", "application/octet-stream")
        and not kind.startswith("image/")
    ):
        raise Refusal(
            415,
            "media-type",
            "send multipart/form-data, image/*, application/octet-stream or application/json",
        )
    body = await _body(request, share, cfg)
    if kind == "multipart/form-data":
        files = await _from_form(request, body, cfg)
    elif kind == "application/json":
        files = _from_json(body, cfg.max_images)
    else:
        files = [body]
    if not files or not all(files):
        raise Refusal(
            422,
            "no-image",
            "there is no image in the request" if not any(files) else "one of the images is empty",
        )
    if len(files) > cfg.max_images:
        raise Refusal(
            413, "too-many", f"{len(files)} images in one request; the limit is {cfg.max_images}"
        )
    share.add(images=len(files) - 1)
    return files


async def _body(request: Request, share: Share, cfg: Serving) -> bytes:
    limit = cfg.max_upload_mb * MB
    too_large = Refusal(
        413, "too-large", f"the request is larger than the limit of {cfg.max_upload_mb:g} MB"
    )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(cfg.timeout_s):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise too_large
                share.add(size=len(part))
                parts.append(part)
    except ClientDisconnect:
        raise Refusal(400, "broken-off", "the upload broke off") from None
    except TimeoutError:
        raise Refusal(
            408, "slow-upload", f"the upload took longer than {cfg.timeout_s:g} seconds"
        ) from None
    return b"".join(parts)


async def _from_form(request: Request, body: bytes, cfg: Serving) -> list[bytes]:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await _InMemory(
            request.headers, once(), max_files=cfg.max_images, max_fields=cfg.max_images
        ).parse()
        files = [
            await value.read() for _, value in form.multi_items() if isinstance(value, UploadFile)
        ]
        await form.close()
    except (MultiPartException, KeyError, ValueError, LookupError) as error:
        if "Too many" in str(error):
            raise Refusal(
                413, "too-many", f"the limit is {cfg.max_images} images in one request"
            ) from error
        raise Refusal(400, "form", "the body is not valid multipart/form-data") from error
    return files


def _from_json(body: bytes, most: int) -> list[bytes]:
    try:
        texts = _limited(most).model_validate_json(body).images
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        if first["type"] == "too_long":
            raise Refusal(413, "too-many", f"the limit is {most} images in one request") from error
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise Refusal(
            422, "invalid", f'{where}: {first["msg"]}; send {{"images": ["BASE64", ...]}}'
        ) from error
    return [_decoded(text, number, len(texts)) for number, text in enumerate(texts, start=1)]


def _decoded(text: str, number: int, n_images: int) -> bytes:
    try:
        return base64_text.decoded(text)
    except ValueError as error:
        raise Refusal(422, "base64", f"image {number} of {n_images}: {error}") from error


@cache
def _limited(most: int) -> type[Images]:
    """The schema of a body with at most so many images.

    Without the limit, validation of ten million wrong items took a minute.
    """
    return create_model(
        "Images", __base__=Images, images=(list[str], Field(min_length=1, max_length=most))
    )
