"""Embedded Runge-Kutta methods: each is its tableau, the error's weights, and the polynomials of dense output."""

from __future__ import annotations

from .embedded import EmbeddedRungeKutta


class Bosh3(EmbeddedRungeKutta):
    """Order 3 with an error estimate of order 2 and cubic Hermite dense output: for low accuracy.

    >>> import torch
    >>> from stablenets.systems import HarmonicOscillator
    >>> Bosh3().step(HarmonicOscillator(), torch.tensor([[1.0, 0.0]]), 0.5)
    tensor([[ 0.8750, -0.4792]])
    """

    order, reference = 3, "Bogacki & Shampine 1989"
    error_order, dense_order = 3, 3
    a, b = ((), (1 / 2,), (0.0, 3 / 4)), (2 / 9, 1 / 3, 4 / 9)
    error = (-5 / 72, 1 / 12, 1 / 9, -1 / 8)
    dense = (
        (1.0, -4 / 3, 5 / 9),
        (0.0, 1.0, -2 / 3),
        (0.0, 4 / 3, -8 / 9),
        (0.0, -1.0, 1.0),
    )


class Dopri5(EmbeddedRungeKutta):
    """The method of Dormand and Prince of order 5, with an error estimate and dense output of order 4.

    >>> import torch
    >>> from stablenets.systems import HarmonicOscillator
    >>> Dopri5().step(HarmonicOscillator(), torch.tensor([[1.0, 0.0]], dtype=torch.float64), 0.5)
    tensor([[ 0.8776, -0.4794]], dtype=torch.float64)
    """

    order, reference = 5, "Dormand & Prince 1980; Shampine 1986; Hairer, Norsett & Wanner, Table II.5.2 and (II.6.16)"
    error_order, dense_order = 5, 4
    a = (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    )
    b = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
    error = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
    dense = (
        (1.0, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799),
        (0.0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072),
        (0.0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632),
        (0.0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
        (0.0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423),
    )


def _quartic(scale: float, *factors: tuple[float, ...]) -> tuple[float, ...]:
    """Coefficients of theta, ..., theta^4 of `scale` times a product of polynomials (constant term first)."""
    product = [scale]
    for factor in factors:
        longer = [0.0] * (len(product) + len(factor) - 1)
        for i, p in enumerate(product):
            for j, q in enumerate(factor):
                longer[i + j] += p * q
        product = longer
    return tuple(product[1:])


_LINEAR, _SQUARE = (0.0, 1.0), (0.0, 0.0, 1.0)


class Tsit5(EmbeddedRungeKutta):
    """Tsitouras' method of order 5, with an error estimate and dense output of order 4: smaller errors than `Dopri5`.

    >>> import torch
    >>> from stablenets.systems import HarmonicOscillator
    >>> Tsit5().step(HarmonicOscillator(), torch.tensor([[1.0, 0.0]], dtype=torch.float64), 0.5)
    tensor([[ 0.8776, -0.4794]], dtype=torch.float64)
    """

    order, reference = 5, "Tsitouras 2011, Table 1 and section 4"
    error_order, dense_order = 5, 4
    a = (
        (),
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
    )
    b = (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774)
    error = (
        -0.00178001105222577714,
        -0.0008164344596567469,
        0.007880878010261995,
        -0.1447110071732629,
        0.5823571654525552,
        -0.45808210592918697,
        1 / 66,
    )
    dense = (
        _quartic(
            -1.0530884977290216,
            _LINEAR,
            (-1.3299890189751412, 1.0),
            (0.7139816917074209, -1.4364028541716351, 1.0),
        ),
        _quartic(0.1017, _SQUARE, (1.2949852507374631, -2.1966568338249754, 1.0)),
        _quartic(2.490627285651252793, _SQUARE, (1.57803468208092486, -2.38535645472061657, 1.0)),
        _quartic(-16.54810288924490272, _SQUARE, (-1.21712927295533244, 1.0), (-0.61620406037800089, 1.0)),
        _quartic(47.37952196281928122, _SQUARE, (-1.203071208372362603, 1.0), (-0.658047292653547382, 1.0)),
        _quartic(-34.87065786149660974, _SQUARE, (-1.2, 1.0), (-0.666666666666666667, 1.0)),
        _quartic(2.5, _SQUARE, (-1.0, 1.0), (-0.6, 1.0)),
    )
