"""A plan with its network as one program gives what sampling gives: torch.export, ONNX, torch.compile, CUDA graphs."""

import copy
import functools
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import scoresde as ss
from scoresde.export import OnnxFile, Sampler, export_plan, to_onnx
from scoresde.export.sampler import networks
from scoresde.guidance import ClassifierFree, DynamicThreshold, Threshold

SHAPE = (4, 2, 5, 3)
# One of each shape of solver. The state may be kept for stages, corrected, or mixed without an evaluation.
DETERMINISTIC = {
    "multistep": "dpmpp-3m",
    "singlestep": "dpmpp-2s",
    "predictor-corrector": "unipc-3",
    "heun": "heun",
    "runge-kutta": "rk4",
    "exponential": "etdrk3",
    "pseudo-numerical": "pndm",
}
STOCHASTIC = {
    "multistep": "sde-dpmpp-2m",
    "ancestral": "ddpm",
    "shared noise": "sa-solver",
    "churn": "heun-churn",
    "restart": "heun-restart",
    "stages": "seeds-2",
}


class Net(nn.Module):
    """A small convolutional network with a class."""

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.label = nn.Embedding(4, 4)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Conv2d(4, channels, 3, padding=1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        hidden = self.first(x) + t.to(x)[:, None, None, None]
        if label is not None:
            hidden = hidden + self.label(label)[:, :, None, None]
        return self.last(self.dropout(nn.functional.silu(hidden)))


class Pair(nn.Module):
    """Calls a network as those of other libraries are: nested arguments, nested results of more channels."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor, t: Tensor, extra: dict[str, Any], scale: float = 1.0) -> dict[str, Any]:
        return {"mean": (scale * self.net(x, t, extra["label"]),), "rest": None, "size": x.shape[1]}


def denoiser_of(net: Any, sde: ss.SDE | None = None) -> ss.Denoiser:
    return ss.Denoiser(net, sde or ss.EDM(), precondition=ss.EDMPrecond(0.5))


@pytest.fixture
def denoiser() -> ss.Denoiser:
    return denoiser_of(Net().eval().requires_grad_(False))


def plan_of(denoiser: ss.BaseDenoiser, solver: str, steps: int = 3) -> ss.Plan:
    return ss.plan_for(solver, denoiser.sde, steps=steps)


def sampled(denoiser: ss.BaseDenoiser, solver: str, shape: tuple[int, ...], steps: int = 3, **options: Any) -> Tensor:
    return ss.sample(denoiser, shape, solver=solver, steps=steps, seed=5, index=2, **options)


# -- the module


@pytest.mark.parametrize("solver", [*DETERMINISTIC.values(), *STOCHASTIC.values()])
def test_the_module_samples(solver: str, denoiser: ss.Denoiser) -> None:
    sampler = Sampler(plan_of(denoiser, solver), denoiser)
    assert torch.equal(sampler(*sampler.draw(SHAPE, 5, 2)), sampled(denoiser, solver, SHAPE))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_module_in_other_precisions(dtype: torch.dtype, denoiser: ss.Denoiser) -> None:
    sampler = Sampler(plan_of(denoiser, "sde-dpmpp-2m"), denoiser).to(dtype)
    x_T, noises = sampler.draw(SHAPE, 5, 2, dtype=dtype)
    assert (x_T.dtype, noises.dtype) == (dtype, torch.promote_types(dtype, torch.float32))
    assert next(denoiser.net.parameters()).dtype == dtype  # type: ignore[union-attr]
    assert torch.equal(sampler(x_T, noises), sampled(denoiser, "sde-dpmpp-2m", SHAPE, dtype=dtype))


def test_noises_of_a_path_and_indices(denoiser: ss.Denoiser) -> None:
    sampler = Sampler(plan_of(denoiser, "sde-dpmpp-2m"), denoiser)
    wanted = sampled(denoiser, "sde-dpmpp-2m", SHAPE, noise="path")
    assert torch.allclose(sampler(*sampler.draw(SHAPE, 5, 2, noise="path")), wanted, atol=1e-6)
    backwards = sampler(*sampler.draw(SHAPE, 5, [5, 4, 3, 2]))
    assert torch.allclose(backwards.flip(0), sampled(denoiser, "sde-dpmpp-2m", SHAPE), atol=1e-6)


def test_conditions_and_guidance(denoiser: ss.Denoiser) -> None:
    guided = Threshold(ClassifierFree(denoiser, 2.0, {"label": 3}))
    cond = {"label": torch.tensor([0, 1, 2, 0])}
    sampler = Sampler(plan_of(guided, "ddim-cfgpp"), guided)
    assert torch.equal(sampler(*sampler.draw(SHAPE, 5, 2), cond=cond), sampled(guided, "ddim-cfgpp", SHAPE, cond=cond))
    assert list(sampler.nets) == [denoiser.net]


def test_networks_are_submodules(denoiser: ss.Denoiser) -> None:
    net = denoiser.net
    sampler = Sampler(plan_of(denoiser, "ddim"), denoiser)
    assert {name.removeprefix("nets.0.") for name in sampler.state_dict()} == set(net.state_dict())  # type: ignore
    other = copy.deepcopy(sampler)
    other.load_state_dict({name: 0 * value for name, value in sampler.state_dict().items()})
    x_T = sampler.draw(SHAPE)
    assert not torch.equal(other(*x_T), sampler(*x_T))
    assert torch.equal(sampler(*x_T), ss.sample(denoiser, SHAPE, solver="ddim", steps=3))


GLOBAL = Net()


def through_a_global(x: Tensor, t: Tensor) -> Tensor:
    return GLOBAL(x, t)


class ModuleDenoiser(ss.BaseDenoiser, nn.Module):
    """A denoiser that is a module itself."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.sde, self.net = ss.EDM(), Net()

    def __call__(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        return 0.0 * x


def test_networks_are_found_where_functions_hide_them() -> None:
    net, pair = Net(), Pair()
    for hidden in (
        lambda x, t: net(x, t),
        functools.partial(lambda inner, x, t: inner(x, t), net),
        functools.partial(net, label=None),
        net.forward,
    ):
        assert networks(denoiser_of(hidden)) == [net]
    assert networks(denoiser_of(through_a_global)) == [GLOBAL]
    assert networks(denoiser_of(lambda x, t: (pair(x, t, {}), pair.net(x, t)))) == [pair]  # not the one inside as well
    itself = ModuleDenoiser()
    assert networks(itself) == [itself]
    assert len(Sampler(plan_of(itself, "ddim"), itself).state_dict()) == len(itself.state_dict())
    assert networks(denoiser_of(lambda x, t: torch.tanh(x))) == []


def test_gradients_flow_through(denoiser: ss.Denoiser) -> None:
    sampler = Sampler(plan_of(denoiser, "dpmpp-2m"), denoiser).requires_grad_()
    sampler(*sampler.draw(SHAPE)).square().sum().backward()
    assert all(p.grad is not None for name, p in sampler.named_parameters() if "label" not in name)


# -- errors


def test_errors_of_the_module(denoiser: ss.Denoiser) -> None:
    plan = plan_of(denoiser, "ddim")
    with pytest.raises(TypeError, match=r"plan must be a scoresde.Plan.*got 'rk45'"):
        Sampler(ss.plan_for("rk45", denoiser.sde), denoiser)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"plan must be.*'dpmpp-2m'"):
        Sampler("dpmpp-2m", denoiser)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"denoiser must be a scoresde.Denoiser.*got Net"):
        Sampler(plan, Net())  # type: ignore[arg-type]
    x_T = torch.zeros(SHAPE)
    with pytest.raises(ValueError, match="noises must be left out: the plan of ddim"):
        Sampler(plan, denoiser)(x_T, x_T[None])
    stochastic = Sampler(plan_of(denoiser, "ddpm"), denoiser)
    with pytest.raises(ValueError, match="noises must be given: ddim takes 2"):
        stochastic(x_T)
    with pytest.raises(ValueError, match=r"noises must have the shape \(2, 4, 2, 5, 3\).*got \(1, 4, 2, 5, 3\)"):
        stochastic(x_T, x_T[None])
    with pytest.raises(TypeError, match="x_T must be a tensor of floating-point numbers"):
        stochastic(x_T.long(), torch.stack([x_T, x_T]))


