"""Mutants of a loss: its source with one small fault, such as a sign turned or a term detached.

A mutant changes one place in the function of the loss, or in one of its module that it calls and that is no loss.
Docstrings, decorators, annotations, defaults, messages and the checks of settings stay: other tests hold those.
"""

import ast
import copy
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from textwrap import dedent
from types import ModuleType
from typing import Any

from torch import Tensor

from pairwright.losses import LOSSES

Path = tuple[tuple[str, int | None], ...]
LIMITS = {"positive", "not_negative", "between", "finite"}
# What makes a result, and which of its arguments is the loss; implicit rewards come after it.
RESULTS = {"PairLoss": 0, "GroupLoss": 0, "PointLoss": 0, "_as_given": 1}
REDUCED, DETACHED = "_planted_mean", "_planted_detach"
# Words that a slip of the pen exchanges.
EXCHANGED = {
    "chosen": "rejected",
    "mean_logp": "logp",
    "mean_log_ratio": "log_ratio",
    "sum": "mean",
    "max": "min",
    "amax": "amin",
    "argmax": "argmin",
    "maximum": "minimum",
    "log": "exp",
    "logsigmoid": "sigmoid",
    "log_softmax": "softmax",
    "any": "all",
}
EXCHANGED |= {second: first for first, second in EXCHANGED.items()}
# Calls without which the value is of the same kind; the first argument, or what stands before the dot, is left.
DROPPABLE = {
    "abs", "clamp", "clamp_min", "clamp_max", "detach", "exp", "expm1", "log", "log1p", "logsigmoid", "log_softmax",
    "masked_fill", "max", "min", "maximum", "minimum", "nan_to_num", "neg", "relu", "sigmoid", "softmax", "softplus",
    "square", "where",
}  # fmt: skip
COMPARED = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,),
}  # fmt: skip
TURNED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}


@dataclass(frozen=True)
class Mutant:
    """One fault planted in one loss.

    Attributes:
        loss: name of the loss.
        kind: what sort of fault it is.
        where: the function if it is not the loss itself, what stood there and what stands there now.
        make: gives the faulty loss.
        touched: how often the planted fault met a tensor that it changes, for kinds that can miss; None for others.
    """

    loss: str
    kind: str
    where: str
    make: Callable[[], Callable[..., Any]]
    touched: list[int] | None = None

    @property
    def name(self) -> str:
        return f"{self.loss}: {self.where}"


def _at(tree: ast.AST, path: Path) -> Any:
    node: Any = tree
    for field, index in path:
        node = getattr(node, field)
        node = node if index is None else node[index]
    return node


def _put(tree: ast.AST, path: Path, new: ast.AST) -> None:
    *front, (field, index) = path
    parent = _at(tree, tuple(front))
    if index is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[index] = new


def _walk(node: ast.AST, path: Path = ()) -> Iterator[tuple[Path, ast.AST]]:
    """Every node below, parents first, with the way to it; not what a mutant leaves alone."""
    yield path, node
    for field, value in ast.iter_fields(node):
        if field in {"decorator_list", "returns", "annotation", "defaults", "kw_defaults", "args"} and isinstance(
            node, ast.FunctionDef | ast.arguments | ast.arg | ast.AnnAssign
        ):
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.AST) and not _left_alone(child):
                yield from _walk(child, (*path, (field, index if isinstance(value, list) else None)))


def _left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute) and node.attr == "dtype":  # a value that is only asked for its type
        return True
    if isinstance(node, ast.If):  # a guard, which ends in an error
        return isinstance(node.body[-1], ast.Raise) and not node.orelse
    if isinstance(node, ast.Expr):
        call = node.value
        docstring = isinstance(call, ast.Constant)
        return docstring or (isinstance(call, ast.Call) and getattr(call.func, "id", "") in LIMITS)
    return False


def _call(name: str, value: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(name, ast.Load()), [value], [])


def _negative(value: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.USub(), value)


def _arithmetic(node: ast.AST, settings: Mapping[str, Any]) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.BinOp):
        if type(node.op) in TURNED:
            turned = TURNED[type(node.op)]
            yield "sign" if turned in (ast.Add, ast.Sub) else "division", ast.BinOp(node.left, turned(), node.right)
        kind = "term dropped" if isinstance(node.op, ast.Add | ast.Sub) else "factor dropped"
        yield kind, node.left
        if not isinstance(node.op, ast.Pow | ast.Div):
            yield kind, node.right
        if isinstance(node.op, ast.Sub):
            yield "sides exchanged", ast.BinOp(node.right, ast.Sub(), node.left)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield "sign" if isinstance(node.op, ast.USub) else "condition", node.operand
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for other in dict.fromkeys((node.value + 1, 2 * node.value, -node.value)):
            if other != node.value:
                yield "constant", ast.Constant(other)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in settings:
        default = settings[node.id]
        values = {default, 1.0, 0.0} if isinstance(default, float | int) else set()
        for value in sorted(values):
            yield "setting ignored", ast.Constant(value)


