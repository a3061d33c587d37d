"""`stablenets restore`: what it writes, what it proves, what it refuses; and `stablenets denoise train`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stablenets.cli import main
from stablenets.core.errors import InputError, TrainingError
from stablenets.data.pictures import read_picture
from stablenets.layers import save
from stablenets.linear import Mask
from stablenets.networks import DnCNN, EulerDenoiser
from stablenets.report.run import load_run
from stablenets.tasks import denoise, restore
from stablenets.tasks.denoise_options import DenoiseConfig
from stablenets.tasks.restore_options import RestoreConfig

FAST = {"iterations": 30, "noise": 0.02}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A grey and a colour picture of 52 x 44 pixels, from scikit-image, and a mask."""
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the pictures of this test")
    folder = tmp_path_factory.mktemp("pictures")
    Image.fromarray(data.camera()[100:364:6, 160:472:6]).save(folder / "grey.png")
    Image.fromarray(np.ascontiguousarray(data.astronaut()[20:196:4, 100:308:4])).save(folder / "colour.jpg", quality=95)
    mask = np.full((44, 52), 255, np.uint8)
    mask[10:14, 5:40] = 0
    Image.fromarray(mask).save(folder / "mask.png")
    np.savez(folder / "k.npz", k=np.eye(5) / 5)
    return folder