def to_some_onnx(plan: ss.Plan, denoiser: ss.BaseDenoiser, shape: tuple[int, ...], **options: Any) -> OnnxFile:
    return to_onnx(plan, denoiser, "never.onnx", shape, **options)


@pytest.mark.parametrize("export", [export_plan, to_some_onnx])
def test_errors_of_both_exports(export: Any, denoiser: ss.Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoresde.export.onnx._check_installed", lambda: None)
    plan = plan_of(denoiser, "ddim")
    with pytest.raises(ValueError, match=r"shape must be \(batch, ...\).*got \(3,\)"):
        export(plan, denoiser, (3,))
    with pytest.raises(ValueError, match=r"shape must be \(batch, ...\).*got \(0, 2\)"):
        export(plan, denoiser, (0, 2))
    with pytest.raises(TypeError, match=r"cond\['label'\] must be a tensor, got int; bind"):
        export(plan, denoiser, SHAPE, cond={"label": 3})
    with pytest.raises(TypeError, match="dtype must be a floating-point dtype, got"):
        export(plan, denoiser, SHAPE, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"largest_batch must be at least 2 and the batch of shape.*got 3"):
        export(plan, denoiser, SHAPE, largest_batch=3)
    with pytest.raises(TypeError, match="plan must be"):
        export(ss.plan_for("rk45", denoiser.sde), denoiser, SHAPE)


def test_errors_of_onnx(denoiser: ss.Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(denoiser, "ddim")
    monkeypatch.setattr("scoresde.export.onnx.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs onnx and onnxscript: pip install 'scoresde\[onnx\]'"):
        to_onnx(plan, denoiser, tmp_path / "a.onnx", SHAPE)
    monkeypatch.setattr("scoresde.export.onnx.find_spec", lambda name: name)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        to_onnx(plan, denoiser, tmp_path / "none" / "a.onnx", SHAPE)
    with pytest.raises(ValueError, match="cond: sample is the name of another input or output"):
        to_onnx(plan, denoiser, tmp_path / "a.onnx", SHAPE, cond={"sample": torch.zeros(4)})
    assert not list(tmp_path.iterdir())


# -- torch.export


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "dtype"),
    [
        *((solver, torch.float32) for solver in (*DETERMINISTIC.values(), *STOCHASTIC.values())),
        ("unipc-3", torch.float64),
        ("sa-solver", torch.float64),
        ("sde-dpmpp-2m", torch.bfloat16),
    ],
)
def test_programs_equal_sampling(solver: str, dtype: torch.dtype, denoiser: ss.Denoiser) -> None:
    denoiser.net.to(dtype)  # type: ignore[union-attr]
    plan = plan_of(denoiser, solver)
    module = export_plan(plan, denoiser, (2, *SHAPE[1:]), dtype=dtype).module()
    for batch in (1, 4):
        shape = (batch, *SHAPE[1:])
        got = module(*Sampler(plan, denoiser).draw(shape, 5, 2, dtype=dtype))
        assert got.dtype == dtype
        tolerance = {torch.float64: 1e-12}.get(dtype, 1e-6)
        assert (got - sampled(denoiser, solver, shape, dtype=dtype)).abs().max() <= tolerance


