"""Results that are kept for those who ask again."""

import gc
import tracemalloc

import pytest

from connectors.webhook import attempts, http1_wire
from schemas import avro_writer
from schemas.kept import kept


def test_what_is_small_is_made_once_and_what_is_large_each_time():
    """Both are answered the same."""
    made: list[str] = []

    @kept(2, lambda text: len(text) < 3)
    def upper(text: str) -> str:
        made.append(text)
        return text.upper()

    assert ["AB", "AB", "ABC", "ABC"] == [upper(text) for text in ("ab", "ab", "abc", "abc")]
    assert ["ab", "abc", "abc"] == made


def test_what_making_it_raises_is_raised():
    """And it is tried again."""

    @kept(2, lambda text: True)
    def number(text: str) -> int:
        return int(text)

    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            number("x")


@pytest.mark.parametrize(
    "take",
    [
        lambda seed: attempts._known(tuple(f"{seed}-{at}" for at in range(2_000))),
        lambda seed: avro_writer._strings({f"{seed}-{at}": "" for at in range(2_000)}),
        lambda seed: avro_writer._key(f"{seed}" * 10_000),
        lambda seed: http1_wire._line("POST", f"https://example.com/{seed}/" + "x" * 15_000),
    ],
    ids=["names of an attempt", "a map", "a key", "a URL"],
)
def test_who_answers_with_much_takes_no_memory(take):
    """Receivers choose names of headers, and documents URLs: a thousand large ones would take a gigabyte."""
    for seed in range(130):  # urllib keeps 128
        take(seed)
    gc.collect()
    tracemalloc.start()
    for seed in range(130, 140):
        take(seed)
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 500_000
