"""Initial weights under each policy, with the hub in and out of reach; no test asks the network."""

from __future__ import annotations

import logging
import socket
import urllib.request
from collections.abc import Iterator
from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import nn

from coreml_pareto.spaces import weights
from coreml_pareto.spaces.candidate import Network
from coreml_pareto.spaces.errors import UserError
from coreml_pareto.spaces.families import build
from coreml_pareto.spaces.weights import RANDOM, check_policy, initialise, state_digest


def network(backbone: str = "mobilenetv3_small", family: str = "mobilenet", **knobs: Any) -> Network:
    return Network(**{"family": family, "backbone": backbone, "resolution": 32, "classes": 3, **knobs})


def same(one: nn.Module, two: nn.Module) -> bool:
    return state_digest(one.state_dict()) == state_digest(two.state_dict())


class Hub:
    """Stands for the hub: gives a module with known weights, or raises what its clients raise when out of reach."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.offline, self.built = error, False, list[str]()

    @property
    def calls(self) -> int:
        return len(self.built)

    def build(self, chosen: Network, *, imagenet: bool = False) -> nn.Module:
        module = build(chosen)
        if imagenet:
            from huggingface_hub import constants

            self.built.append(chosen.backbone)
            self.offline = bool(constants.HF_HUB_OFFLINE)
            if self.error is not None:
                raise self.error
            for parameter in module.parameters():
                nn.init.constant_(parameter, 0.25)
        return module


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    weights._say_once.cache_clear()
    yield
    weights._say_once.cache_clear()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    monkeypatch.setattr(weights, "build", hub.build)
    monkeypatch.setattr(weights, "_hub_in_reach", lambda: True)
    return hub


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> Hub:
    hub.error = ConnectionError("nobody there")
    monkeypatch.setattr(weights, "_hub_in_reach", lambda: False)
    return hub


@pytest.mark.parametrize("policy", ["auto", "true"])
def test_imagenet_weights_are_taken_and_named_by_content(hub: Hub, policy: str) -> None:
    initial = initialise(network(), policy, seed=0)
    assert hub.calls == 1 and not hub.offline
    assert initial.weights == f"imagenet-{state_digest(initial.module.state_dict())}"
    assert all((parameter == 0.25).all() for parameter in initial.module.parameters())


def test_false_never_asks_the_hub(hub: Hub) -> None:
    initial = initialise(network(), "false", seed=3)
    assert initial.weights == RANDOM and hub.calls == 0
    assert same(initial.module, initialise(network(), "false", seed=3).module)
    assert not same(initial.module, initialise(network(), "false", seed=4).module)


def test_auto_goes_on_from_random_weights_and_says_so_once(no_hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    expected = initialise(network(), "false", seed=5).module
    for _ in range(2):
        initial = initialise(network(), "auto", seed=5)
        assert initial.weights == RANDOM and same(initial.module, expected)
    assert no_hub.calls == 2 and no_hub.offline
    (record,) = caplog.records
    assert "out of reach (ConnectionError): networks start from random weights" in record.message


def test_true_stops_when_the_hub_is_out_of_reach(no_hub: Hub) -> None:
    with pytest.raises(
        UserError, match=r"mobilenetv3_small could not be loaded \(ConnectionError\): .*pretrained: auto"
    ):
        initialise(network(), "true", seed=0)


def test_the_hub_client_is_switched_back_on(no_hub: Hub) -> None:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    initialise(network(), "auto", seed=0)
    assert bool(constants.HF_HUB_OFFLINE) is bool(before)


@pytest.mark.parametrize("knobs", [{"width": 0.5}, {"depth": 1.5}])
def test_scaled_networks_have_no_imagenet_weights(hub: Hub, knobs: dict[str, float]) -> None:
    assert initialise(network(**knobs), "auto", seed=0).weights == RANDOM
    with pytest.raises(UserError, match="has no ImageNet weights: set width and depth to 1, or pretrained: auto"):
        initialise(network(**knobs), "true", seed=0)
    assert hub.calls == 0


def test_a_policy_is_checked_for_every_network_before_any_is_trained(hub: Hub, tmp_path: Path) -> None:
    two = [network(), network(resolution=64), network("squeezenet1_1", "squeezenet")]
    for policy in ("auto", "false"):
        check_policy(two, policy)
    assert hub.calls == 0
    with pytest.raises(UserError, match=r"squeezenet1_1×0.5 .*has no ImageNet weights"):
        check_policy([*two, network("squeezenet1_1", "squeezenet", width=0.5)], "true")
    torch.save(build(network()).state_dict(), tmp_path / "own.pt")
    check_policy(two[:2], str(tmp_path / "own.pt"))
    with pytest.raises(UserError, match=r"fits 0 of \d+ tensors of squeezenet1_1"):
        check_policy(two, str(tmp_path / "own.pt"))
    assert hub.calls == 0


def test_true_is_tried_before_any_training_once_for_each_backbone(hub: Hub) -> None:
    three = [network(), network(resolution=64), network("squeezenet1_1", "squeezenet")]
    check_policy(three, "true")
    assert hub.built == ["mobilenetv3_small", "squeezenet1_1"]


def test_true_stops_before_any_training_when_the_hub_is_out_of_reach(no_hub: Hub) -> None:
    with pytest.raises(
        UserError, match=r"mobilenetv3_small could not be loaded \(ConnectionError\): connect to the hub"
    ):
        check_policy([network()], "true")
    assert no_hub.calls == 1 and no_hub.offline


def test_a_space_that_cannot_be_followed_is_refused_before_anything_is_fetched(hub: Hub) -> None:
    with pytest.raises(UserError, match="has no ImageNet weights"):
        check_policy([network(), network(width=0.5)], "true")
    assert hub.calls == 0


@pytest.mark.parametrize("name", ["mobilenetv2_035", "mnasnet_050"])
def test_networks_that_were_never_published_start_from_random_weights(
    no_hub: Hub, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """timm has their architecture only: nothing is out of reach, and nobody may say so."""
    caplog.set_level(logging.WARNING)
    assert initialise(network(name, "timm"), "auto", seed=0).weights == RANDOM
    assert no_hub.calls == 0 and not caplog.records
    for refuse in (
        lambda: check_policy([network(name, "timm")], "true"),
        lambda: initialise(network(name, "timm"), "true", 0),
    ):
        with pytest.raises(
            UserError, match=f"{name} .*has no ImageNet weights: name another backbone, or pretrained: auto"
        ):
            refuse()


def test_other_networks_of_timm_take_their_published_weights(hub: Hub) -> None:
    assert initialise(network("mobilenetv2_050", "timm"), "auto", seed=0).weights.startswith("imagenet-")


@pytest.mark.parametrize("policy", ["auto", "true"])
def test_a_defect_is_not_taken_for_a_hub_out_of_reach(hub: Hub, policy: str) -> None:
    hub.error = RuntimeError("size mismatch for conv_stem.weight")
    with pytest.raises(RuntimeError, match="size mismatch"):
        initialise(network(), policy, seed=0)


def test_what_the_clients_raise_is_out_of_reach(no_hub: Hub) -> None:
    """A file that is not in the cache, an answer of the hub, a connection lost on the way."""
    from huggingface_hub import errors

    for error in (
        errors.LocalEntryNotFoundError("cache"),
        errors.HTTPError("lost"),
        IncompleteRead(b""),
        URLError("dns"),
    ):
        no_hub.error = error
        assert initialise(network(), "auto", seed=0).weights == RANDOM


def test_a_silent_server_is_given_up(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and never answers, as a firewall does; torchvision's downloads have no limit of their own."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def download(*_: Any, **__: Any) -> nn.Module:
            urllib.request.urlopen(f"http://127.0.0.1:{server.getsockname()[1]}/weights.pth")
            raise AssertionError("it answered")

        monkeypatch.setattr(weights, "build", download)
        monkeypatch.setattr(weights, "PATIENCE", 0.2)
        with pytest.raises(UserError, match="could not be loaded"):
            initialise(network(), "true", seed=0)
    assert socket.getdefaulttimeout() is None


def test_torchvisions_weights_go_into_squeezenet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the classifier is loaded; the classifier is ours, for our classes."""
    import torchvision

    published = torchvision.models.squeezenet1_1(weights=None)
    enum = torchvision.models.SqueezeNet1_1_Weights
    monkeypatch.setattr(enum, "get_state_dict", lambda *_, **__: published.state_dict())
    monkeypatch.setattr(weights, "_hub_in_reach", lambda: True)
    initial = initialise(network("squeezenet1_1", "squeezenet"), "true", seed=0)
    loaded = initial.module.get_submodule("features").state_dict()
    assert state_digest(loaded) == state_digest(published.features.state_dict())
    assert initial.module(torch.rand(1, 3, 32, 32)).shape == (1, 3)


