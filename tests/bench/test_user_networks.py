"""Networks of users as targets of the benchmark: where they come from, what belongs to them, and every way to be
refused before any work.
"""

from __future__ import annotations

import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import scoresde as ss
from scoresde import models
from scoresde.bench import UserTarget
from scoresde.bench.problems import Problem, check_target, make_problem
from scoresde.bench.problems.code import digest, holdings
from scoresde.bench.problems.data import read_samples, read_statistics
from scoresde.bench.problems.features import coarse, make_features
from scoresde.bench.problems.process import Carried, under
from scoresde.bench.problems.user import Options, UserProblem, is_user
from scoresde.bench.suite import choice, load_suite
from scoresde.metrics import FrechetStats, frechet_stats
from scoresde.models.checkpoint import save_checkpoint
from scoresde.noise import normal
from scoresde.targets import GaussianMixture
from tests.tiny_bench import run, tiny

IMAGES = (3, 4, 6)


class Net(nn.Module):
    """An exact network of images N(0, 1/4), with a weight of no effect on them."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.gain, self.classes = nn.Parameter(torch.ones(())), classes
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor | None = None) -> Tensor:
        if class_labels is not None:
            self.asked.append(class_labels)
        alpha, sigma = (f(t).to(x).reshape(-1, 1, 1, 1) for f in (ss.VP().alpha, ss.VP().sigma))
        return self.gain * x * sigma / (alpha**2 / 4 + sigma**2)


def denoiser(net: nn.Module | None = None) -> ss.Denoiser:
    return ss.Denoiser(net or Net(), ss.VP())


def user(**changes: Any) -> UserProblem:
    return UserProblem("test", replace(UserTarget(denoiser(), IMAGES, features=coarse), **changes))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, where modules of users are found; those that a test imports are forgotten after it."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("mine"):
            del sys.modules[name]


def write(folder: Path, name: str, text: str) -> None:
    lines = "import torch\nimport scoresde as ss\nfrom scoresde.bench import UserTarget\n" + textwrap.dedent(text)
    (folder / f"{name}.py").write_text(lines)


# ---- python:module:function ------------------------------------------------------------------------------------------

NETS = """
    def net(x, t):
        return x * 0

    denoiser = ss.Denoiser(net, ss.VP())

    def whole(device):
        return UserTarget(denoiser, (3, 4, 6), note=f"On {device}.")

    def bare():
        return denoiser

    def problem():
        from scoresde.bench.problems.exact import mixture
        return mixture()

    def number():
        return 3

    def needy(width):
        return denoiser

    def breaks():
        return UserTarget(ss.Denoiser(lambda x, t: x[:, :2], ss.VP()), (3, 4, 6))

    def raises():
        def net(x, t):
            raise RuntimeError("size mismatch")
        return UserTarget(ss.Denoiser(net, ss.VP()), (3, 4, 6))

    def nans():
        return UserTarget(ss.Denoiser(lambda x, t: x / 0, ss.VP()), (3, 4, 6))

    constant = 4
