"""A channel's workflow, and how a call fills its places."""

import hashlib
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import msgspec

from bide.providers import films
from bide.providers.base import Call, Failed, Input

FPS, AREA, MULTIPLE, SIDE_MAX, SIDE_MIN = 24, 1024 * 1024, 8, 4096, 16
SEED_BITS = 48
"""Numbers that every node takes, and every JSON reader keeps."""
MASK, IMAGE = "mask", "image"

Graph = dict[str, Any]
Places = dict[str, list[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Workflow:
    """`places`: node and input, by name; only those that the graph has. `files`: what is to be uploaded, by place."""

    graph: Graph
    places: Places
    files: Mapping[str, Input]


def workflow_of(call: Call) -> Workflow | Failed:
    """The channel's workflow for a call."""
    options = call.options
    several = options.get("workflows")
    chosen = (several.get(call.model) or several.get(call.capability)) if isinstance(several, dict) else None
    graph = _graph(chosen or options.get("workflow"))
    if graph is None:
        return Failed("api_error", "The channel has no workflow for this.", "channel",
                      detail="options: `workflow` is missing, or is not that of ComfyUI's API")  # fmt: skip
    places = _places(options.get("places"), graph)
    files = _files(call)
    if strange := sorted(set(files) - set(places)):
        return Failed("bad_request", f"The workflow of this model has no place for {_said(strange[0])}.", "channel")
    if IMAGE in places and IMAGE not in files:
        return Failed("bad_request", "The workflow of this model needs a picture.", "channel")
    return Workflow(graph, places, files)


def filled(call: Call, workflow: Workflow, names: Mapping[str, str]) -> Graph | Failed:
    """The graph with the call's values in their places; `names` are those of the uploaded files."""
    values = _values(call)
    if isinstance(values, Failed):
        return values
    graph = deepcopy(workflow.graph)
    for name, value in {**values, **names}.items():
        for node, field in workflow.places.get(name, ()):
            graph[node]["inputs"][field] = value
    return graph


def _graph(given: Any) -> Graph | None:
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given)
        except (msgspec.DecodeError, RecursionError):
            return None
    if not isinstance(given, dict) or not given:
        return None
    nodes = (isinstance(node, dict) and isinstance(node.get("inputs"), dict) for node in given.values())
    return given if all(nodes) else None


def _places(given: Any, graph: Graph) -> Places:
    found: Places = {}
    for name, listed in given.items() if isinstance(given, dict) else ():
        for one in listed if isinstance(listed, list) else [listed]:
            node, _, field = str(one).partition(".")
            if field and node in graph:
                found.setdefault(name, []).append((node, field))
    return found


def _files(call: Call) -> dict[str, Input]:
    """The caller's files by the names of their places."""
    found: dict[str, Input] = {}
    for given in call.inputs:
        number = 1 + sum(place != MASK for place in found)
        found[MASK if given.field == MASK else IMAGE if number == 1 else f"{IMAGE}_{number}"] = given
    return found


def _said(place: str) -> str:
    return "a mask" if place == MASK else "a picture" if place == IMAGE else "so many pictures"


def _values(call: Call) -> dict[str, Any] | Failed:
    request = call.request
    film = films.asked(call)
    values: dict[str, Any] = {"prompt": film.prompt, "model": call.model, "seed": _seed(call)}
    for name in ("negative_prompt", "style", "lyric"):
        if name in request:
            values[name] = films.text(request, name)
    if isinstance(request.get("n"), int):
        values["count"] = request["n"]
    if film.seconds is not None:
        values["seconds"] = film.seconds
        values["frames"] = round(film.seconds * number(call, "fps", FPS))
    size = _size(call, film)
    if size is not None:
        most = number(call, "side_max", SIDE_MAX)
        if not SIDE_MIN <= min(size) <= max(size) <= most:
            return Failed("bad_request", f"size: sides are {SIDE_MIN} to {most:g} pixels")
        values |= {"width": size[0], "height": size[1]}
    return {name: value for name, value in values.items() if value != ""} | {"prompt": film.prompt}


def _seed(call: Call) -> int:
    """That of the caller, or one that follows from the task, so that sending again asks for the same."""
    seed = call.request.get("seed")
    if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 1 << 63:
        return seed
    return int.from_bytes(hashlib.blake2b(call.task_id.encode(), digest_size=SEED_BITS // 8).digest())


def _size(call: Call, film: films.Film) -> tuple[int, int] | None:
    width, height = films.pixels(call.request) or (0, 0)
    if not width:
        across, _, down = film.ratio.partition(":")
        known = across.isdecimal() and down.isdecimal() and len(film.ratio) < 9 and int(across) and int(down)
        if not known and not film.short_side:
            return None
        ratio = int(across) / int(down) if known else 16 / 9
        area = number(call, "area", AREA)
        if film.short_side:
            area = film.short_side**2 * max(ratio, 1 / ratio)
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    step = int(number(call, "multiple", MULTIPLE))
    return max(step, round(width / step) * step), max(step, round(height / step) * step)


def number(call: Call, name: str, otherwise: float) -> float:
    """An option that is a positive number."""
    value = call.options.get(name)
    return value if isinstance(value, int | float) and value >= 1 else otherwise
