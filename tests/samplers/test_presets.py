from pathlib import Path

import pytest

from mgdm_audio.config import ConfigError
from mgdm_audio.samplers import MGDM, PerStep
from mgdm_audio.samplers.presets import list_presets, load_preset


@pytest.mark.parametrize("name", list_presets())
def test_every_bundled_preset_loads(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name
    assert preset.noise_std > 0
    assert preset.draws >= 1
    assert preset.options["num_steps"] > 0


def test_the_default_sampler_is_the_paper_s_preset() -> None:
    assert load_preset("mgdm").sampler == MGDM()
    assert load_preset("mgdm").noise_std == 1e-4


def test_isdm_is_msdm_s_dirac_separator_with_twice_the_churn() -> None:
    isdm, msdm = load_preset("isdm-dirac"), load_preset("msdm-dirac")
    assert isdm.options == msdm.options | {"s_churn": 2 * msdm.options["s_churn"]}
    assert (isdm.noise_std, isdm.draws) == (msdm.noise_std, msdm.draws)


def test_overrides_reach_options_and_the_file_s_own_keys() -> None:
    overrides = ["gibbs_steps=2", "options.vi_steps=90", "noise_std=1e-3", "index_law=fixed"]
    preset = load_preset("mgdm", overrides)
    assert preset.sampler == MGDM(gibbs_steps=2, vi_steps=PerStep(90), index_law="fixed")
    assert preset.noise_std == 1e-3
    assert preset.options["gibbs_steps"] == 2
    assert load_preset("mgdm", ["vi_steps.base=5"]).sampler == MGDM(
        vi_steps=PerStep(5, last=(5, 20))
    )


def test_what_is_changed_stands_for_no_published_row_unless_it_names_one() -> None:
    row = load_preset("mgdm").published
    assert row == "MGDM, R = 6, Tables 3 and 9"
    for same in (["gibbs_steps=6"], ["draws=1"], ["noising=forward"], ["vi_steps.base=3"]):
        assert load_preset("mgdm", same).published == row
    for other in (["gibbs_steps=2"], ["draws=4"], ["noise_std=1e-3"], ["noising=bridge"]):
        assert load_preset("mgdm", other).published == "none"
        for named in ("Fig. 3, R = 2", row):
            assert load_preset("mgdm", [*other, f"published={named}"]).published == named
    assert load_preset("mgdm", ["gibbs_steps=2"], settled=["gibbs_steps=2"]).published == row
    preset = load_preset("mgdm")
    assert [preset.stands_for(draws) for draws in (None, 1, 2)] == [row, row, "none"]


def test_a_preset_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('sampler = "mgdm"\n[options]\ngibbs_steps = 3\n')
    preset = load_preset(path)
    assert (preset.name, preset.sampler) == ("mine", MGDM(gibbs_steps=3))
    assert preset.published == "none"
    path.write_text("[options]\ngibbs_steps = 3\n")  # no preset without the override
    assert load_preset(path, ["sampler=mgdm"]).sampler == MGDM(gibbs_steps=3)


@pytest.mark.parametrize(
    ("name", "overrides", "says"),
    [
        ("mgmd", [], "no preset 'mgmd', nor a .toml file; did you mean mgdm"),
        ("absent.toml", [], "absent.toml: cannot be read"),
        ("mgdm", ["gibs_steps=2"], "mgdm: options: unknown key 'gibs_steps'; did you mean gibbs"),
        ("mgdm", ["eta=fast"], "mgdm: options: eta: 'fast' is not a number"),
        ("mgdm", ["index_law=mu1"], "did you mean"),
        ("mgdm", ["eta=2"], "eta and threshold lie in"),
        ("mgdm", ["sampler=mgdn"], "sampler 'mgdn' is unknown; did you mean mgdm"),
        ("mgdm", ["noise_std=0"], "noise_std is positive"),
        ("mgdm", ["draws=0"], "draws is at least 1"),
        ("mgdm", ["published=a|b"], "published = 'a|b': name the row of a table, in one line"),
        ("mgdm", ['published=" "'], "or write 'none'"),
    ],
)
def test_a_mistake_is_named(name: str, overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_preset(name, overrides)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_start_is_a_preset_or_a_file_that_begins_at_noise(tmp_path: Path) -> None:
    preset = load_preset("mgdm-refine")
    assert preset.start == load_preset("default")
    assert preset.settings["start"] == preset.start_record
    other = load_preset("mgdm-refine", ["start=none"])
    assert (other.start, other.start_record) == (None, None)
    assert other.sampler == preset.sampler
    assert "start" not in other.settings
    path = tmp_path / "mine.toml"
    path.write_text('sampler = "wiener"\ndraws = 5\n')
    assert load_preset("mgdm-refine", [f"start={path}"]).start == load_preset(path)


@pytest.mark.parametrize(
    ("name", "start", "says"),
    [
        ("wiener", "default", "sampler wiener starts from noise; leave start out"),
        ("mgdm-refine", "defualt", "no preset 'defualt', nor a .toml file; did you mean default"),
        ("mgdm-refine", "absent.toml", "absent.toml: cannot be read"),
        ("mgdm-refine", "mgdm-refine", "it has a start of its own; give a preset that has none"),
    ],
)
def test_a_start_that_cannot_be_is_named(name: str, start: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_preset(name, [f"start={start}"])
    assert f"{name}: start = {start!r}: " in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