@pytest.mark.slow
def test_programs_of_guided_networks_saved_and_loaded(denoiser: ss.Denoiser, tmp_path: Path) -> None:
    guided = DynamicThreshold(ClassifierFree(denoiser, 2.0, {"label": 3}), bound=0.5)
    plan = plan_of(guided, "ddpm-cfgpp")
    program = export_plan(plan, guided, (1, *SHAPE[1:]), cond={"label": torch.tensor([1])})
    torch.export.save(program, tmp_path / "plan.pt2")
    loaded = torch.export.load(tmp_path / "plan.pt2")
    cond = {"label": torch.tensor([0, 1, 2, 0])}
    got = loaded.module()(*Sampler(plan, guided).draw(SHAPE, 5, 2), cond=cond)
    assert (got - sampled(guided, "ddpm-cfgpp", SHAPE, cond=cond)).abs().max() <= 1e-6
    # Weights are there once, whatever the number of calls.
    parameters = sum(p.numel() for p in denoiser.net.parameters())  # type: ignore[union-attr]
    held = [v for v in (*loaded.state_dict.values(), *loaded.constants.values()) if isinstance(v, Tensor)]
    assert parameters <= sum(value.numel() for value in held) <= parameters + 20


@pytest.mark.slow
def test_programs_are_for_inference_and_leave_the_network_as_it_was(denoiser: ss.Denoiser) -> None:
    net: Any = denoiser.net
    net.train()
    net.last.eval()
    program = export_plan(plan_of(denoiser, "ddim", 2), denoiser, SHAPE)
    assert (net.training, net.dropout.training, net.last.training) == (True, True, False)
    x_T = Sampler(plan_of(denoiser, "ddim", 2), denoiser).draw(SHAPE)
    assert torch.equal(program.module()(*x_T), program.module()(*x_T))  # no dropout
    assert "forward" not in vars(net)


