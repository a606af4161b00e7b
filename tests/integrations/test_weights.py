"""Weights from files: which are read, what becomes of names, and that nothing in a file is run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scoresde.integrations.edm import load_state, read_state


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def network(width: int = 3) -> nn.Module:
    net = nn.Module()
    net.model = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))
    net.register_buffer("u", torch.zeros(4))
    return net


def weights(seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(v.shape, generator=generator).to(v.dtype) for name, v in network().state_dict().items()}


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: v for name, v in state.items()}


def is_loaded(net: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(v, state[name]) for name, v in net.state_dict().items()) and not net.training


@pytest.mark.parametrize("prefix", ["", "ema.", "module.", "module.ema."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_files_and_prefixes(tmp_path: Path, suffix: str, prefix: str) -> None:
    state, path = weights(), tmp_path / f"net{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(prefixed(prefix, state), path)
    assert is_loaded(load_state(network(), path), state)
    assert read_state(path).keys() == prefixed(prefix, state).keys()


def test_averaged_weights_are_taken_by_prefix_or_key(tmp_path: Path) -> None:
    raw, ema = weights(1), weights(2)
    both = {**prefixed("net.", raw), **prefixed("ema.", ema)}
    assert is_loaded(load_state(network(), both), ema)
    assert is_loaded(load_state(network(), both, prefix="net."), raw)
    path = tmp_path / "checkpoint.pt"
    torch.save({"step": 7, "net": raw, "ema": ema}, path)
    assert is_loaded(load_state(network(), path, key="ema"), ema)
    with pytest.raises(ValueError, match="key must name one of the state dicts in it: 'net', 'ema'"):
        load_state(network(), path)
    with pytest.raises(ValueError, match="key='model' is not one"):
        load_state(network(), path, key="model")
    torch.save({"step": 7, "model": raw}, path)
    assert is_loaded(load_state(network(), path), raw)


def test_half_precision_weights_fill_a_single_precision_network(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({name: v.half() if v.is_floating_point() else v for name, v in weights().items()}, path)
    loaded = load_state(network(), path).state_dict()["u"]
    assert loaded.dtype == torch.float32
    assert torch.allclose(loaded, weights()["u"], atol=1e-3)


def test_names_that_do_not_fit_are_listed_with_the_nearest() -> None:
    state, net = weights(), network()
    before = {name: v.clone() for name, v in net.state_dict().items()}
    state["model.0.wieght"] = state.pop("model.0.weight")
    with pytest.raises(ValueError, match=r"1 missing: 'model.0.weight' \(nearest: 'model.0.wieght'\)") as caught:
        load_state(net, state)
    assert "1 unexpected: 'model.0.wieght' (nearest: 'model.0.weight')" in str(caught.value)
    with pytest.raises(ValueError, match=r"after the prefix 'ema\.'; 1 missing"):
        load_state(net, prefixed("ema.", state))
    with pytest.raises(ValueError, match=r"7 missing.* and 4 more|8 missing.* and 5 more"):
        load_state(net, {"x": torch.zeros(1)})
    wide = {**weights(), **network(5).state_dict()}
    with pytest.raises(ValueError, match=r"'model.0.weight' has shape \(5, 2\), and the network's .* \(3, 2\)"):
        load_state(net, wide)
    assert all(torch.equal(v, before[name]) for name, v in net.state_dict().items())


@pytest.mark.parametrize("name", ["net.pkl", "net.pt", "net.safetensors", "old.pt"])
def test_nothing_in_a_file_is_run(tmp_path: Path, name: str) -> None:
    path, crater = tmp_path / name, tmp_path / "crater"
    content = {"ema": Bomb(crater)}
    if name == "net.pt":
        torch.save(content, path)
    elif name == "old.pt":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"trusted environment|safetensors\.torch\.save_file|not a whole safetensors"):
        load_state(network(), path)
    assert not crater.exists()


def test_a_pickle_says_how_to_convert_it(tmp_path: Path) -> None:
    path = tmp_path / "edm-cifar10-32x32-cond-vp.pkl"
    path.write_bytes(pickle.dumps({"ema": 1}))
    with pytest.raises(ValueError, match="a pickle runs code") as caught:
        load_state(network(), path)
    assert "save_file(state, 'edm-cifar10-32x32-cond-vp.safetensors')" in str(caught.value)


def test_other_bad_input(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no weights at"):
        read_state(tmp_path / "none.safetensors")
    cut = tmp_path / "cut.safetensors"
    save_file(weights(), cut)
    cut.write_bytes(cut.read_bytes()[:-4])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_state(cut)
    one = tmp_path / "one.pt"
    torch.save(torch.zeros(2), one)
    with pytest.raises(ValueError, match="holds a Tensor, not named tensors"):
        read_state(one)
    torch.save({"step": 1}, one)
    with pytest.raises(ValueError, match="state dicts in it: none"):
        read_state(one)
    with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module"):
        load_state(lambda x: x, weights())  # type: ignore[arg-type]
