"""Which files are asked for: stems, sums of them, and what is left."""

from typing import Any

import pytest
import torch

from mgdm_audio.audio.encoding.formats import find_format
from mgdm_audio.errors import UserError
from mgdm_audio.output.choice import choose, choose_all, require_fit
from mgdm_audio.separation.result import Separation
from tests.toys import STEMS, song


@pytest.mark.parametrize(
    ("asked", "names", "complete"),
    [
        ({}, STEMS, True),
        ({"stems": ["guitar", " bass "]}, ("guitar", "bass"), False),
        ({"stems": STEMS}, STEMS, True),
        ({"mixes": ["drums+bass"]}, ("drums+bass",), False),
        ({"mixes": ["drums + bass"], "rest": True}, ("drums+bass", "rest"), True),
        ({"mixes": ["drums+bass", "guitar+piano"]}, ("drums+bass", "guitar+piano"), True),
        ({"stems": ["bass"], "mixes": ["bass+drums"]}, ("bass", "bass+drums"), False),
        ({"stems": ["bass"], "mixes": ["bass+drums"], "rest": True}, None, False),
    ],
)
def test_files_sum_to_the_input_where_each_stem_is_in_one(
    asked: dict[str, Any], names: tuple[str, ...] | None, complete: bool
) -> None:
    choice = choose(STEMS, **asked)
    assert choice.names == (names or ("bass", "bass+drums", "rest"))
    assert choice.complete == complete
    mixture, stems = song(9, 2, 50, 8000), [song(i, 2, 50, 8000) for i in range(3)]
    true = dict(zip(STEMS, [*stems, mixture - sum(stems)], strict=True))
    found = Separation.of(mixture, true, 8000, {"draws": 1}).choose(**asked)
    assert tuple(found) == choice.names
    for name, samples in found.items():
        left = set(STEMS) - {part for other in found for part in other.split("+")}
        members = left if name == "rest" else name.split("+")
        # Sums of four float32 below 2 in another order.
        assert (samples - sum(true[part] for part in members)).abs().max() < 1e-6
    whole = torch.stack(list(found.values())).sum(0)
    assert ((whole - mixture).abs().max() < 1e-6) == complete
    assert found.report.get("chosen") == choice.settings


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"stems": ["drum"]}, "no stem 'drum'; did you mean drums"),
        ({"mixes": ["drums+vocals"]}, "no stem 'vocals'"),
        ({"mixes": ["drums"]}, "mix 'drums': names one stem; write it as drums\\+bass"),
        ({"mixes": ["drums+drums"]}, "'drums' is named twice"),
        ({"stems": ["bass", "bass"]}, "'bass' is named twice"),
        ({"stems": [""]}, "no stem ''"),
        ({"mixes": ["drums+bass", "drums+bass"]}, "'drums\\+bass' is named twice"),
        ({"rest": True}, "the rest of nothing is the input"),
        ({"stems": STEMS, "rest": True}, "every stem is in a file already"),
        ({"mixes": ["bass+drums", "guitar+piano"], "rest": True}, "every stem is in a file"),
    ],
)
def test_what_cannot_be_chosen_is_one_line(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        choose(STEMS, **asked)


def test_a_stem_may_not_be_called_as_the_rest_is() -> None:
    with pytest.raises(UserError, match="'rest' is named twice"):
        choose(("bass", "rest"), ["rest"], rest=True)


@pytest.mark.parametrize(
    ("names", "complete", "says"),
    [
        (STEMS[:3], True, "holds exactly 4 stems, not 3 \\(bass, drums, guitar\\)"),
        ((*STEMS, "vocals"), True, "holds exactly 4 stems, not 5"),
        (STEMS, False, "do not sum to the input"),
    ],
)
def test_stems_in_one_file_are_four_that_sum_to_the_input(
    names: tuple[str, ...], complete: bool, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        require_fit(find_format("stem.mp4"), names, complete)
    require_fit(find_format("flac"), names, complete)
    require_fit(find_format("stem.mp4"), STEMS, True)


@pytest.mark.parametrize(
    ("available", "names"),
    [
        (STEMS, STEMS),
        (STEMS[:3], STEMS[:3]),
        ((*STEMS, "other"), ("bass", "drums", "other", "guitar+piano")),
        ((*STEMS, "strings", "other"), ("bass", "drums", "other", "guitar+piano+strings")),
    ],
)
def test_of_five_stems_and_more_four_files_are_made_for_a_format_of_four(
    available: tuple[str, ...], names: tuple[str, ...]
) -> None:
    choice = choose_all(available, find_format("stem.mp4"))
    assert choice.names == names
    assert choice.complete
    assert choose_all(available, find_format("wav")) == choose(available)
