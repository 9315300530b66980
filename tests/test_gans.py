"""The adversarial rivals: built as published; they train, and resume from checkpoints."""

import importlib
import json
import math
import time

import numpy as np
import pytest

from mlr.errors import MlrError, OptionError
from tests.conftest import draw, draw_pairs, names

torch = pytest.importorskip("torch", reason="needs the extra rivals")

from benchmarks.comparison.__main__ import main, parse  # noqa: E402
from benchmarks.comparison.curves import draw_curves, thinned  # noqa: E402
from benchmarks.rivals import adversarial  # noqa: E402
from benchmarks.rivals.adversarial import PatchCritic, count, gradient_penalty  # noqa: E402
from benchmarks.rivals.cyclegan import POOL, Pool  # noqa: E402

KEYS = ("pix2pix", "cyclegan", "stargan", "ganimation")


def rival(key, **options):
    (kind,) = importlib.import_module(f"benchmarks.rivals.{key}").RIVALS
    return kind(**{"scale": "smoke", "budget": math.inf} | options)


def pairs(count=4, height=32, width=32, channels=3):
    """Return smooth images, and as targets their negatives."""
    X = np.stack([draw(seed, 96, channels)[:height, :width] for seed in range(count)])
    return X, 255 - X


@pytest.mark.parametrize(
    ("key", "side", "generator", "critic"),
    [
        ("pix2pix", 256, 54.4e6, 2.77e6),  # the four papers, or their authors' programs
        ("cyclegan", 256, 11.4e6, 2 * 2.76e6),
        ("stargan", 128, 8.43e6, 44.8e6),
        ("ganimation", 128, 8.43e6, 44.8e6),
    ],
)
def test_at_the_papers_scale_the_networks_are_as_large_as_published(key, side, generator, critic):
    with torch.device("meta"):
        method = rival(key, scale="paper")
        method.build(3, side, side)
    assert count(method.translator) == pytest.approx(generator, rel=0.005)
    assert count(method.critic) == pytest.approx(critic, rel=0.005)


@pytest.mark.parametrize("shape", [(32, 32, 1), (80, 48, 3)])
@pytest.mark.parametrize("key", KEYS)
def test_outputs_have_the_shape_of_the_inputs(key, shape):
    X, T = pairs(4, *shape)
    method = rival(key, steps=5)
    method.fit(X, T)
    Y = method.predict(X[:3])
    assert (Y.shape, Y.dtype) == ((3, *shape), np.float32)
    assert 0 <= Y.min() < Y.max() <= 1
    np.testing.assert_array_equal(Y, method.predict(X[:3]))
    assert [step for step, _ in method.history] == list(range(5))


@pytest.mark.parametrize(
    ("key", "steps", "falls"),
    [
        ("pix2pix", 60, "l1"),
        ("cyclegan", 20, "critic"),
        ("stargan", 50, "class"),
        ("ganimation", 40, "expression"),
        # the unpaired generators learn more slowly than their critics
        pytest.param("cyclegan", 250, "cycle", marks=pytest.mark.slow),
        pytest.param("stargan", 1000, "cycle", marks=pytest.mark.slow),
        pytest.param("ganimation", 600, "expression of outputs", marks=pytest.mark.slow),
    ],
)
def test_losses_fall(key, steps, falls):
    method = rival(key, steps=steps)
    method.learning_rate *= 10  # to see it soon
    method.fit(*pairs())
    losses = [entry[falls] for _, entry in method.history if falls in entry]
    fifth = len(losses) // 5
    assert np.mean(losses[-fifth:]) < 0.7 * np.mean(losses[:fifth])


@pytest.mark.slow
def test_pix2pix_memorises_four_pairs():
    X, T = pairs()
    method = rival("pix2pix", steps=600)
    method.fit(X, T)
    error = np.square(method.predict(X) - T / 255).mean()
    mean = np.square((T / 255).mean(axis=(0, 1, 2)) - T / 255).mean()
    assert error < 0.3 * mean < np.square(X / 255 - T / 255).mean()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "share"), [("cyclegan", 0.1), ("stargan", 0.5), ("ganimation", 0.5)]
)
def test_unpaired_methods_learn_four_pairs(key, share):
    X, _ = pairs()
    T = X // 2
    method = rival(key, steps=200)
    method.learning_rate *= 5  # to see it soon
    method.fit(X, T)
    error = np.square(method.predict(X) - T / 255).mean()
    assert error < share * np.square(X / 255 - T / 255).mean()