def _words(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Attribute) and node.attr in EXCHANGED and isinstance(node.ctx, ast.Load):
        yield f"{node.attr} for {EXCHANGED[node.attr]}", ast.Attribute(node.value, EXCHANGED[node.attr], ast.Load())
    if isinstance(node, ast.Name) and node.id in EXCHANGED and isinstance(node.ctx, ast.Load):
        yield f"{node.id} for {EXCHANGED[node.id]}", ast.Name(EXCHANGED[node.id], ast.Load())


def _calls(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Call):
        method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        on_module = method and isinstance(node.func.value, ast.Name) and node.func.value.id in {"torch", "math", "F"}
        if name in DROPPABLE:
            if method and not on_module:
                yield "call dropped", node.func.value  # type: ignore[union-attr]
                if name in {"where", "masked_fill", "maximum", "minimum"}:
                    yield "call dropped", node.args[-1]
            else:
                yield from (("call dropped", value) for value in (node.args[1:] if name == "where" else node.args))
        if name in {"logsigmoid", "sigmoid", "softplus", "relu", "exp", "abs"} and node.args:
            turned = [_negative(node.args[0]), *node.args[1:]]
            yield "sign", ast.Call(node.func, turned, node.keywords)
        for index, word in enumerate(node.keywords):
            if word.arg not in {"dim", "dtype", "device", "keepdim", "stable", "descending"} and name not in RESULTS:
                rest = node.keywords[:index] + node.keywords[index + 1 :]
                yield "setting dropped", ast.Call(node.func, node.args, rest)
            if word.arg in {"min", "max"}:
                other = ast.keyword("min" if word.arg == "max" else "max", word.value)
                turned_words = [*node.keywords[:index], other, *node.keywords[index + 1 :]]
                yield "min for max", ast.Call(node.func, node.args, turned_words)
            if word.arg in {"stable", "descending"} and isinstance(word.value, ast.Constant):
                other = ast.keyword(word.arg, ast.Constant(not word.value.value))
                yield "condition", ast.Call(node.func, node.args, [*node.keywords[:index], other])


def _conditions(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in COMPARED.get(type(node.ops[0]), ()):
            yield "comparison", ast.Compare(node.left, [other()], node.comparators)
    if isinstance(node, ast.IfExp):
        yield "condition", node.body
        yield "condition", node.orelse
    if isinstance(node, ast.BoolOp | ast.BinOp) and isinstance(getattr(node, "op", None), ast.And | ast.Or):
        yield from (("condition", value) for value in node.values)  # type: ignore[union-attr]


def _planted(node: ast.AST, parent: ast.AST | None) -> Iterator[tuple[str, ast.expr]]:
    """Faults that only a run can tell to be any: a detached or averaged value that is a tensor at all."""
    if isinstance(node, ast.Attribute | ast.BinOp | ast.Call | ast.Name | ast.Subscript | ast.UnaryOp) and isinstance(
        getattr(node, "ctx", ast.Load()), ast.Load
    ):
        yield "detached", _call(DETACHED, node)
        if isinstance(parent, ast.Assign | ast.Call | ast.Tuple | ast.BinOp):
            yield "early reduction", _call(REDUCED, node)


def _in_rewards(tree: ast.AST, path: Path) -> bool:
    """Whether a place only feeds the implicit rewards, which the trainer detaches and averages itself."""
    for length in range(1, len(path) + 1):
        field, index = path[length - 1]
        node = _at(tree, path[: length - 1])
        if (
            isinstance(node, ast.Call)
            and field == "args"
            and index is not None
            and index > RESULTS.get(getattr(node.func, "id", ""), index)
        ):
            return True
    return False


def _in_axis(tree: ast.AST, path: Path) -> bool:
    """Whether a constant names an axis or a place, which another number would only make fail."""
    for length in range(len(path)):
        node = _at(tree, path[:length])
        if (isinstance(node, ast.keyword) and node.arg in {"dim", "keepdim"}) or isinstance(node, ast.Subscript):
            return True
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in {"unsqueeze", "stack", "size", "sort"}:
            return True
    return False


def _faults(tree: ast.AST, settings: Mapping[str, Any]) -> Iterator[tuple[Path, str, ast.expr]]:
    for path, node in _walk(tree):
        parent = _at(tree, path[:-1]) if path else None
        found = [*_arithmetic(node, settings), *_words(node), *_calls(node), *_conditions(node)]
        if isinstance(node, ast.Constant) and _in_axis(tree, path):
            found = []
        if isinstance(parent, ast.Call | ast.Attribute | ast.Subscript) and path[-1][0] in {"func", "slice"}:
            found = [each for each in found if not each[0].startswith("constant")]
        elif not (isinstance(parent, ast.Attribute) and isinstance(node, ast.Name)) and not _in_rewards(tree, path):
            found += _planted(node, parent)
        yield from ((path, kind, new) for kind, new in found)


def _counting(change: Callable[[Tensor], Tensor], counts: Callable[[Tensor], bool], touched: list[int]) -> Any:
    def plant(value: Any) -> Any:
        if not isinstance(value, Tensor) or not counts(value):
            return value
        touched[0] += 1
        return change(value)

    return plant


def _compiled(
    module: ModuleType, tree: ast.Module, name: str, touched: list[int], known: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    fresh = ModuleType(module.__name__)
    fresh.__dict__.update(known or {})
    fresh.__dict__[DETACHED] = _counting(Tensor.detach, lambda value: value.requires_grad, touched)
    fresh.__dict__[REDUCED] = _counting(
        lambda value: value.mean(), lambda value: value.dim() > 0 and value.is_floating_point(), touched
    )
    ast.fix_missing_locations(tree)
    exec(compile(tree, f"<mutant of {name}>", "exec"), fresh.__dict__)  # source that stands in our own tree
    found: Callable[..., Any] = getattr(fresh, name)
    return found


def _alone(module: ModuleType, name: str) -> tuple[ast.Module, list[str]]:
    """The module with the loss and what it calls, and no other function; and which of them may be changed."""
    tree = ast.parse(inspect.getsource(module))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef) and not _overload(node)}
    kept, changed, left = set(), [], [name]
    while left:
        current = left.pop()
        if current in kept:
            continue
        kept.add(current)
        if current == name or current not in LOSSES:
            changed.append(current)
        left += [
            node.id for node in ast.walk(functions[current]) if isinstance(node, ast.Name) and node.id in functions
        ]
    tree.body = [
        node for node in tree.body if not isinstance(node, ast.FunctionDef) or functions.get(node.name) is node
    ]
    tree.body = [node for node in tree.body if not isinstance(node, ast.FunctionDef) or node.name in kept]
    return tree, changed


