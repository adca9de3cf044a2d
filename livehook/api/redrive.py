"""
Dead letters sent on their way again, or out of the list: each exactly once, whatever crashes in between.

A redrive has three steps, each acknowledged before the next: a *claim* in ``dead-letters``, which names where in the target the copies
begin; the copies, each of which names the letter; the letter *settled*. Whoever redrives a letter that was claimed a minute ago or earlier
looks in the target for what that one has written and goes on behind it; before that minute is over the letter is left to who claimed it.
All processes fold the claims of a letter in the order of the topic, so they agree on whose it is. Source: docs/reference/topics.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Literal

import msgspec

from connectors.activity.copies import Copies
from connectors.activity.model import Letter
from connectors.activity.store import Activity
from livehook.api.lane_copies import Lane, LaneCopies
from livehook.api.ports import Logs, Producer
from livehook.api.problems import Problem
from livehook.api.register import Register
from livehook.api.resend import projected
from schemas.dead_letters import CONTROL_KEY, REDRIVE_HEADER, Claim, Control, Settled, encode_control, letter_id
from schemas.deliveries import Delivery
from schemas.errors import BadRecord
from schemas.keys import partition_of
from schemas.positions import Position
from schemas.records import decode_delivery
from schemas.topics import Record, Topics

FOLDED_S_MAX = 15.0
CARRIED_OUT_US_MAX = 30_000_000  # of a claim: half of what others wait before they take over


class Left(msgspec.Struct, frozen=True):
    """A letter that was not redriven, and why."""

    id: str
    detail: str


class Redriven(msgspec.Struct, frozen=True):
    """What was redriven, by id, and what was not."""

    redriven: Sequence[str]
    left: Sequence[Left]


class Redrives:
    """
    Args:  new_token: makes the token of a claim. now_us: µs since 1970.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        register: Register,
        activity: Activity,
        producer: Producer,
        logs: Logs,
        copies: LaneCopies,
        new_token: Callable[[], str],
        now_us: Callable[[], int],
    ) -> None:
        self._topics, self._register, self._activity = topics, register, activity
        self._producer, self._logs, self._copies = producer, logs, copies
        self._new_token, self._now_us = new_token, now_us

    async def redrive(self, places: Sequence[Position]) -> Redriven:
        """
        Send letters on their way again, oldest first; one that cannot be does not hold up the others.

        Args:    places: theirs in ``dead-letters``. Of the letters, which may be large, one is held at a time.
        Raises:  KafkaUnavailable, TimeoutError, ActivityUnavailable: what was not settled is still listed, and may be redriven again.
        """
        left: list[Left] = []
        claims = await self._claims(sorted(places), left)
        held = await self._held(claims, left)
        done: list[str] = []
        try:
            for place, claim in held:
                try:
                    await self._carry_out(await self._letter(place), claim, is_first=claims[place] == claim)
                except Problem as problem:
                    left.append(Left(claim.letter, problem.detail))
                else:
                    done.append(claim.letter)
        finally:
            await self._settle(done, "redriven")  # also when a later one has failed: these are on their way
        return Redriven(done, left)

    async def discard(self, letter: Letter) -> None:
        """Take one letter out of the list. Raises KafkaUnavailable; TimeoutError."""
        await self._settle([letter_id(letter.place)], "discarded")

    async def _letter(self, place: Position) -> Letter:
        """Raises Problem: conflict: it is listed no more."""
        letter = await asyncio.to_thread(self._activity.letter, place)
        if letter is None:
            raise Problem("conflict", f"{letter_id(place)} was redriven or discarded meanwhile")
        return letter

    async def _claims(self, places: Sequence[Position], left: list[Left]) -> dict[Position, Claim]:
        """What to claim."""
        targets: dict[Position, Lane] = {}
        for place in places:
            try:
                targets[place] = self._target(await self._letter(place))
            except Problem as problem:
                left.append(Left(letter_id(place), problem.detail))
        ends = await self._logs.ends(list(set(targets.values())))
        claims: dict[Position, Claim] = {}
        for place, target in targets.items():
            id_ = letter_id(place)
            if target in ends:
                claims[place] = Claim(id_, self._new_token(), *target, ends[target][1], self._now_us())
            else:
                left.append(Left(id_, _gone_detail(id_, target)))
        return claims

    async def _held(self, claims: Mapping[Position, Claim], left: list[Left]) -> list[tuple[Position, Claim]]:
        """Claim them; those of which the claim is ours, as it holds."""
        await self._control([*claims.values()])
        held: list[tuple[Position, Claim]] = []
        for place, claim in claims.items():
            try:
                present = (await self._letter(place)).claim
            except Problem as problem:
                left.append(Left(claim.letter, problem.detail))
                continue
            if present is None or present.token != claim.token:
                left.append(Left(claim.letter, f"{claim.letter} is being redriven already: see in a minute whether it is still there"))
            else:
                held.append((place, present))
        return held

    async def _carry_out(self, letter: Letter, claim: Claim, *, is_first: bool) -> None:
        """is_first: nobody has claimed the letter before, so nothing of it can be in the target."""
        if self._now_us() - claim.at_us > CARRIED_OUT_US_MAX:
            raise Problem("conflict", f"claiming {claim.letter} took too long: try again in a minute")
        if letter.webhook is not None:
            await self._deliveries(letter, claim, is_first=is_first)
        elif is_first or not await self._is_written(claim):
            headers = [(REDRIVE_HEADER, claim.letter.encode())]
            await self._producer.send([Record(claim.topic, letter.key, letter.value, headers, partition=claim.partition)])

    def _target(self, letter: Letter) -> Lane:
        """Where it goes. Raises Problem: not-found, conflict."""
        topic, partition, _ = _source(letter)
        if letter.webhook is not None:
            if _delivery(letter).webhook_uid != self._uid(letter):
                raise Problem("conflict", f"{letter_id(letter.place)} is of an earlier webhook {letter.webhook}, which was deleted")
        elif topic != self._topics.mutations.name:
            raise Problem(
                "conflict", f"{letter_id(letter.place)} comes from {letter.source or 'nowhere'}, which is neither mutations nor a lane"
            )
        elif letter.key is not None:
            partition = partition_of(letter.key, self._topics.partitions)
        return topic, partition

    async def _is_written(self, claim: Claim) -> bool:
        place = (claim.topic, claim.partition)
        if (kept := (await self._logs.ends([place])).get(place)) is None:
            raise _gone(claim)
        async for batch in self._logs.read(*place, claim.from_offset, kept[1]):
            if any(record.headers.get(REDRIVE_HEADER) == claim.letter.encode() for record in batch):
                return True
        return False

    async def _deliveries(self, letter: Letter, claim: Claim, *, is_first: bool) -> None:
        """The letter's delivery, which the lane may hold no more, and all later ones of its document that the lane holds."""
        lane, key = (claim.topic, claim.partition), letter.key or b""
        delivery = _delivery(letter)
        replay = _replay_id(self._topics, claim.letter)
        copies = Copies(self._uid(letter), replay, {key: frozenset({delivery.change.version})}, only=False)
        if not is_first:
            await self._copies.note(lane, copies, claim.from_offset)
        if (first := copies.take(key, delivery)) is not None:
            await self._copies.write(lane, letter.key, [first])
        if await self._copies.append(lane, copies, start=_source(letter)[2]) is None:
            raise _gone(claim)

    def _uid(self, letter: Letter) -> str:
        """Of the letter's webhook as it is now. Raises Problem: not-found."""
        return self._register.get(letter.webhook or "").current.uid

    async def _settle(self, ids: Sequence[str], how: Literal["redriven", "discarded"]) -> None:
        await self._control([Settled(id_, how, self._now_us()) for id_ in ids])

    async def _control(self, controls: Sequence[Control]) -> None:
        """On record, and folded by this process."""
        if not controls:
            return
        topic, partition = self._topics.dead_letters.name, 0
        offsets = await self._producer.send([Record(topic, CONTROL_KEY, encode_control(one), partition=partition) for one in controls])
        await projected(self._activity, (topic, partition), max(offsets), FOLDED_S_MAX)


def _source(letter: Letter) -> tuple[str, int, int]:
    """Raises Problem: conflict: the letter does not say where it comes from."""
    topic, partition, offset = (["", *letter.source.rsplit("/", 2), "", ""])[1:4]
    if not partition.isdecimal() or not offset.isdecimal():
        raise Problem("conflict", f"{letter_id(letter.place)} does not say where it comes from: its source is {letter.source!r:.60}")
    return topic, int(partition), int(offset)


def _delivery(letter: Letter) -> Delivery:
    try:
        return decode_delivery(letter.value or b"")
    except BadRecord as error:
        raise Problem("conflict", f"{letter_id(letter.place)} is no delivery and cannot be redriven: {error.detail}") from error


def _gone(claim: Claim) -> Problem:
    return Problem("conflict", _gone_detail(claim.letter, (claim.topic, claim.partition)))


def _gone_detail(letter: str, target: Lane) -> str:
    return f"{letter} cannot be redriven: there is no partition {target[0]}/{target[1]} any more"


def _replay_id(topics: Topics, letter: str) -> str:
    """The same whoever redrives the letter: what one has written, the next one finds."""
    return "rpl_" + blake2b(f"{topics.dead_letters.name}/{letter}".encode(), digest_size=16).hexdigest()