@pytest.mark.parametrize("key", KEYS)
def test_an_interrupted_training_goes_on_with_the_same_bits(key, tmp_path, monkeypatch):
    X, T = pairs(4, *[64 if key == "pix2pix" else 32] * 2)  # 64 px: there is dropout, too
    whole = rival(key, steps=7)
    whole.fit(X, T)

    monkeypatch.setattr(adversarial, "SAVE_EVERY", -1)
    stopped = rival(key, steps=7, folder=tmp_path)
    step = stopped.train_step

    def until_the_power_fails(faces):
        if stopped.step == 5:
            raise KeyboardInterrupt
        return step(faces)

    stopped.train_step = until_the_power_fails
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(X, T)
    resumed = rival(key, steps=7, folder=tmp_path)
    resumed.fit(X, T)
    assert resumed.history == whole.history
    np.testing.assert_array_equal(resumed.predict(X), whole.predict(X))


def test_earlier_time_counts(tmp_path):
    X, T = pairs()
    first = rival("pix2pix", budget=0.3, folder=tmp_path)
    first.fit(X, T)
    again = rival("pix2pix", budget=0.3, folder=tmp_path)
    again.fit(X, T)
    assert first.step == again.step > 0
    assert 0.3 <= again.cpu_seconds < 0.8
    other = rival("pix2pix", budget=0.3, folder=tmp_path, seed=1)  # has no checkpoint yet
    other.fit(X, T)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_pause_does_not_count(monkeypatch):
    method = rival("pix2pix", budget=0.2)
    step = method.train_step

    def paused(faces):
        time.sleep(0.25)
        return step(faces)

    method.train_step = paused
    method.fit(*pairs())
    assert method.step > 1
    assert method.seconds > 0.25 * method.step


def test_training_leaves_pytorchs_settings_alone():
    before = torch.get_rng_state(), torch.get_num_threads()
    rival("ganimation", steps=1).fit(*pairs())
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == torch.get_num_threads()


def test_the_learning_rate_falls_to_zero_after_half_of_the_steps():
    method = rival("stargan", steps=100)
    rates = []
    for method.step in (0, 50, 75, 100):
        rates.append(method._decay())
    assert rates == [1, 1, 0.5, 0]


def test_a_damaged_checkpoint_is_named(tmp_path):
    X, T = pairs()
    rival("pix2pix", steps=1, folder=tmp_path).fit(X, T)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(MlrError, match=f"{path.name}: is no checkpoint of Pix2Pix; remove it"):
        rival("pix2pix", steps=1, folder=tmp_path).fit(X, T)


def test_sides_that_cannot_be_halved_four_times_are_refused():
    with pytest.raises(OptionError, match="multiples of 16 px, not 32x40"):
        rival("cyclegan").fit(*pairs(2, 40, 32))


def test_only_weights_for_prediction_are_saved(tmp_path):
    method = rival("cyclegan", steps=1)
    method.fit(*pairs())
    method.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as arrays:
        assert sum(array.size for array in arrays.values()) == method.parameters()
    assert method.parameters() == count(method.generator) / 2  # the way back is not needed


def test_batches_show_every_image_once_an_epoch_and_streams_are_independent():
    method = rival("stargan")  # batches of 4
    seen = {}
    for stream in (0, 1):
        seen[stream] = []
        for method.step in range(5):
            seen[stream] += method.drawn(10, stream).tolist()
        assert sorted(seen[stream][:10]) == sorted(seen[stream][10:]) == list(range(10))
        assert seen[stream][:10] != seen[stream][10:]
    assert seen[0] != seen[1]


def test_ganimation_keeps_the_input_under_full_attention():
    X, T = pairs()
    method = rival("ganimation", steps=1)
    method.fit(X, T)
    method.generator.attention.weight.data.fill_(100)
    np.testing.assert_allclose(method.predict(X), X / 255, atol=1e-6)


def test_the_patch_critic_looks_at_70_by_70_pixels():
    image = torch.zeros(1, 1, 256, 256, requires_grad=True)
    critic = PatchCritic(1, 4, lambda channels: torch.nn.Identity())
    critic(image)[0, 0, 15, 15].backward()
    rows, columns = torch.nonzero(image.grad[0, 0], as_tuple=True)
    assert [int(side.max() - side.min() + 1) for side in (rows, columns)] == [70, 70]


