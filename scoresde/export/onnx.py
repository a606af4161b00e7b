"""A plan with its network as an ONNX file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.export import ExportedProgram

from scoresde.denoiser import BaseDenoiser
from scoresde.export.calls import Call, Network, Tree, UnlikeCallsError, calls_of, key_of, replaced
from scoresde.export.program import Example, example_of, inference, traced
from scoresde.export.sampler import Sampler
from scoresde.plan import Plan

DOMAIN = "scoresde"  # of the functions that are the networks
LARGEST = 2**31 - 2**24  # bytes of weights that fit a protobuf message beside the graph
SMALL = 128  # bytes up to which a constant is written where it is used


class OnnxFile(NamedTuple):
    """What :func:`to_onnx` wrote.

    Attributes:
        path: the file.
        inputs: the names of its inputs, in order.
        nodes: operators in it, those of a function counted once.
        functions: those that are networks; 0 in a file that is inlined, or whose network was traced at each evaluation.
        bytes: size of the file, and of the one with its weights if they are apart.
    """

    path: Path
    inputs: tuple[str, ...]
    nodes: int
    functions: int
    bytes: int


def to_onnx(
    plan: Plan,
    denoiser: BaseDenoiser,
    path: str | Path,
    shape: Sequence[int],
    *,
    cond: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    dynamic_batch: bool = True,
    largest_batch: int | None = None,
    inline: bool = True,
    opset: int | None = None,
) -> OnnxFile:
    """Write a plan with its network as an ONNX file, which needs neither Python nor torch to run.

    Inputs are "x_T", for a stochastic plan "noises" (:meth:`Sampler.draw` makes them), and the conditions by their
    names; the output is "sample". ``metadata_props`` say what it is: scoresde.solver, .nfe, .times (JSON), .plan (JSON,
    of :meth:`scoresde.Plan.to_json`) and .version.

    The network is traced once, however many evaluations there are, and its weights are written once. Beforehand it
    runs twice, on zeros, to see what it gives; its ``forward`` is replaced meanwhile, so let no other thread use it. A
    network for which this does not work (it is called by another method than ``forward``, or gives a shape that its
    arguments do not have) is traced at each evaluation.

    Args:
        plan, denoiser, shape, cond, dtype, device, dynamic_batch, largest_batch: as of
            :func:`scoresde.export.export_plan`; the file itself sets no limit to the batch.
        path: of the file, which appears when it is complete. Weights beyond 2 GB go to a file beside it, named path +
            ".data".
        inline: whether each evaluation has the network's operators. False writes them once, as a function of the model
            that each evaluation calls: a smaller file, but not every runtime knows functions, and onnxruntime takes
            much longer to load it than the same file inlined.
        opset: version of ONNX's operators; by default torch's choice.

    Raises:
        ImportError: onnx or onnxscript is not installed, or torch is too old.
        TypeError, ValueError: as of :func:`scoresde.export.export_plan`; before any work.
        FileNotFoundError: the folder of the path does not exist.
    """
    _check_installed()
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: there is no folder {path.parent}")
    sampler = Sampler(plan, denoiser)
    example = example_of(sampler, shape, cond, dtype, device, dynamic_batch, largest_batch)
    if taken := set(example.cond) & {"x_T", "noises", "sample"}:
        raise ValueError(f"cond: {', '.join(sorted(taken))} is the name of another input or output of the file")
    with torch.no_grad(), inference(sampler):
        try:
            calls = calls_of(sampler, example)
            names = {key: f"network_{i}" for i, key in enumerate(calls)}
            networks = {names[key]: _network(sampler, call, example) for key, call in calls.items()}
            with replaced(sampler, _symbols(calls, names)):
                program = traced(sampler, example)
        except UnlikeCallsError:
            networks, program = {}, traced(sampler, example)
        model = _onnx(program, example.names, ["sample"], opset)
        for name, network in networks.items():
            _define(model, name, network, opset)
    _finish(model, plan, inline)
    size = _write(model, path)
    functions = list(model.functions.values())
    nodes = sum(1 for part in (model.graph, *functions) for _ in part.all_nodes())
    return OnnxFile(path, tuple(value.name for value in model.graph.inputs), nodes, len(functions), size)


def _check_installed() -> None:
    if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise ImportError(f"writing ONNX files needs {' and '.join(missing)}: pip install 'scoresde[onnx]'")
    if not hasattr(torch.onnx, "ops"):
        raise ImportError(f"writing ONNX files needs torch 2.8 or newer, this is {torch.__version__}")


def _symbols(calls: dict[Any, Call], names: dict[Any, str]) -> Callable[[int, Callable[..., Any]], Callable[..., Any]]:
    """Stand-ins for the networks: one operator of our domain a call."""

    def stand_in(number: int, _: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            given = Tree.of((args, kwargs))
            key = key_of(number, given)
            if key not in calls:
                raise UnlikeCallsError
            operator, call = f"{DOMAIN}::{names[key]}", calls[key]
            shapes = call.shapes(given.tensors)
            made = torch.onnx.ops.symbolic_multi_out(
                operator, given.tensors, dtypes=call.dtypes, shapes=shapes, version=1
            )
            return call.made.nested(made)

        return forward

    return stand_in


def _onnx(program: ExportedProgram, inputs: list[str], outputs: list[str], opset: int | None) -> Any:
    made = torch.onnx.export(
        program, dynamo=True, input_names=inputs, output_names=outputs, opset_version=opset, verbose=False
    )
    assert made is not None  # of dynamo=True
    return made.model


def _network(sampler: Sampler, call: Call, example: Example) -> ExportedProgram:
    net = Network(sampler.nets[call.number], call)
    try:
        return torch.export.export(net, call.given.tensors, dynamic_shapes=net.dynamic_shapes(example))
    except Exception as error:  # of many types; if it cannot be traced at all, unrolling says so
        raise UnlikeCallsError from error


def _define(model: Any, name: str, network: ExportedProgram, opset: int | None) -> None:
    """Add a network to the model as the function that its nodes of this name call, and its weights as their inputs."""
    import onnx_ir as ir

    nodes = [node for node in model.graph if (node.domain, node.op_type) == (DOMAIN, name)]
    if not nodes:
        return
    signature = network.graph_signature
    inputs = [f"argument_{i}" for i in range(len(signature.user_inputs))]
    part = _onnx(network, inputs, [f"result_{i}" for i in range(len(signature.user_outputs))], opset)
    graph = part.graph
    weights = []
    for value in list(graph.initializers.values()):
        del graph.initializers[value.name]
        tensor = value.const_value
        if tensor.nbytes <= SMALL:  # a shape, an axis: runtimes want to see them as constants
            constant = ir.node("Constant", [], {"value": tensor})
            value.replace_all_uses_with(constant.outputs[0])
            graph.insert_before(graph[0], constant)
            continue
        graph.inputs.append(value)
        value.const_value = None
        weights.append(_weight(model, f"{name}.{value.name}", tensor))
    for node in nodes:
        own = len(node.inputs)
        node.resize_inputs(own + len(weights))
        for i, weight in enumerate(weights):
            node.replace_input_with(own + i, weight)
    model.functions.update(part.functions)
    model.functions[DOMAIN, name, ""] = ir.Function(DOMAIN, name, graph=graph, attributes=())
    model.opset_imports.update(part.opset_imports)
    model.opset_imports[DOMAIN] = 1


def _weight(model: Any, name: str, tensor: Any) -> Any:
    import onnx_ir as ir

    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def _finish(model: Any, plan: Plan, inline: bool) -> None:
    """Weights that are equal become one, traces of our machine go, and the file says what it is."""
    from onnx_ir.passes import common

    if inline:
        common.InlinePass()(model)
    common.DeduplicateInitializersPass(size_limit=2**62)(model)
    common.ClearMetadataAndDocStringPass()(model)  # source lines and paths, for each node
    ours = _version()
    model.producer_name, model.producer_version = "scoresde", ours
    facts = {
        "solver": plan.solver,
        "nfe": str(plan.nfe),
        "times": json.dumps(plan.times),
        "plan": json.dumps(json.loads(plan.to_json())),
        "version": ours,
    }
    model.metadata_props.update({f"scoresde.{name}": value for name, value in facts.items()})


def _version() -> str:
    try:
        return version("scoresde")
    except PackageNotFoundError:  # a source tree that is not installed
        return "unknown"


def _write(model: Any, path: Path) -> int:
    """Write to a folder beside the file, then move it there; returns the bytes written."""
    import onnx_ir as ir

    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        apart = f"{path.name}.data" if weights > LARGEST else None
        ir.save(model, Path(folder) / path.name, external_data=apart)
        written = sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name)  # the weights first
        size = sum(file.stat().st_size for file in written)
        for file in written:
            os.replace(file, path.parent / file.name)
    return size
