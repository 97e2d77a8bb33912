"""Four pictures, their grid, and what is made of one of them."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat

from bide.providers.media import grid
from bide.providers.media.grid import View, follow, views
from bide.providers.media.scene import SIDE_MAX, WINDOW_MAX, paint

SIDE = 128
FOUR = views(5, (SIDE, SIDE))
SECOND = FOUR[1]


def apart(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures, 0 to 255."""
    same = other if other.size == one.size else other.resize(one.size, Image.Resampling.BOX)
    return max(ImageStat.Stat(ImageChops.difference(one, same)).mean)


def only(of: tuple[View, ...]) -> View:
    (one,) = of
    return one


def test_four_pictures_differ_and_their_grid_shows_them_exactly() -> None:
    sheet = grid.sheet(FOUR)
    assert sheet.size == (2 * SIDE, 2 * SIDE)
    for index, view in enumerate(FOUR):
        left, top = grid.place(index, (SIDE, SIDE))
        assert apart(sheet.crop((left, top, left + SIDE, top + SIDE)), paint(view)) == 0
        assert all(apart(paint(view), paint(other)) > 8 for other in FOUR[:index])


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert paint(SECOND).tobytes() == paint(views(5, (SIDE, SIDE))[1]).tobytes()
    assert paint(SECOND).tobytes() != paint(views(6, (SIDE, SIDE))[1]).tobytes()


def test_an_upscale_is_the_same_picture_in_more_pixels() -> None:
    large = paint(only(follow(FOUR, "upscale2", 0)))
    assert large.size == (2 * SIDE, 2 * SIDE)
    assert apart(paint(SECOND), large) < 2
    assert all(apart(paint(FOUR[other]), large) > 8 for other in (0, 2, 3))


def test_an_upscale_shows_more_than_enlarging_would() -> None:
    one = views(5, (320, 320))[1]
    large, stretched = paint(grid.upscaled(one, 4)), paint(one).resize((1280, 1280), Image.Resampling.BICUBIC)
    sharp = [ImageStat.Stat(ImageChops.difference(im, ImageChops.offset(im, 1, 0)).convert("L")).sum2[0]
             for im in (large, stretched)]  # fmt: skip
    assert sharp[0] > sharp[1] * 1.04


def test_variations_are_near_and_strong_ones_farther() -> None:
    subtle, strong = (follow((SECOND,), action, 9) for action in ("variation_subtle", "variation_strong"))
    near, far = ([apart(paint(SECOND), paint(one)) for one in some] for some in (subtle, strong))
    assert len(subtle) == 4 == len({paint(one).tobytes() for one in subtle})
    assert min(near) > 0
    assert sum(near) < sum(far)
    assert follow(FOUR, "variation2", 9) == subtle


def test_a_subtle_variation_looks_nearer_to_its_own_picture_than_to_the_others() -> None:
    for seed in range(10):
        four = views(seed, (48, 48))
        shown = [paint(one) for one in four]
        for own, view in enumerate(four):
            for one in follow((view,), "variation_subtle", seed + 100):
                found = [ImageStat.Stat(ImageChops.difference(other, paint(one))) for other in shown]
                for far in ([sum(stat.mean) for stat in found], [sum(stat.sum2) for stat in found]):
                    assert far.index(min(far)) == own, (seed, own, far)


def test_zooming_out_shows_the_picture_smaller_in_the_middle() -> None:
    wider = paint(only(follow((SECOND,), "zoom_out_2x", 0)))
    assert wider.size == (SIDE, SIDE)
    quarter = SIDE // 4
    assert apart(paint(SECOND).resize((SIDE // 2, SIDE // 2), Image.Resampling.BOX),
                 wider.crop((quarter, quarter, 3 * quarter, 3 * quarter))) < 3  # fmt: skip


@pytest.mark.parametrize(
    ("action", "size", "place"),
    [("pan_left", (192, 128), (64, 0)), ("pan_right", (192, 128), (0, 0)), ("pan_up", (128, 192), (0, 64)),
     ("pan_down", (128, 192), (0, 0))],
)  # fmt: skip
def test_a_pan_keeps_the_picture_and_goes_on_beside_it(
    action: str, size: tuple[int, int], place: tuple[int, int]
) -> None:
    wider = paint(only(follow((SECOND,), action, 0)))
    assert wider.size == size
    kept = wider.crop((*place, place[0] + SIDE, place[1] + SIDE))
    assert apart(paint(SECOND), kept) < 2.5


def test_a_square_goes_on_at_both_ends() -> None:
    wide = views(5, (128, 64))[0]
    square = paint(only(follow((wide,), "square", 0)))
    assert square.size == (128, 128)
    assert apart(paint(wide), square.crop((0, 32, 128, 96))) < 2.5


def test_only_the_white_part_of_a_mask_is_repainted() -> None:
    mask = Image.new("L", (256, 256))
    mask.paste(255, (128, 0, 256, 256))
    old, new = paint(SECOND), paint(grid.repainted(SECOND, mask, 4))
    left, right = (0, 0, SIDE // 2 - 2, SIDE), (SIDE // 2 + 2, 0, SIDE, SIDE)
    assert apart(old.crop(left), new.crop(left)) == 0
    assert apart(old.crop(right), new.crop(right)) > 4


def test_a_repainted_region_stays_when_the_picture_is_zoomed_out() -> None:
    mask = Image.new("L", (64, 64), 255)
    changed = grid.repainted(SECOND, mask, 4)
    wider = paint(grid.zoomed_out(changed, 2))
    middle = wider.crop((SIDE // 4, SIDE // 4, 3 * SIDE // 4, 3 * SIDE // 4))
    assert apart(paint(changed).resize(middle.size, Image.Resampling.BOX), middle) < 3
    assert apart(paint(SECOND).resize(middle.size, Image.Resampling.BOX), middle) > 4


def test_an_action_that_a_picture_does_not_have_is_refused() -> None:
    for of, action in ((FOUR, "pan_left"), ((SECOND,), "upscale1"), (FOUR, "upscale5"), ((SECOND,), "")):
        with pytest.raises(ValueError, match="no action"):
            follow(of, action, 1)


def test_every_action_gives_one_or_four_pictures() -> None:
    for of in (FOUR, (SECOND,)):
        for action in grid.actions(of):
            assert len(follow(of, action, 3)) in (1, 4)


def test_a_caption_is_on_the_picture() -> None:
    assert apart(paint(SECOND), paint(SECOND, "a red boat")) > 1
    assert paint(SECOND, "\u6d77 \U0001f600 \ud800 " * 90).size == (SIDE, SIDE)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(list(grid.SINGLE_ACTIONS)), max_size=12), st.integers(0, 2**48))
def test_any_chain_of_actions_keeps_within_bounds_and_survives_json(chain: list[str], seed: int) -> None:
    view = replace(SECOND, pixels=(64, 64))
    for action in chain:
        view = follow((view,), action, seed)[0]
        assert grid.from_numbers(json.loads(json.dumps(grid.numbers(view)))) == view
    assert max(view.pixels) <= SIDE_MAX
    assert max(view.width, view.height) <= WINDOW_MAX + 1e-6
    width, height = view.pixels
    small = max(1, width * 32 // max(width, height)), max(1, height * 32 // max(width, height))
    assert paint(replace(view, pixels=small)).size == small