"""


def test_a_function_gives_a_target_a_denoiser_or_a_problem(here: Path):
    write(here, "mine_nets", NETS)
    whole = make_problem(choice("python:mine_nets:whole"))
    assert (whole.shape, whole.note) == ((3, 4, 6), "On cpu.")
    assert whole.metrics == ("rmse_reference", "frechet_reference")
    assert whole.pooled == ()
    bare = make_problem(choice("python:mine_nets:bare", shape="3, 4,6"))
    assert bare.shape == (3, 4, 6)
    assert make_problem(choice("python:mine_nets:problem")).shape == (2,)
    assert str(here) not in sys.path


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("python:mine_nets", {}, "must be module:function"),
        ("python:mine_missing:net", {}, "'mine_missing' cannot be imported from here .*ModuleNotFoundError"),
        ("python:mine_broken:net", {}, "SyntaxError"),
        ("python:mine_nets:wole", {}, "nearest: whole"),
        ("python:mine_nets:constant", {}, "is a int, not a function"),
        ("python:mine_nets:needy", {}, "needs width"),
        ("python:mine_nets:bare", {}, "say shape"),
        ("python:mine_nets:number", {}, "must return a scoresde.bench.UserTarget.*got int"),
        ("python:mine_nets:problem", {"labels": 3}, "which has no options"),
        ("python:mine_nets:breaks", {}, r"the network .*shape"),
        ("python:mine_nets:raises", {}, "the network fails on two samples .*size mismatch"),
        ("python:mine_nets:nans", {}, "not finite"),
        ("python:mine_nets:whole", {"shap": "3,4,6"}, "nearest: shape"),
        ("python:mine_nets:whole", {"shape": "3,x"}, "shape must be positive integers"),
        ("python:mine_nets:whole", {"labels": -1}, "labels must be at least 1"),
        ("python:mine_nets:whole", {"data": "nowhere"}, "data: nothing is at nowhere"),
        ("python:mine_nets:whole", {"reference": "nowhere.npz"}, "reference: nothing is at"),
        ("python:mine_nets:whole", {"features": "incption"}, "nearest: inception"),
        ("python:mine_nets:whole", {"features": "python:mine_nets:none"}, "features: function of mine_nets='none'"),
        ("python:mine_nets:whole", {"network": "python:a:b"}, "option of target"),
        ("checkpoint:nowhere.safetensors", {}, "no file at nowhere"),
        ("checkpoint:.", {}, "no file at digits.safetensors"),
        ("diffusers:nowhere", {}, "config.json cannot be read"),
        ("edm:nowhere.safetensors", {"network": "python:mine_nets:bare"}, "no file at nowhere"),
        ("edm:mine_nets.py", {}, "needs the option network"),
        ("edm:mine_nets.py", {"network": "mine_nets:bare"}, "must be 'python:module:function'"),
        ("edm:mine_nets.py", {"network": "python:mine_nets:number"}, "must return a torch.nn.Module, got int"),
        ("pyton:mine_nets:whole", {}, "target='pyton:mine_nets:whole' is unknown"),
    ],
)
def test_bad_names_and_options_are_refused(here: Path, name: str, options: dict[str, Any], words: str):
    write(here, "mine_nets", NETS)
    write(here, "mine_broken", "def net(:\n")
    with pytest.raises(ValueError, match=words):
        make_problem(choice(name, **options))


def test_what_can_be_seen_without_loading_is_checked_without(here: Path, monkeypatch: pytest.MonkeyPatch):
    write(here, "mine_nets", NETS + "\n    def never():\n        raise AssertionError\n")
    check_target(choice("python:mine_nets:never", shape="3,4,6"))
    for name, options in (
        ("python:mine_nets:wole", {}),
        ("python:mine_nets:never", {"data": "x"}),
        ("diffusers:x", {}),
    ):
        with pytest.raises(ValueError, match=r"whole|nothing is at x|cannot be read"):
            check_target(choice(name, **options))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"denoiser": Net()}, TypeError, "wrap the network"),
        ({"denoiser": 3}, TypeError, "denoiser must be callable"),
        ({"shape": ()}, ValueError, "shape must be that of one sample"),
        ({"shape": (3, 0)}, ValueError, "shape must be at least 1"),
        ({"data": [1.0]}, TypeError, "data must be a Tensor"),
        ({"features": "pixels"}, TypeError, "features must be callable"),
        ({"labels": 1.5}, TypeError, "labels must be an int"),
        ({"denoiser": lambda sde: 4}, ValueError, "must give a scoresde.Denoiser"),
        ({"features": lambda x: x}, ValueError, r"features must be rows \(N, d\), got shape"),
        ({"features": lambda x: x[:, 0, 0] * float("nan")}, ValueError, "features .* not finite"),
        ({"data": torch.zeros(100, 3, 4, 5)}, ValueError, r"data must be floating-point of shape \(N, 3, 4, 6\)"),
        ({"data": torch.zeros(20, *IMAGES)}, ValueError, "has 20 samples"),
        ({"reference": FrechetStats.exact(torch.zeros(4), torch.eye(4))}, ValueError, "has 4 features"),
    ],
)
def test_a_target_that_does_not_fit_is_refused(changes: dict[str, Any], error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        user(**changes)


# ---- what the problem is ---------------------------------------------------------------------------------------------


def test_classes_come_in_turn_and_other_conditions_by_index():
    net = Net()
    problem = user(denoiser=denoiser(net), labels=3, cond=lambda first, count: {})
    assert problem.cond(4, 4)["class_labels"].tolist() == [1, 2, 0, 1]
    assert [labels.tolist() for labels in net.asked] == [[0, 1]]
    weights = user(cond=lambda first, count: {"class_labels": torch.arange(first, first + count)})
    assert weights.cond(3, 2)["class_labels"].tolist() == [3, 4]


def test_metrics_are_those_that_the_data_allow():
    data = normal((90, *IMAGES), 1)
    stats = frechet_stats(coarse(data))
    assert user().metrics == ("rmse_reference", "frechet_reference")
    both = user(data=data, reference=stats)
    assert both.metrics == ("rmse_reference", "frechet_reference", "kid_data")
    assert both.pooled == user(reference=stats).pooled == ("frechet_data",)
    assert (len(both.data), len(both.other_data)) == (45, 45)
    assert torch.equal(both.other_data[0], data[1])
    moments = both.exact_moments()
    assert moments is not None
    assert torch.allclose(moments[1], stats.covariance)
    many = user(features=lambda x: x.flatten(1).repeat(1, 2))
    assert many.metrics == ("rmse_reference",)


def test_features_are_computed_in_parts_that_do_not_matter():
    problem = user()
    samples = normal((600, *IMAGES), 2)
    assert torch.allclose(problem.features(samples.double()), coarse(samples).double(), atol=1e-6)
    assert coarse(samples).shape == (600, 48)
    assert torch.allclose(coarse(samples)[:, 0], samples[:, 0, 0, :2].mean(-1))


def test_the_fingerprint_is_of_all_that_decides_the_results(here: Path):
    net = Net()
    first = user(denoiser=denoiser(net)).fingerprint
    assert user(denoiser=denoiser(Net())).fingerprint == first
    with torch.no_grad():
        net.gain.add_(1e-3)
    data = normal((90, *IMAGES), 1)
    stats = frechet_stats(coarse(data))
    found = [
        first,
        user(denoiser=denoiser(net)).fingerprint,
        user(data=data).fingerprint,
        user(data=data + 1e-6).fingerprint,
        user(reference=stats).fingerprint,
        user(fingerprint="v2").fingerprint,
    ]
    assert len(set(found)) == len(found)
    write(here, "mine_a", NETS)
    write(here, "mine_b", NETS.replace("x * 0", "x * 0.5"))
    marks = [make_problem(choice(f"python:{name}:whole")).fingerprint for name in ("mine_a", "mine_b")]
    assert marks[0] != marks[1]


def test_networks_are_found_wherever_a_denoiser_holds_them():
    from functools import partial

    first, *others = nets = [nn.Linear(1, 1) for _ in range(6)]

    def closure(x: Tensor) -> Tensor:
        return first(x)

    holder = SimpleNamespace(inner=others[0], more={"a": [others[1]], "again": first})
    found = holdings((closure, holder, partial(max, others[2], key=others[3]), others[4].forward, print, 3, ss.VP))
    assert list(map(id, found)) == list(map(id, nets))
    assert digest(nets[0]) != digest(nets[1])
    assert digest(torch.ones(2, dtype=torch.bfloat16)) != digest(torch.ones(2))


def test_the_network_goes_to_the_device_and_stops_training():
    net = nn.Dropout()
    problem = user(denoiser=ss.Denoiser(lambda x, t: net(x), ss.VP()))
    assert not net.training
    assert problem.networks == (net,)


@pytest.mark.slow
def test_a_suite_runs_on_a_network_of_a_user(here: Path):
    write(
        here,
        "mine_point",
        """
        from scoresde.targets import GaussianMixture
        scale = torch.ones(())

        def load():
            target = GaussianMixture.five()
            inner = target.denoiser(ss.VP())

            def net(x, t):
                return inner(x, t) * scale

            weight = scale  # held by the closure of net
            return UserTarget(ss.Denoiser(lambda x, t: net(x, t) + 0 * weight, ss.VP(), "x0"), (2,),
                              data=target.sample(200).float())
        """,
    )
    suite = tiny(target=choice("python:mine_point:load"), nfes=(8,), solvers=(choice("ddim"),))
    rows = list(run(here / "results", suite).rows())
    assert [row["error"] for row in rows] == [None, None]
    assert set(rows[0]["metrics"]) == {"rmse_reference", "frechet_reference", "kid_data"}
    assert set(rows[0]["floors"]) == {"kid_data", "frechet_data"}
    assert "DPM-Solver++ 3M with 64 network calls" in rows[0]["reference"]["text"]
    again = list(run(here / "results", suite).rows())
    assert [row["finished"] for row in again] == [row["finished"] for row in rows]
    sys.modules["mine_point"].__dict__["scale"].add_(0.01)
    changed = list(run(here / "results", suite).rows())
    assert changed[0]["metrics"] != rows[0]["metrics"]


@pytest.mark.slow
def test_the_suite_of_the_page_runs(here: Path):
    page = (Path(__file__).parents[2] / "docs/your-network.md").read_text(encoding="utf-8")
    blocks = {
        kind: re.findall(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) for kind in ("python", "toml")
    }
    (here / "mynet.py").write_text(blocks["python"][0])
    (here / "mine.toml").write_text(blocks["toml"][0])
    sys.modules.pop("mynet", None)
    try:
        rows = list(run(here / "results", load_suite("mine.toml").with_seeds(1)).rows())
    finally:
        sys.modules.pop("mynet", None)
    assert [row["error"] for row in rows] == [None] * 6
    error = {(row["solver"]["label"], row["nfe"]["budget"]): row["metrics"]["rmse_reference"]["value"] for row in rows}
    assert max(error["unipc-3", 10], error["dpmpp-2m", 10]) < error["ddim", 10] < error["ddim", 5]
    for text in blocks["toml"][1:]:  # what a block says beside the first suite's
        target = tomllib.loads(text)["blocks"][0]["target"]
        assert is_user(target["name"])
        known = {*(field.name for field in fields(Options)), "network", "clip"}
        assert set(target["options"]) <= known


# ---- other processes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", [ss.VP(), ss.EDM(), ss.RectifiedFlow()], ids=lambda sde: sde.name)
@pytest.mark.parametrize("ours", [ss.VP(T=0.9), ss.EDM(), ss.RectifiedFlow(T=0.98)], ids=lambda sde: sde.name)
def test_a_network_under_another_process_is_the_exact_one(theirs: ss.SDE, ours: ss.SDE):
    target = GaussianMixture.five()
    carried, wanted = under(target.denoiser(theirs), ours), target.denoiser(ours)
    x = normal((5, 2), 3, dtype=torch.float64)
    times = [ours.T, 0.4 * ours.T, ours.eps]
    for t in times:
        state = target.sample(5) * ours.alpha(t) + x * ours.sigma(t)
        for kind in ("x0", "epsilon", "v", "flow", "score"):
            got, exact = carried.predict(state, t, kind), wanted.predict(state, t, kind)
            assert torch.allclose(got, exact, rtol=1e-6, atol=1e-7), (kind, t)
        found = carried.evaluate(state, t)
        assert torch.allclose(
            carried.converted(state, t, found.prediction, found.kind, "x0"), wanted(state, t), rtol=1e-6
        )
    several = torch.tensor([*times, *times[:2]], dtype=torch.float64)
    alpha, sigma = (f(several)[:, None] for f in (ours.alpha, ours.sigma))
    states = target.sample(5) * alpha + x * sigma
    assert torch.allclose(carried(states, several), wanted(states, several), rtol=1e-6, atol=1e-7)
    assert under(carried, ours) is carried


def test_what_a_network_predicts_comes_through():
    for kind, told in (("epsilon", "epsilon"), ("x0", "x0"), ("v", "x0")):
        inner = ss.Denoiser(lambda x, t: x, ss.VP(), kind)
        assert Carried(inner, ss.EDM()).evaluate(torch.ones(1, 1), 1.0).kind == told


def test_a_noisier_process_is_refused_with_where_to_begin():
    net = ss.Denoiser(lambda x, t: x, ss.EDM(sigma_max=50.0), "x0")
    for sde, option in ((ss.RectifiedFlow(), "T"), (ss.VP(), "T"), (ss.EDM(), "sigma_max")):
        with pytest.raises(
            ValueError, match=rf"knows noise up to 50: begin there, with the option {option} ="
        ) as error:
            under(net, sde)
        value = float(str(error.value).rpartition(" ")[2])
        assert isinstance(under(net, replace(sde, **{option: value})), Carried)  # type: ignore[type-var]


# ---- checkpoints, EDM, diffusers -------------------------------------------------------------------------------------


def test_a_checkpoint_of_this_package_is_the_network_that_ships():
    folder = Path(models.__file__).parent
    problem, shipped = make_problem(choice(f"checkpoint:{folder}")), make_problem(choice("digits"))
    assert make_problem(choice(f"checkpoint:{folder / 'digits.safetensors'}")).shape == problem.shape == (1, 8, 8)
    x = normal((3, 1, 8, 8), 1)
    for sde in (ss.EDM(), ss.RectifiedFlow()):
        got, wanted = (p.denoiser(sde)(x, 0.5, **p.cond(2, 3)) for p in (problem, shipped))
        assert torch.equal(got, wanted)
    with pytest.raises(ValueError, match="must say unet and sigma_data"):
        make_problem(choice(f"checkpoint:{folder / 'digit_features.safetensors'}"))


def test_a_checkpoint_whose_weights_do_not_fit_is_refused(tmp_path: Path):
    save_checkpoint(tmp_path / "a.safetensors", {"w": torch.ones(1)}, {"unet": {"channels": 2}, "sigma_data": 0.5})
    with pytest.raises(ValueError, match="weights do not fit the U-Net"):
        make_problem(choice(f"checkpoint:{tmp_path / 'a.safetensors'}"))


EDM_NETS = """
    class Net(torch.nn.Module):
        img_channels, img_resolution, label_dim = 2, 4, 3

        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.zeros(()))

        def forward(self, x, sigma, class_labels=None):
            assert class_labels.shape == (len(x), 3)
            return self.gain * x

    def without():
        net = Net()
        del Net.img_channels
        return net
