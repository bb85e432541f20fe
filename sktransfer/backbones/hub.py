"""Backbones of timm and of the Hugging Face hub, which timm builds."""

import re
from pathlib import Path
from typing import Any

from torch import nn

from sktransfer.backbones.custom import from_timm_config
from sktransfer.backbones.entry import (
    BackboneEntry,
    BackboneInfo,
    State,
    raise_missing_weights,
    with_matching_head,
)
from sktransfer.backbones.weights import check_types, named_as
from sktransfer.exceptions import WeightsMismatchError, WeightsNotFoundError


def timm_names() -> list[str]:
    """Names of timm's models, with the prefix ``timm/``."""
    import timm

    return [f"timm/{name}" for name in timm.list_models()]


def timm_entry(name: str) -> BackboneEntry:
    """Describe ``timm/<model>`` or ``timm/<model>.<tag>``."""
    import timm

    model = name.removeprefix("timm/")
    if not timm.is_model(model):
        near = [f"timm/{match}" for match in timm.list_models(f"*{model.split('.')[0]}*")[:3]]
        raise ValueError(f"timm has no model {model!r}; similar names: {near or 'none'}")
    config = timm.get_pretrained_cfg(model).to_dict()
    info = BackboneInfo(
        name,
        from_timm_config(config),
        license=config.get("license") or "not stated",
        source=f"https://huggingface.co/{config['hf_hub_id']}"
        if config.get("hf_hub_id")
        else config.get("url") or "none published",
    )

    def fetch() -> tuple[Path, None]:
        repository = config.get("hf_hub_id")
        if not repository:
            raise WeightsNotFoundError(
                f"timm publishes no weights for {model!r}; pass the path of a file as weights, or "
                "weights='random'"
            )
        file = config.get("hf_hub_filename") or "model.safetensors"
        return _fetch_from_hub(name, repository, file, None), None

    return BackboneEntry(info, fetch, lambda state: _build_timm(model, state, config, {}))


def hub_entry(name: str) -> BackboneEntry:
    """Describe ``hf-hub:<organisation>/<name>@<revision>`` from its config.json."""
    match = re.fullmatch(r"hf-hub:([^/@]+/[^/@]+)@([^/@]+)", name)
    if match is None:
        raise ValueError(
            f"backbone={name!r} must read hf-hub:<organisation>/<name>@<revision>; the revision, "
            "preferably a commit, pins what is loaded"
        )
    repository, revision = match.groups()
    from timm.models import load_model_config_from_hf

    # config.json holds plain data: architecture and preprocessing, no code. It is fetched here
    # first, so that our own error reports a file that is not available.
    _fetch_from_hub(name, repository, "config.json", revision)
    config, model, arguments = load_model_config_from_hf(f"{repository}@{revision}")
    info = BackboneInfo(
        name,
        from_timm_config(config),
        license=config.get("license") or "not stated",
        source=f"https://huggingface.co/{repository}/tree/{revision}",
    )

    def fetch() -> tuple[Path, None]:
        return _fetch_from_hub(name, repository, "model.safetensors", revision), None

    return BackboneEntry(info, fetch, lambda state: _build_timm(model, state, config, arguments))


def _build_timm(
    model: str, state: State | None, config: dict[str, Any], arguments: dict[str, Any]
) -> nn.Module:
    """Create a timm network; timm converts the tensor names of files from other libraries."""
    import timm

    arguments = {"num_classes": config.get("num_classes", 1000), **arguments}

    def create(**kwargs: Any) -> nn.Module:
        return timm.create_model(model, pretrained=False, **{**arguments, **kwargs})

    if state is None:
        return create()
    matching: Any = with_matching_head(create, state)
    classes, state = matching.num_classes, named_as(matching.state_dict(), state)
    overlay = {
        **config,
        "state_dict": dict(state),
        "source": None,
        "hf_hub_id": None,
        "num_classes": classes,
        "custom_load": False,
    }
    try:
        module = timm.create_model(
            model,
            pretrained=True,
            pretrained_cfg_overlay=overlay,
            **{**arguments, "num_classes": classes},
        )
    except (RuntimeError, KeyError) as error:
        raise WeightsMismatchError(f"the weights do not fit timm's {model}: {error}") from error
    check_types(module.state_dict(), state, f"timm's {model}")
    return module


def _fetch_from_hub(name: str, repository: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import constants, hf_hub_download

    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except (OSError, ValueError) as error:  # the hub's errors derive from these
        where = f"the hub cache {constants.HF_HUB_CACHE}"
        reason = str(error).splitlines()[0]
        raise_missing_weights(name, f"{repository}@{revision or 'main'}/{file}", where, reason)
