"""Networks of timm and torchvision by name, with weights from the hub, a package or a file.

Raises FieldmarkError where name, stages or weights cannot be had; no code in a file is ever run.
"""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import FieldmarkError, one_line
from pipeline.features.weights import Unavailable, file_of

STAGE_PX = (
    112,
    56,
    28,
    14,
    7,
)  # sides of the maps of an image of 224 pixels; others are attention's


def timm_body(
    name: str, weights: str, taps: int | list[int | str], input_px: int | None = None
) -> nn.Module:
    """A network of timm with its weights, cut behind the tapped stages; made for input_px, where it
    takes one size only.
    """
    import timm

    _check_name("timm", name, [*timm.list_models(), *timm.list_pretrained()])
    size: dict[str, Any] = (
        {"img_size": input_px} if input_px and _fixed(timm.get_pretrained_cfg(name)) else {}
    )
    if weights == "hub":
        body: nn.Module = _timm_from_hub(name, size)
    else:
        body = timm.create_model(name, num_classes=1000, **size)
    if file := file_of(weights):
        _load(body, file, name)
    try:
        body.prune_intermediate_layers(taps, prune_head=True)  # type: ignore[operator]
    except (AssertionError, AttributeError, ValueError) as error:
        raise FieldmarkError(
            f"extractor.taps: {name} has no stages {taps} ({error}); give a number, such as 3 "
            f"for the last 3"
        ) from error
    return body


def _timm_from_hub(name: str, size: dict[str, Any]) -> nn.Module:
    import timm
    from huggingface_hub import constants

    _ask_hub(name)
    with _downloading(name, constants.HF_HUB_CACHE, "HF_HOME"):
        body: nn.Module = timm.create_model(name, pretrained=True, num_classes=0, **size)
    return body


def _ask_hub(name: str) -> None:
    """Where nobody answers, only what was downloaded before is looked at: the hub's client would
    try for 47 s.
    """
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.utils import http_backoff  # type: ignore[attr-defined]  # exported when it is asked for

    print(f"asking {constants.ENDPOINT} for the weights of {name}", flush=True)
    if constants.is_offline_mode():
        return
    nobody = (httpx2.ConnectError, httpx2.ProxyError)
    try:
        http_backoff(
            "HEAD",
            constants.ENDPOINT,
            max_retries=2,
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
            retry_on_exceptions=nobody,
            retry_on_status_codes=(),
        )
    except nobody:
        constants.HF_HUB_OFFLINE = True
    except httpx2.TransportError:  # slow, but somebody is there
        pass


def timm_fixed_px(body: nn.Module) -> int | None:
    """The side of the images of a network that takes one size only, such as most transformers."""
    described: dict[str, Any] = body.pretrained_cfg  # type: ignore[assignment]
    return int(described["input_size"][-1]) if _fixed(described) else None


def _fixed(described: Any) -> bool:
    asked = described if isinstance(described, dict) else vars(described or object())
    return bool(asked.get("fixed_input_size"))


def timm_statistics(body: nn.Module) -> tuple[list[float], list[float], str]:
    """Mean and standard deviation that its weights were trained with, 0 to 255, and the
    interpolation.
    """
    config: dict[str, list[float]] = body.pretrained_cfg  # type: ignore[assignment]
    mean, std = ([255 * x for x in config[key]] for key in ("mean", "std"))
    return mean, std, str(config["interpolation"])


def torchvision_statistics(name: str) -> tuple[list[float], list[float], str]:
    """The same for torchvision."""
    from torchvision.models import get_model_weights

    config = get_model_weights(name).DEFAULT.transforms()
    mean, std = ([255 * x for x in part] for part in (config.mean, config.std))
    return mean, std, str(config.interpolation.value)


def torchvision_body(name: str, weights: str, taps: int | list[int | str]) -> nn.Module:
    """A network of torchvision with its weights, that answers with the tapped stages."""
    from torchvision.models import get_model, list_models
    from torchvision.models.feature_extraction import create_feature_extractor

    _check_name("torchvision", name, list_models())
    if weights == "hub":
        print(f"asking download.pytorch.org for the weights of {name}", flush=True)
        with _downloading(name, torch.hub.get_dir(), "TORCH_HOME"):
            body = get_model(name, weights="DEFAULT")
    else:
        body = get_model(name, weights=None)
    if file := file_of(weights):
        _load(body, file, name)
    nodes = _last_stages(body, taps, name) if isinstance(taps, int) else [str(tap) for tap in taps]
    try:
        tapped: nn.Module = create_feature_extractor(body, nodes)
    except ValueError as error:
        raise FieldmarkError(f"extractor.taps: {name}: {error}") from error
    return tapped


def _last_stages(body: nn.Module, n: int, name: str) -> list[str]:
    """The last node at each of the n lowest resolutions, the finest first; maps are square here,
    (n, h, w, c) is not.
    """
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    nodes = get_graph_node_names(body)[1]
    with torch.inference_mode():
        outputs = create_feature_extractor(body.eval(), nodes)(torch.zeros(2, 3, 224, 224))
    maps = {
        node: m.shape
        for node, m in outputs.items()
        if isinstance(m, Tensor) and m.ndim == 4 and len(m) == 2
    }
    stages = {
        shape[2]: node
        for node, shape in maps.items()
        if shape[2] == shape[3] and shape[2] in STAGE_PX
    }
    if len(stages) < n:
        raise FieldmarkError(
            f"extractor.taps: {name} has {len(stages)} stages of feature maps, not {n}; choose "
            f"a timm network"
        )
    return list(stages.values())[-n:]


def _check_name(library: str, name: str, known: list[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=8)
        raise FieldmarkError(
            f"{library} has no model {name!r}; near it: {', '.join(near) or 'nothing'}"
        )


@contextmanager
def _downloading(name: str, folder: str, variable: str) -> Iterator[None]:
    """A network, a proxy, a server, a full disk and a file that arrived damaged raise nearly every
    type there is.
    """
    try:
        yield
    except Exception as error:
        raise Unavailable(
            f"the weights of {name} could not be downloaded into {folder} "
            f"({type(error).__name__}: {one_line(error)}); try again "
            f"when that is put right (what is damaged, delete there; {variable} names another "
            f"place), or set extractor.weights to a "
            "local .safetensors or .pth file, or to `random` to train without them"
        ) from error


def _load(body: nn.Module, file: Path, name: str) -> None:
    """By name, or in order where another port of the same network uses other names: all shapes must
    agree.
    """
    tensors, wanted = _tensors(file), body.state_dict()
    if wanted.keys() == tensors.keys():
        tensors = {key: tensors[key] for key in wanted}
    if [v.shape for v in tensors.values()] != [v.shape for v in wanted.values()]:
        raise FieldmarkError(
            f"{file.name} does not hold the weights of {name}: the names or shapes of its "
            f"tensors differ"
        )
    body.load_state_dict(dict(zip(wanted, tensors.values(), strict=True)))


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        tensors = torch.load(file, map_location="cpu", weights_only=True)
        tensors = tensors.get("state_dict", tensors.get("model", tensors))
        return {key: value for key, value in tensors.items() if isinstance(value, Tensor)}
    except Exception as error:  # a damaged or hostile file raises nearly every type there is
        raise FieldmarkError(
            f"extractor.weights: {file.name} cannot be read ({type(error).__name__}): it is "
            f"damaged, or holds more than tensors, "
            "and code in a file is never run; save the state_dict of the network alone, best "
            "as .safetensors"
        ) from error
