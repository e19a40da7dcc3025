"""Names of installed packages are found by their entry points, and nothing else is imported."""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.metric_registry import METRICS, Metric, find_metrics
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.priors.architectures import ARCHITECTURES, Architecture
from mgdm_audio.priors.folder import CONFIG, load_prior, save_prior
from mgdm_audio.priors.images import load_image_prior
from mgdm_audio.registry import Registry
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import MGDM, SAMPLERS
from mgdm_audio.samplers.presets import load_preset
from tests.plugin import install, install_all
from tests.toys import STEMS

TABLES: list[Registry[Any]] = [SAMPLERS, ARCHITECTURES, METRICS]
GROUPS = [table.group for table in TABLES]
MARK = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"


@pytest.fixture(autouse=True)
def imported() -> Iterator[None]:
    """What a test imports is forgotten after it."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("extra_music", "hostile", "broken"):
            del sys.modules[name]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder on sys.path, as that in which packages are installed."""
    (folder := tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def refusal(table: Registry[Any], name: object) -> str:
    with pytest.raises(UserError) as caught:
        table.find(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def save_gain(folder: Path) -> Path:
    """A prior of the architecture "gain", of the installed package."""
    from extra_music.network import Config, Gain  # type: ignore[import-not-found]

    details = {"schedule": {"kind": "karras"}, "stems": list(STEMS), "sample_rate": 22050,
               "mixture_rms": 0.1, "segment": 4096}  # fmt: skip
    save_prior(folder, Gain(Config()), Config(), "gain", details)
    return folder


def test_names_of_an_installed_package(site: Path, tmp_path: Path) -> None:
    install_all(site)
    folder = save_gain(tmp_path / "prior")
    (tmp_path / "mine.toml").write_text('sampler = "quarter"\n[options]\nfactor = 0.5\n')

    sampler = load_preset(tmp_path / "mine.toml").sampler
    prior = load_prior(folder).prior.with_event_shape((4, 8))
    y = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(0))
    drawn = sampler.sample(
        prior, GaussianLikelihood(MixtureSum(4), y, 1e-2), generator=generator_for(0)
    )
    # Half of an equal share of the mixture; powers of two are exact in float32.
    assert torch.equal(drawn, (y / 8).expand(2, 4, 8))

    x = torch.ones(1, 4, 8)
    # Of white noise of variance 1 the share 1 / (1 + 1) is kept at sigma = 1.
    assert torch.equal(prior.denoiser(x, torch.ones(())), x / 2)

    entry = find_metrics(["peak", "sdr"])["peak"].compute(
        x[0, :2, None], 0 * x[0, :2, None], 1, ["a", "b"]
    )
    assert entry == {"peak": {"a": 1.0, "b": 1.0, "all": 1.0}}


def test_only_the_name_that_is_asked_for_is_imported(site: Path) -> None:
    install_all(site)
    SAMPLERS.find("mgdm")
    refusal(SAMPLERS, "quarters")  # near, and named as the nearest
    assert not any(name.startswith("extra_music") for name in sys.modules)
    SAMPLERS.find("quarter")
    assert {n for n in sys.modules if n.startswith("extra_music.")} == {"extra_music.sampler"}
    assert not {"quarter", "gain", "peak"} & {*SAMPLERS, *ARCHITECTURES, *METRICS}


def test_an_unknown_name_is_told_the_nearest_of_installed_ones(site: Path) -> None:
    install_all(site)
    assert refusal(SAMPLERS, "quartre") == "sampler 'quartre' is unknown; did you mean quarter?"
    assert "gain" in refusal(ARCHITECTURES, "zzzzzz")
    assert refusal(METRICS, "zzzzzz").endswith(
        "; one of your own needs its module, --import MODULE"
    )


@pytest.mark.parametrize("table", TABLES, ids=GROUPS)
def test_what_is_built_in_stays(table: Registry[Any], site: Path) -> None:
    install(site, groups={table.group: dict.fromkeys(table, "hostile:x")}, hostile=MARK)
    for name, value in list(table.items()):
        assert table.find(name) is value
        with pytest.raises(UserError, match="exists already; choose another name"):
            table.register(name, value)
    assert not (site / "hostile.ran").exists()


@pytest.mark.parametrize("table", TABLES, ids=GROUPS)
@pytest.mark.parametrize(
    ("target", "text", "says"),
    [
        ("broken:x", "1 / 0", "ZeroDivisionError: division by zero"),
        ("broken:x", "import zzz", "ModuleNotFoundError: No module named 'zzz'"),
        ("broken:x", "y = 1", "AttributeError: module 'broken' has no attribute 'x'"),
        ("broken:x", "raise SystemExit", "SystemExit"),
        ("broken:x", "raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("broken:x", "x = (", "SyntaxError: '(' was never closed (broken.py, line 1)"),
        ("missing:x", "", "ModuleNotFoundError: No module named 'missing'"),
        ("not a module", "", "AttributeError"),
        ("broken:x", "x = 3", "3 is not a dataclass|3 is not an Architecture|3 is not a Metric"),
    ],
)
def test_a_broken_entry_point_is_one_line(
    table: Registry[Any], target: str, text: str, says: str, site: Path
) -> None:
    install(site, "bad-music", {table.group: {"mine": target}}, broken=text)
    message = refusal(table, "mine")
    assert message.startswith(f"{table.what} 'mine' of the package bad-music 1.2")
    assert any(each in message for each in says.split("|"))


def test_two_packages_with_one_name(site: Path) -> None:
    for package in ("one-music", "two-music"):
        install(site, package, {"mgdm_audio.samplers": {"mine": "hostile:x"}}, hostile=MARK)
    message = refusal(SAMPLERS, "mine")
    assert "one-music 1.2" in message
    assert "two-music 1.2" in message
    assert message.endswith("uninstall one")
    assert not (site / "hostile.ran").exists()


def test_a_package_with_damaged_metadata_is_named(site: Path) -> None:
    install(site, "bad-music", {})
    (site / "bad_music-1.2.dist-info/entry_points.txt").write_text("[group]\nno equals sign\n")
    assert "package bad-music: its entry_points.txt cannot be read" in refusal(SAMPLERS, "mine")
    assert SAMPLERS.find("mgdm") is MGDM


HOSTILE = ["hostile", "hostile:x", "hostile.x", "x", "os.system", "../hostile", "hostile.py"]


@pytest.mark.parametrize("name", [*HOSTILE, ["hostile"], {"hostile": 1}, 3, None])
def test_a_file_that_names_a_module_imports_nothing(
    name: object, tiny_prior: Path, site: Path, tmp_path: Path
) -> None:
    # It can be imported, and an installed package has it under another name.
    entry = {"another": "hostile:x"}
    install(site, groups=dict.fromkeys(GROUPS, entry), hostile=MARK + "x = None\n")
    before = set(sys.modules)
    folder = Path(shutil.copytree(tiny_prior, tmp_path / "prior"))
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"model_type": name}))
    with pytest.raises(UserError):
        load_prior(folder)
    with pytest.raises(UserError):
        load_image_prior(folder)
    if isinstance(name, str):
        (tmp_path / "mine.toml").write_text(f'sampler = "{name}"\n')
        with pytest.raises(UserError, match="is unknown"):
            load_preset(tmp_path / "mine.toml")
        with pytest.raises(UserError, match="is unknown"):
            load_preset("wiener", [f"sampler={name}"])
        with pytest.raises(UserError):
            load_preset(name)
        with pytest.raises(UserError, match="is unknown"):
            find_metrics([name])
    for table in TABLES:
        refusal(table, name)
    assert not {n for n in set(sys.modules) - before if "hostile" in n}
    assert not (site / "hostile.ran").exists()


