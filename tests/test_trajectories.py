"""Files of trajectories: what is written is read again, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stablenets.core.errors import InputError
from stablenets.data import Trajectories, Trajectory, read_trajectories, write_csv


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    items = [Trajectory(k, np.sort(random.random(n)), random.standard_normal((n, 3))) for k, n in (("a", 5), ("b", 2))]
    write_csv(tmp_path / "x.csv", Trajectories(("u", "v", "w"), tuple(items)))
    found = read_trajectories(tmp_path / "x.csv")
    assert found.names == ("u", "v", "w") and found.points == 7
    for a, b in zip(found.items, items, strict=True):
        assert a.label == b.label and (a.times == b.times).all() and (a.states == b.states).all()


def test_columns_come_in_any_order_and_rows_of_trajectories_may_alternate(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("\ufeffp,time,trajectory,q\n1,0,a,2\n3,0,b,4\n\n5,1,a,6\n7,2,b,8\n")
    found = read_trajectories(tmp_path / "x.csv")
    assert found.names == ("p", "q") and [item.label for item in found.items] == ["a", "b"]
    assert found.items[1].times.tolist() == [0, 2] and found.items[1].states.tolist() == [[3, 4], [7, 8]]


def test_every_form_of_npz_gives_the_same(tmp_path: Path) -> None:
    t, x = np.array([0.0, 1.0, 3.0]), np.arange(12.0).reshape(2, 3, 2)
    np.savez(tmp_path / "a.npz", t=t, x=x)
    np.savez(tmp_path / "b.npz", t=np.stack([t, t]), x=x, names=["x1", "x2"])
    np.savez(tmp_path / "c.npz", t=np.tile(t, 2), x=x.reshape(6, 2), trajectory=np.repeat([1, 2], 3))
    found = [read_trajectories(tmp_path / f"{name}.npz") for name in "abc"]
    for one in found:
        assert one.names == ("x1", "x2") and [item.label for item in one.items] == ["1", "2"]
        assert all((item.states == x[i]).all() and (item.times == t).all() for i, item in enumerate(one.items))
    np.savez(tmp_path / "d.npz", t=t, x=x[0])
    assert len(read_trajectories(tmp_path / "d.npz").items) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "header"),
        ("q,p\n1,2\n", "header"),
        ("t,q,q\n1,2,3\n", "header"),
        ("t,time,q\n1,2,3\n", "header"),
        ("t\n1\n", "header"),
        ("t,q\n", "no rows"),
        ("t,q\n0,1\n1,2,3\n", "line 3 has 3 columns"),
        ("t,q\n0,1\n1\n", "line 3 has 1 columns"),
        ("t,q\n0,1\n1,abc\n", "line 3: q is 'abc'"),
        ("t,q\n0,1\n1,\n", "q is nan in its row 2"),
        ("t,q\n0,1\n1,inf\n", "q is inf in its row 2"),
        ("t,q\n0,1\nnan,2\n", "t is nan in its row 2"),
        ("t,q\n0,1\n2,1\n1,1\n", "time 1 follows 2 .its rows 2 and 3"),
        ("t,q\n0,1\n0,1\n", "time 0 follows 0"),
        ("t,q\n0,1\n", "has 1 points"),
        ("trajectory,t,q\na,0,1\na,1,1\nb,0,1\n", "trajectory b has 1 points"),
    ],
)
def test_wrong_csv(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=words) as error:
        read_trajectories(tmp_path / "x.csv")
    assert str(tmp_path / "x.csv") in str(error.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"t": np.arange(3.0)}, "no array 'x'"),
        ({"t": np.arange(3.0), "x": np.ones((4, 2))}, "shape"),
        ({"t": np.arange(3.0), "x": np.ones(3)}, "shape"),
        ({"t": np.arange(3.0), "x": np.ones((3, 0))}, "name"),
        ({"t": np.arange(3.0), "x": np.full((3, 1), "a")}, "type"),
        ({"t": np.arange(3.0), "x": np.ones((3, 2)), "names": np.array(["a"])}, "1 names"),
        ({"t": np.arange(3.0), "x": np.ones((3, 2)), "names": np.array(["a", "a"])}, "different ones"),
        ({"t": np.arange(3.0), "x": np.ones((3, 2)), "names": np.array(["a", "time"])}, "different ones"),
        ({"t": np.arange(3.0), "x": np.ones((3, 2)), "trajectory": np.ones(2)}, "2 entries"),
        ({"t": np.arange(3.0), "x": np.array([[1.0], [np.nan], [1.0]])}, "x1 is nan in its row 2"),
        ({"t": np.array([0.0, 2.0, 1.0]), "x": np.ones((3, 2))}, "growing"),
    ],
)
def test_wrong_npz(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=words):
        read_trajectories(tmp_path / "x.npz")


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no zip")
    (tmp_path / "y.csv").write_bytes(b"\xff\xfe\x00")
    np.savez(tmp_path / "z.npz", t=np.array([None]), x=np.array([None]))
    for name, words in (
        ("x.npz", "npz"),
        ("y.csv", "read"),
        ("z.npz", "numbers"),
        ("u.csv", "no file"),
        ("u.txt", "ends"),
    ):
        with pytest.raises(InputError, match=words):
            read_trajectories(tmp_path / name)
