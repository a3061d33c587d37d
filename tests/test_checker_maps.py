"""The checker's own linear maps: the same matrices as the library's, and norms proved where they are true."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import stablenets as sn
from stablenets.certify.checker import banded, convolutions, derived
from stablenets.certify.checker.convolutions import Conv, Group, Side
from stablenets.certify.checker.linear_maps import build_map, read_map
from stablenets.certify.checker.maps import Map
from stablenets.certify.checker.strict import Rejected
from stablenets.certify.verify import verify
from stablenets.core.component import config
from stablenets.core.errors import InputError
from stablenets.fields import ConvexGradient
from stablenets.integrators import Euler
from stablenets.layers import Flow
from stablenets.linear import AlmostOrthogonal, Conv1d, Conv2d, Dense, LinearMap, SkewConv2d, SkewDense


class Tensors:
    """What a model file holds of one map."""

    def __init__(self, a: LinearMap) -> None:
        self.state = a.state_dict()

    def tensor(self, name: str) -> np.ndarray:
        return self.state[name.removeprefix("map.")].double().numpy()


def described(a: LinearMap) -> Any:
    return json.loads(json.dumps(config(a)))


def checked(a: LinearMap) -> Map:
    """The checker's reading of a map."""
    spec = read_map(described(a), "map")
    assert spec.tensors == {name: tuple(t.shape) for name, t in a.state_dict().items()}
    assert (spec.input_shape, spec.output_shape) == (a.input_shape, a.output_shape)
    return build_map(spec, Tensors(a), "map")  # type: ignore[arg-type]


def randomised(a: LinearMap, seed: int = 0, scale: float = 3.0) -> LinearMap:
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in a.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=g))
    return a


def norm(matrix: np.ndarray) -> float:
    return float(np.linalg.svd(matrix, compute_uv=False)[..., 0].max())


MAPS: list[LinearMap] = [
    Dense(5, 8),
    SkewDense(6),
    Conv1d(2, 4, 4, 9, stride=2, dilation=2, groups=2),
    Conv1d(3, 2, 5, 8, "reflect"),
    Conv2d(2, 3, 3, (4, 5)),
    Conv2d(2, 4, (2, 4), (6, 5), stride=(2, 3), dilation=(1, 2), groups=2),
    Conv2d(2, 3, 3, (4, 6), "circular", stride=2),
    Conv2d(2, 3, (3, 4), (4, 3), "reflect"),
    SkewConv2d(3, 3, (4, 3)),
    SkewConv2d(2, (3, 5), (4, 5), "circular"),
    AlmostOrthogonal(Dense(7, 4)),
    AlmostOrthogonal(Conv1d(2, 4, 3, 7, dilation=2)),
    AlmostOrthogonal(Conv2d(4, 6, (2, 3), (4, 5), "circular", groups=2)),
]


def label(a: LinearMap) -> str:
    return f"{MAPS.index(a)} {type(a).__name__}"


# --- the same map -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", MAPS, ids=label)
def test_maps_are_read_as_the_library_means_them(a):
    a = randomised(a)
    ours, theirs = checked(a), a.matrix().detach().numpy()
    true = norm(theirs)
    assert (ours.input_shape, ours.output_shape, ours.lengths) == (a.input_shape, a.output_shape, a.dot_lengths)
    assert np.linalg.norm(np.abs(theirs), 2) <= ours.absolute() <= a.absolute_bound(), "certificates rely on both"
    assert ours.proves(true * (1 + 1e-9)) and not ours.proves(true * (1 - 1e-6))
    assert ours.proves(a.norm_bound() * (1 - 2.0**-49))
    for bad in (0.0, math.nan, math.inf, -1.0):
        assert not ours.proves(bad)
    bias = np.arange(1.0, a.output_shape[0] + 1)
    spread = np.linalg.norm(np.repeat(bias, math.prod(a.output_shape[1:])))
    assert spread <= ours.spread(bias) <= spread * (1 + 1e-12)


