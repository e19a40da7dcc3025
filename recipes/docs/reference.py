"""The pages of the reference, generated from the package's public names, registries and commands.

``::: name`` is filled in by mkdocstrings from the docstring of ``name``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
from fields import fields_table

import mgdm_audio
from mgdm_audio import diffusion, measurement
from mgdm_audio.cli.main import main
from mgdm_audio.evaluation.benchmark.suite import Suite, System, TrackSet
from mgdm_audio.evaluation.metric_registry import METRICS
from mgdm_audio.images import presets as image_presets
from mgdm_audio.images.tasks import TASKS
from mgdm_audio.interop import deepinv
from mgdm_audio.priors.architectures import ARCHITECTURES
from mgdm_audio.priors.folder import list_image_priors, list_priors
from mgdm_audio.samplers import SAMPLERS
from mgdm_audio.samplers.presets import STANDS_FOR, list_presets, load_preset
from mgdm_audio.samplers.presets import preset as stem_presets
from mgdm_audio.training import image_run, stem_run

FOLDED = ":::"  # what mkdocstrings replaces by documentation


def documented(name: str, **options: object) -> str:
    """The documentation of one dotted name, without members of it that are private."""
    lines = [f"{FOLDED} {name}"]
    if options:
        lines += ["    options:", *(f"      {key}: {value}" for key, value in options.items())]
    return "\n".join(lines) + "\n\n"


def python() -> str:
    """Every public name of the package, and what the guides import besides."""
    names = [name for name in dir(mgdm_audio) if name != "__version__"]
    text = (
        "# Public names\n\n`mgdm_audio.__version__` is the version, a string. All other names:\n\n"
    )
    text += "".join(documented(f"mgdm_audio.{n}", inherited_members="true") for n in names)
    return text + "".join(map(documented, ALSO))


ALSO = (
    "mgdm_audio.rng.generator_for",
    "mgdm_audio.registry.Registry",
    "mgdm_audio.audio.io.read",
    "mgdm_audio.audio.io.write",
    "mgdm_audio.images.io.read_image",
    "mgdm_audio.images.restoration.Restoration",
    "mgdm_audio.images.presets.load_image_preset",
    "mgdm_audio.priors.images.load_image_prior",
    "mgdm_audio.priors.onnx.export_onnx",
)


def samplers() -> str:
    """Every sampler with its paper, its needs and its parameters, then what they share."""
    text = "# Samplers\n\nBy the name that presets use. "
    text += "A sampler is a frozen dataclass of these parameters.\n\n"
    for name, cls in sorted(SAMPLERS.items()):
        text += f"## {name}\n\n"
        text += documented(cls.__module__, members="false", show_root_heading="false")
        home = f"{cls.__module__}.{cls.__name__}"
        text += documented(home, members="false", heading_level=3, merge_init_into_class="false",
                           show_bases="false", show_root_full_path="true")  # fmt: skip
        text += fields_table(cls) + "\n"
    text += "## What samplers share\n\n"
    shared = ("Sampler", "Stepwise", "Step", "Needs", "PerStep", "on_latents")
    return text + "".join(
        documented(f"mgdm_audio.samplers.base.{n}", heading_level=3) for n in shared
    )


def presets() -> str:
    """The bundled presets, of sound and of images, as their files are."""
    text = f"# Presets\n\n{STANDS_FOR[0].upper()}{STANDS_FOR[1:]}\n\n"
    text += "## For separation and generation\n\n"
    text += "| preset | sampler | draws | published row |\n|---|---|---:|---|\n"
    for name in list_presets():
        found = load_preset(name)
        sampler = next(key for key, cls in SAMPLERS.items() if cls is type(found.sampler))
        text += f"| `{name}` | `{sampler}` | {found.draws} | {found.published} |\n"
    text += "\n" + _files(stem_presets.FOLDER, list_presets())
    text += "## For images\n\nWhere the MGDM paper has a value of its own for a task, `restore` "
    text += "takes it (`mgdm_audio/images/task_settings.toml`).\n\n"
    return text + _files(image_presets.FOLDER, image_presets.list_image_presets(), "image preset ")


def _files(folder: Path, names: list[str], kind: str = "") -> str:
    return "".join(
        f"### {kind}{name}\n\n```toml\n{(folder / f'{name}.toml').read_text()}```\n\n"
        for name in names
    )


def measurements() -> str:
    """Every operator and likelihood."""
    text = "# Operators and likelihoods\n\n"
    text += "| name | linear | with a singular value decomposition |\n|---|---|---|\n"
    for name in measurement.__all__:
        cls = getattr(measurement, name)
        if isinstance(cls, type) and issubclass(cls, measurement.Operator):
            kinds = (measurement.LinearOperator, measurement.SpectralOperator)
            said = ["yes" if issubclass(cls, kind) else "-" for kind in kinds]
            text += f"| `{name}` | {' | '.join(said)} |\n"
    text += "\n" + _all(measurement, "mgdm_audio.measurement")
    return text + _INTEROP + _all(deepinv, deepinv.__name__)


_INTEROP = "## With deepinv\n\nSee [the guide](../recipes/docs/deepinv.md).\n\n"


def _all(module: Any, name: str) -> str:
    return "".join(documented(f"{name}.{public}") for public in module.__all__)


def priors() -> str:
    """The bundled priors, their format on disk, the architectures, schedules and denoisers."""
    text = "# Priors and denoisers\n\n## Bundled priors\n\n| prior | over |\n|---|---|\n"
    card = "../mgdm_audio/pretrained/{}README.md"
    text += "".join(f"| [{n}]({card.format(n + '/')}) | stems |\n" for n in list_priors())
    images = list_image_priors()
    text += "".join(f"| [{n}]({card.format('images/' + n + '/')}) | images |\n" for n in images)
    text += "\n## Architectures\n\nBy `model_type` of a prior's `config.json`.\n\n"
    for name, architecture in ARCHITECTURES.items():
        text += f"### {name}\n\n"
        text += documented(
            architecture.build.__module__, members="false", show_root_heading="false"
        )
        text += fields_table(architecture.config) + "\n"
    text += documented("mgdm_audio.priors.architectures.Architecture")
    text += documented("mgdm_audio.priors.folder.save_prior")
    return text + _all(diffusion, "mgdm_audio.diffusion")


def training() -> str:
    """The keys of a training run's TOML file, over stems and over images."""
    text = "# Training\n\n`mgdm-audio train conf.toml -o RUN`, or `mgdm_audio.train`. "
    text += "The keys of the file, section by section.\n\n## Priors over stems\n\n"
    text += _sections(STEM_SECTIONS)
    text += "`[prior_schedule]` has the arguments of `NoiseSchedule.karras`, "
    text += 'and `kind = "karras"`.\n\n'
    text += "## Priors over images\n\nThe file's own keys, and then its sections.\n\n"
    return text + fields_table(image_run.Config) + "\n" + _sections(IMAGE_SECTIONS, "images: ")


