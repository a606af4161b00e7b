"""Exponential Runge–Kutta methods: stiff order conditions, identities with other families, schemes of a user's own."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch

import scoresde as ss
from scoresde.solvers import Adams, Ancestral, ExponentialRK, MultistepDPM
from scoresde.solvers.exponential import phi
from scoresde.solvers.exponential_schemes import NONE, SCHEMES, SIMPSON, Scheme, in_levels, p, res_2s, res_3s
from scoresde.solvers.tableaus import TABLEAUX
from tests.problems import OnMixture

PROCESSES = {"vp": ss.VP(), "cosine": ss.CosineVP(), "edm": ss.EDM(), "flow": ss.RectifiedFlow()}
EVERY = {**SCHEMES, "res-2s, c2=0.3": res_2s(0.3), "res-3s, c2=0.3, c3=0.8": res_3s(0.3, 0.8)}


class StiffConditions:
    """The conditions for stiff order 1 to 5, evaluated at a linear part Z that is a matrix, not normal, and with
    matrices J, K, L and a bilinear map in place of the derivatives of the nonlinearity, none of which commute.

    psi_k = phi_k(Z) - sum_i b_i c_i^(k-1) / (k-1)! is the defect of the step for the k-th Taylor term of the
    nonlinearity, psi_k,i that of stage i (Hochbruck & Ostermann 2005; Luan & Ostermann 2014). ``weak`` takes the step's
    b at zero.
    """

    def __init__(self, scheme: Scheme, weak: bool) -> None:
        rng = np.random.default_rng(0)
        n, eigenvalues = 3, (-0.3, -1.7, 0.8)
        basis = rng.normal(size=(n, n))

        def matrix(values: Iterable[float]) -> np.ndarray:
            """The function of Z that has these values at the eigenvalues."""
            return basis @ np.diag(list(values)) @ np.linalg.inv(basis)

        self.c, self.stages = scheme.c, range(1, len(scheme.c))
        self.zero = np.zeros((n, n))
        self.J, self.K, self.L = (rng.normal(size=(n, n)) for _ in range(3))
        self.bilinear, self.u, self.v = rng.normal(size=(n, n, n)), rng.normal(size=n), rng.normal(size=n)
        weights = [scheme.weights(z) for z in eigenvalues]
        self.a = [[]] + [[matrix(w[i - 1][j] for w in weights) for j in range(i)] for i in self.stages]
        b = [matrix(w[-1][j] for w in weights) for j in (0, *self.stages)]
        self.b = [w * np.eye(n) for w in scheme.weights(0.0)[-1]] if weak else b
        self.psi, self.psi_i = {}, {}
        for k in range(1, 6):
            of_step = matrix(phi(k, 0.0 if weak else z) for z in eigenvalues)
            self.psi[k] = of_step - self._taylor(self.b, k)
            for i, c in enumerate(self.c):
                self.psi_i[k, i] = c**k * matrix(phi(k, c * z) for z in eigenvalues) - self._taylor(self.a[i], k)

    def _taylor(self, weights: list[np.ndarray], k: int) -> np.ndarray:
        terms = (w * c ** (k - 1) / math.factorial(k - 1) for w, c in zip(weights, self.c, strict=False))
        return sum(terms, self.zero)

    def _step(self, term: Callable[[int], np.ndarray]) -> np.ndarray:
        return sum(self.b[i] @ term(i) for i in self.stages)  # type: ignore[return-value]

    def _stage(self, i: int, term: Callable[[int], np.ndarray]) -> np.ndarray:
        return sum((self.a[i][j] @ term(j) for j in range(1, i)), self.zero)

    def of_order(self, order: int) -> Iterator[np.ndarray]:
        """What must vanish for this order, beside the conditions of the orders below."""
        c, J, K, L, psi = self.c, self.J, self.K, self.L, self.psi_i
        yield self.psi[order]
        if order == 2:
            yield from (psi[1, i] for i in self.stages)
        if order == 3:
            yield self._step(lambda i: J @ psi[2, i])
        if order == 4:
            yield self._step(lambda i: J @ psi[3, i])
            yield self._step(lambda i: J @ self._stage(i, lambda j: J @ psi[2, j]))
            yield self._step(lambda i: c[i] * K @ psi[2, i])
        if order == 5:
            yield self._step(lambda i: J @ psi[4, i])
            yield self._step(lambda i: J @ self._stage(i, lambda j: J @ psi[3, j]))
            yield self._step(lambda i: J @ self._stage(i, lambda j: J @ self._stage(j, lambda k: J @ psi[2, k])))
            yield self._step(lambda i: J @ self._stage(i, lambda j: c[j] * K @ psi[2, j]))
            yield self._step(lambda i: c[i] * K @ psi[3, i])
            yield self._step(lambda i: c[i] * K @ self._stage(i, lambda j: J @ psi[2, j]))
            yield self._step(lambda i: c[i] ** 2 * L @ psi[2, i])
            u, v = self.u, self.v
            yield self._step(lambda i: np.einsum("abc,b,c", self.bilinear, psi[2, i] @ u, psi[2, i] @ v))

    def miss(self, order: int) -> float:
        return max(np.abs(residual).max() for residual in self.of_order(order))


@pytest.mark.parametrize("scheme", EVERY.values(), ids=EVERY)
def test_stiff_order(scheme: Scheme) -> None:
    """The conditions hold up to the declared stiff order (the last with b at zero), and not of the order above; those
    known here end at order 5."""
    strong, weak = StiffConditions(scheme, weak=False), StiffConditions(scheme, weak=True)
    for order in range(1, min(scheme.stiff_order, 6)):
        assert strong.miss(order) < 1e-12, order
    if scheme.stiff_order <= 5:
        assert weak.miss(scheme.stiff_order) < 1e-12
    if scheme.stiff_order < 5:
        assert weak.miss(scheme.stiff_order + 1) > 1e-3


@pytest.mark.parametrize("name", ["etdrk4", "krogstad-4"])
def test_without_a_linear_part_they_are_the_classical_method(name: str) -> None:
    scheme, classical = SCHEMES[name].tableau, TABLEAUX["rk4"]
    for ours, theirs in zip((*scheme.a, scheme.b), (*classical.a, classical.b), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-15)


@pytest.mark.parametrize("scheme", EVERY.values(), ids=EVERY)
def test_without_a_linear_part_they_have_their_order(scheme: Scheme) -> None:
    assert scheme.tableau.order_error(scheme.order) < 1e-13
    assert scheme.tableau.order_error(scheme.order + 1) > 1e-5


@pytest.mark.parametrize("sde", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("end", ["zero", "eps"])
def test_identities(sde: ss.SDE, end: str) -> None:
    grid = ss.get_grid("karras", sde, 7, end=end)
    for ours, theirs in (
        (ss.get_solver("res-2s"), ss.get_solver("dpmpp-2s", solver_type="taylor")),
        (ss.get_solver("res-2s", c2=0.3), ss.get_solver("dpmpp-2s", solver_type="taylor", r1=0.3)),
        (ss.get_solver("res-2s", kind="epsilon"), ss.get_solver("dpm-solver-2", solver_type="taylor")),
        (ss.get_solver("res-2s", c2=1.0), ss.get_solver("etdrk2")),
        (ss.get_solver("res-3s", c2=1 / 3, c3=2 / 3), ss.get_solver("dpmpp-3s")),
        (ss.get_solver("res-3s", c2=1 / 3, c3=2 / 3, kind="epsilon"), ss.get_solver("dpm-solver-3")),
        (ExponentialRK(in_levels(2, ((0.4,),), "")), ss.get_solver("res-2s", c2=0.4)),
    ):
        assert ss.make_plan(ours, sde, grid).allclose(ss.make_plan(theirs, sde, grid), atol=1e-12), ours
    for name in ("res-3s", "krogstad-4", "etdrk3"):
        assert not ss.make_plan(name, sde, grid).allclose(ss.make_plan("dpmpp-3s", sde, grid), atol=1e-3)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ancestral_form_of_any_solver(eta: float) -> None:
    """It is k-diffusion's of DPM-Solver-2 and 2S; without noise it is the solver."""
    sde = ss.VP()
    grid = ss.get_grid("karras", sde, 7)
    for name in ("dpm-solver-2", "dpmpp-2s"):
        ours, theirs = Ancestral(ss.get_solver(name), eta), ss.get_solver(name, eta=eta)
        assert ss.make_plan(ours, sde, grid).allclose(ss.make_plan(theirs, sde, grid), atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_comfyui_res_multistep_is_adams_of_order_2(eta: float) -> None:
    """Its update, written out: how far back the past prediction lies is told by where the last step aimed."""
    sde = ss.EDM()
    levels = [10.0, 6.0, 3.0, 2.0, 0.7]
    solver = Adams(2) if eta == 0 else MultistepDPM(2, solver_type="taylor", eta=1.0)
    if eta == 0:
        assert ss.get_solver("res_multistep") == ss.get_solver("res_2m") == solver
    rows = ss.make_plan(solver, sde, levels).rows
    aimed = math.nan
    for i, row in enumerate(rows):
        s, t = levels[i], levels[i + 1]
        up = eta * t * math.sqrt(1 - (t / s) ** 2)
        down = math.sqrt(t**2 - up**2)
        h = math.log(s / down)
        if i:
            c2 = (math.log(aimed / levels[i - 1])) / h
            b1, b2 = phi(1, -h) - phi(2, -h) / c2, phi(2, -h) / c2
            assert row.x.d == pytest.approx((h * b1, h * b2), rel=1e-12)
        assert row.x.x == pytest.approx(down / s, rel=1e-12)
        assert [c for _, c in row.x.z] == pytest.approx([up] if eta else [], rel=1e-12)
        aimed = down


@pytest.mark.slow
def test_res4lyf_without_the_factors_of_the_nodes_has_order_2() -> None:
    """Its etdrk4_4s: not what it declares, and what it does."""
    shipped = Scheme(4, 2, (0.0, 1 / 2, 1 / 2, 1.0), ((), (), (p(1, 1 / 2),), (NONE, 2 * p(1, 1 / 2))), SIMPSON)
    with pytest.raises(ValueError, match="has not the order 4 that it declares"):
        ExponentialRK(shipped)
    solver = ExponentialRK(shipped._replace(order=2))
    assert (solver.name, solver.evaluations, solver.memory) == ("exponential-rk", 4, 3)
    problem = OnMixture(ss.VP(), end=0.05)
    assert problem.slopes(solver, (80, 160))[0] == pytest.approx(2, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["res-3s", "krogstad-4", "hochbruck-ostermann-4"])
def test_order_in_noise_prediction(method: str) -> None:
    solver = ExponentialRK(method, "epsilon")
    steps = (160, 320) if solver.order == 3 else (320, 640)
    assert solver.name == f"{method}-epsilon"
    assert OnMixture(ss.VP(), end=0.05).slopes(solver, steps)[0] == pytest.approx(solver.order, abs=0.15)


def test_in_levels_the_stages_of_a_level_do_not_need_one_another() -> None:
    scheme = SCHEMES["exprk6s16"]
    assert scheme.c == (0, 1 / 2, 1 / 2, 1 / 3, 1 / 2, 1 / 5, 1 / 4, 1 / 2, 1 / 5, 1 / 4, 1 / 3, *scheme.c[-5:])
    used = [[1 + j for j, weight in enumerate(row) if weight.terms] for row in (*scheme.a, scheme.b)]
    levels = [[], [1], [2, 3], [4, 5, 6], [7, 8, 9, 10], [11, 12, 13, 14, 15]]
    assert used == [[], *(before for before, level in pairwise(levels) for _ in level), levels[-1]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ss.get_solver("krogstad-4", c2=0.3), "c2=0.3 is no option of 'krogstad-4'; of res-2s, res-3s only"),
        (lambda: ss.get_solver("res-2s", c3=0.3), "c3=0.3 is no option of 'res-2s'; it has c2"),
        (lambda: ss.get_solver("res-2s", c2=0.0), r"c2 and c3 must be within \(0, 1\], got {'c2': 0.0}"),
        (lambda: ss.get_solver("res-3s", c2=1.0), "c2 and c3 must differ"),
        (lambda: ss.get_solver("res-3s", c2=2 / 3), "c2 must not be 2/3"),
        (lambda: ss.get_solver("res-2s", kind="flow"), "kind='flow' is unknown"),
        (lambda: ss.get_solver("res-2s", method="krogstad"), "nearest: krogstad-4"),
        (lambda: ss.get_solver("res-3m", kind="flow"), "kind='flow' is unknown"),
        (lambda: ExponentialRK(SCHEMES["res-3s"]._replace(b=(p(2),))), r"\[0, 0, 1, 2\] of them in the rows of a and"),
        (lambda: ExponentialRK(SCHEMES["res-2s"]._replace(c=(0.5, 1.0))), "has c = 0, ..."),
    ],
)
def test_bad_options(make: Callable[[], ss.Solver], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", SCHEMES)
def test_long_steps(name: str) -> None:
    """Thirty units of half log-SNR at once: finite, and in data prediction still an average with moderate weights."""
    sde = ss.EDM(1e-6, 1e7)
    A, B, _ = ss.make_plan(ExponentialRK(name), sde, (1e7, 1e-6)).matrices()
    assert A[-1].item() == pytest.approx(1e-13, rel=1e-9)
    assert B[-1].sum().item() == pytest.approx(1.0, abs=1e-12)
    assert B.abs().max() < 1000
    _, B, _ = ss.make_plan(ExponentialRK(name, "epsilon"), sde, (1e7, 1e-6)).matrices()
    assert torch.isfinite(B).all()