@settings(max_examples=50)
@given(
    st.sampled_from(["zero", "circular", "reflect"]),
    *[st.tuples(st.integers(1, top), st.integers(1, top)) for top in (5, 6, 3, 3)],
    st.integers(1, 2),
    st.integers(0, 99),
)
def test_matrices_and_all_proofs_of_all_convolutions(padding, kernel, image, stride, dilation, groups, seed):
    """Every torus gives an upper bound (equality on the circular one), and a factorisation proves what is true."""
    try:
        a = Conv2d(2, 4, kernel, image, padding, stride=stride, dilation=dilation, groups=groups)
    except InputError:
        assume(False)
        raise
    a = randomised(a, seed)
    ours = checked(a)
    assert isinstance(ours, Conv)
    size, whole = 2 // groups, a.matrix().detach().numpy().reshape(4, -1, 2, math.prod(image))
    for g, weight in enumerate(np.split(ours.weight, groups)):
        group = Group(weight, ours.sides)
        matrix = group.matrix()
        block = whole[g * 4 // groups :][: 4 // groups, :, g * size : (g + 1) * size].reshape(matrix.shape)
        np.testing.assert_allclose(matrix, block, rtol=1e-15, atol=1e-15)
        true = norm(matrix)
        sums = np.abs(matrix).sum(1).max(), np.abs(matrix).sum(0).max()
        assert all(s <= ours * (1 + 1e-14) for s, ours in zip(sums, group.sums(), strict=True))
        assert padding == "reflect" or group.sums() == pytest.approx(sums), "no two entries fall together"
        copies = math.prod(s.copies for s in ours.sides) if padding == "reflect" else 1
        for torus in itertools.product(*(s.tori() for s in ours.sides)):
            symbols, error, aliases = group.symbols(torus)
            bound = norm(symbols) / math.sqrt(aliases)
            assert true <= bound * math.sqrt(copies) * (1 + 1e-12) and error <= 1e-12 * max(bound, 1.0)
            assert padding != "circular" or true == pytest.approx(bound, rel=1e-12)
            assert group.proves_on(torus, bound * (1 + 1e-11)) and not group.proves_on(torus, bound * (1 - 1e-9))
        assert true == 0 or banded.prove_banded(*group.rows(), true * (1 + 1e-6), group.sums())
        assert not banded.prove_banded(*group.rows(), true * (1 - 1e-9), group.sums())


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("n", [4, 5, 6])
def test_even_kernels_need_the_longer_margin(n: int, dilation: int):
    """1, 1 on n points: a shorter antiperiodic signal has a smaller norm."""
    group = Group(np.ones((1, 1, 2, 1)), (Side(n, 2, 1, dilation, "zero"), Side(1, 1, 1, 1, "zero")))
    for torus in itertools.product(*(s.tori() for s in group.sides)):
        assert norm(group.symbols(torus)[0]) >= norm(group.matrix()) * (1 - 1e-14)


def test_the_error_of_the_symbols_covers_their_rounding():
    """Against 80-bit arithmetic, at a kernel with many taps."""
    rng = np.random.default_rng(0)
    group = Group(rng.standard_normal((2, 3, 5, 4)), (Side(11, 5, 1, 2, "zero"), Side(9, 4, 1, 1, "zero")))
    torus = group.sides[0].tori()[1], group.sides[1].tori()[2]
    symbols, error, _ = group.symbols(torus)
    pi = np.arctan(np.longdouble(1)) * 4
    (n1, twist1), (n2, twist2) = torus
    assert (twist1, twist2) == (1, 0)
    f1, f2 = np.meshgrid(np.arange(n1), np.arange(n2 // 2 + 1), indexing="ij")
    s, t = np.meshgrid(np.arange(5), np.arange(4), indexing="ij")
    angle = (2 * f1[..., None, None] + 1) * 2 * s * pi / n1 + 2 * f2[..., None, None] * t * pi / n2
    exact = np.einsum("abst,ocst->aboc", np.cos(angle), group.weight.astype(np.longdouble)).reshape(-1, 2, 3)
    off = norm((symbols[:, :2, :3] - exact).astype(float))
    assert 0 < off <= error / 2 and error < 1e-12


@pytest.mark.parametrize("cls", [SkewDense, SkewConv2d])
def test_skew_weights_are_recomputed_to_the_last_bit(cls):
    for a in cls.examples():
        weight = a.double().weight.detach().numpy()
        np.testing.assert_array_equal(derived.skew(a.raw.detach().numpy()), weight)


@pytest.mark.parametrize("scale", [0.0, 1e-7, 1.0, 1e5])
def test_rescaled_weights_are_recomputed_within_the_deviation(scale):
    """Also against 80-bit arithmetic, which is what both are off from."""
    for a in AlmostOrthogonal.examples():
        a = randomised(a).double().eval()
        a.linear.weight.data *= scale
        ours, theirs = checked(a), a.weight.detach().numpy()
        assert 0 < ours.deviation < 1e-10
        difference = np.abs(ours.weight.reshape(theirs.shape) - theirs)
        assert (difference <= ours.deviation * np.abs(theirs)).all()
        raw, q = a.linear.weight.detach().numpy().astype(np.longdouble), a.log_q.detach().numpy().astype(np.longdouble)
        groups = a.linear.geometry.groups if isinstance(a.linear, (Conv1d, Conv2d)) else 1
        exact, _ = derived.almost_orthogonal(raw, q, groups, "map")
        assert (np.abs(exact.reshape(theirs.shape) - theirs) <= ours.deviation * np.abs(theirs)).all()


def test_a_deviation_is_taken_off_the_bound():
    weight = np.eye(3)
    sides = (Side(3, 1, 1, 1, "zero"), Side(3, 1, 1, 1, "zero"))
    from stablenets.certify.checker.maps import Dense as Checked

    for map_ in (Checked(weight, 0.1), Conv(weight[:, :, None, None], sides, deviation=0.1)):
        assert map_.proves(1.1 * (1 + 1e-12)) and not map_.proves(1.1 * (1 - 1e-9))
        assert 1.1 <= map_.absolute() <= 1.1 * (1 + 1e-10)


# --- larger maps ------------------------------------------------------------------------------------------------------

LARGE: list[tuple[LinearMap, str]] = [
    (Conv2d(3, 4, 3, (17, 16)), "torus"),
    (Conv2d(4, 8, 3, (18, 17), stride=2), "torus"),
    (Conv2d(10, 20, (2, 3), (12, 8), "circular", stride=(3, 1), dilation=2), "torus"),
    (AlmostOrthogonal(Conv2d(12, 24, 3, (7, 8))), "torus"),
    (Conv2d(16, 24, 3, (9, 7)), "rows"),
    (Conv2d(16, 24, (4, 3), (9, 7), stride=(1, 2)), "rows"),
    (Conv2d(5, 6, 3, (12, 13), "reflect"), "rows"),
    (Conv1d(3, 4, 5, 250, "reflect"), "rows"),
    (SkewConv2d(12, 3, 8), "rows"),
]


@pytest.mark.parametrize("a, way", LARGE, ids=lambda x: x if isinstance(x, str) else type(x).__name__)
def test_large_convolutions_are_proved_on_a_torus_or_row_by_row(a, way, monkeypatch):
    """Whichever way the library bounds them, and refused where no way proves it."""
    a = randomised(a)
    ours, bound, used = checked(a), a.norm_bound(), []
    proof = banded.prove_banded
    monkeypatch.setattr(convolutions, "prove_banded", lambda *args: used.append("rows") or proof(*args))
    assert ours.proves(bound)
    assert used == (["rows"] if way == "rows" else [])
    true = norm(a.matrix().detach().numpy())
    assert not ours.proves(true * (1 - 1e-6)) and (way == "torus" or ours.proves(true * (1 + 1e-6)))


@pytest.mark.parametrize("padding", ["zero", "circular"])
def test_a_circular_bound_is_sharp(padding):
    """What the library proves cannot be lowered by 1e-6; of a zero-padded map, it is above the norm anyway."""
    a = randomised(Conv2d(16, 20, 3, (20, 19), padding))
    assert checked(a).proves(a.norm_bound())
    assert checked(a).proves(a.norm_bound() * (1 - 1e-6)) is False or padding == "zero"
    assert not checked(a).proves(a.norm_bound() * 0.98)


def test_a_mirrored_image_is_not_taken_for_a_padded_one(monkeypatch):
    """A shift by a pixel in each direction has norm 2 with reflection, and 1 on every torus."""
    monkeypatch.setattr(convolutions, "EXPLICIT_SIDES", (0, 0))
    a = Conv2d(1, 1, 3, 6, "reflect")
    a.weight.data = torch.zeros(1, 1, 3, 3).index_put_(tuple(torch.zeros(4, 1).long()), torch.ones(1))
    for twice in (False, True):
        monkeypatch.setattr(convolutions, "prove_banded", banded.prove_banded if twice else lambda *args: False)
        assert checked(a).proves(2.001) and not checked(a).proves(1.999)


def test_a_wrong_factor_proves_nothing(monkeypatch):
    """The remainder is computed: of a factor that is a little off it eats up the bound."""
    group = Group(np.random.default_rng(0).standard_normal((2, 2, 3, 3)), (Side(6, 3, 1, 1, "zero"),) * 2)
    bound = norm(group.matrix()) * (1 + 1e-6)
    assert banded.prove_banded(*group.rows(), bound, group.sums())
    factorise = np.linalg.cholesky
    for wrong in (lambda b: factorise(b) * (1 + 1e-4), lambda b: factorise(b + 0.01 * np.eye(len(b)))):
        monkeypatch.setattr(np.linalg, "cholesky", wrong)
        assert not banded.prove_banded(*group.rows(), bound, group.sums())


def test_a_hopeless_torus_is_dropped_without_a_proof(monkeypatch):
    group = Group(np.ones((3, 3, 3, 3)), (Side(30, 3, 1, 1, "zero"),) * 2)
    monkeypatch.setattr(convolutions, "prove", lambda *args: pytest.fail("a factorisation would be wasted"))
    assert not group.proves_on(((32, 0), (32, 0)), 26.0)


def test_proofs_of_absurd_size_are_refused():
    big = Group(np.ones((30, 30, 3, 3)), (Side(4000, 3, 1, 1, "zero"),) * 2)
    with pytest.raises(Rejected, match="not covered"):
        big.proves(1.0)
    with pytest.raises(Rejected, match="not covered"):
        banded.prove_banded([np.ones((2000, 2000))] * 3, np.arange(99) + np.array([[-1], [0], [1]]), 1.0, (1.0, 1.0))


# --- certificates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", MAPS, ids=label)
def test_certificates_with_every_map_are_verified_and_forgeries_are_not(a, tmp_path):
    d = math.prod(a.input_shape)
    torch.manual_seed(0)
    net = nn.Sequential(
        Flow(ConvexGradient(randomised(a, scale=1.0)), Euler(), time=1.0), nn.Flatten(), nn.Linear(d, 3)
    )
    model, certificate = tmp_path / "model.safetensors", tmp_path / "certificate.json"
    sn.save(net.train().eval(), model)
    sn.certify(net).save(certificate)
    verdict = verify(model, certificate)
    assert verdict.ok, verdict.reason
    content = json.loads(certificate.read_text())
    bound, true = content["layers"][0]["norm_bound"], norm(a.matrix().detach().numpy())
    lowered = bound * (1 - 1e-6) if a.guaranteed_norm is None else true * (1 - 1e-6)
    for key, value in (("norm_bound", lowered), ("linear", "Dense2")):
        forged = json.loads(certificate.read_text())
        forged["layers"][0][key] = value
        (tmp_path / "forged.json").write_text(json.dumps(forged))
        verdict = verify(model, tmp_path / "forged.json")
        assert not verdict.ok and ("cannot be proved" in verdict.reason or "the network has" in verdict.reason)


# --- what is refused --------------------------------------------------------------------------------------------------

FORGED: list[tuple[LinearMap, dict[str, Any], str]] = [
    (Conv2d(2, 2, 3, 5), {"padding": "valid"}, "padding='valid'"),
    (Conv2d(2, 2, 3, 5), {"groups": 3}, "3 groups"),
    (Conv2d(2, 2, 3, 5), {"kernel_size": [3, 3, 3]}, "3 numbers for 2 dimensions"),
    (Conv2d(2, 2, 3, 5), {"stride": 0}, "below 1"),
    (Conv2d(2, 2, 3, 5), {"dilation": 10**9}, "spans"),
    (Conv2d(2, 2, 3, 5), {"extra": 1}, "unknown key 'extra'"),
    (Conv2d(2, 2, 3, 5, "circular"), {"kernel_size": 7}, "does not fit"),
    (Conv2d(2, 2, 3, 6, "circular"), {"stride": 4}, "does not fit"),
    (Conv2d(2, 2, 3, 5, "reflect"), {"dilation": 5}, "mirrors more points"),
    (Conv1d(2, 2, 3, 5), {"length": [5, 5]}, "2 numbers for 1 dimensions"),
    (SkewConv2d(2, 3, 5), {"kernel_size": 4}, "not be skew"),
    (SkewConv2d(2, 3, 5), {"padding": "reflect"}, "not be skew"),
    (AlmostOrthogonal(Dense(2, 3)), {"linear": {"type": "SkewDense", "features": 3}}, "no theorem"),
    (AlmostOrthogonal(Conv2d(2, 3, 3, 4)), {"linear": described(Conv2d(2, 3, 3, 4, stride=2))}, "no theorem"),
    (AlmostOrthogonal(Conv2d(2, 3, 3, 4)), {"linear": described(Conv2d(2, 3, 3, 4, "reflect"))}, "no theorem"),
    (Dense(2, 3), {"type": "Toeplitz"}, "is a Toeplitz"),
]


@pytest.mark.parametrize(
    "a, change, words", FORGED, ids=lambda x: type(x).__name__ if isinstance(x, LinearMap) else None
)
def test_descriptions_that_are_refused(a, change, words):
    with pytest.raises(Rejected, match=words):
        read_map(described(a) | change, "map")


def test_a_scaling_too_uneven_to_be_determined_is_refused():
    """Rows at right angles but for rounding, weighted by e^16: their overlap is all rounding."""
    a = AlmostOrthogonal(Dense(4000, 2)).double()
    a.linear.weight.data = torch.stack([torch.ones(4000), torch.tensor([1.0, -1.0]).repeat(2000)]).double() / 3
    a.log_q.data = torch.tensor([8.0, -8.0]).double()
    assert checked(a).deviation < 1e-3
    with pytest.raises(Rejected, match="too uneven"):
        derived.almost_orthogonal(
            np.tile(a.linear.weight.detach().numpy(), (1, 500)), np.array([80.0, -80.0]), 1, "map"
        )