"""


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_weights_of_edm_go_into_the_users_network(here: Path, suffix: str):
    from safetensors.torch import save_file

    write(here, "mine_edm", EDM_NETS)
    state = {"ema.gain": torch.tensor(0.25)}
    save_file(state, "w.safetensors") if suffix == "safetensors" else torch.save(
        {"ema": {"gain": state["ema.gain"]}}, "w.pt"
    )
    problem = make_problem(choice(f"edm:w.{suffix}", network="python:mine_edm:Net"))
    assert problem.shape == (2, 4, 4)
    x = normal((5, 2, 4, 4), 1)
    assert torch.allclose(problem.denoiser(ss.EDM())(x, 2.0, **problem.cond(0, 5)), x / 4)
    raw = make_problem(choice(f"edm:w.{suffix}", network="python:mine_edm:Net", sigma_data=0.5))
    c_in, c_skip, c_out = ss.EDMPrecond(0.5).coefficients(1.0, 2.0)
    assert torch.allclose(raw.denoiser(ss.EDM())(x, 2.0, **raw.cond(0, 5)), x * (c_skip + c_out * c_in / 4), atol=1e-6)
    with pytest.raises(ValueError, match="sigma_data must be positive"):
        check_target(choice(f"edm:w.{suffix}", network="python:mine_edm:Net", sigma_data=-1))
    with pytest.raises(ValueError, match="no img_resolution and img_channels"):
        make_problem(choice(f"edm:w.{suffix}", network="python:mine_edm:without"))


def small_unet(diffusers: ModuleType, **options: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return diffusers.UNet2DModel(**{
            "sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "block_out_channels": (8,),
            "norm_num_groups": 4, "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), **options,
        })  # fmt: skip


@pytest.mark.slow
def test_a_pipeline_of_diffusers_is_its_network_with_its_scheduler(tmp_path: Path):
    diffusers = pytest.importorskip("diffusers")
    unet = small_unet(diffusers)
    pipe = diffusers.DDPMPipeline(unet=unet, scheduler=diffusers.DDPMScheduler(clip_sample_range=0.5))
    pipe.save_pretrained(tmp_path / "pipe")
    name = f"diffusers:{tmp_path / 'pipe'}"
    problem, free = make_problem(choice(name)), make_problem(choice(name, clip=False))
    assert problem.shape == (1, 8, 8)
    assert "predictions of x0 are limited" in problem.note
    sde = free.given.denoiser.sde  # type: ignore[attr-defined]
    t = 401 / 1000  # entry 400 of the table
    x = normal((2, 1, 8, 8), 1)
    with torch.inference_mode():
        epsilon = unet(x, 400).sample
        x0 = (x - sde.sigma(t) * epsilon) / sde.alpha(t)
        assert torch.allclose(free.denoiser(sde)(x, t), x0, atol=1e-5)
        assert torch.allclose(problem.denoiser(sde)(x, t), x0.clamp(-0.5, 0.5), atol=1e-5)
        both = torch.tensor([t, t], dtype=torch.float64)
        assert torch.allclose(free.denoiser(sde)(x, both), x0, atol=1e-5)
        rho = sde.rho(t)
        under_edm = free.denoiser(ss.EDM())
        assert torch.allclose(under_edm(x / sde.alpha(t), rho), x0, atol=1e-4)
    # The network and the config of its scheduler in one folder; other samplers in the pipeline do not matter.
    unet.save_pretrained(tmp_path / "net")
    diffusers.DDIMScheduler(clip_sample=False).save_pretrained(tmp_path / "net")
    beside = make_problem(choice(f"diffusers:{tmp_path / 'net'}"))
    with torch.inference_mode():
        assert torch.allclose(beside.denoiser(sde)(x, t), x0, atol=1e-5)
    from scoresde.integrations.diffusers import Scheduler

    pipe.scheduler = Scheduler.from_config(pipe.scheduler, solver="unipc-3")
    pipe.save_pretrained(tmp_path / "ours")
    with torch.inference_mode():
        again = make_problem(choice(f"diffusers:{tmp_path / 'ours'}", clip=False))
        assert torch.allclose(again.denoiser(sde)(x, t), x0, atol=1e-5)


@pytest.mark.slow
def test_class_conditional_networks_of_diffusers(tmp_path: Path):
    diffusers = pytest.importorskip("diffusers")
    unet = small_unet(diffusers, num_class_embeds=4)
    dit = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, out_channels=8, num_layers=1, sample_size=4,
        patch_size=2, num_embeds_ada_norm=5, norm_num_groups=4,
    )  # fmt: skip
    for name, net, shape, labels in (("unet", unet, (1, 8, 8), 4), ("dit", dit, (4, 4, 4), 5)):
        net.save_pretrained(tmp_path / name)
        diffusers.DDIMScheduler(clip_sample=False).save_pretrained(tmp_path / name)
        problem = make_problem(choice(f"diffusers:{tmp_path / name}"))
        assert problem.shape == shape
        assert problem.cond(3, 4)["class_labels"].tolist() == [i % labels for i in range(3, 7)]
        sde = ss.VP()
        t = sde.t_at_lam(0.5)
        x, cond = normal((2, *shape), 1), problem.cond(1, 2)
        with torch.inference_mode():
            source = problem.given.denoiser.sde  # type: ignore[attr-defined]
            label = torch.tensor([1000 * source.t_at_lam(0.5) - 1] * 2)
            epsilon = net.eval()(x, label, **cond).sample[:, : shape[0]]  # of the DiT, the other half is a variance
            wanted = (x - sde.sigma(t) * epsilon) / sde.alpha(t)
            assert torch.allclose(problem.denoiser(sde)(x, t, **cond), wanted, atol=1e-5)


@pytest.mark.slow
def test_folders_of_diffusers_that_cannot_be_used_are_refused(tmp_path: Path):
    diffusers = pytest.importorskip("diffusers")
    unet = small_unet(diffusers)

    def refused(words: str) -> None:
        with pytest.raises(ValueError, match=words):
            make_problem(choice(f"diffusers:{tmp_path}"))

    unet.save_pretrained(tmp_path)
    refused("scheduler_config.json cannot be read")
    (tmp_path / "scheduler_config.json").write_text("{")
    refused("is not JSON")
    (tmp_path / "scheduler_config.json").write_text('{"_class_name": "NoScheduler"}')
    refused("must have the _class_name of a diffusers scheduler")
    diffusers.DDPMScheduler().save_pretrained(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").rename(tmp_path / "diffusion_pytorch_model.bin")
    refused("safetensors")
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    refused("the network is a UNet2DConditionModel")
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline", "prior": []}')
    refused("a FluxPipeline has no unet or transformer; it has prior")


# ---- data, statistics, features --------------------------------------------------------------------------------------


def pictures(folder: Path, count: int = 80, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> None:
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for i in range(count):
        Image.new(mode, size, i if mode == "L" else (i, 255, 0)).save(folder / f"{i:03}.png")


def test_images_of_a_folder_become_minus_one_to_one(tmp_path: Path):
    pictures(tmp_path)
    (tmp_path / "notes.txt").write_text("not an image, and not asked to be one")
    found = read_samples(tmp_path, IMAGES)
    assert found.shape == (80, *IMAGES)
    assert found[51, :, 0, 0].tolist() == pytest.approx([51 / 127.5 - 1, 1, -1])
    grey = read_samples(tmp_path, (1, 4, 6))
    assert grey.shape == (80, 1, 4, 6)


def test_images_that_cannot_be_used_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no images"):
        read_samples(tmp_path, IMAGES)
    pictures(tmp_path, 3)
    with pytest.raises(ValueError, match="has 3 samples; at least 80"):
        read_samples(tmp_path, IMAGES)
    pictures(tmp_path, 2, (6, 5))
    with pytest.raises(ValueError, match=r"000.png is 5 x 6 pixels, and samples are 4 x 6"):
        read_samples(tmp_path, IMAGES)
    (tmp_path / "000.png").write_text("no")
    with pytest.raises(ValueError, match=r"000.png is not an image"):
        read_samples(tmp_path, IMAGES)
    with pytest.raises(ValueError, match="is a folder of images, and samples of shape"):
        read_samples(tmp_path, (2,))


def test_arrays_are_read_with_channels_first_or_last(tmp_path: Path):
    from safetensors.torch import save_file

    bytes_ = np.random.default_rng(0).integers(0, 256, (90, 4, 6, 3), dtype=np.uint8)
    wanted = torch.from_numpy(bytes_).movedim(-1, 1).float() / 127.5 - 1
    np.save(tmp_path / "a.npy", bytes_)
    np.savez(tmp_path / "b.npz", other=np.zeros(3), samples=wanted.double().numpy())
    save_file({"x": wanted.contiguous()}, tmp_path / "c.safetensors")
    for name in ("a.npy", "b.npz", "c.safetensors"):
        found = read_samples(tmp_path / name, IMAGES)
        assert found.dtype == torch.float32
        assert torch.allclose(found, wanted, atol=1e-6)


def test_arrays_that_cannot_be_used_are_refused(tmp_path: Path):
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}] * 90, dtype=object))
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    np.save(tmp_path / "ints.npy", np.zeros((90, *IMAGES), dtype=np.int64))
    np.save(tmp_path / "text.npy", np.array(["a"] * 90))
    np.save(tmp_path / "nan.npy", np.full((90, *IMAGES), np.nan))
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "a.csv").write_text("1,2")
    for name, words in {
        "objects.npy": "plain NumPy arrays",
        "two.npz": "holds a, b; call the array of samples 'samples'",
        "ints.npy": "must be floating-point",
        "text.npy": "must hold bytes or floating-point",
        "nan.npy": "6480 values that are not finite",
        "cut.npz": "plain NumPy arrays",
        "a.csv": "must end in .npy, .npz, .safetensors",
        "missing.npy": "no file at",
    }.items():
        with pytest.raises(ValueError, match=words):
            read_samples(tmp_path / name, IMAGES)


def test_statistics_of_pytorch_fid_and_of_this_package(tmp_path: Path):
    stats = frechet_stats(normal((50, 3), 1, dtype=torch.float64))
    np.savez(tmp_path / "fid.npz", mu=stats.mean.numpy(), sigma=stats.covariance.numpy())
    save_checkpoint(tmp_path / "ours.safetensors", {"mean": stats.mean, "scatter": stats.scatter}, {"n": stats.n})
    for name in ("fid.npz", "ours.safetensors"):
        found = read_statistics(tmp_path / name)
        assert torch.allclose(found.mean, stats.mean)
        assert torch.allclose(found.covariance, stats.covariance, rtol=1e-6)
    np.savez(tmp_path / "a.npz", mu=np.zeros(3))
    np.savez(tmp_path / "b.npz", mu=np.zeros(3), sigma=np.eye(4))
    np.savez(tmp_path / "c.npz", mu=np.zeros(2), sigma=np.array([[1.0, 2.0], [0.0, 1.0]]))
    save_checkpoint(tmp_path / "d.safetensors", {"mean": stats.mean}, {"n": 3})
    for name, words in {
        "a.npz": "must hold mu and sigma",
        "b.npz": "d means and a d x d covariance",
        "c.npz": "symmetric",
        "d.safetensors": "mean, scatter and, in its header, their count n",
    }.items():
        with pytest.raises(ValueError, match=words):
            read_statistics(tmp_path / name)


def test_options_complete_what_the_function_says(here: Path):
    write(here, "mine_nets", NETS + "\n    def corner(x):\n        return x[:, :, 0, 0]\n")
    pictures(here / "real")
    options = {
        "data": "real",
        "features": "python:mine_nets:corner",
        "labels": 2,
        "label_key": "y",
        "reference_nfe": 20,
    }
    with pytest.raises(ValueError, match="unexpected keyword argument 'y'"):
        make_problem(choice("python:mine_nets:whole", **options))
    problem = make_problem(choice("python:mine_nets:whole", **{**options, "labels": 0}))
    assert problem.data.shape == (40, *IMAGES)
    assert problem.data_features.shape == (40, 3)
    assert "with 20 network calls" in problem.describe_converged(0.0)
    assert problem.metrics[-1] == "kid_data"


def test_features_of_torch_fidelity_get_bytes(monkeypatch: pytest.MonkeyPatch):
    """With a stand-in for the package, whose networks need weights from the network."""
    made: list[tuple[Any, ...]] = []

    class Extractor(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor]:
            assert x.dtype == torch.uint8
            return (x.float().mean((2, 3)),)

    def create(name: str, layers: list[str], cuda: bool, verbose: bool) -> nn.Module:
        made.append((name, layers))
        return Extractor()

    package, utils = ModuleType("torch_fidelity"), ModuleType("torch_fidelity.utils")
    utils.create_feature_extractor = create  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, "torch_fidelity.utils", utils)
    features = make_features("inception", (1, 4, 4))
    assert features(torch.tensor([-1.0, 0.0, 2.0]).reshape(3, 1, 1, 1)).tolist() == [
        [0.0] * 3,
        [128.0] * 3,
        [255.0] * 3,
    ]
    make_features("dinov2", (1, 4, 4))
    assert made == [("inception-v3-compat", ["2048"]), ("dinov2-vit-b-14", ["dinov2"])]
    assert len(holdings(features)) == 1


def test_without_torch_fidelity_its_features_say_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ImportError, match=r"pip install 'scoresde\[fidelity\]'"):
        make_features("inception", IMAGES)


def test_default_features_are_few():
    assert make_features("", (2,))(torch.ones(3, 2)).shape == (3, 2)
    assert make_features("", (3, 32, 32))(torch.ones(3, 3, 32, 32)).shape == (3, 48)


def test_pictures_are_drawn_of_images_and_of_points():
    assert user().picture(torch.zeros(3, *IMAGES)).shape == (3, 4, 6, 3)  # type: ignore[union-attr]
    assert user().picture(user().shown_data) is None
    assert isinstance(user(), Problem)
