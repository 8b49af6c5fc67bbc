import dataclasses
import hashlib
import os
import pickle
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants
import huggingface_hub.utils._http
import numpy as np
import pytest
import timm
import torch
import torchvision
from huggingface_hub import file_download
from safetensors.torch import save_file
from torch import Tensor, nn
from toys import TIMM, draw

from pipeline import FieldmarkError
from pipeline.features.backbones import Pretrained, SmallCNN

NAME = "test_resnet"
IMAGES = torch.from_numpy(draw([0, 1, 2], px=32))


def pretrained(**changes: Any) -> Pretrained:
    settings = {**TIMM, **changes}
    settings.pop("_target_")
    return Pretrained(**settings).eval()


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A network whose weights nobody else has, also in the buffers of its batch normalisation."""
    torch.manual_seed(7)
    network: nn.Module = timm.create_model(NAME)
    network.train()(torch.rand(4, 3, 32, 32))
    return network.eval()


def as_safetensors(network: nn.Module, folder: Path) -> Path:
    save_file(network.state_dict(), folder / "weights.safetensors")
    return folder / "weights.safetensors"


def as_pth(network: nn.Module, folder: Path) -> Path:
    torch.save(network.state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


def as_checkpoint(network: nn.Module, folder: Path) -> Path:
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, folder / "weights.pth")
    return folder / "weights.pth"


def as_another_port(network: nn.Module, folder: Path) -> Path:
    torch.save(
        {f"model.{key}": value for key, value in network.state_dict().items()},
        folder / "weights.pth",
    )
    return folder / "weights.pth"


@pytest.mark.parametrize("write", [as_safetensors, as_pth, as_checkpoint, as_another_port])
def test_weights_are_read_from_a_file(
    trained: nn.Module, tmp_path: Path, write: Callable[[nn.Module, Path], Path]
) -> None:
    features = pretrained(weights=str(write(trained, tmp_path)), taps=[1], pools=["avg"])
    pixels = (IMAGES.permute(0, 3, 1, 2).float() - 127.5) / 127.5
    with torch.inference_mode():
        (own,) = trained.forward_intermediates(pixels, indices=[1], intermediates_only=True)
        torch.testing.assert_close(features(IMAGES), own.mean((2, 3)))


def test_each_map_is_pooled_in_each_way() -> None:
    features = pretrained(taps=[0, 2], pools=["avg", "max"])
    with torch.inference_mode():
        pixels = (IMAGES.permute(0, 3, 1, 2).float() - 127.5) / 127.5
        fine, coarse = features.maps(pixels)
        pooled = torch.cat(
            [fine.mean((2, 3)), fine.amax((2, 3)), coarse.mean((2, 3)), coarse.amax((2, 3))], dim=1
        )
        torch.testing.assert_close(features(IMAGES), pooled)
    assert fine.shape[2] > coarse.shape[2]


def test_normalisation_is_part_of_it(trained: nn.Module, tmp_path: Path) -> None:
    """On the 0 to 255 scale: twice the spread of twice the contrast is the same to the network."""
    file = str(as_safetensors(trained, tmp_path))
    plain = pretrained(weights=file, mean=[60.0] * 3, std=[30.0] * 3)
    spread = pretrained(weights=file, mean=[120.0] * 3, std=[60.0] * 3)
    dark = IMAGES // 2
    with torch.inference_mode():
        torch.testing.assert_close(plain(dark), spread(dark * 2), atol=1e-4, rtol=1e-4)


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


def evil(folder: Path) -> None:
    torch.save({"conv1.weight": Evil(folder / "mark")}, folder / "weights.pth")


def evil_pickle(folder: Path) -> None:
    (folder / "weights.pth").write_bytes(pickle.dumps(Evil(folder / "mark")))


@pytest.mark.parametrize("write", [evil, evil_pickle])
def test_code_in_a_file_is_never_run(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    with pytest.raises(
        FieldmarkError, match=r"weights.pth cannot be read.*never run.*\.safetensors"
    ):
        pretrained(weights=str(tmp_path / "weights.pth"))
    assert not (tmp_path / "mark").exists()


def whole_network(trained: nn.Module, folder: Path) -> Path:
    torch.save(trained, folder / "weights.pth")
    return folder / "weights.pth"


def cut(trained: nn.Module, folder: Path) -> Path:
    whole = as_pth(trained, folder).read_bytes()
    (folder / "weights.pth").write_bytes(whole[: len(whole) // 2])
    return folder / "weights.pth"


def cut_safetensors(trained: nn.Module, folder: Path) -> Path:
    whole = as_safetensors(trained, folder).read_bytes()
    (folder / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
    return folder / "weights.safetensors"


def empty(trained: nn.Module, folder: Path) -> Path:
    (folder / "weights.pth").touch()
    return folder / "weights.pth"


def lone_tensor(trained: nn.Module, folder: Path) -> Path:
    torch.save(torch.zeros(3), folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize("write", [whole_network, cut, cut_safetensors, empty, lone_tensor])
def test_a_damaged_file_says_what_to_do(
    trained: nn.Module, tmp_path: Path, write: Callable[[nn.Module, Path], Path]
) -> None:
    with pytest.raises(
        FieldmarkError, match=r"extractor.weights: weights\.\w+ cannot be read.*save the state_dict"
    ):
        pretrained(weights=str(write(trained, tmp_path)))


def other_network() -> dict[str, Any]:
    return dict(timm.create_model("test_efficientnet").state_dict())


def deeper_network() -> dict[str, Any]:
    weights = timm.create_model(NAME).state_dict()
    return {
        **weights,
        **{
            key.replace("layer4", "layer5"): value
            for key, value in weights.items()
            if "layer4" in key
        },
    }


def other_classes() -> dict[str, Any]:
    return dict(timm.create_model(NAME, num_classes=10).state_dict())


def no_weights() -> dict[str, Any]:
    return {"epoch": 3}


@pytest.mark.parametrize("weights", [other_network, deeper_network, other_classes, no_weights])
def test_weights_of_another_network_are_refused(
    tmp_path: Path, weights: Callable[[], dict[str, Any]]
) -> None:
    torch.save(weights(), tmp_path / "weights.pth")
    with pytest.raises(
        FieldmarkError, match="weights.pth does not hold the weights of test_resnet"
    ):
        pretrained(weights=str(tmp_path / "weights.pth"))


def test_a_package_without_weights_is_refused() -> None:
    with pytest.raises(FieldmarkError, match="the package numpy holds 0 weights files"):
        pretrained(weights="numpy")


def test_neither_file_nor_package_says_what_can_be_written() -> None:
    with pytest.raises(
        FieldmarkError, match="'no-such-package' is neither a file nor .*hub.*random"
    ):
        pretrained(weights="no-such-package")


@pytest.mark.parametrize(
    ("library", "name", "near"),
    [
        ("timm", "resnet9", "resnet"),
        ("timm", "efficentnet_b0", "efficientnet_b0"),
        ("timm", "resnet50.a1_in2k", "resnet50.a1_in1k"),
        ("torchvision", "resnet19", "resnet18"),
        ("torchvision", "mobilenet_v3", "mobilenet_v3_small"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(library: str, name: str, near: str) -> None:
    with pytest.raises(FieldmarkError, match=f"{library} has no model '{name}'; near it: .*{near}"):
        pretrained(library=library, name=name)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub, and nothing that was downloaded before."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("library", "name", "tap"),
    [("timm", "resnet18", 1), ("torchvision", "squeezenet1_1", "features")],
)
@pytest.mark.usefixtures("offline")
def test_a_hub_out_of_reach_is_an_error_and_never_random_weights(
    library: str, name: str, tap: int | str
) -> None:
    with pytest.raises(
        FieldmarkError, match=f"weights of {name} could not be downloaded.*`random`"
    ):
        pretrained(library=library, name=name, weights="hub", taps=[tap])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], list[float]]:
    """Puts the hub at a port of this machine; from then on what the hub's client waits between its
    tries is only noted.
    """

    def at(port: int) -> list[float]:
        waits: list[float] = []
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        path = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            f"http://127.0.0.1:{port}{path}",
        )
        monkeypatch.setattr(
            huggingface_hub.utils._http, "time", SimpleNamespace(sleep=waits.append, time=time.time)
        )
        return waits

    return at


def test_a_machine_without_a_network_hears_it_at_once(
    hub: Callable[[int], list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    waits = hub(9)
    with pytest.raises(
        FieldmarkError, match=f"weights of {NAME} could not be downloaded.*`random`"
    ):
        pretrained(weights="hub")
    assert sum(waits) < 5
    assert f"asking http://127.0.0.1:9 for the weights of {NAME}" in capsys.readouterr().out


def test_without_a_network_what_was_downloaded_before_is_used(
    hub: Callable[[int], list[float]], tmp_path: Path, trained: nn.Module
) -> None:
    repository = (
        tmp_path
        / "hub"
        / f"models--timm--{timm.models.get_pretrained_cfg(NAME).hf_hub_id.partition('/')[2]}"
    )
    kept = repository / "snapshots" / ("0" * 40) / "model.safetensors"
    kept.parent.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    save_file(trained.state_dict(), kept)
    hub(9)
    with torch.inference_mode():
        assert torch.equal(pretrained(weights="hub")(IMAGES), pretrained(weights=str(kept))(IMAGES))


class Answering(BaseHTTPRequestHandler):
    """Gives one file as the hub and download.pytorch.org do; `fault` says how that goes wrong."""

    protocol_version = "HTTP/1.1"
    body, fault = b"", ""

    def do_HEAD(self) -> None:
        asked = self.path.endswith((".safetensors", ".pth"))
        known = (
            {"ETag": f'"{hashlib.sha256(self.body).hexdigest()}"', "X-Repo-Commit": "0" * 40}
            if asked
            else {}
        )
        error = {
            "missing": (404, {"X-Error-Code": "RepoNotFound"}),
            "gated": (401, {"X-Error-Code": "GatedRepo"}),
        }
        status, headers = error.get(self.fault, (200, known)) if asked else (404, known)
        self.send_response(status)
        for key, value in {
            **headers,
            "Content-Length": str(len(self.body) if status == 200 else 0),
        }.items():
            self.send_header(key, value)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        if self.fault == "cut":
            self.wfile.write(self.body[: len(self.body) // 2])
            self.close_connection = True
        elif not self.fault or self.fault == "altered":
            self.wfile.write(bytes(len(self.body)) if self.fault else self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def download(
    hub: Callable[[int], list[float]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[str, str], Pretrained]]:
    """(library, fault) -> the smallest network of the library, with the weights that a server of
    this machine has for it.
    """
    weights = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(
        file_download, "time", SimpleNamespace(sleep=lambda _: None, time=time.time)
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        hub(server.server_port)

        def had(library: str, fault: str) -> Pretrained:
            torch.manual_seed(7)
            how: dict[str, Any] = {}
            file = as_safetensors(timm.create_model(NAME), tmp_path)
            if library == "torchvision":
                how = {"library": library, "name": "squeezenet1_1", "taps": ["features"]}
                file = as_pth(torchvision.models.squeezenet1_1(), tmp_path)
                url = f"http://127.0.0.1:{server.server_port}/squeezenet1_1-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
                monkeypatch.setattr(weights, "_value_", dataclasses.replace(weights.value, url=url))
            Answering.body, Answering.fault = file.read_bytes(), fault
            network = pretrained(weights="hub", **how)
            assert torch.equal(network(IMAGES), pretrained(weights=str(file), **how)(IMAGES))
            return network

        yield had
        server.shutdown()


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_weights_are_downloaded_also_after_a_download_was_cut(
    download: Callable[[str, str], Pretrained], library: str
) -> None:
    with pytest.raises(FieldmarkError):
        download(library, "cut")
    download(library, "")


@pytest.mark.parametrize(
    ("library", "fault", "reason"),
    [
        ("timm", "cut", "peer closed connection"),
        ("timm", "altered", "SafetensorError"),
        ("timm", "missing", "404.*Repository Not Found"),
        ("timm", "gated", "401.*gated repo"),
        ("torchvision", "cut", "invalid hash value"),
        ("torchvision", "altered", "invalid hash value"),
        ("torchvision", "missing", "HTTP Error 404"),
    ],
)
def test_a_download_that_fails_says_why_and_what_to_do(
    download: Callable[[str, str], Pretrained], library: str, fault: str, reason: str
) -> None:
    with pytest.raises(
        FieldmarkError,
        match=f"weights of .* could not be downloaded into .*{reason}.*extractor.weights.*`random`",
    ):
        download(library, fault)


def test_a_network_without_published_weights_says_so() -> None:
    with pytest.raises(FieldmarkError, match="No pretrained weights exist for test_mambaout"):
        pretrained(name="test_mambaout", weights="hub")


def test_random_weights_follow_the_seed() -> None:
    def made(seed: int) -> Tensor:
        torch.manual_seed(seed)
        with torch.inference_mode():
            return pretrained()(IMAGES)

    assert torch.equal(made(0), made(0))
    assert not torch.equal(made(0), made(1))


def test_torchvision_networks_are_tapped_at_their_nodes(tmp_path: Path) -> None:
    whole = torchvision.models.get_model("squeezenet1_1", weights=None).eval()
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    features = pretrained(
        library="torchvision",
        name="squeezenet1_1",
        weights=str(tmp_path / "weights.safetensors"),
        taps=["features.3", "features.6"],
        pools=["max"],
    )
    pixels = (IMAGES.permute(0, 3, 1, 2).float() - 127.5) / 127.5
    with torch.inference_mode():
        own = [whole.features[: i + 1](pixels).amax((2, 3)) for i in (3, 6)]
        torch.testing.assert_close(features(IMAGES), torch.cat(own, dim=1))


@pytest.mark.parametrize("px", [8, 28, 100])
@pytest.mark.parametrize(
    "make",
    [pretrained, lambda: SmallCNN(input_px=24, width=4, blocks=4).eval()],
    ids=["timm", "small"],
)
def test_images_of_any_size_give_as_many_features(make: Callable[[], nn.Module], px: int) -> None:
    module = make()
    with torch.inference_mode():
        sizes = {module(torch.from_numpy(draw([0, 1], px=side))).shape for side in (32, px)}
    assert len(sizes) == 1


def test_a_network_made_for_one_size_says_so() -> None:
    network = Pretrained("vit_b_32", "torchvision", "random", ["encoder"])
    with pytest.raises(FieldmarkError, match="takes no images of 64 px: .*224.*preprocess.size_px"):
        network(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))


def test_the_small_network_sees_large_images_averaged_down() -> None:
    network = SmallCNN(input_px=16, width=4, blocks=2).eval()
    small = draw([0, 1], px=16)
    large = small.repeat(3, axis=1).repeat(3, axis=2)
    with torch.inference_mode():
        torch.testing.assert_close(
            network(torch.from_numpy(large)), network(torch.from_numpy(small)), atol=1e-5, rtol=1e-5
        )


def test_its_width_doubles_with_each_block() -> None:
    found = SmallCNN(input_px=16, width=6, blocks=3).eval()(torch.from_numpy(draw([0])))
    assert found.shape == (1, 2 * 6 * 4)
    assert np.isfinite(found.detach().numpy()).all()