def code(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return int(stop.value.code or 0)


@pytest.mark.parametrize("name", ["grey.png", "colour.jpg"])
@pytest.mark.parametrize(
    "job",
    [
        {"denoise": True, "noise": 0.1},
        {"kernel": "k.npz", "padding": "circular"},
        {"blur": "gaussian", "spread": 1.2, "padding": "reflect"},
        {"inpaint": "mask.png"},
    ],
    ids=lambda j: next(iter(j)),
)
def test_pictures_get_better(pictures, name, job):
    job = {k: str(pictures / v) if k in ("kernel", "inpaint") else v for k, v in job.items()}
    found = restore.restore(pictures / name, RestoreConfig(simulate=True, **(FAST | job)))
    assert found.before.shape == found.after.shape == read_picture(pictures / name).shape
    assert found.measures["PSNR after"] > found.measures["PSNR before"] + 0.5
    assert found.measures["SSIM after"] > found.measures["SSIM before"]
    if "denoise" in job:
        assert "averaged on images of every size" in found.statement and not len(found.residuals)
        return
    assert found.certificate is not None and found.certificate.alpha is not None
    proved = found.certificate.guarantee.name  # the circular kernel has no zero frequency on these pictures
    assert proved == ("CONTRACTION" if job.get("padding") == "circular" else "CONVERGENCE")
    assert all(b <= a * (1 + 1e-9) for a, b in zip(found.residuals[:-1], found.residuals[1:], strict=True))


def test_the_command_writes_a_whole_folder(pictures, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["restore", pictures / "grey.png", "--blur", "motion", "--length", 5, "--noise", 0.02, "--iterations", 20]
    assert code(*words, "--truth", pictures / "grey.png", "--progress", "none", "--out", out) == 0
    said = capsys.readouterr().out
    assert "converges to a fixed point" in said and "PSNR after" in said
    names = {"restored.png", "report.html", "residuals.svg", "result.json", "pictures.npz"}
    assert {p.name for p in out.iterdir()} == names
    assert read_picture(out / "restored.png").shape == (1, 44, 52)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 3 and "Krasnosel" in page and "<svg" in page and "PSNR" in page
    assert json.loads((out / "result.json").read_text())["certificate"]["guarantee"] == "convergence"
    assert [p.name for p in tmp_path.iterdir()] == ["out"], "no temporary folders stay"
    assert code(*words, "--out", out) == 2 and "exists" in capsys.readouterr().err


def test_masked_pixels_stay_black():
    mask = Mask([[1.0, 0.0], [1.0, 1.0]], (1, 2, 2))
    y = restore.degrade(torch.ones(1, 1, 2, 2, dtype=torch.float64), mask, 0.1, seed=0)
    assert y[0, 0, 0, 1] == 0 and (y - 1).abs().min() > 0


def test_nothing_is_proved_with_dncnn_and_it_says_so(pictures, tmp_path):
    torch.manual_seed(0)
    net = DnCNN(1, depth=3, width=4).eval()
    for p in net.parameters():
        p.data *= 0.1
    save(net, tmp_path / "net.safetensors")
    config = RestoreConfig(blur="motion", length=3.0, model=str(tmp_path / "net.safetensors"), iterations=5)
    assert "nothing is guaranteed" in restore.restore(pictures / "grey.png", config).statement


def bad(folder: Path) -> list[tuple[list[object], str]]:
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(folder / "small.png")
    np.save(folder / "large.npy", np.ones((60, 3)))
    np.save(folder / "nan.npy", np.full((3, 3), np.nan))
    (folder / "text.png").write_text("no picture")
    Image.fromarray(np.full((9, 9), 0.5, np.float32)).save(folder / "float.tiff")
    Image.fromarray(np.arange(2, dtype=np.int32).repeat(50).reshape(10, 10) * 70000).save(folder / "int32.tiff")
    grey = folder / "grey.png"
    return [
        ([folder / "text.png", "--denoise"], "not a readable picture"),
        ([folder / "none.png", "--denoise"], "there is no file"),
        ([grey], "0 of --denoise, --inpaint, --blur and --kernel"),
        ([grey, "--denoise", "--blur", "motion"], "2 of --denoise"),
        ([grey, "--kernel", folder / "k.npz", "--blur", "motion"], "2 of --denoise"),
        ([folder / "float.tiff", "--denoise"], "fractions, of an unknown range"),
        ([folder / "int32.tiff", "--denoise"], "from 0 to 70000"),
        ([grey, "--kernel", folder / "large.npy"], "no larger than the image"),
        ([grey, "--kernel", folder / "nan.npy"], "NaN or infinite"),
        ([grey, "--inpaint", folder / "small.png"], "the size of the image"),
        ([grey, "--denoise", "--truth", folder / "small.png"], "the size of the image"),
        ([grey, "--denoise", "--noise", "0"], "positive numbers"),
        ([grey, "--denoise", "--strength", "2"], "--noise alone"),
        ([grey, "--denoise", "--model", "gray"], "unknown denoiser"),
        ([grey, "--blur", "motion", "--iterations", "0"], "iterations"),
    ]


@pytest.mark.parametrize("place", range(14))
def test_bad_input_is_refused_and_nothing_is_written(pictures, tmp_path, capsys, place):
    words, reason = bad(pictures)[place]
    assert code("restore", *words, "--out", tmp_path / "x" / "out", "--progress", "none") == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing(pictures, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(restore, "write", fails)
    with pytest.raises(InputError, match="No space left"):
        restore.run(pictures / "grey.png", RestoreConfig(denoise=True, out=str(tmp_path / "out")))
    assert not list(tmp_path.iterdir())


def test_the_report_is_there_when_the_folder_appears(pictures, tmp_path):
    """A page that cannot be written leaves no folder, and one that can is written before the folder has its name."""
    config, seen = RestoreConfig(denoise=True, out=str(tmp_path / "out")), []

    def fails(folder: Path) -> None:
        seen.append((folder.name, (tmp_path / "out").exists(), (folder / "result.json").exists()))
        raise InputError("no page")

    with pytest.raises(InputError, match="no page"):
        restore.run(pictures / "grey.png", config, finish=fails)
    assert seen[0][1:] == (False, True) and not list(tmp_path.iterdir())
    restore.run(pictures / "grey.png", config, finish=lambda folder: (folder / "page").write_text("x"))
    assert (tmp_path / "out" / "page").exists()


# --- training -----------------------------------------------------------------------------------------------------


def options(pictures: Path, out: Path, **others) -> DenoiseConfig:
    small = {"steps": 6, "depth": 2, "filters": 8, "group_size": 2, "batch_size": 2, "crop": 16, "noise": (10.0, 30.0)}
    return DenoiseConfig(data=str(pictures), out=str(out), **(small | others))


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory) -> Path:
    """Pictures to train with."""
    folder = tmp_path_factory.mktemp("train")
    for i in range(3):
        Image.open(pictures / "colour.jpg").rotate(90 * i, expand=True).save(folder / f"p{i}.png")
    return folder


@pytest.mark.parametrize("network, colour", [("euler", False), ("dncnn", False), ("euler", True)])
def test_training_leaves_a_model_a_proof_and_figures(folder, tmp_path, network, colour):
    run = denoise.run(options(folder, tmp_path / "run", network=network, colour=colour))
    net = denoise.load_denoiser(run.file("model.safetensors"))
    assert isinstance(net, EulerDenoiser if network == "euler" else DnCNN) and net.channels == (3 if colour else 1)
    assert run.environment["command"].startswith(f"stablenets denoise train --data {folder.resolve()} ")
    assert run.has("certificate.json") == (network == "euler") and run.has("uncertified.txt") == (network == "dncnn")
    result = denoise.results(run)
    assert [row["noise"] for row in result["validation"]] == [10, 15, 25, 30] and result["pictures"] == 1
    assert all(row["psnr"] > (10 if network == "euler" else -100) for row in result["validation"])


def test_a_stopped_training_goes_on_to_the_same_weights(folder, tmp_path):
    whole = denoise.run(options(folder, tmp_path / "whole"))

    def stop(task, done, total, note):
        if task == "training" and done == 3:
            raise KeyboardInterrupt

    run = denoise.create(options(folder, tmp_path / "stopped"))
    with pytest.raises(KeyboardInterrupt):
        denoise.resume(run, stop)
    assert not run.has("model.safetensors")
    with pytest.raises(InputError, match="stablenets denoise train --resume"):
        denoise.create(options(folder, tmp_path / "stopped"))
    with pytest.raises(InputError, match="a run of `stablenets denoise`"):
        load_run(run.path)
    denoise.resume(run)
    nets = [denoise.load_denoiser(r.file("model.safetensors")) for r in (whole, run)]
    a, b = (dict(n.named_parameters()) for n in nets)
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_run_with_damaged_files_is_not_believed(folder, tmp_path, capsys):
    """Neither a certificate of another model nor figures that cannot be read; both say what to do."""
    run = denoise.run(options(folder, tmp_path / "run", steps=1))
    resume = ("denoise", "train", "--resume", run.path, "--progress", "none")
    proof, figures = run.file("certificate.json").read_text(), run.file("result.json").read_text()
    for name, content, words in (
        ("certificate.json", proof.replace('"alpha": 0.', '"alpha": 0.0'), "the certificate says"),
        ("certificate.json", proof.replace('"alpha": ', '"alpha": "').replace(",", '",', 2), "not a denoiser's"),
        ("certificate.json", "{}", "not a denoiser's certificate"),
        ("result.json", "[]", "Delete it"),
        ("result.json", figures[:9], "Delete it"),
        ("environment.json", "[]", "environment.json is not readable"),
    ):
        good = run.file(name).read_text()
        run.write_text(name, content)
        assert code(*resume) == 2
        assert words in " ".join(capsys.readouterr().err.split()), (name, content)
        run.write_text(name, good)
    run.remove("result.json")
    assert code(*resume) == 0 and json.loads(run.file("result.json").read_text()) == json.loads(figures)


@pytest.mark.filterwarnings("ignore")
def test_weights_that_run_away_are_named(folder, tmp_path):
    with pytest.raises(TrainingError, match="step"):
        denoise.run(options(folder, tmp_path / "run", steps=3, peak=1e30))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"noise": (30.0, 10.0)}, "the lowest and the highest level"),
        ({"noise": (1.0, 2.0, 3.0)}, "the lowest and the highest level"),
        ({"filters": 6}, "a multiple of 4 group_size"),
        ({"crop": 100}, "at least 100 x 100"),
        ({"crop": 2}, "what the filters see"),
        ({"levels": (30.0, 10.0)}, "--levels 30.0 10.0; needed: positive numbers, increasing"),
        ({"levels": ()}, "increasing"),
        ({"steps": 0}, "--steps 0; needed: at least 1"),
        ({"data": "/none"}, "there is no folder"),
    ],
)
def test_training_options_that_do_not_fit(folder, tmp_path, change, words):
    config = options(folder, tmp_path / "run", **{k: v for k, v in change.items() if k != "data"})
    if "data" in change:
        config = DenoiseConfig(data=change["data"], out=str(tmp_path / "run"))
    with pytest.raises(InputError, match=words):
        denoise.run(config)
    assert not (tmp_path / "run").exists()
