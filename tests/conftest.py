"""What every test runs under: one thread, no window, fixed seeds."""

import os

# Before torch is imported: torch on a few contended cores spins, and one thread is then many times faster. Say
# OMP_NUM_THREADS=4 to use four. Subprocesses that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import pytest
import torch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

# The same examples on every machine and no clock: a test fails for what the code does, not for how busy the machine is.
hypothesis.settings.register_profile("scoresde", derandomize=True, deadline=None, max_examples=50, database=None)
hypothesis.settings.load_profile("scoresde")


def pytest_report_header(config: pytest.Config) -> str:
    return f"torch {torch.__version__}, {torch.get_num_threads()} thread(s)"


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """Tests draw with generators of their own; what does not still gets the same numbers in any order of tests."""
    torch.manual_seed(0)
