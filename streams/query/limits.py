"""Every bound of the query language, in one place; each is named in docs/reference/query-language.md."""

from __future__ import annotations

from typing import Final

# A query over one of these is refused by name.
TEXT_BYTES_MAX: Final = 16 * 1024
LEVELS_MAX: Final = 64
LITERALS_MAX: Final = 1_000
ARGS_BYTES_MAX: Final = 64 * 1024
PATTERN_CHARS_MAX: Final = 4_096

# A value over one of these is null: no document can make an evaluation cost more.
INTEGER_BITS_MAX: Final = 1_024  # the range of a double, so that integers and floats overflow at the same place
STRING_CHARS_MAX: Final = 1_048_576  # what concat may make; as long as the largest document
PATTERN_WORK_MAX: Final = 250_000_000  # bytes of the string times instructions of the pattern: about a second at the worst
STEPS_MAX: Final = 2_000_000  # elements visited times operators evaluated on each: about a second at the worst