@pytest.mark.slow
def test_a_fixed_batch_and_networks_that_need_one() -> None:
    def needs_a_number(x: Tensor, t: Tensor) -> Tensor:
        return x * len(x)  # a plain int

    denoiser = denoiser_of(needs_a_number)
    plan = plan_of(denoiser, "ddim", 2)
    with pytest.raises(Exception, match="batch") as raised:
        export_plan(plan, denoiser, SHAPE)
    assert "dynamic_batch=False" in raised.value.__notes__[0]
    module = export_plan(plan, denoiser, SHAPE, dynamic_batch=False).module()
    x_T = Sampler(plan, denoiser).draw(SHAPE, 5, 2)
    assert torch.allclose(module(*x_T), sampled(denoiser, "ddim", SHAPE, 2), rtol=1e-6)
    with pytest.raises(AssertionError, match=r"size\(\)\[0\] == 4"):
        module(torch.zeros(3, *SHAPE[1:]))


@pytest.mark.slow
def test_the_shipped_model_exports() -> None:
    pytest.importorskip("safetensors")
    from scoresde import models

    digits = models.digits()
    plan = plan_of(digits, "heun", 2)
    program = export_plan(plan, digits, (2, 1, 8, 8), cond={"class_labels": torch.tensor([3, 4])})
    cond = {"class_labels": torch.arange(5)}
    got = program.module()(*Sampler(plan, digits).draw((5, 1, 8, 8), 5, 2), cond=cond)
    assert (got - sampled(digits, "heun", (5, 1, 8, 8), 2, cond=cond)).abs().max() <= 1e-6


# -- torch.compile


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["unipc-3", "heun-restart", "sa-solver"])
def test_no_graph_break(solver: str, denoiser: ss.Denoiser) -> None:
    torch._dynamo.reset()
    sampler = Sampler(plan_of(denoiser, solver), denoiser)  # made anew: nothing was evaluated eagerly before
    inputs = sampler.draw(SHAPE, 5, 2)
    compiled = torch.compile(sampler, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(*inputs), sampled(denoiser, solver, SHAPE), atol=1e-6)


# -- ONNX

# Of torch's own exporter.
ignore_theirs = pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")


@pytest.fixture
def quiet() -> None:
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)  # torchvision is missing


