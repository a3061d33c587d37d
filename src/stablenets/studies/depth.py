"""ADef slides: depth beats width (Telgarsky), and one hidden layer is dense (Leshno et al.).

The points x_i = i / n, n = 2^k, have alternating labels i mod 2.

- Deep: k compositions of the tent map z -> 2 relu(z) - 4 relu(z - 1/2) are a network of 2 k layers of at most 2 units
  without a single error. All its numbers are dyadic, so floating point computes it exactly.
- Shallow must fail: a ReLU network with L hidden layers of m units is continuous with at most t = (m + 1)^L affine
  pieces; each crosses 1/2 at most once, so at most t + 1 intervals share a class, and each interval of c alternating
  points holds at least (c - 1) / 2 errors: at least (n - t - 1) / 2 in all. One hidden layer of three units or more
  attains it. Telgarsky's theorem (errors of 1/6 where m < 2^((k - 3) / l - 1), for l layers) says less.
- Density: networks of one hidden layer approach every continuous function exactly when sigma is no polynomial. Here
  that is the Chebyshev polynomial T_4: it alternates five times, so every polynomial of degree 3 is at least 1 away.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..report.panels import Curve, Dots, Panel, draw_panels
from ..tasks.progress import Progress, prefixed, silent
from ..train import minimise
from ._folder import once, open_folder, seeded, told, write_table

EXACT = (1, 2, 4, 8, 12, 16)  # k of the deep networks
K = 6  # of the shallow ones: 64 points
SEEDS = range(5)
ACTIVATIONS = {
    "relu": lambda z: z.clip(0),
    "tanh": np.tanh,
    "step": lambda z: np.heaviside(z, 1.0),
    "cube": lambda z: z**3,
}
WIDTHS = tuple(2**j for j in range(2, 9))


def alternating(k: int) -> tuple[Tensor, Tensor]:
    """The points (2^k, 1), float64, and their labels (2^k,)."""
    i = torch.arange(2**k)
    return i[:, None].double() / 2**k, i % 2


def sawtooth(k: int) -> nn.Sequential:
    """The network of 2 k layers of at most 2 units, in float64, whose value at i / 2^k is i mod 2."""
    layers: list[nn.Module] = []
    for _ in range(k):
        first, second = nn.Linear(1, 2), nn.Linear(2, 1)
        first.weight.data, first.bias.data = torch.ones(2, 1), torch.tensor([0.0, -0.5])
        second.weight.data, second.bias.data = torch.tensor([[2.0, -4.0]]), torch.zeros(1)
        layers += [first, nn.ReLU(), second, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def in_fractions(net: nn.Sequential, x: Fraction) -> Fraction:
    """The value of a network of linear layers and ReLUs with one input and one output, without any rounding."""
    values = [x]
    for layer in net:
        if isinstance(layer, nn.Linear):
            rows, shifts = layer.weight.tolist(), layer.bias.tolist()
            values = [
                sum((Fraction(w) * v for w, v in zip(row, values, strict=True)), Fraction(b))
                for row, b in zip(rows, shifts, strict=True)
            ]
        else:
            values = [max(v, Fraction(0)) for v in values]
    return values[0]


def fewest_errors(k: int, width: int, hidden: int = 1) -> int:
    """A lower bound of the errors of every ReLU network with so many hidden layers of that width; attained by one."""
    return max(0, -(-(2**k - (width + 1) ** hidden - 1) // 2))


def interpolation(k: int, width: int) -> nn.Sequential:
    """One hidden layer of `width` >= 3 units with the fewest errors: linear between its kinks x_1, ..., x_width.

    Its slopes are 2 n, -n, n, -n, ...; only the first one is steeper. The third unit is flat on its right, and so gives
    the function its first slope; all others are flat on their left.
    """
    n, width = 2**k, min(width, 2**k - 2)
    x = alternating(k)[0][1 : width + 1, 0]
    slopes = n * torch.tensor([2.0] + [(-1.0) ** j for j in range(1, width + 1)], dtype=torch.float64)
    direction = torch.ones(width, dtype=torch.float64)
    direction[2] = -1
    net = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, 1)).double()
    for parameter, value in zip(
        net.parameters(), (direction[:, None], -direction * x, slopes.diff()[None]), strict=False
    ):
        parameter.data = value
    net[2].bias.data = 1 - (net[2].weight.data @ net[1](net[0](x[:1, None])).detach().mT)[0]
    return net


def errors(net: nn.Module, k: int) -> int:
    """How many of the points get the wrong class, which is 1 where the network is at least 1/2."""
    x, labels = alternating(k)
    with torch.no_grad():
        return int(((net(x)[:, 0] >= 0.5) != labels.bool()).sum())


def sup_error(activation: str, width: int, seed: int) -> float:
    """Largest error on [-1, 1] of a single layer with random inner weights, fitted to T_4 by least squares."""
    random = np.random.default_rng(seed)
    w, at = random.choice([-1.0, 1.0], width) * random.uniform(1, 6, width), np.cos(np.pi * random.random(width))
    grid, fine = (np.cos(np.pi * (np.arange(n) + 0.5) / n) for n in (2000, 9999))
    features = [ACTIVATIONS[activation](w * (x[:, None] - at)) for x in (grid, fine)]
    features = [np.concatenate([f, np.ones((len(f), 1))], 1) for f in features]
    outer = np.linalg.lstsq(features[0], chebyshev(grid), rcond=1e-12)[0]
    return float(np.abs(features[1] @ outer - chebyshev(fine)).max())


def chebyshev(x: np.ndarray) -> np.ndarray:
    """T_4."""
    return 8 * x**4 - 8 * x**2 + 1


def run(*, data: str | None = None, out: Path | None = None, quick: bool = False, progress: Progress = silent) -> Path:
    """Do what is missing in the study's folder: three tables and the figure.

    Raises:
        InputError: `data` is given, or the folder holds results with other settings.
    """
    k, steps, seeds = (4, 50, range(1)) if quick else (K, 3000, SEEDS)
    widths, exact = ((4, 8), EXACT[:4]) if quick else ((4, 8, 16, 32, 64), EXACT)
    settings = {"k": k, "steps": steps, "seeds": len(seeds)}
    folder = open_folder("depth", data=data, out=out, quick=quick, settings=settings)
    parts = folder / "parts"
    deep = [once(parts / f"deep-{j}.json", lambda j=j: _deep(j)) for j in exact]
    write_table(folder / "deep.md", {"points": "d", "layers": "d", "width": "d", "errors": "d"}, deep)
    shallow = []
    for width, hidden in [*((w, 1) for w in widths), (4, 2), (2, 2 * k - 1)]:
        name = f"width {width}, {hidden} hidden"
        say = prefixed(progress, name)
        part = parts / f"{name.replace(' ', '-').replace(',', '')}.json"
        shallow.append(once(part, lambda w=width, d=hidden, say=say: _shallow(k, w, d, steps, seeds, say)))
    columns = {"points": "d", "hidden layers": "d", "width": "d", "proved: errors >=": "d", "best construction": "d"}
    write_table(folder / "shallow.md", columns | {"best trained": "d", "worst trained": "d"}, shallow)
    density = [once(parts / f"density-{m}.json", lambda m=m: _density(m, seeds)) for m in WIDTHS]
    write_table(folder / "density.md", {"width": "d"} | dict.fromkeys(ACTIVATIONS, ".1e"), density)
    _draw(k, shallow, density, folder / "depth.svg")
    return folder


def _deep(k: int) -> dict[str, Any]:
    net = sawtooth(k)
    checked = range(2**k) if k <= 8 else range(0, 2**k, 2**k // 255 | 1)  # odd and even ones
    exact = all(in_fractions(net, Fraction(i, 2**k)) == i % 2 for i in checked)
    x, labels = alternating(k)
    with torch.no_grad():
        exact = exact and bool((net(x)[:, 0] == labels).all())
    linear = [m for m in net if isinstance(m, nn.Linear)]
    return {
        "points": 2**k, "layers": len(linear), "width": max(m.out_features for m in linear), "errors": errors(net, k),
        "equal to the labels without rounding": exact,
    }  # fmt: skip


def _shallow(k: int, width: int, hidden: int, steps: int, seeds: range, progress: Progress) -> dict[str, Any]:
    x, labels = alternating(k)
    target = labels.double()[:, None]
    found = []
    for seed in seeds:
        with seeded(seed):
            first = nn.Linear(1, width)
            first.bias.data = -first.weight.data[:, 0] * torch.rand(width)  # kinks spread over the interval
            layers: list[nn.Module] = [first, nn.ReLU()]
            for _ in range(hidden - 1):
                layers += [nn.Linear(width, width), nn.ReLU()]
            net = nn.Sequential(*layers, nn.Linear(width, 1)).double()

            def loss(net: nn.Module, step: int) -> Tensor:
                return (net(x) - target).square().mean()

            minimise(net, loss, steps=steps, on_step=told(progress, f"seed {seed}"))
        found.append(errors(net, k))
    built = {1: lambda: interpolation(k, width), 2 * k - 1: lambda: sawtooth(k)}.get(hidden)
    return {
        "points": 2**k, "hidden layers": hidden, "width": width, "proved: errors >=": fewest_errors(k, width, hidden),
        "best construction": errors(built(), k) if built else None, "best trained": min(found),
        "worst trained": max(found), "trained": found,
    }  # fmt: skip


def _density(width: int, seeds: range) -> dict[str, Any]:
    return {"width": width} | {a: float(np.median([sup_error(a, width, s) for s in seeds])) for a in ACTIVATIONS}


def _draw(k: int, shallow: list[dict[str, Any]], density: list[dict[str, Any]], path: Path) -> None:
    x, labels = alternating(4)
    line = torch.linspace(0, 1, 513, dtype=torch.float64)[:, None]
    with torch.no_grad():
        saw = Curve(line[:, 0].numpy(), sawtooth(4)(line)[:, 0].numpy(), "8 layers of 2 units")
        one = Curve(line[:, 0].numpy(), interpolation(4, 6)(line)[:, 0].numpy(), "1 layer of 6 units", 1)
    dots = Dots(np.stack([x[:, 0].numpy(), labels.numpy()], 1), colour=-1, size=4)
    single = [r for r in shallow if r["hidden layers"] == 1]
    width = np.array([r["width"] for r in single])
    curves = [
        Curve(width, np.array([r["proved: errors >="] for r in single]), "no network can have fewer", 0),
        Curve(width, np.array([r["best trained"] for r in single]), "best trained", 1, dashed=True, marks=True),
    ]
    widths = np.array([r["width"] for r in density])
    near = [Curve(widths, np.array([r[a] for r in density]), a, i, marks=True) for i, a in enumerate(ACTIVATIONS)]
    panels = [
        Panel("16 alternating points", [saw, one, dots], "x", span=(-0.03, 1.03, -0.3, 1.5)),
        Panel(f"errors of one hidden layer, {2**k} points", curves, "width", log_x=2),
        Panel("distance of one hidden layer to T₄", near, "width", log_x=2, log_y=True),
    ]
    draw_panels(panels, path)
