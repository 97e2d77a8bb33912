"""Pictures from a model of the `diffusers` library. Imported in the process that computes, and nowhere else.

Weights are read from safetensors files alone, and no code that comes with a model is run: a folder that has some is
refused, and what is downloaded is not trusted. A prompt is text for the model's tokenizer and nothing else.
"""

import inspect
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from PIL import Image, ImageChops

from bide.providers.diffusers_process import FORBIDDEN, REFUSED, SETUP, Problem

DTYPES = ("float32", "float16", "bfloat16")
Step = Callable[[int, int], None]
"""Told how many steps of how many are done. Raises `Problem` when the rest is not wanted."""


class Pipelines:
    """A model, and the pipelines that share its weights."""

    def __init__(self, load: Mapping[str, Any]) -> None:
        torch.set_grad_enabled(False)
        self._device = load["device"] or _best_device()
        pipe = _class_of(load["pipeline"]).from_pretrained(
            _without_code(load["model"]), dtype=_dtype(load["dtype"]), use_safetensors=True,
            local_files_only=not load["download"], trust_remote_code=False,
        )  # fmt: skip
        self._made = {"image.generate": _ready(pipe.to(self._device))}

    def make(
        self, wanted: Mapping[str, Any], files: Sequence[bytes], step: Step
    ) -> Iterator[tuple[dict[str, Any], bytes]]:
        """The pictures one after the other, each with what is known of it. Raises `Problem`."""
        pictures = [_opened(one, "image") for one in files[:1]]
        mask = _mask(_opened(files[1], "mask")) if len(files) > 1 else None
        size = _size(wanted, pictures[0] if pictures else None)
        pipe = self._pipeline(bool(pictures), mask is not None)
        given = _arguments(wanted, size)
        if pictures:
            # Pipelines for masks make 512x512 of everything unless they are told otherwise.
            given["image"] = pictures[0].convert("RGB").resize(size or pictures[0].size)
        if mask is not None:
            given["mask_image"] = mask.resize(size or mask.size)
        for index in range(wanted["n"]):
            seed = wanted["seed"] + index
            made = self._one(pipe, given, seed, step, index, wanted["n"])
            about = {"width": made.width, "height": made.height, "seed": seed}
            yield about, _encoded(made, wanted["output_format"], wanted["compression"])

    def _one(self, pipe: Any, given: Mapping[str, Any], seed: int, step: Step, index: int, n: int) -> Image.Image:
        def ended(pipe: Any, number: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            steps = max(int(getattr(pipe, "num_timesteps", 0) or 0), number + 1)
            step(index * steps + number + 1, n * steps)
            return tensors

        generator = torch.Generator(self._device if self._device != "mps" else "cpu").manual_seed(seed)
        takes = inspect.signature(pipe.__call__).parameters
        wanted = {**given, "generator": generator, "callback_on_step_end": ended}
        made = pipe(**{name: value for name, value in wanted.items() if name in takes})
        if any(getattr(made, "nsfw_content_detected", None) or ()):
            raise Problem(FORBIDDEN, "The model's safety checker does not show this picture.")
        picture: Image.Image = made.images[0]
        return picture

    def _pipeline(self, has_image: bool, has_mask: bool) -> Any:
        """The pipeline for a request, made of the loaded one. Raises `Problem`."""
        kind = "image.generate" if not has_image else "mask" if has_mask else "image.edit"
        if kind not in self._made:
            first = self._made["image.generate"]
            of = diffusers.AutoPipelineForInpainting if has_mask else diffusers.AutoPipelineForImage2Image
            try:
                self._made[kind] = _ready(of.from_pipe(first))
            except (ValueError, AttributeError):  # a family without: its own pipeline may be for pictures
                takes = inspect.signature(first.__call__).parameters
                if "image" not in takes or (has_mask and "mask_image" not in takes):
                    raise Problem(REFUSED, "This model cannot change pictures in this way.") from None
                self._made[kind] = first
        return self._made[kind]


# -- loading


def _class_of(name: str) -> Any:
    found = getattr(diffusers, name, None) if name.endswith("Pipeline") else None
    if found is None:
        raise Problem(SETUP, f"pipeline: the library has no {name!r}")
    return found


def _dtype(name: str) -> Any:
    if name not in DTYPES:
        raise Problem(SETUP, f"dtype must be one of {', '.join(DTYPES)}")
    return getattr(torch, name)


def _without_code(model: str) -> str:
    """A folder, or the id of a model that was or will be downloaded."""
    folder = Path(model)
    if folder.is_dir() and (code := next(folder.rglob("*.py"), None)) is not None:
        raise Problem(SETUP, f"model: code that comes with a model is not run: {code.relative_to(folder)}")
    if not folder.is_dir() and (folder.is_absolute() or model.startswith(".")):
        raise Problem(SETUP, f"model: there is no folder {model}")
    return model


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _ready(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


# -- one request


def _arguments(wanted: Mapping[str, Any], size: tuple[int, int] | None) -> dict[str, Any]:
    """What a pipeline is called with; what is None is left to the model."""
    width, height = size or (None, None)
    given = {
        "prompt": wanted["prompt"], "negative_prompt": wanted["negative_prompt"] or None, "width": width,
        "height": height, "num_inference_steps": wanted["steps"], "guidance_scale": wanted["guidance"],
        "strength": wanted["strength"],
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}


def _size(wanted: Mapping[str, Any], picture: Image.Image | None) -> tuple[int, int] | None:
    """The size that was asked for, or that of the picture, in steps the model can make."""
    width, height = wanted["size"] or (picture.size if picture is not None else (0, 0))
    if not width:
        return None
    step, most = wanted["multiple"], wanted["side_max"]
    scale = min(1.0, most / max(width, height))
    return max(step, round(width * scale) // step * step), max(step, round(height * scale) // step * step)


def _opened(data: bytes, what: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
        picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Problem(REFUSED, f"{what} is not a readable PNG, JPEG or WebP picture") from None
    return picture


def _mask(picture: Image.Image) -> Image.Image:
    """White where something is to change: what is transparent, or, without transparency, what is white."""
    if picture.has_transparency_data:
        return ImageChops.invert(picture.convert("RGBA").getchannel("A"))
    return picture.convert("L")


def _encoded(picture: Image.Image, form: str, compression: int) -> bytes:
    out = io.BytesIO()
    if form == "png":
        picture.save(out, "PNG", compress_level=1)
    else:
        picture.convert("RGB").save(out, form.upper(), quality=max(1, round(compression * 0.95)))
    return out.getvalue()