def run_onnx(file: OnnxFile, *inputs: Tensor) -> Tensor:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(file.path)
    (got,) = session.run(["sample"], {name: x.numpy() for name, x in zip(file.inputs, inputs, strict=True)})
    return torch.from_numpy(got)


@pytest.mark.slow
@ignore_theirs
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("inline", [True, False])
def test_onnx_of_a_stochastic_plan(inline: bool, denoiser: ss.Denoiser, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    plan = plan_of(denoiser, "sa-solver", 4)
    file = to_onnx(plan, denoiser, tmp_path / "plan.onnx", (1, *SHAPE[1:]), inline=inline)
    assert file.inputs == ("x_T", "noises")
    assert file.functions == (not inline)
    got = run_onnx(file, *Sampler(plan, denoiser).draw(SHAPE, 5, 2))
    assert (got - sampled(denoiser, "sa-solver", SHAPE, 4)).abs().max() <= 1e-5
    model = onnx.load(file.path)
    onnx.checker.check_model(model, full_check=True)
    facts = {entry.key.removeprefix("scoresde."): entry.value for entry in model.metadata_props}
    assert (facts["solver"], facts["nfe"]) == ("sa-solver", str(plan.nfe))
    assert tuple(json.loads(facts["times"])) == plan.times
    assert ss.Plan.from_json(facts["plan"]) == plan
    assert facts["version"]
    assert "test_export" not in model.SerializeToString().decode("latin1")  # no source lines, no paths
    assert [path.name for path in tmp_path.iterdir()] == ["plan.onnx"]
    assert file.bytes == file.path.stat().st_size


@pytest.mark.slow
@ignore_theirs
@pytest.mark.usefixtures("quiet")
def test_onnx_of_the_shipped_model_guided(tmp_path: Path) -> None:
    for package in ("safetensors", "onnxscript"):
        pytest.importorskip(package)
    from scoresde import models

    digits = models.digits()
    guided = ClassifierFree(digits, 1.5, {"class_labels": 10})
    plan = plan_of(guided, "dpmpp-2m", 6)
    file = to_onnx(plan, guided, tmp_path / "digits.onnx", (2, 1, 8, 8), cond={"class_labels": torch.tensor([3, 4])})
    cond = {"class_labels": torch.arange(5)}
    got = run_onnx(file, *Sampler(plan, guided).draw((5, 1, 8, 8), 5, 2), cond["class_labels"])
    assert (got - sampled(guided, "dpmpp-2m", (5, 1, 8, 8), 6, cond=cond)).abs().max() <= 1e-4
    weights = sum(4 * p.numel() for p in digits.net.parameters())  # type: ignore[union-attr]
    assert weights < file.bytes < 1.8 * weights  # once, not at each of the six evaluations


@pytest.mark.slow
@ignore_theirs
@pytest.mark.usefixtures("quiet")
def test_onnx_of_nested_arguments_and_weights_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    pair = Pair().eval()
    denoiser = denoiser_of(lambda x, t, label: pair(x, t, {"label": label}, scale=0.5)["mean"][0])
    monkeypatch.setattr("scoresde.export.onnx.LARGEST", 1)
    plan = plan_of(denoiser, "dpmpp-2m", 2)
    cond = {"label": torch.zeros(4, dtype=torch.long)}
    file = to_onnx(plan, denoiser, tmp_path / "plan.onnx", SHAPE, cond=cond, inline=False)
    assert file.functions == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.onnx", "plan.onnx.data"]
    cond = {"label": torch.tensor([2])}
    got = run_onnx(file, *Sampler(plan, denoiser).draw((1, *SHAPE[1:]), 5, 2), cond["label"])
    assert (got - sampled(denoiser, "dpmpp-2m", (1, *SHAPE[1:]), 2, cond=cond)).abs().max() <= 1e-5


class Forked(Net):
    """Takes another way for large batches."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return super().forward(x, t, label) if x.shape[0] < 64 else torch.tanh(x)


@pytest.mark.slow
@ignore_theirs
@pytest.mark.usefixtures("quiet")
def test_a_largest_batch(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    guided = ClassifierFree(denoiser_of(Forked().eval()), 2.0, {"label": 3})  # the network gets twice the batch
    plan, cond = plan_of(guided, "ddim", 2), {"label": torch.tensor([0, 1, 2, 0])}
    with pytest.raises(Exception, match="max=31") as raised:
        export_plan(plan, guided, SHAPE, cond=cond)
    assert "pass that as largest_batch" in raised.value.__notes__[0]
    file = to_onnx(plan, guided, tmp_path / "plan.onnx", SHAPE, cond=cond, largest_batch=31, inline=False)
    assert file.functions == 1
    many = {"label": torch.arange(31) % 3}
    x_T = Sampler(plan, guided).draw((31, *SHAPE[1:]), 5, 2)
    wanted = sampled(guided, "ddim", (31, *SHAPE[1:]), 2, cond=many)
    assert (run_onnx(file, *x_T, many["label"]) - wanted).abs().max() <= 1e-5
    module = export_plan(plan, guided, SHAPE, cond=cond, largest_batch=31).module()
    assert (module(*x_T, cond=many) - wanted).abs().max() <= 1e-6


class Folded(Net):
    """Gives a batch of another size than that of its arguments."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return super().forward(x, t, label).flatten(0, 1)


@pytest.mark.slow
@ignore_theirs
@pytest.mark.usefixtures("quiet")
def test_onnx_of_a_network_that_cannot_be_a_function(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    net = Folded().eval()
    denoiser = denoiser_of(lambda x, t: net(x, t).reshape(x.shape))
    plan = plan_of(denoiser, "dpmpp-2m", 2)
    file = to_onnx(plan, denoiser, tmp_path / "plan.onnx", SHAPE, inline=False)
    assert file.functions == 0
    got = run_onnx(file, *Sampler(plan, denoiser).draw((1, *SHAPE[1:]), 5, 2))
    assert (got - sampled(denoiser, "dpmpp-2m", (1, *SHAPE[1:]), 2)).abs().max() <= 1e-5


@pytest.mark.slow
@ignore_theirs
@pytest.mark.usefixtures("quiet")
def test_onnx_of_a_function_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    denoiser = ss.Denoiser(lambda x, t: torch.tanh(x), ss.VP())
    plan = plan_of(denoiser, "heun", 2)
    file = to_onnx(plan, denoiser, tmp_path / "plan.onnx", (3, 4))
    assert file.functions == 0
    got = run_onnx(file, *Sampler(plan, denoiser).draw((5, 4), 5, 2))
    assert torch.allclose(got, sampled(denoiser, "heun", (5, 4), 2), rtol=1e-4, atol=1e-4)


# -- CUDA


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("solver", ["unipc-3", "sa-solver", "heun-restart"])
def test_a_cuda_graph_of_the_whole_sampler(solver: str, denoiser: ss.Denoiser) -> None:
    sampler = Sampler(plan_of(denoiser, solver), denoiser).cuda()
    inputs = sampler.draw(SHAPE, 5, 2, device="cuda")
    with torch.no_grad():
        wanted = sampler(*inputs)  # also the warm-up
        still = [torch.zeros_like(x) for x in inputs]
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            made = sampler(*still)
        for place, x in zip(still, inputs, strict=True):
            place.copy_(x)
        graph.replay()
    assert torch.allclose(made, wanted, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_program_for_the_device(denoiser: ss.Denoiser) -> None:
    denoiser.net.cuda()  # type: ignore[union-attr]
    plan = plan_of(denoiser, "sa-solver")
    module = export_plan(plan, denoiser, (2, *SHAPE[1:]), device="cuda").module()
    inputs = Sampler(plan, denoiser).draw(SHAPE, 5, 2, device="cuda")
    module(*inputs)  # a first call loads kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = module(*inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.allclose(got, sampled(denoiser, "sa-solver", SHAPE, device="cuda"), atol=1e-5)
