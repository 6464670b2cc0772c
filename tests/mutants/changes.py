"""One-line changes of Python source that a test should notice: found in the syntax tree, made in the text.

Docstrings, type hints, imports, error texts, logging and assertions are left alone.
"""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

COMPARISONS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
OPERATORS = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
_PAIRS = (
    "min max",
    "any all",
    "minimum maximum",
    "floor ceil",
    "argmin argmax",
    "zeros ones",
    "amin amax",
    "append insert",
)
NAMES = {a: b for pair in _PAIRS for a, b in (pair.split(), pair.split()[::-1])}
STRINGS = {"left": "right", "right": "left"}
TEXTS = {"msg", "message", "__all__", "logger", "note"}  # variables that hold words
QUIET = {"logger", "logging", "warnings"}
SAME_SWAPPED = {"isinstance", "issubclass", "getattr", "hasattr", "cast"}


class Change(NamedTuple):
    """Bytes [start, stop) of a file become ``text``."""

    path: str
    line: int
    kind: str
    start: int
    stop: int
    text: bytes

    def applied(self, source: bytes) -> bytes:
        """The source with the change made."""
        return source[: self.start] + self.text + source[self.stop :]


def changes_of(source: bytes, path: str = "") -> list[Change]:
    """Every change of a file, by position; a few give no valid program (``compiles``)."""
    finder = _Finder(source, path)
    finder.visit(ast.parse(source))
    return sorted(set(finder.found), key=lambda c: (c.start, c.stop, c.text))


def compiles(source: bytes) -> bool:
    """Whether the changed file is a program still."""
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


class _Finder(ast.NodeVisitor):
    def __init__(self, source: bytes, path: str) -> None:
        self.source, self.path = source, path
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.found: list[Change] = []

    # -------------------------------------------------------------------------------------------------- positions

    def _span(self, node: ast.AST) -> tuple[int, int]:
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def _text(self, node: ast.AST) -> bytes:
        start, stop = self._span(node)
        return self.source[start:stop]

    def _add(self, kind: str, start: int, stop: int, text: str | bytes) -> None:
        old = self.source[start:stop]
        new = text.encode() if isinstance(text, str) else text
        if b"\n" in old or b"\n" in new or old == new:
            return
        line = self.source.count(b"\n", 0, start) + 1
        self.found.append(Change(self.path, line, kind, start, stop, new))

    def _token(self, kind: str, start: int, stop: int, old: str, new: str) -> None:
        """Replace the one ``old`` that stands in [start, stop), between two operands."""
        at = re.search(re.escape(old).replace(r"\ ", r"\s+").encode(), self.source[start:stop])
        if at:
            self._add(kind, start + at.start(), start + at.end(), new)

    # -------------------------------------------------------------------------------------------- what is left alone

    def _skip(self, node: ast.AST) -> None:
        pass

    visit_Raise = visit_Import = visit_ImportFrom = visit_Assert = visit_JoinedStr = visit_Global = _skip

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        for statement in node.body:
            self.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and not (isinstance(node.target, ast.Name) and node.target.id in TEXTS):
            self.visit(node.value)

    # ---------------------------------------------------------------------------------------------------- statements

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(t, ast.Name) and t.id in TEXTS for t in node.targets):
            return
        if all(isinstance(t, ast.Attribute | ast.Subscript) for t in node.targets):
            self._add("statement removed", *self._span(node), "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._add("statement removed", *self._span(node), "pass")
        if type(node.op) in OPERATORS and not _is_text(node.value):
            old, new = OPERATORS[type(node.op)]
            self._token("operator", self._span(node.target)[1], self._span(node.value)[0], f"{old}=", f"{new}=")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        if isinstance(node.value, ast.Call) and not _is_quiet(node.value):
            self._add("statement removed", *self._span(node), "pass")
        self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add("statement removed", *self._span(node), "pass")

    def visit_Break(self, node: ast.Break) -> None:
        self._add("statement removed", *self._span(node), "pass")

    def visit_If(self, node: ast.If) -> None:
        if b"TYPE_CHECKING" in self._text(node.test):
            return
        self._condition(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def _condition(self, test: ast.expr) -> None:
        if not isinstance(test, ast.UnaryOp):
            self._add("condition turned", *self._span(test), b"not (" + self._text(test) + b")")

    # --------------------------------------------------------------------------------------------------- expressions

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, op, right in zip(operands, node.ops, operands[1:], strict=False):
            self._token("comparison", self._span(left)[1], self._span(right)[0], *COMPARISONS[type(op)])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in OPERATORS and not _is_text(node.left) and not _is_text(node.right):
            self._token("operator", self._span(node.left)[1], self._span(node.right)[0], *OPERATORS[type(node.op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        pair = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._token("and, or", self._span(left)[1], self._span(right)[0], *pair)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        start = self._span(node)[0]
        token = {ast.Not: b"not", ast.USub: b"-", ast.Invert: b"~"}.get(type(node.op))
        if token:
            after = start + len(token)
            blank = len(self.source[after:]) - len(self.source[after:].lstrip(b" "))
            self._add("negation dropped", start, after + blank, b"")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._add("constant", *self._span(node), str(not value))
        elif isinstance(value, int):
            self._add("constant", *self._span(node), str(value + 1))
        elif isinstance(value, float):
            self._add("constant", *self._span(node), repr(value * 1.5 if value else 1.0))
        elif isinstance(value, str) and value in STRINGS:
            self._add("constant", *self._span(node), repr(STRINGS[value]))

    def visit_Slice(self, node: ast.Slice) -> None:
        for edge, by in ((node.lower, b" + 1"), (node.upper, b" - 1")):
            if edge is not None and not isinstance(edge, ast.Constant):
                self._add("index", *self._span(edge), b"(" + self._text(edge) + b")" + by)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if _is_quiet(node):
            return
        name = _name(node.func)
        if name in NAMES:
            stop = self._span(node.func)[1]
            self._add("function", stop - len(name), stop, NAMES[name])
        if (
            len(node.args) > 1
            and name not in SAME_SWAPPED
            and not any(isinstance(a, ast.Starred) for a in node.args[:2])
        ):
            first, second = node.args[:2]
            start, stop = self._span(first)[0], self._span(second)[1]
            between = self.source[self._span(first)[1] : self._span(second)[0]]
            if between.strip() == b",":
                self._add("arguments swapped", start, stop, self._text(second) + between + self._text(first))
        self.visit(node.func)
        for argument in node.args:
            self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg != "stacklevel":
                self.visit(keyword.value)


def _name(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def _is_quiet(call: ast.Call) -> bool:
    root = call.func
    while isinstance(root, ast.Attribute):
        root = root.value
    return isinstance(root, ast.Name) and root.id in QUIET


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