STEM_SECTIONS = {
    "data": stem_run.DataConfig,
    "data.augment": stem_run.Augmentation,
    "model": stem_run.TFUNetConfig,
    "noise": stem_run.NoiseLevels,
    "leakage": stem_run.Leakage,
    "one_call": stem_run.OneCall,
    "schedule": stem_run.Schedule,
    "training": stem_run.Training,
}
IMAGE_SECTIONS = {
    "model": image_run.UNet2dConfig,
    "autoencoder": image_run.Autoencoder2dConfig,
    "augment": image_run.Augmentation,
}


def _sections(sections: Mapping[str, type], kind: str = "") -> str:
    return "".join(
        f"### {kind}[{name}]\n\n{inspect.cleandoc(cls.__doc__ or '')}\n\n{fields_table(cls)}\n"
        for name, cls in sections.items()
    )


def evaluation() -> str:
    """The metrics, and the keys of a benchmark's suite."""
    text = "# Metrics and benchmarks\n\n| metric | columns | over tracks |\n|---|---|---|\n"
    for name, metric in METRICS.items():
        text += f"| `{name}` | {', '.join(metric.columns.values())} | {metric.over_tracks} |\n"
    text += "\n" + documented("mgdm_audio.evaluation.metric_registry.Metric")
    text += documented("mgdm_audio.evaluation.metrics", show_root_full_path="true")
    text += "## A suite\n\n" + fields_table(Suite) + "\n"
    return text + _sections({"[sets]": TrackSet, "[systems]": System})


def tasks() -> str:
    """The tasks of ``mgdm-audio restore``."""
    text = "# Image tasks\n\nFor `mgdm-audio restore --task NAME --task-option KEY=VALUE`.\n\n"
    text += "| task | what is observed | options |\n|---|---|---|\n"
    for name, task in TASKS.items():
        bare = task.func if isinstance(task, partial) else task
        fixed = task.keywords if isinstance(task, partial) else {}
        options = [
            parameter.name
            if parameter.default is parameter.empty
            else f"{parameter.name}={parameter.default}"
            for parameter in inspect.signature(bare).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in fixed
        ]
        given = "".join(f" ({key} = {value})" for key, value in fixed.items())
        what = " ".join((bare.__doc__ or "").split("\n\n")[0].split()).replace("|", "\\|")
        text += f"| `{name}` | {what}{given} | {', '.join(f'`{option}`' for option in options)} |\n"
    return text


def commands() -> str:
    """The help of every command."""
    return "# Commands\n\n" + "".join(_help(("mgdm-audio",), main, None))


def _help(
    words: tuple[str, ...], command: click.Command, parent: click.Context | None
) -> list[str]:
    # click keeps what it makes of the settings: without them, -h would be lost to who comes after.
    settings = command.context_settings
    context = click.Context(command, parent=parent, info_name=words[-1], **settings)
    parts = [f"## {' '.join(words)}\n\n```text\n{command.get_help(context)}\n```\n\n"]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            _, found, _ = command.resolve_command(context, [name])
            assert found is not None
            parts += _help((*words, name), found, context)
    return parts


PAGES: dict[str, Callable[[], str]] = {
    "python": python,
    "samplers": samplers,
    "presets": presets,
    "measurement": measurements,
    "priors": priors,
    "training": training,
    "evaluation": evaluation,
    "tasks": tasks,
    "commands": commands,
}