def test_the_gradient_penalty_of_a_linear_critic_is_that_of_its_slope():
    slope = torch.full((1, 3, 4, 4), 0.5)
    penalty = gradient_penalty(
        lambda images: ((images * slope).sum(), None),
        torch.rand(2, 3, 4, 4),
        torch.rand(2, 3, 4, 4),
    )
    assert penalty.item() == pytest.approx((math.sqrt(48 * 0.25) - 1) ** 2)


def test_the_pool_shows_about_as_many_earlier_outputs_as_new_ones():
    torch.manual_seed(0)
    pool = Pool(1, 1, 1)
    outputs = torch.arange(1.0, 1 + 10 * POOL)[:, None, None, None]
    shown = torch.cat([pool(output[None]) for output in outputs])
    assert torch.equal(shown[:POOL], outputs[:POOL])
    new = shown[POOL:] == outputs[POOL:]
    assert 0.4 < new.float().mean() < 0.6
    assert (shown <= outputs).all()
    assert len(shown[POOL:].unique()) == len(shown[POOL:])  # none is shown twice again


def test_thinned_histories_keep_the_means(tmp_path):
    history = [(n, {"a": n} | ({"b": 2 * n} if n % 5 == 4 else {})) for n in range(1000)]
    thin = thinned(history, 100)
    assert (len(thin), thin[-1]["step"]) == (100, 999)
    assert np.mean([part["a"] for part in thin]) == pytest.approx(499.5)
    assert thin[0] == {"step": 9, "a": 4.5, "b": 13}
    pytest.importorskip("matplotlib", reason="needs the extra rivals")
    draw_curves({"one": thin, "two": []}, tmp_path / "losses.png", force=False)
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_trains_scores_and_draws_and_others_join_its_table(tmp_path, capsys):
    folder = draw_pairs(tmp_path / "faces", subjects=range(8), size=32)
    common = ["--data", str(folder), "--size", "32", "--sizes", "32", "--pairs", "--force"]
    common += ["--keep", str(tmp_path / "kept"), "--output", str(tmp_path / "rivals")]
    gan = [*common, "--gan", "--scale", "smoke", "--only", "pix2pix"]
    main([*gan, "--budget", "0.5"])
    main([*common, "--only", "copy", "mlr-paper"])
    main([*gan, "--budget", "0.5"])  # finds its checkpoint
    result = json.loads((tmp_path / "rivals.json").read_text())
    assert list(result["rivals"]) == ["copy", "mlr-paper", "pix2pix"]
    found = result["rivals"]["pix2pix"]
    assert len(found["each"]["mse"]) == 2 < len(result["rivals"]["copy"]["each"]["mse"])
    assert 0.5 <= found["seconds"] < 3  # of the first run
    assert found["training"]["steps"] == found["history"][-1]["step"] + 1
    assert found["disk"] == pytest.approx(4 * found["parameters"], rel=0.1)
    assert all(found["scores"][name] > 0 for name in ("mse", "psnr", "ssim", "sharpness"))
    assert found["bytes"] > 0
    text = (tmp_path / "rivals.md").read_text()
    before, table = text.split("## With GANs")
    assert "| Pix2Pix |" not in before
    same = np.mean(result["rivals"]["copy"]["each"]["mse"][:2])
    assert f"| copy of the input | {same:.5f} |" in table
    assert "lower error than Pix2Pix" in table
    assert {"rivals.webp", "rivals-losses.png"} <= set(names(tmp_path))
    assert len(list((tmp_path / "kept").glob("*.pt"))) == 1
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == [
        "pix2pix", "copy", "mlr-paper", "pix2pix",
    ]  # fmt: skip


def test_a_smoke_run_keeps_results_and_outcomes():
    options = parse(["--smoke"])
    assert (options.gan, options.scale, options.budget) == (True, "smoke", 15)
    assert options.keep != parse([]).keep
    assert options.output == options.keep != parse([]).output


def test_results_of_photographs_stay_out_of_the_repository():
    assert parse([]).published
    for arguments in (["--data", "faces"], ["--size", "128"], ["--smoke"]):
        options = parse(arguments)
        assert (options.output, options.published) == (options.keep, False)
    assert not parse(["--output", "elsewhere"]).published
