"""The shipped models: small, loadable, as good as their record says, and not memorised."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from scoresde import models
from scoresde.data import digits
from scoresde.denoiser import Denoiser, EDMPrecond
from scoresde.metrics import frechet, frechet_distance, frechet_stats, memorisation_ratio
from scoresde.models.checkpoint import load_checkpoint
from scoresde.models.quality import digit_quality
from scoresde.nn import UNet, UNetConfig
from scoresde.sample import sample
from scoresde.sde import EDM, VP

FOLDER = Path(models.__file__).parent
LABELS = torch.arange(300) * 10 // 300  # sorted: every block of a jackknife then holds all classes


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return models.digits()


@pytest.fixture(scope="module")
def drawn(denoiser: Denoiser) -> torch.Tensor:
    """300 digits, thirty of every class, by ten network calls each."""
    return sample(denoiser, (300, 1, 8, 8), solver="dpmpp-2m", steps=10, seed=0, cond={"class_labels": LABELS})


def test_package_data_is_small():
    data = [path for path in FOLDER.iterdir() if path.suffix in {".safetensors", ".json"}]
    assert len(data) == 7
    assert sum(path.stat().st_size for path in data) < 1_000_000


def test_weights_are_in_half_precision_and_the_documented_network(denoiser: Denoiser):
    tensors, config = load_checkpoint(FOLDER / "digits.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert UNetConfig.from_dict(config["unet"]) == UNetConfig()
    net = denoiser.net
    assert isinstance(net, UNet)
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_denoiser_is_edm_with_the_measured_spread_of_the_data(denoiser: Denoiser):
    assert denoiser.sde == EDM()
    assert isinstance(denoiser.precondition, EDMPrecond)
    assert denoiser.precondition.sigma_data == pytest.approx(float(digits("train").images.std()), abs=1e-3)


def test_record_is_of_these_files():
    record = models.provenance()
    assert record["command"].startswith("scoresde train digits")
    assert record["sha256"].keys() == {
        "digits.safetensors",
        "digit_features.safetensors",
        "digit_reference.safetensors",
    }
    for name, digest in record["sha256"].items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest
    for name in record["sha256"]:
        tensors_config = load_checkpoint(FOLDER / name)[1]
        assert json.loads((FOLDER / name).with_suffix(".json").read_text(encoding="utf-8")) == tensors_config
    assert {"torch", "scoresde", "python"} <= record["versions"].keys()
    assert record["score"]["losses"][-1] < record["score"]["losses"][0]


def test_denoiser_denoises_digits_that_it_never_saw(denoiser: Denoiser):
    held_out = digits("held-out")
    noise = torch.randn(held_out.images.shape, generator=torch.Generator().manual_seed(0))
    for sigma, allowed in [(0.05, 0.05), (0.5, 0.36), (80.0, 0.75)]:
        denoised = denoiser(held_out.images + sigma * noise, sigma, class_labels=held_out.labels)
        assert (denoised - held_out.images).square().mean().sqrt() < allowed


def test_few_calls_reach_the_band_of_real_data(drawn: torch.Tensor):
    """Ten network calls: the distance to unseen digits stays near the floor; a Gaussian fit is at 7, noise at 34."""
    features, reference = models.digit_features(), models.digit_reference()
    found = frechet(features(drawn), reference.stats)
    assert found.low < 0.25
    assert -0.3 < found.value < 0.5
    noise = 0.75 * torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert frechet(features(noise), reference.stats).value > 20


def test_samples_are_not_memorised(drawn: torch.Tensor):
    ratio = memorisation_ratio(drawn, digits("train").images, digits("held-out").images)
    assert 0.9 < ratio.value < 1.15


def test_labels_decide_the_class(drawn: torch.Tensor):
    features = models.digit_features()
    assert (features.logits(drawn).argmax(dim=1) == LABELS).double().mean() > 0.9


@pytest.mark.slow
def test_quality_is_what_the_record_says(denoiser: Denoiser):
    """New samples (another seed) by the sampler of the record: within four standard errors of the difference."""
    quality = digit_quality(denoiser, models.digit_features(), models.digit_reference().stats, seed=1)
    stated = models.provenance()["quality"]
    for name in ("frechet", "frechet_unconditional", "memorisation"):
        assert getattr(quality, name).value == pytest.approx(stated[name]["value"], abs=4 * 2**0.5 * stated[name]["se"])
    assert quality.accuracy == pytest.approx(stated["accuracy"], abs=0.03)
    assert stated["frechet"]["low"] < 0.25
    assert stated["frechet"]["value"] < 0.4
    assert stated["frechet_unconditional"]["value"] < 1.0
    assert 0.95 < stated["memorisation"]["value"] < 1.1
    assert stated["accuracy"] > 0.9


def test_features_classify_and_reference_is_of_the_held_out_half():
    features, reference = models.digit_features(), models.digit_reference()
    train, held_out = digits("train"), digits("held-out")
    assert (features.logits(held_out.images).argmax(dim=1) == held_out.labels).double().mean() > 0.97
    ours, theirs = (features(part.images[part.labels.argsort(stable=True)]) for part in (train, held_out))
    torch.testing.assert_close(ours.std(dim=0), torch.ones(64), rtol=1e-3, atol=0)
    stats = frechet_stats(theirs)
    torch.testing.assert_close(reference.stats.mean, stats.mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(reference.stats.covariance, stats.covariance, rtol=0, atol=1e-3)
    assert reference.stats.n == len(held_out)
    assert reference.floor_plain == pytest.approx(frechet_distance(frechet_stats(ours), stats), rel=1e-3)
    assert -0.2 < reference.floor.low < reference.floor.value < reference.floor.high < 0.3


def test_the_network_serves_other_processes(denoiser: Denoiser):
    """Preconditioned by sigma / alpha, it is the same denoiser under VP: E[x0] of x / alpha at the same ratio."""
    under_vp = Denoiser(denoiser.net, VP(), precondition=denoiser.precondition)
    point = VP().point(0.4)
    x = digits("train").images[:4]
    torch.testing.assert_close(
        under_vp(x * point.alpha, point.t), denoiser(x, point.rho), rtol=1e-4, atol=1e-5
    )  # fmt: skip


def test_load_by_name():
    assert models.names() == ("digits", "digit-features", "digit-reference")
    assert isinstance(models.load("digits"), Denoiser)
    assert models.load("digit-reference").stats.n == 898
    with pytest.raises(ValueError, match="name='digit-feature' is unknown; nearest: digit-features"):
        models.load("digit-feature")


def test_a_folder_without_models_is_named(tmp_path: Path):
    for loader in (models.digits, models.digit_features, models.digit_reference, models.provenance):
        with pytest.raises(FileNotFoundError, match=str(tmp_path)):
            loader(tmp_path)
