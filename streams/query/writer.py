"""
The Python that a tree becomes.

Three ways of writing each node: `true` and `false` give Python expressions for "it is true" and "it is false" (so NOT, AND
and OR need no third value and stop early), `value` gives one for its value. Each writes a node once, so the code is as long
as the query. interpret.py says the same more plainly, and tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streams.query.ast import (
    PROJECTIONS,
    And,
    Arithmetic,
    ArrayOf,
    Between,
    Boolean,
    Call,
    Comparison,
    ComparisonSign,
    Expression,
    Field,
    Filter,
    Flatten,
    In,
    Index,
    Is,
    Like,
    Negative,
    Not,
    Null,
    Number,
    ObjectOf,
    Or,
    Path,
    Step,
    Text,
    Xor,
    children,
)
from streams.query.cost import cost, steps_cost
from streams.query.fold import is_literal, matcher_of
from streams.query.functions import FUNCTIONS
from streams.query.interpret import evaluate
from streams.query.patterns import Wildcard, like_parts
from streams.query.steps import Budget
from streams.query.values import CALCULATE, COMPARE, Choices

_INLINE_STEPS_MAX: Final = 4  # of a path; a longer one is followed by a loop
_FLIPPED: Final[dict[ComparisonSign, ComparisonSign]] = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_INVERSE: Final[dict[ComparisonSign, ComparisonSign]] = {"=": "<>", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_PYTHON: Final[dict[ComparisonSign, str]] = {"=": "==", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


class Module:
    """What the functions of one query share: constants, inner functions, names for both."""

    def __init__(self) -> None:
        self.constants: list[object] = []
        self._functions: list[str] = []
        self._names = 0
        self._spends = False

    def constant(self, value: object) -> str:
        """The name of a value."""
        self.constants.append(value)
        return f"k{len(self.constants) - 1}"

    def name(self) -> str:
        """A name for the value of a part."""
        self._names += 1
        return f"t{self._names}"

    def function(self, body: str) -> str:
        """The name of a function of an element `d` and the budget `b`."""
        name = f"f{len(self._functions)}"
        self._functions.append(f"  def {name}(d, b):\n    return {body}\n")
        return name

    def budget(self) -> str:
        """The name of the budget, which there is from now on."""
        self._spends = True
        return "b"

    def source(self, condition: str) -> str:
        """The text of `make(constants)`, which returns the predicate."""
        names = ", ".join(f"k{position}" for position in range(len(self.constants)))
        body = f"    return {condition}\n"
        if self._spends:
            body = f"    b = Budget()\n    try:\n      return {condition}\n    except OutOfStepsError:\n      return False\n"
        # Constants are defaults, not cells of a closure: less to keep, and less to load at each call.
        defaults = "".join(f", {name}={name}" for name in names.split(", ") if name)
        return f"def make({names}):\n{''.join(self._functions)}  def matches(d{defaults}):\n{body}  return matches\n"


class Writer:
    """Writes the expressions of one function; `d` is its document or element. What it returns can stand as an operand."""

    def __init__(self, module: Module, *, of_document: bool) -> None:
        self._module = module
        self._of_document = of_document  # then `d` is known to be a dict

    def _constant(self, value: object) -> str:
        """A literal by a name: queries that differ in their literals only have the same text, and share its code."""
        return self._module.constant(value)

    # Truth

    def true(self, node: Expression) -> str:
        """Whether it is true."""
        match node:
            case And(operands):
                return f"({' and '.join(map(self.true, operands))})"
            case Or(operands):
                return f"({' or '.join(map(self.true, operands))})"
            case Not(operand):
                return self.false(operand)
            case Boolean(value):
                return repr(value)
            case Null() | Number() | Text():
                return "False"
        return self._test(node, wanted=True) or f"({self.value(node)} is True)"

    def false(self, node: Expression) -> str:
        """Whether it is false; not the same as not being true."""
        match node:
            case And(operands):
                return f"({' or '.join(map(self.false, operands))})"
            case Or(operands):
                return f"({' and '.join(map(self.false, operands))})"
            case Not(operand):
                return self.true(operand)
            case Boolean(value):
                return repr(not value)
            case Null() | Number() | Text():
                return "False"
        return self._test(node, wanted=False) or f"({self.value(node)} is False)"

    def _test(self, node: Expression, *, wanted: bool) -> str | None:
        """Whether a test of one operand has the wanted outcome, without calls; None if it is not that simple."""
        no = "" if wanted else "not "
        match node:
            case Comparison(sign, left, right):
                # Two values of one type are ordered: what is not less is greater or equal.
                return self._comparison(sign if wanted else _INVERSE[sign], left, right)
            case Is(kind, operand):
                value = self.value(operand) if kind == "UNKNOWN" else self.place(operand)
                return f"({value} is {no}{'MISSING' if kind == 'MISSING' else 'None'})"
            case Between(operand, Number(low) as sample, Number(high)) | Between(operand, Text(low) as sample, Text(high)):
                return self._typed(operand, sample, lambda name: f"{no}{self._constant(low)} <= {name} <= {self._constant(high)}")
            case Call("starts_with" | "ends_with" as function, (operand, Text(text) as sample)):
                method = "startswith" if function == "starts_with" else "endswith"
                return self._typed(operand, sample, lambda name: f"{no}{name}.{method}({self._constant(text)})")
            case Like("LIKE", operand, Text(pattern) as sample):
                return self._like(operand, sample, pattern, no)
            case In(operand, ArrayOf((sample, *_) as items)) if wanted and isinstance(sample, Number | Text):
                return self._choice(operand, sample, items)
        return None

    def _comparison(self, sign: ComparisonSign, left: Expression, right: Expression) -> str | None:
        if is_literal(left):
            sign, left, right = _FLIPPED[sign], right, left
        match right:
            case Boolean(value) if sign in ("=", "<>"):
                return f"({self.value(left)} is {value if sign == '=' else not value})"
            case Number(value) if sign == "=" and value not in (0, 1):  # which Python takes for False and True
                return f"({self.value(left)} == {self._constant(value)})"
            case Text(value) if sign == "=":
                return f"({self.value(left)} == {self._constant(value)})"
            case Number(value) | Text(value):
                return self._typed(left, right, lambda name: f"{name} {_PYTHON[sign]} {self._constant(value)}")
        return None

    def _like(self, operand: Expression, sample: Text, pattern: str, no: str) -> str | None:
        """LIKE with no more than a prefix or a part, which the patterns of most queries are."""
        match like_parts(pattern):
            case [str() as text, Wildcard.ANY]:
                return self._typed(operand, sample, lambda name: f"{no}{name}.startswith({self._constant(text)})")
            case [Wildcard.ANY, str() as text, Wildcard.ANY]:
                return self._typed(operand, sample, lambda name: f"{self._constant(text)} {no}in {name}")
        return None

    def _choice(self, operand: Expression, sample: Number | Text, items: tuple[Expression, ...]) -> str | None:
        """IN with literals of one type."""
        if not all(isinstance(item, type(sample)) for item in items):
            return None
        choices = self._module.constant(frozenset(item.value for item in items if isinstance(item, Number | Text)))
        return self._typed(operand, sample, lambda name: f"{name} in {choices}")

    def _typed(self, operand: Expression, sample: Expression, condition: Callable[[str], str]) -> str:
        """Whether an operand has the type of a literal, and a condition on it (by its name) holds."""
        name = self._module.name()
        of_type = "in NUMBERS" if isinstance(sample, Number) else "is str"
        return f"(type({name} := {self.value(operand)}) {of_type} and {condition(name)})"

    # Values

    def value(self, node: Expression) -> str:
        """Its value, None where it is missing."""
        match node:
            case Null() | Boolean():
                return repr(evaluate(node, None, Budget()))
            case Number(value) | Text(value):
                return self._constant(value)
            case ArrayOf() | ObjectOf() if is_literal(node):
                return self._module.constant(evaluate(node, None, Budget()))
            case Path(None, steps) if not any(isinstance(step, PROJECTIONS) for step in steps):
                return self._follow(steps, "None")
            case Path():
                return f"present({self.place(node)})"
            case ObjectOf(entries):
                keys = self._module.constant(tuple(key for key, _ in entries))
                return f"object_of({', '.join([keys, *(self.place(part) for _, part in entries)])})"
            case In(operand, items) if is_literal(items):
                known = evaluate(items, None, Budget())
                choices = self._module.constant(Choices(known if isinstance(known, list) else [known]).holds)
                return f"{choices}({self.value(operand)})"
            case Like() | Call() if matcher := matcher_of(node):
                return f"{self._module.constant(matcher)}({self.value(children(node)[0])})"
            case Call(name, arguments) if FUNCTIONS[name].sees_missing:
                return f"call_{name}({', '.join(map(self.place, arguments))})"
            case Is():
                return self.true(node)
        return self._operation(node, [self.value(part) for part in children(node)])

    def _operation(self, node: Expression, operands: list[str]) -> str:
        arguments = ", ".join(operands)
        match node:
            case ArrayOf():
                return f"[{arguments}]"
            case Call(name):
                return f"call_{name}({arguments})"
            case Not():
                return f"negated({arguments})"
            case And():
                return f"all_true({arguments})"
            case Or():
                return f"any_true({arguments})"
            case Xor():
                return f"exclusive({arguments})"
            case Comparison(sign):
                return f"{COMPARE[sign].__name__}({arguments})"
            case Between():
                return f"between({arguments})"
            case In():
                return f"among({arguments})"
            case Like(kind):
                return f"match_pattern({kind!r}, {arguments})"
            case Arithmetic(sign):
                return f"{CALCULATE[sign].__name__}({arguments})"
            case Negative():
                return f"negative({arguments})"
        raise TypeError(f"{type(node).__name__} has no value")  # a Parameter: the tree is not bound

    # Paths

    def place(self, node: Expression) -> str:
        """Its value, MISSING where a path leads nowhere."""
        match node:
            case Path(None, steps):
                return self._walk("d", steps, is_object=self._of_document)
            case Path(base, steps) if base is not None:
                return self._walk(self.place(base), steps, is_object=False)
        return self.value(node)

    def _follow(self, steps: tuple[Step, ...], otherwise: str) -> str:
        return self._plain("d", steps, otherwise, is_object=self._of_document)

    def _walk(self, start: str, steps: tuple[Step, ...], *, is_object: bool) -> str:
        """A path with projections in it: what follows one becomes a function of the element."""
        cut = next((position for position, step in enumerate(steps) if isinstance(step, PROJECTIONS)), len(steps))
        text = self._plain(start, steps[:cut], "MISSING", is_object=is_object)
        if cut == len(steps):
            return text
        text, rest = self._projection(text, steps[cut]), steps[cut + 1 :]
        if not rest:
            return text
        inner = Writer(self._module, of_document=False)
        function = self._module.function(inner._walk("d", rest, is_object=False))
        return f"mapped({text}, {function}, {steps_cost(rest)}, {self._module.budget()})"

    def _projection(self, text: str, step: Step) -> str:
        match step:
            case Filter(predicate):
                function = self._module.function(Writer(self._module, of_document=False).true(predicate))
                return f"filtered({text}, {function}, {cost(predicate)}, {self._module.budget()})"
            case Flatten():
                return f"flattened({text}, {self._module.budget()})"
        return f"elements({text})"

    def _plain(self, start: str, steps: tuple[Step, ...], otherwise: str, *, is_object: bool) -> str:
        """Names and places from `start`; most of the time of most queries is spent here."""
        if len(steps) > _INLINE_STEPS_MAX:
            keys = tuple(step.name if isinstance(step, Field) else step.position for step in steps if isinstance(step, Field | Index))
            return f"follow({start}, {self._module.constant(keys)}, {otherwise})"
        text = start
        for position, step in enumerate(steps):
            name = self._module.name()
            match step:
                case Field(key) if position == 0 and is_object:
                    text = f"{text}.get({key!r})" if otherwise == "None" else f"{text}.get({key!r}, {otherwise})"
                case Field(key):
                    got = f"{name}.get({key!r})" if otherwise == "None" else f"{name}.get({key!r}, {otherwise})"
                    text = f"({got} if type({name} := {text}) is dict else {otherwise})"
                case Index(place):
                    text = f"({name}[{place}] if type({name} := {text}) is list and len({name}) > {place} else {otherwise})"
        return text
