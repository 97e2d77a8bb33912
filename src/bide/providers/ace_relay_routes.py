"""Where a relay offers what: the paths of its services, with the fields each takes.

A relay is asked where our caller asked us (`facade`), if it has the same path for that capability. Where it has not,
or where the channel's `model_map` renamed the model (the operator meant another service than the caller did), it is
found by what the call brings: the service that made what it follows up, then the fields that no other service has,
then how the name of the model begins; the new name of a renamed model comes first.

The fields are those of this gateway's own catalogue, by the names that the capability has for them (`names`: what the
service calls them instead); a test holds the two together.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Route:
    """`always`: fields its requests are never without. `models`: how the names of its models begin; none: any."""

    path: str
    can: frozenset[str]
    fields: frozenset[str]
    always: frozenset[str]
    models: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def service(self) -> str:
        return self.path.partition("/")[0]

    def fit(self, model: str) -> int:
        """2: the model is one of its own, 1: it takes any, 0: it is another's."""
        if not self.models or not model:
            return 1
        return 2 if model.lower().startswith(self.models) else 0


def _route(path: str, can: str, fields: str, models: str = "", names: Mapping[str, str] | None = None) -> Route:
    """`fields` are marked with a star if they are always there."""
    marked = fields.split()
    return Route(
        path, frozenset(can.split()), frozenset(one.rstrip("*") for one in marked),
        frozenset(one.rstrip("*") for one in marked if one.endswith("*")), tuple(models.lower().split()), names or {},
    )  # fmt: skip


