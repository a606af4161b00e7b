"""A whole sampler as one ONNX file: the digits model with DPM-Solver++ 2M at ten calls, run by onnxruntime."""

import logging
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch

import scoresde as ss
from scoresde import models
from scoresde.export import Sampler, to_onnx

NEEDED = ("onnx", "onnxscript", "onnxruntime")


def main() -> None:
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        print(f"skipped: this example needs {', '.join(missing)} (pip install 'scoresde[onnx]' onnxruntime)")
        return
    # What torch's exporter says of other packages and of itself.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)

    denoiser = models.digits()
    plan = ss.plan_for("dpmpp-2m", denoiser.sde, nfe=10)
    labels = torch.arange(10)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.onnx"
        # The batch of this shape is only an example: the file takes any.
        file = to_onnx(plan, denoiser, path, (2, 1, 8, 8), cond={"class_labels": labels[:2]})
        weights = sum(parameter.nbytes for net in Sampler(plan, denoiser).nets for parameter in net.parameters())
        print(f"{path.name}: inputs {', '.join(file.inputs)}; {file.nodes} operators for {plan.nfe} calls")
        print(f"{file.bytes} bytes, of which {weights} are the network's weights, written once")

        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        (x_T,) = Sampler(plan, denoiser).draw((10, 1, 8, 8), seed=0)
        (digits,) = session.run(["sample"], {"x_T": x_T.numpy(), "class_labels": labels.numpy()})

    ours = ss.sample(denoiser, (10, 1, 8, 8), solver="dpmpp-2m", nfe=10, seed=0, cond={"class_labels": labels})
    print(f"largest difference from scoresde.sample: {(torch.from_numpy(digits) - ours).abs().max():.1e}")


if __name__ == "__main__":
    main()
