"""Every task by name; what the operators compute is tested with the measurement package."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.errors import UserError
from mgdm_audio.images.tasks import TASKS, build_operator
from mgdm_audio.measurement import LinearOperator, Mask, Operator, SoftJPEG, SpectralOperator

SHAPE = (3, 32, 32)
LINEAR = sorted(set(TASKS) - {"nonlinear_blur", "jpeg", "phase_retrieval", "high_dynamic_range"})
ITERATIVE = {"motion_blur", "nonuniform_blur"}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(name: str, shape: tuple[int, ...] = SHAPE, **options: Any) -> Operator:
    return build_operator(name, shape, generator=generator(), **options)


def image(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    """Uniform on [-1, 1]."""
    return 2 * torch.rand(shape, generator=generator(seed), dtype=dtype) - 1


@pytest.mark.parametrize("name", TASKS)
def test_every_task_observes_images_of_any_dtype(name: str) -> None:
    options = {"network": lambda x, code: x} if name == "nonlinear_blur" else {}
    operator = build(name, **options)
    y = operator(image(2, *SHAPE))
    assert y.shape[0] == 2
    assert y.dtype == torch.float64
    single = operator(image(2, *SHAPE).float())
    assert single.dtype == torch.float32
    if name != "jpeg":  # where rounding decides on a whole step
        torch.testing.assert_close(single.double(), y, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_gradient(name: str) -> None:
    options = {"network": lambda x, code: x} if name == "nonlinear_blur" else {}
    x = image(1, *SHAPE).requires_grad_()
    y = build(name, **options)(x)
    (gradient,) = torch.autograd.grad((y * image(*y.shape, seed=2)).sum(), x)
    assert bool(gradient.isfinite().all())
    assert bool(gradient.any())


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", LINEAR)
def test_the_adjoint(name: str, dtype: torch.dtype, bound: float) -> None:
    operator = build(name)
    assert isinstance(operator, LinearOperator)
    x = image(2, *SHAPE, dtype=dtype)
    a_x = operator(x)
    y = image(*a_x.shape, dtype=dtype, seed=2)
    left, right = (a_x * y).flatten(1).sum(1), (x * operator.adjoint(y)).flatten(1).sum(1)
    scale = a_x.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1)
    assert float(((left - right) / scale).abs().max()) <= bound


@pytest.mark.parametrize("name", LINEAR)
def test_the_pseudo_inverse_and_the_solution(name: str) -> None:
    shape = (1, 16, 16) if name in ITERATIVE else SHAPE
    operator, x = build(name, shape), image(1, *shape)
    assert isinstance(operator, LinearOperator)
    y = operator(x)
    # A motion kernel has singular values down to rounding, and a thousand iterations do not reach
    # those below 1e-4 or so; test_operators has blurs where they reach all, to 1e-12.
    bound = 1e-3 if name in ITERATIVE else 1e-12
    if name != "nonuniform_blur":  # four times the work of motion_blur, to the same end
        assert float((operator(operator.pinv(y)) - y).norm() / y.norm()) < bound
    for rho in (1e-3, 1.0):
        solution = operator.solve(x, rho)
        residual = operator.normal(solution) + rho * solution - x
        assert float(residual.abs().max()) < 1e-14 / rho + 1e-13


@pytest.mark.parametrize("name", [name for name in LINEAR if name not in ITERATIVE])
def test_the_singular_value_decomposition(name: str) -> None:
    operator, x = build(name), image(2, *SHAPE)
    assert isinstance(operator, SpectralOperator)
    z, s = operator.V_T(x), operator.singular_values
    torch.testing.assert_close(operator.V(z), x, rtol=0, atol=1e-13)
    torch.testing.assert_close(operator.U(s * z), operator(x), rtol=0, atol=1e-13)
    seen = (s > 0).expand_as(z)
    torch.testing.assert_close(operator.U_T(operator.U(z))[seen], z[seen], rtol=0, atol=1e-13)
    assert not operator.U_T(operator(x))[~seen].any()


def missing(name: str, shape: tuple[int, ...] = (3, 256, 256)) -> Tensor:
    """Where an image is not observed, ``[height, width]``; the same in all channels."""
    operator = build(name, shape)
    assert isinstance(operator, Mask)
    x = image(1, *shape)
    y = operator(x)
    hidden = y == 0
    assert torch.equal(y[~hidden], x[~hidden])
    assert bool((hidden == hidden[:, :1]).all())
    return hidden[0, 0]


@pytest.mark.parametrize(
    ("name", "rows", "columns", "inside"),
    [
        ("inpainting_center", (50, 200), (50, 200), True),
        ("outpainting_half", (0, 256), (128, 256), True),
        ("outpainting_expand", (89, 167), (89, 167), False),
        ("outpainting_top", (0, 128), (0, 256), True),
        ("outpainting_bottom", (128, 256), (0, 256), True),
        ("inpainting_middle", (64, 192), (0, 256), True),
    ],
)
def test_masks(name: str, rows: tuple[int, int], columns: tuple[int, int], inside: bool) -> None:
    expected = torch.full((256, 256), not inside)
    expected[slice(*rows), slice(*columns)] = inside
    assert torch.equal(missing(name), expected)
    # Half the size: every number of pixels is halved, 89 and 167 to the nearest even.
    expected = torch.full((128, 64), not inside)
    expected[slice(*(round(i / 2) for i in rows)), slice(*(round(i / 4) for i in columns))] = inside
    assert torch.equal(missing(name, (1, 128, 64)), expected)


@pytest.mark.parametrize(("name", "percent"), [("random_95", 95), ("random_99", 99)])
def test_random_masks_hide_their_share_to_the_pixel(name: str, percent: int) -> None:
    hidden = missing(name)
    assert int(hidden.sum()) == round(percent / 100 * 256**2)
    # Spread evenly: each quarter within five standard deviations of its share.
    share = percent / 100
    spread = 5 * (share * (1 - share) * 128**2) ** 0.5
    for quarter in (hidden[:128, :128], hidden[:128, 128:], hidden[128:, :128], hidden[128:, 128:]):
        assert abs(int(quarter.sum()) - share * 128**2) < spread


@pytest.mark.parametrize("name", ["random_95", "motion_blur", "nonuniform_blur"])
def test_a_random_task_is_drawn_once_from_its_generator(name: str) -> None:
    x = image(1, *SHAPE)
    first, again = build(name), build(name)
    assert torch.equal(first(x), first(x))
    assert torch.equal(first(x), again(x))
    other = build_operator(name, SHAPE, generator=generator(5))
    assert not torch.equal(first(x), other(x))


@pytest.mark.parametrize(("name", "factor"), [("sr4", 4), ("sr16", 16)])
def test_super_resolution(name: str, factor: int) -> None:
    operator, x = build(name), image(2, *SHAPE)
    assert isinstance(operator, SpectralOperator)
    torch.testing.assert_close(operator(x), torch.nn.functional.avg_pool2d(x, factor))
    values = operator.singular_values
    assert int((values > 0).sum()) == (32 // factor) ** 2
    torch.testing.assert_close(values.max(), torch.tensor(1 / factor, dtype=torch.float64))


@pytest.mark.parametrize("name", ["motion_blur", "nonuniform_blur", "blur", "sr4", "colorization"])
def test_a_constant_stays_as_it_is(name: str) -> None:
    y = build(name)(torch.full((1, *SHAPE), 0.7, dtype=torch.float64))
    torch.testing.assert_close(y, torch.full_like(y, 0.7), rtol=0, atol=1e-13)


def test_the_other_tasks_are_what_they_say() -> None:
    x = image(2, *SHAPE)
    weights = torch.tensor([0.3333, 0.3334, 0.3333], dtype=torch.float64)
    grey = (weights[:, None, None] * x).sum(1, keepdim=True)
    torch.testing.assert_close(build("colorization")(x), grey, rtol=0, atol=1e-15)
    assert torch.equal(build("high_dynamic_range")(x), (2 * x).clamp(-1, 1))
    assert torch.equal(build("denoising")(x), x)
    padded = torch.nn.functional.pad((x + 1) / 2, (8, 8, 8, 8))
    spectrum = torch.fft.fftshift(torch.fft.fft2(padded, norm="ortho"), (-2, -1))
    torch.testing.assert_close(build("phase_retrieval")(x), spectrum.abs(), rtol=0, atol=1e-13)
    assert build("phase_retrieval", (3, 256, 256))(image(1, 3, 256, 256)).shape[-2:] == (384, 384)
    for options in (
        {},
        {"quality": 50, "subsampling": "4:4:4", "baseline": True},
        {"published": True},
    ):
        expected = 2 * SoftJPEG(**{"quality": 2, **options})((x + 1) / 2) - 1
        torch.testing.assert_close(build("jpeg", **options)(x), expected, rtol=0, atol=1e-13)


def moves(x: Tensor) -> list[Tensor]:
    """Shifted by a pixel in either direction, turned by 180 degrees, mirrored."""
    return [x.roll(1, -1), x.roll(1, -2), x.flip(-2, -1), x.flip(-1), x.flip(-2)]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_which_moves_it_cannot_see(name: str) -> None:
    operator = build(name, **({"network": lambda x, c: x} if name == "nonlinear_blur" else {}))
    x = torch.full(SHAPE, -1, dtype=torch.float64)
    x[:, 4:-6, 3:-2] = image(3, 22, 27)
    y = operator(x[None])
    seen = [float((operator(moved[None]) - y).abs().max()) > 1e-3 for moved in moves(x)]
    if name != "phase_retrieval":
        assert operator.symmetries is None
        assert seen == [True] * 5
        return
    assert seen == [False, False, False, True, True]
    assert operator.symmetries is not None
    moved = operator.symmetries.nearest(x, x, 10**6)
    assert len(moved) == 2 * (32 - 22 + 1) * (32 - 27 + 1)
    # Sums of some thousand values up to 1, over the root of their number.
    torch.testing.assert_close(
        operator(torch.stack(moved)), y.expand(len(moved), -1, -1, -1), rtol=0, atol=1e-12
    )
    full = image(*SHAPE)
    assert len(operator.symmetries.nearest(full, full, 10**6)) == 2  # itself and turned


@pytest.mark.parametrize(
    "value", ["x", True, [1, 2], {"a": 1}, 1.5, -3, float("nan"), 10**30, torch.eye(3)]
)
def test_values_of_any_type_are_taken_or_refused_in_one_line(value: Any) -> None:
    for name, task in TASKS.items():
        for option in inspect.signature(task).parameters:
            if option not in ("shape", "generator"):
                said = f"image task {name!r}"
                try:
                    build(name, **{option: value})(image(1, *SHAPE))
                except UserError as error:
                    said = str(error)
                assert f"image task {name!r}" in said
                assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("sr8", SHAPE, {}, "image task 'sr8' is unknown; did you mean"),
        ("sr4", SHAPE, {"scale": 3}, "option 'scale'; known: factor"),
        ("denoising", SHAPE, {"std": 1.0}, "option 'std': it takes none"),
        ("sr4", (3, 30, 32), {}, "image task 'sr4': size .30, 32.: give multiples of the factor 4"),
        ("blur", (32, 32), {}, "image task 'blur': shape .32, 32.: give channels, height, width"),
        ("jpeg", (2, 32, 32), {}, "image task 'jpeg': 2 channels"),
        ("jpeg", SHAPE, {"quality": 0}, "image task 'jpeg': quality 0"),
        ("colorization", (1, 32, 32), {}, "1 channels"),
        ("jpeg", SHAPE, {"quality": "low"}, "'jpeg': quality: 'low' is not a whole number"),
        ("jpeg", SHAPE, {"baseline": 1}, "'jpeg': baseline: 1 is not true or false"),
        ("jpeg", SHAPE, {"subsampling": "4:1:1"}, "subsampling: unknown value '4:1:1'"),
        ("random_95", SHAPE, {"missing": 1.0}, "missing = 1.0"),
        ("motion_blur", SHAPE, {"kernel_size": 60}, "kernel size 60"),
        ("motion_blur", SHAPE, {"kernel": "k.npy"}, "image task 'motion_blur': k.npy: cannot be"),
        ("motion_blur", SHAPE, {"kernel": "k.npy", "kernel_size": 9}, "leave kernel_size and"),
        ("jpeg", SHAPE, {"published": True, "quality": 100}, "'jpeg': quality 100 of the publ"),
        ("nonlinear_blur", SHAPE, {}, "give its option 'network'"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(
    name: str, shape: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(name, shape, **options)
    assert "\n" not in str(caught.value)
