"""Priors by their names on the Hugging Face hub, by the real client, from a hub on loopback."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from mgdm_audio.cli.main import main
from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.priors import hub
from mgdm_audio.priors.folder import CONFIG, WEIGHTS, load_prior
from mgdm_audio.priors.images import load_image_prior
from mgdm_audio.priors.images.trained_images import save_trained
from tests.images.toys import tiny_autoencoder, tiny_unet
from tests.priors.loopback_hub import TOKEN, Hub, used_hub
from tests.toys import song

constants = pytest.importorskip(
    "huggingface_hub.constants", reason="needs huggingface_hub: pip install 'mgdm_audio[hub]'"
)

CLOSED = "http://127.0.0.1:1"  # nothing listens at the port
NOT_OURS = {"pytorch_model.bin": b"a pickle", "code.py": b"raise SystemExit"}


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """See ``used_hub``."""
    with used_hub(tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture
def prior(tiny_prior: Path, tmp_path: Path) -> Path:
    """A folder with a model card."""
    folder = Path(shutil.copytree(tiny_prior, tmp_path / "tiny"))
    (folder / "README.md").write_text("---\ntags:\n- toy\n---\n\n# Tiny\n\nKnows nothing.\n")
    return folder


def changed(prior: Path) -> Path:
    """The same folder with other weights."""
    tensors = load_file(prior / WEIGHTS)
    tensors["enter.bias"] += 1
    save_file(tensors, prior / WEIGHTS)
    config = json.loads((prior / CONFIG).read_text()) | {"sha256": hash_file(prior / WEIGHTS)}
    (prior / CONFIG).write_text(json.dumps(config))
    return prior


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    # Anything else is a traceback in a user's face.
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    return result


def complaint(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    return line


def test_a_prior_is_fetched_and_nothing_else(there: Hub, prior: Path, tmp_path: Path) -> None:
    commit = there.add("me/band", prior, NOT_OURS)
    loaded = load_prior("me/band")
    assert (loaded.name, loaded.revision) == ("me/band", commit)
    assert loaded.path == tmp_path / f"cache/models--me--band/snapshots/{commit}"
    assert {path.name for path in loaded.path.iterdir()} == {CONFIG, WEIGHTS, "README.md"}
    asked = " ".join(path for _, path in there.requests)
    assert [name for name in NOT_OURS if name in asked] == []
    here = load_prior(prior)
    assert (here.name, here.revision, here.sha256) == ("tiny", None, loaded.sha256)
    for name, tensor in here.network.state_dict().items():
        assert torch.equal(tensor, loaded.network.state_dict()[name])


def test_a_record_has_the_commit(there: Hub, prior: Path, tmp_path: Path) -> None:
    commit = there.add("me/band", prior)
    soundfile.write(tmp_path / "song.wav", song(1, 1, 4000, 22050).T.numpy(), 22050)
    for name, revision in (("me/band", commit), (str(prior), None)):
        out = tmp_path / f"out {revision}"
        quick = ("--samples", "1", "--set", "num_steps=2", "--sampler", "wiener")
        result = run("separate", tmp_path / "song.wav", "-o", out, "--prior", name, *quick)
        assert result.exit_code == 0, result.output
        record = json.loads((out / "song/separation.json").read_text())
        assert record["prior_revision"] == revision
        assert record["prior"] == ("tiny" if revision is None else "me/band")
        assert record["prior_sha256"] == hash_file(prior / WEIGHTS)


def test_a_revision_is_a_commit_a_tag_or_a_branch(there: Hub, prior: Path) -> None:
    old, old_sha256 = there.add("me/band", prior), hash_file(prior / WEIGHTS)
    there.repositories["me/band"].names |= {"v1": old, "refs/pr/1": old}
    new = there.add("me/band", changed(prior))
    for revision in (old, "v1", "refs/pr/1"):
        loaded = load_prior(f"me/band@{revision}")
        assert (loaded.name, loaded.revision, loaded.sha256) == ("me/band", old, old_sha256)
    assert load_prior("me/band").revision == load_prior("me/band@main").revision == new
    assert load_prior("me/band").sha256 == hash_file(prior / WEIGHTS) != old_sha256


def test_in_a_process_a_name_stays_one_commit(there: Hub, prior: Path) -> None:
    first = there.add("me/band", prior)
    assert load_prior("me/band").revision == first
    second = there.add("me/band", changed(prior))
    assert load_prior("me/band").revision == first
    hub.fetch.cache_clear()  # as in another process
    assert load_prior("me/band").revision == second


@pytest.mark.parametrize("how", [{"HF_HUB_OFFLINE": True}, {"ENDPOINT": CLOSED}])
def test_what_was_fetched_needs_no_network(
    there: Hub, prior: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, object]
) -> None:
    commit = there.add("me/band", prior)
    before = load_prior("me/band")
    for name, value in how.items():
        monkeypatch.setattr(constants, name, value)
    hub.fetch.cache_clear()
    there.requests.clear()
    for name in ("me/band", "me/band@main", f"me/band@{commit}"):
        again = load_prior(name)
        assert (again.path, again.sha256) == (before.path, before.sha256)
    assert there.requests == []
    remedy = "unset it" if "HF_HUB_OFFLINE" in how else "connect to the network"
    for name in ("me/band@v1", "me/other"):
        with pytest.raises(UserError, match=f"{name}: no such folder, and .* {remedy}$"):
            load_prior(name)
    (before.path / WEIGHTS).unlink()  # as after a download that was stopped
    hub.fetch.cache_clear()
    with pytest.raises(UserError, match=f"is not whole in {constants.HF_HUB_CACHE}"):
        load_prior("me/band")


def test_other_weights_than_the_settings_say_are_refused(there: Hub, prior: Path) -> None:
    settings = (prior / CONFIG).read_bytes()
    there.add("me/band", changed(prior), {CONFIG: settings})
    line = complaint("priors", "verify", "me/band")
    assert line.startswith("error: me/band: ")
    assert f"{WEIGHTS}: hash {hash_file(prior / WEIGHTS)[:12]} is not the " in line


def test_a_private_prior_needs_a_token_which_goes_to_no_other_host(
    there: Hub, prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = there.add("me/secret", prior, private=True)
    with pytest.raises(UserError, match=r"no http.*/me/secret is open to you; .* log in: hf auth"):
        load_prior("me/secret")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # The weights are on another host, which answers 400 to a request with a token.
    assert load_prior("me/secret").revision == commit


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "me/none: no such folder, and no {url}/me/none is open to you; correct": lambda patch: None,
    "me/none: no such folder, and {closed}/me/none is not whole in {cache}, and [Errno ": (
        lambda patch: patch.setattr(constants, "ENDPOINT", CLOSED)
    ),
    "me/none: no such folder, and the Hugging Face hub needs its library: pip install 'mgdm": (
        lambda patch: patch.setitem(sys.modules, "huggingface_hub", None)
    ),
}


@pytest.mark.parametrize("says", FAULTS)
@pytest.mark.parametrize("command", ["priors show", "sample -o out --prior", "restore x.png "
                                     "-o out --task sr4 --prior"])  # fmt: skip
def test_a_name_that_does_not_lead_there_is_one_line(
    there: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    FAULTS[says](monkeypatch)
    cache = constants.HF_HUB_CACHE
    line = complaint(*command.split(), "me/none")
    assert line.startswith(f"error: {says.format(url=there.url, closed=CLOSED, cache=cache)}")
    assert not (tmp_path / "out").exists()


def test_other_ways_to_ask_for_what_is_not_there(
    there: Hub, prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.add("me/band", prior)
    there.repositories["me/notes"] = type(there.repositories["me/band"])()
    there.repositories["me/notes"].commit({"notes.txt": b"none"})
    with pytest.raises(UserError, match="/me/band has no revision 'v9'; give another"):
        load_prior("me/band@v9")
    with pytest.raises(UserError, match="me/notes: holds no file of a prior"):
        load_prior("me/notes")
    with pytest.raises(UserError, match="me/a--b: no such folder, and "):  # no name the hub allows
        load_prior("me/a--b")
    monkeypatch.setenv("HF_TOKEN", TOKEN)  # who is logged in is told that there is none
    with pytest.raises(UserError, match=r"no http.*/me/none is open to you"):
        load_prior("me/none")


def test_what_is_on_the_disk_comes_first(
    there: Hub, prior: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there.add("me/band", changed(Path(shutil.copytree(prior, tmp_path / "other"))))
    shutil.copytree(prior, tmp_path / "me/band")
    monkeypatch.chdir(tmp_path)
    assert load_prior("me/band").sha256 == hash_file(prior / WEIGHTS)
    # And these are no names: a path, one of more parts, and one without a name.
    for name in (
        Path("me/none"),
        "./me/none",
        "../me",
        "/me/none",
        "me/none/prior",
        "me/none@",
        "me/",
    ):
        with pytest.raises(UserError, match=r"no prior named|holds no config.json"):
            load_prior(name)
    assert there.requests == []


def test_a_prior_for_images_comes_the_same_way(there: Hub, tmp_path: Path) -> None:
    latent = tmp_path / "latent"
    save_trained(latent, tiny_unet(2), NoiseSchedule.karras(), (4, 4), tiny_autoencoder())
    commit = there.add("me/digits", latent, NOT_OURS)
    opened, here = load_image_prior(f"me/digits@{commit}"), load_image_prior(latent)
    assert (opened.name, opened.revision) == ("me/digits", commit)
    assert (here.name, here.revision) == ("latent", None)
    assert opened.sha256 == here.sha256
    assert opened.prior.codec is not None
    with pytest.raises(UserError, match="a prior for images; give it to mgdm-audio restore"):
        load_prior("me/digits")


def test_a_prior_of_diffusers_comes_the_same_way(there: Hub, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    net = diffusers.UNet2DModel(8, 3, 3, block_out_channels=(8,), norm_num_groups=4, **blocks)
    net.save_pretrained(tmp_path / "faces/unet")
    diffusers.DDPMScheduler(200).save_pretrained(tmp_path / "faces/scheduler")
    more = {"unet/diffusion_pytorch_model.bin": b"a pickle", "text_encoder/model.safetensors": b""}
    commit = there.add("them/faces", tmp_path / "faces", more)
    opened = load_image_prior("them/faces")
    assert (opened.name, opened.revision) == ("them/faces", commit)
    assert opened.sha256 == load_image_prior(tmp_path / "faces").sha256
    asked = " ".join(path for _, path in there.requests)
    assert [name for name in more if name in asked] == []


@pytest.fixture
def logged_in(there: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.mark.usefixtures("logged_in")
def test_what_is_pushed_can_be_fetched(there: Hub, prior: Path) -> None:
    (prior / "notes.txt").write_text("none of the prior's files")
    result = run("priors", "push", prior, "me/band")
    assert result.exit_code == 0, result.output
    repository = there.repositories["me/band"]
    commit = repository.names["main"]
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"me/band@{commit}\n", "")
    files = {name: (prior / name).read_bytes() for name in ("README.md", CONFIG, WEIGHTS)}
    assert repository.commits[commit] == files | {".gitattributes": b""}
    assert not repository.private
    loaded = load_prior(result.stdout.strip())
    assert (loaded.name, loaded.revision) == ("me/band", commit)
    # The same again is no commit more; a change is one.
    assert run("priors", "push", prior, "me/band").stdout == result.stdout
    second = run("priors", "push", changed(prior), "me/band").stdout.strip().partition("@")[2]
    assert list(repository.commits)[-2:] == [commit, second]
    assert repository.commits[second][WEIGHTS] == (prior / WEIGHTS).read_bytes()


@pytest.mark.usefixtures("logged_in")
def test_a_latent_prior_is_pushed_with_its_autoencoder(there: Hub, tmp_path: Path) -> None:
    latent = tmp_path / "latent"
    save_trained(latent, tiny_unet(2), NoiseSchedule.karras(), (4, 4), tiny_autoencoder())
    (latent / "README.md").write_text("# Digits\n")
    assert run("priors", "push", latent, "me/digits", "--private").exit_code == 0
    assert there.repositories["me/digits"].private
    opened = load_image_prior("me/digits")
    assert opened.sha256 == load_image_prior(latent).sha256


REFUSED: dict[str, Callable[[Path], object]] = {
    "README.md: missing or empty; write what": lambda prior: (prior / "README.md").unlink(),
    "README.md: missing or empty": lambda prior: (prior / "README.md").write_text(" \n"),
    "is not the ": lambda prior: (prior / WEIGHTS).write_bytes(
        (prior / WEIGHTS).read_bytes()[:-1] + b"x"
    ),
    f"{CONFIG}: lacks 'sha256'": lambda prior: (prior / CONFIG).write_text(
        (prior / CONFIG).read_text().replace('"sha256"', '"hash"')
    ),
    "no such folder": shutil.rmtree,
}


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize("says", REFUSED)
def test_a_prior_that_is_not_whole_is_not_pushed(there: Hub, prior: Path, says: str) -> None:
    REFUSED[says](prior)
    assert says in complaint("priors", "push", prior, "me/band")
    assert there.requests == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("band", "error: band: is no name on the hub; give owner/name"),
        ("me/band@v1", "error: me/band@v1: what is pushed goes to the branch main; give me/band"),
        ("me/band", "error: me/band: no {url}/me/band is open to you; correct the name, or log in"),
    ],
)
def test_a_push_that_cannot_be_is_one_line(there: Hub, prior: Path, name: str, says: str) -> None:
    assert complaint("priors", "push", prior, name).startswith(says.format(url=there.url))
    assert there.repositories == {}


@pytest.mark.usefixtures("logged_in")
def test_a_push_without_the_network_or_the_library_is_one_line(
    there: Hub, prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", CLOSED)
    line = complaint("priors", "push", prior, "me/band")
    assert line.startswith(f"error: me/band: {CLOSED}/me/band: [Errno ")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    line = complaint("priors", "push", prior, "me/band")
    assert line == (
        "error: me/band: the Hugging Face hub needs its library: pip install 'mgdm_audio[hub]'"
    )


def test_the_variables(there: Hub, prior: Path, tmp_path: Path) -> None:
    """HF_ENDPOINT and HF_HOME, by a process that has them when it imports the client."""
    commit = there.add("me/band", prior)
    variables = {"HF_ENDPOINT": there.url, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "mgdm_audio", "priors", "show", "me/band"]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    rows = dict(line.split(None, 1) for line in done.stdout.partition("\n\n")[0].splitlines())
    assert (rows["name"], rows["revision"]) == ("me/band", commit)
    assert rows["folder"] == str(tmp_path / f"home/hub/models--me--band/snapshots/{commit}")