ROUTES: tuple[Route, ...] = (
    _route("openai/images/generations", "image.generate",
        "background model* moderation n* output_compression output_format* prompt* quality size* style user"),
    _route("openai/images/edits", "image.edit",
        "background input_fidelity model* n* output_compression output_format* prompt* quality size* user"),
    _route("midjourney/imagine", "grid.generate",
        "action* hd* image_id mask mode* moodboard prompt quality split_images* style_reference translation* "
        "version"),
    _route("midjourney/edits", "grid.edit",
        "action* image_url* mask mode* prompt split_images*"),
    _route("midjourney/videos", "grid.animate",
        "action* end_image_url image_url loop* mode* prompt resolution* video_id video_index*"),
    _route("midjourney/describe", "image.describe",
        "image_url*"),
    _route("midjourney/shorten", "prompt.shorten",
        "prompt*"),
    _route("midjourney/translate", "text.translate",
        "content*"),
    _route("midjourney/seed", "grid.seed",
        "image_id*"),
    _route("suno/audios", "music.generate",
        "action* audio_id audio_urls audio_weight continue_at custom* duration instrumental* lyric "
        "lyric_prompt mashup_audio_ids model* negative_tags overpainting_end overpainting_start persona_id "
        "prompt replace_section_end replace_section_start samples_end samples_start speed style "
        "style_influence title underpainting_end underpainting_start variation_category vocal_gender "
        "weirdness", models="chirp"),
    _route("suno/lyrics", "music.lyrics",
        "model* prompt*"),
    _route("suno/mashup-lyrics", "music.mashup_lyrics",
        "lyrics_a* lyrics_b*"),
    _route("suno/style", "music.style",
        "prompt*"),
    _route("suno/vox", "music.vocals",
        "audio_id* vocal_end vocal_start"),
    _route("suno/wav", "music.wav",
        "audio_id*"),
    _route("suno/midi", "music.midi",
        "audio_id*"),
    _route("suno/mp4", "music.film",
        "audio_id*"),
    _route("suno/timing", "music.timing",
        "audio_id*"),
    _route("suno/upload", "music.upload",
        "audio_url*"),
    _route("suno/voices", "music.voice",
        "audio_url* description name*"),
    _route("suno/persona", "music.persona",
        "audio_id* description name* vocal_end vocal_start vox_audio_id"),
    _route("veo/videos", "video.generate",
        "action* aspect_ratio* image_urls model* prompt resolution* translation video_id", models="veo"),
    _route("veo/upsample", "video.upsample",
        "action* video_id*"),
    _route("veo/extend", "video.extend",
        "aspect_ratio model prompt resolution video_id", models="veo"),
    _route("veo/reshoot", "video.edit",
        "motion_type video_id"),
    _route("veo/objects", "video.edit",
        "action image_mask prompt video_id"),
    _route("sora/videos", "video.generate",
        "character_end character_start character_url duration image_urls model* orientation prompt* size "
        "version*", models="sora"),
    _route("headshots/generate", "image.edit",
        "model n* prompt*", models="headshots", names={"n": "count"}),
    _route("kling/videos", "video.generate video.extend",
        "action* aspect_ratio* camera_control cfg_scale duration* end_image_url generate_audio image_list "
        "mode* model* negative_prompt prompt start_image_url video_id video_list", models="kling"),
    _route("kling/motion", "video.motion",
        "character_orientation* image_url* keep_original_sound mode* model_name* prompt video_url* "
        "watermark_info", models="kling"),
    _route("kling/talking-photo", "video.talk",
        "audio_url* duration* image_url* mode* model* prompt", models="kling"),
    _route("kling/lip-sync", "video.talk",
        "audio_file audio_type* audio_url mode* text video_id video_url voice_id voice_language* voice_speed*"),
    _route("producer/audios", "music.generate",
        "action* audio_id continue_at custom* instrumental* lyric lyrics_strength model* prompt "
        "replace_section_end replace_section_start seed sound_strength title weirdness", models="FUZZ"),
    _route("producer/lyrics", "music.lyrics",
        "prompt*"),
    _route("producer/wav", "music.wav",
        "audio_id*"),
    _route("producer/videos", "music.film",
        "audio_id*"),
    _route("producer/upload", "music.upload",
        "audio_url*"),
    _route("digital-human/videos", "video.talk",
        "audio_url engine* guidance* image_url resolution* seam_fix* speed* steps* text video_url voice_id"),
    _route("digital-human/voices", "voice.clone",
        "audio_url* lang* name"),
    _route("dreamina/videos", "video.talk",
        "audio_url* image_url* mask_url model* prompt", models="dreamina omnihuman"),
    _route("fish/tts", "speech.generate",
        "chunk_length format latency max_new_tokens min_chunk_length model mp3_bitrate normalize "
        "opus_bitrate prosody reference_id references repetition_penalty sample_rate temperature text* "
        "top_p"),
    _route("flux/images", "image.generate",
        "model* n* prompt* size", models="flux", names={"n": "count"}),
    _route("gemini/videos", "video.generate",
        "aspect_ratio image_urls model prompt resolution video_urls", models="gemini"),
    _route("grok/videos", "video.generate",
        "aspect_ratio duration* image_url model* prompt* reference_image_urls resolution*", models="grok"),
    _route("hailuo/videos", "video.generate",
        "action* first_image_url model prompt", models="minimax hailuo t2v i2v s2v"),
    _route("happyhorse/videos", "video.generate video.edit",
        "action* aspect_ratio* audio_setting* duration* image_url image_urls model prompt resolution* seed "
        "video_url watermark*", models="happyhorse", names={"aspect_ratio": "ratio"}),
    _route("luma/videos", "video.generate video.extend",
        "action* aspect_ratio end_image_url enhancement* loop* prompt start_image_url video_id video_url"),
    _route("maestro/videos", "video.generate video.edit video.extend",
        "action* aspect_ratio* duration* file_urls langs prompt* quality* scenario* style* video_id voice*",
        names={"video_id": "ref_task_id", "aspect_ratio": "aspect"}),
    _route("minimax/videos", "video.generate",
        "aspect_ratio content* duration* model* resolution*", models="minimax", names={"aspect_ratio": "ratio"}),
    _route("nano-banana/images", "image.generate",
        "aspect_ratio model* n* prompt* resolution", models="nano-banana", names={"n": "count"}),
    _route("qrart/generate", "image.code",
        "content content_image_url prompt* seed type*"),
    _route("seedance/videos", "video.generate",
        "aspect_ratio* camerafixed content* duration execution_expires_after* frames generate_audio* model* "
        "resolution* return_last_frame* seed watermark", models="seedance doubao-seedance",
        names={"aspect_ratio": "ratio"}),
    _route("seedream/images", "image.generate",
        "guidance_scale model* optimize_prompt_options output_format* prompt* seed "
        "sequential_image_generation sequential_image_generation_options size tools watermark",
        models="seedream doubao-seedream"),
    _route("wan/videos", "video.generate",
        "action* audio* audio_url duration* image_url model negative_prompt prompt* prompt_extend* "
        "reference_video_urls resolution shot_type size", models="wan"),
)  # fmt: skip


def find(
    capability: str, fields: Collection[str], model: str, *, renamed: bool = False, service: str = "", path: str = "",
    facade: str = "",
) -> Route | None:  # fmt: skip
    """The route of a call with these fields. `renamed`: the model has another name than the caller gave it.
    `service`: the one that made what the call follows up. `path`: what the operator says. `facade`: where the caller
    asked."""
    there = [one for one in ROUTES if capability in one.can and service in ("", one.service)]
    if path:
        there = [one for one in ROUTES if one.path == path]
    elif not renamed and any(one.path == facade for one in there):
        there = [one for one in there if one.path == facade]

    def rank(route: Route) -> tuple[int, int, int, int]:
        strange, missing = -len(set(fields) - route.fields), -len(route.always - set(fields))
        fit = route.fit(model)
        return (*((fit, strange) if renamed else (strange, fit)), missing, -len(route.fields))

    return max(there, key=rank, default=None)
