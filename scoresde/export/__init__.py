"""A whole plan with its network as one program: :mod:`torch.export`, ONNX, :func:`torch.compile`, CUDA graphs.

A plan is fixed before the network is called once, so sampling by it is one function of the starting noise (and, for a
stochastic solver, of its noises), with every coefficient a constant. :class:`Sampler` is that function as a module.
:func:`export_plan` makes a program of it that runs without this package, and :func:`to_onnx` one that runs without
Python. Numbers are those of :func:`scoresde.sample`: it is the same loop that is traced.
"""

from __future__ import annotations

from scoresde.export.onnx import OnnxFile, to_onnx
from scoresde.export.program import export_plan
from scoresde.export.sampler import Sampler

__all__ = ["OnnxFile", "Sampler", "export_plan", "to_onnx"]