def _overload(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)


def mutants(name: str, plug: Callable[..., Any] | None = None) -> Iterator[Mutant]:
    """Every mutant of the loss called `name`, or of another function that is called so."""
    module = sys.modules[(plug or LOSSES[name]).__module__]
    tree, changed = _alone(module, name)
    for place, function in enumerate(tree.body):
        if not isinstance(function, ast.FunctionDef) or function.name not in changed:
            continue
        prefix = "" if function.name == name else f"in {function.name}, "
        plain = inspect.signature(getattr(module, function.name)).parameters
        settings = {key: value.default for key, value in plain.items() if value.kind is value.KEYWORD_ONLY}
        for path, kind, new in _faults(function, settings):
            touched = [0]

            def make(place: int = place, path: Path = path, new: ast.expr = new, touched: list[int] = touched) -> Any:
                faulty = copy.deepcopy(tree)
                _put(faulty.body[place], path, copy.deepcopy(new))
                return _compiled(module, faulty, name, touched)

            text = f"{prefix}{ast.unparse(_at(function, path))} -> {ast.unparse(new)}"
            yield Mutant(name, kind, text, make, touched if kind in {"detached", "early reduction"} else None)
        turned = _Exchange().visit(copy.deepcopy(function))
        if ast.unparse(turned) != ast.unparse(function):

            def exchange(place: int = place, turned: ast.stmt = turned) -> Any:
                faulty = copy.deepcopy(tree)
                faulty.body[place] = turned
                return _compiled(module, faulty, name, [0])

            yield Mutant(name, "sides exchanged", f"{prefix}every chosen side for the rejected one", exchange)


def mutants_of(record: type, attribute: str) -> Iterator[Mutant]:
    """Every mutant of what a record derives from its fields; `make` gives what to put in the attribute's place."""
    module = sys.modules[record.__module__]
    raw = inspect.getattr_static(record, attribute)
    wrap = type(raw) if isinstance(raw, property | classmethod) else lambda function: function
    plain = getattr(raw, "fget", None) or getattr(raw, "__func__", raw)
    tree = ast.parse(dedent(inspect.getsource(plain)))
    assert isinstance(tree.body[0], ast.FunctionDef)
    tree.body[0].decorator_list = []
    for path, kind, new in _faults(tree.body[0], {}):
        touched = [0]

        def make(path: Path = path, new: ast.expr = new, touched: list[int] = touched) -> Any:
            faulty = copy.deepcopy(tree)
            _put(faulty.body[0], path, copy.deepcopy(new))
            return wrap(_compiled(module, faulty, attribute, touched, vars(module)))

        name = f"{record.__name__}.{attribute}"
        text = f"{ast.unparse(_at(tree.body[0], path))} -> {ast.unparse(new)}"
        yield Mutant(name, kind, text, make, touched if kind in {"detached", "early reduction"} else None)


class _Exchange(ast.NodeTransformer):
    """Chosen and rejected exchanged everywhere but in what is given back."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr in {"chosen", "rejected"}:
            node.attr = EXCHANGED[node.attr]
        return node
