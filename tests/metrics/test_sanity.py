"""Sanity checks: how alike maps are, and models made random for a while."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from chronocam.errors import InputError
from chronocam.metrics import (
    parameterised,
    random_copy,
    randomisation_curve,
    randomised,
    rank_correlation,
    ssim,
)


def test_rank_correlation_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, (2, 5, 4, 3)).astype(float)  # with ties
    expected = [spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(rank_correlation(a, b), expected)
    assert rank_correlation(a, b, rank=3) == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic)
    np.testing.assert_allclose(rank_correlation(a, np.exp(a)), 1)
    np.testing.assert_allclose(rank_correlation(a, -a), -1)
    assert rank_correlation(a[0], np.zeros((4, 3))) == 0
    with pytest.raises(InputError, match=r"maps have shape .* but the others"):
        rank_correlation(a, b[:2])


@pytest.mark.parametrize("size", [(20, 23), (13, 15, 14)])
def test_ssim_is_that_of_scikit_image(size: tuple[int, ...]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    a = rng.random(size)
    b = 0.5 * a + 0.5 * rng.random(size)
    x, y = ((m - m.min()) / np.ptp(m) for m in (a, b))
    _, full = metrics.structural_similarity(
        x, y, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert ssim(7 * a - 3, 0.1 * b + 2, rank=len(size)) == pytest.approx(full.mean(), abs=1e-10)
    assert 0.1 < full.mean() < 0.9
    assert ssim(a, a, rank=len(size)) == pytest.approx(1)


def test_ssim_of_coarse_and_constant_maps() -> None:
    a = np.random.default_rng(0).random((3, 2, 2))
    assert ssim(a, a).tolist() == pytest.approx([1, 1, 1])
    assert (ssim(a, -a) < 0).all()
    assert ssim(np.zeros((4, 4)), np.ones((4, 4))) == pytest.approx(1)  # two blank maps


def test_randomisation_curve_compares_every_stage_with_the_reference() -> None:
    rng = np.random.default_rng(0)
    reference = rng.random((2, 3, 6, 6))
    stages = [reference * 2, reference + rng.random(reference.shape), rng.random(reference.shape)]
    found = randomisation_curve(reference, stages)
    assert found.spearman.shape == found.ssim.shape == (3, 2, 3)
    for i, stage in enumerate(stages):
        np.testing.assert_allclose(found.spearman[i], rank_correlation(reference, stage))
        np.testing.assert_allclose(found.ssim[i], ssim(reference, stage))
    assert (np.diff(found.spearman.mean((1, 2))) < -0.2).all()
    assert randomisation_curve(reference, stages, rank=3).ssim.shape == (3, 2)
    with pytest.raises(InputError, match="no stages"):
        randomisation_curve(reference, [])


class Odd(nn.Module):
    """Layers with and without a reset, a parameter of its own, a buffer, a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(40) + 3)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.tied = nn.Conv2d(4, 4, 1)
        self.attention = nn.MultiheadAttention(4, 2)
        self.head = nn.Linear(4, 2)
        self.tied.weight = nn.Parameter(self.head.weight.detach().repeat(2, 1)[:, :, None, None])
        self.alias = self.tied


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_the_top_modules_are_made_random_and_put_back() -> None:
    torch.manual_seed(0)
    net = Odd()
    net.body[1].running_mean.normal_()
    held, before, generator = dict(net.named_parameters()), state(net), torch.get_rng_state()
    paths = parameterised(net)
    assert paths == ["head", "attention.out_proj", "attention", "tied", "body.1", "body.0", ""]
    for count in range(len(paths) + 1):
        with randomised(net, count) as made:
            assert made == paths[:count]
            assert torch.is_grad_enabled()
            changed = {name for name, value in state(net).items() if not torch.equal(value, before[name])}
            tops = {name.rpartition(".")[0].replace("alias", "tied") for name in changed}
            # Constant biases and gains are a fresh start already; attention resets its projection's bias too.
            assert tops == set(paths[:count])
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
        assert dict(net.named_parameters()).keys() == held.keys()
        assert all(held[name] is p for name, p in net.named_parameters())
    assert torch.equal(torch.get_rng_state(), generator)
    with randomised(net, len(paths)):
        assert net.token.mean().item() == pytest.approx(before["token"].mean().item(), abs=0.6)
        assert net.token.std().item() == pytest.approx(before["token"].std().item(), rel=0.4)
        assert not net.body[1].running_mean.any()


def test_seeds_and_cascades_change_what_is_randomised() -> None:
    torch.manual_seed(0)
    net = Odd()

    def head(count: int, seed: int) -> torch.Tensor:
        with randomised(net, count, seed):
            return net.head.weight.detach().clone()

    assert torch.equal(head(1, 0), head(1, 0))
    assert not torch.equal(head(1, 0), head(1, 1))
    assert torch.equal(head(1, 0), head(4, 0))


def test_the_model_is_put_back_after_an_exception() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).train()
    before = state(net)
    with pytest.raises(RuntimeError, match="while random"), randomised(net, 2):  # noqa: PT012
        net(torch.randn(4, 3))  # moves the running statistics
        net[0].weight = nn.Parameter(torch.zeros(3, 3))
        raise RuntimeError("while random")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    for count in (-1, 3):
        with pytest.raises(InputError, match=rf"count is {count}; expected 0 to 2"), randomised(net, count):
            pass


def test_global_random_numbers_are_never_seeded() -> None:
    seen: list[torch.Tensor] = []

    class Drawn(nn.Linear):
        def reset_parameters(self) -> None:
            seen.append(torch.get_rng_state())
            nn.init.uniform_(self.weight)
            nn.init.trunc_normal_(self.bias)
            with torch.no_grad():
                self.weight.add_(torch.rand(2, 3)).mul_(torch.randn_like(self.weight))

    net = Drawn(3, 2)
    seen.clear()
    before = torch.get_rng_state()
    copies = [random_copy(net, 1, seed).weight for seed in (0, 0, 1)]
    assert all(torch.equal(state, before) for state in [*seen, torch.get_rng_state()])
    assert torch.equal(copies[0], copies[1])
    assert not torch.equal(copies[0], copies[2])
