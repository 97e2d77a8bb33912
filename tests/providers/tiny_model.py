"""Writes a tiny model with random weights into a folder: `python tiny_model.py FOLDER`. Nothing is downloaded.

A genuine Stable Diffusion pipeline, text encoder, tokenizer, denoiser and all, of half a megabyte. What it paints is
noise, but the same noise for the same seed and prompt.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WIDTH = 16


def letters() -> list[str]:
    """The characters that stand for the 256 bytes in such tokenizers: a printable one for itself, else one beyond."""
    own = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in own else chr(next(others)) for byte in range(256)]


def tokenizer() -> CLIPTokenizer:
    words = [*letters(), *(f"{one}</w>" for one in letters()), START, END]
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocabulary.write_text(json.dumps({word: number for number, word in enumerate(words)}), "utf-8")
        merges.write_text("#version: 0.2\n")
        return CLIPTokenizer(str(vocabulary), str(merges), model_max_length=77)


def pipeline() -> StableDiffusionPipeline:
    torch.manual_seed(0)
    words = tokenizer()
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=514, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=77, bos_token_id=512, eos_token_id=513, pad_token_id=513,
    ))  # fmt: skip
    denoiser = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        norm_num_groups=4, cross_attention_dim=WIDTH, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    painter = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, sample_size=64, layers_per_block=1, norm_num_groups=4,
        block_out_channels=(4, 4, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    times = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                          steps_offset=1)  # fmt: skip
    return StableDiffusionPipeline(
        unet=denoiser, vae=painter, text_encoder=text, tokenizer=words, scheduler=times, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


if __name__ == "__main__":
    pipeline().save_pretrained(sys.argv[1])
