"""Stands for diffusers: a pipeline that paints one colour, and does what its prompt says.

`[die]` kill -9 of itself · `[print]` noise on standard output · `[raise]` fails · `[unsafe]` a checker objects ·
`[wait]` steps until it is stopped · `[deaf]` never ends, unless there is a file `hears`.
The folder of the model must be there; the file `loads` in it has a line for each time it was loaded.
"""

import os
import signal
import time
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image


class DiffusionPipeline:
    def __init__(self, folder: str) -> None:
        self.folder, self.num_timesteps, self.kind = folder, 0, "text"

    @classmethod
    def from_pretrained(cls, folder: str, **how: Any) -> "DiffusionPipeline":
        assert how["use_safetensors"] is True
        assert how["trust_remote_code"] is False
        if not Path(folder).is_dir():
            raise OSError(f"there is no {folder}; local_files_only={how['local_files_only']}")
        with (Path(folder) / "loads").open("a") as file:
            file.write(f"{os.getpid()} {how['dtype']} {os.environ.get('HF_HUB_OFFLINE')}\n")
        print("a library that talks")
        return cls(folder)

    def to(self, _device: str) -> "DiffusionPipeline":
        return self

    def set_progress_bar_config(self, disable: bool) -> None:
        assert disable

    def __call__(
        self, prompt: str, generator: Any = None, width: int = 64, height: int = 64, num_inference_steps: int = 4,
        guidance_scale: float = 1.0, image: Any = None, mask_image: Any = None, callback_on_step_end: Any = None,
    ) -> Any:  # fmt: skip
        self.num_timesteps = num_inference_steps
        if "[print]" in prompt:
            os.write(1, b"\0" * 5000)
        if "[raise]" in prompt:
            raise RuntimeError("out of ideas")
        if "[deaf]" in prompt and not (Path(self.folder) / "hears").exists():
            (Path(self.folder) / "deaf").touch()
            while True:
                time.sleep(0.01)
        step = 0
        while step < num_inference_steps or "[wait]" in prompt:
            callback_on_step_end(self, min(step, num_inference_steps - 1), 0, {})
            step += 1
            if "[wait]" in prompt:
                (Path(self.folder) / "waits").touch()
                time.sleep(0.01)
        if "[die]" in prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        colour = zlib.crc32(f"{prompt} {generator.seed}".encode()).to_bytes(4)[:3]
        picture = Image.new("RGB", (width, height), tuple(colour))
        if mask_image is not None:  # only what is white changes
            picture.paste(image, (0, 0), mask_image.point(lambda grey: 255 - grey))
        return SimpleNamespace(images=[picture], nsfw_content_detected=["[unsafe]" in prompt])


class AutoPipelineForImage2Image:
    @staticmethod
    def from_pipe(pipe: DiffusionPipeline) -> DiffusionPipeline:
        return DiffusionPipeline(pipe.folder)


class AutoPipelineForInpainting(AutoPipelineForImage2Image):
    pass