def test_a_checkpoint_of_other_classes_is_loaded_but_for_its_classifier(tmp_path: Path) -> None:
    other = build(network(classes=8))
    for content, name in ((other.state_dict(), "a.pt"), ({"state_dict": other.state_dict(), "epoch": 3}, "b.pt")):
        torch.save(content, tmp_path / name)
    first, second = (initialise(network(), str(tmp_path / name), seed=1) for name in ("a.pt", "b.pt"))
    assert first.weights == second.weights and first.weights.startswith("file-")
    ours = first.module.state_dict()
    left_out = {name for name, tensor in other.state_dict().items() if not torch.equal(tensor, torch.zeros(0)) and name in ours
                and tensor.shape != ours[name].shape}  # fmt: skip
    assert left_out == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(ours[name], tensor) for name, tensor in other.state_dict().items() if name not in left_out)


@pytest.mark.parametrize("content", [{"a": torch.zeros(1)}, [1, 2], {"state_dict": None}], ids=["keys", "list", "none"])
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"fits 0 of \d+ tensors of mobilenetv3_small @32: give a state dict"):
        initialise(network(), str(tmp_path / "other.pt"), seed=0)


def test_a_checkpoint_of_another_width_is_refused(tmp_path: Path) -> None:
    torch.save(build(network(width=0.5)).state_dict(), tmp_path / "half.pt")
    with pytest.raises(UserError, match="fits"):
        initialise(network(), str(tmp_path / "half.pt"), seed=0)


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be auto, true, false or a checkpoint file; .*missing.pt does not exist"):
        initialise(network(), str(tmp_path / "missing.pt"), seed=0)
    (tmp_path / "text.pt").write_text("no checkpoint", "utf-8")
    for path in (tmp_path / "text.pt", tmp_path):
        with pytest.raises(UserError, match="is no checkpoint"):
            initialise(network(), str(path), seed=0)


def test_the_digest_names_content_types_and_shapes() -> None:
    state = {"a": torch.arange(4.0), "b": torch.ones(2)}
    assert state_digest(state) == state_digest(dict(reversed(state.items())))
    others = [
        {**state, "a": torch.arange(4.0).view(2, 2)},
        {**state, "a": torch.arange(4.0).double()},
        {**state, "b": torch.zeros(2)},
    ]
    assert len({state_digest(other) for other in (state, *others)}) == 4