def refuse(*_: Any) -> Any:
    raise AssertionError("a check runs nothing")


@dataclass(frozen=True)
class Lacking:
    """Neither a sampler nor, without sources, an architecture's config."""


@dataclass(frozen=True)
class Mine:
    def sample(self) -> None: ...


@pytest.mark.parametrize(
    ("table", "value", "says"),
    [
        (SAMPLERS, Lacking, "is not a dataclass with a method sample"),
        (SAMPLERS, Mine(), "is not a dataclass with a method sample"),
        (SAMPLERS, object, "is not a dataclass with a method sample"),
        (ARCHITECTURES, torch.nn.Linear, "is not an Architecture"),
        (ARCHITECTURES, Architecture(dict, torch.nn.Linear, refuse), "is not an Architecture"),
        (ARCHITECTURES, Architecture(Lacking, torch.nn.Linear, refuse), "config without sources"),
        (METRICS, max, "is not a Metric"),
        (METRICS, Metric({"a": "a"}, refuse, over_tracks="max"), "over_tracks not mean or median"),
    ],
)
def test_what_is_not_of_the_kind_is_refused(
    table: Registry[Any], value: Any, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=says):
        table.register("mine", value)
    assert "mine" not in table
    monkeypatch.setitem(table, "mine", value)  # past the check
    assert says in refusal(table, "mine")


def test_what_is_registered_is_found_before_an_entry_point(site: Path) -> None:
    install_all(site)
    SAMPLERS.register("quarter", Mine)
    try:
        assert SAMPLERS.find("quarter") is Mine
        with pytest.raises(UserError, match="sampler 'quarter' exists already"):
            SAMPLERS.register("quarter", Mine)
    finally:
        del SAMPLERS["quarter"]
    assert not any(name.startswith("extra_music") for name in sys.modules)


def test_two_metrics_with_one_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "mine", Metric({"sdr": "mine"}, refuse))
    monkeypatch.setitem(METRICS, "odd", Metric({"windows": "mine"}, refuse))
    assert list(find_metrics(["mine", "mel"])) == ["mine", "mel"]
    with pytest.raises(UserError, match="metric 'sdr': column 'sdr' belongs to metric 'mine' too"):
        find_metrics(["mine", "sdr"])
    says = "metric 'odd': column 'windows' belongs to every metric too"
    with pytest.raises(UserError, match=says):
        find_metrics(["odd"])
