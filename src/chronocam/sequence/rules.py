"""Rules of LRP for layers that have none yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from chronocam.errors import InputError

Rule: TypeAlias = Callable[..., Any]
"""From the ledger, a layer, the layer's own call and its inputs to the layer's output."""

_RULES: dict[str | type, Rule] = {}
RULES: Final[Mapping[str | type, Rule]] = MappingProxyType(_RULES)
"""The rules that users added, by the class of a layer, or a name."""


class RegisteredRule:
    """A rule that was added; `remove` takes it away again, and so does the end of a `with` block."""

    def __init__(self, name: str | type, rule: Rule) -> None:
        self.name = name
        self.rule = rule
        self._before = _RULES.get(name)
        _RULES[name] = rule

    def remove(self) -> None:
        """Take the rule away; the one that it replaced is back."""
        if _RULES.get(self.name) is not self.rule:
            return
        if self._before is None:
            del _RULES[self.name]
        else:
            _RULES[self.name] = self._before

    def __enter__(self) -> RegisteredRule:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def register_rule(name: str | type, rule: Rule) -> RegisteredRule:
    """Let LRP go through a layer by a rule of your own, in the place of what it does otherwise.

    name: the class of a layer (`torch.nn.Module` or `keras.layers.Layer`), or its name; also the name of an
        operation of PyTorch (`"pow"`) or of a functional Keras model (`"Power"`). Subclasses follow the rule.
    rule: `rule(ledger, layer, call, *inputs, **options)` returns the layer's output, as an expression whose
        gradient times input is the relevance wanted. `call` is the layer's own call. `ledger.share(z)` shares
        z by the linear rule with ε; `ledger.passed(z, value)` lets a function `value` of z pass its relevance
        to z; `ledger.bias(constant, like)` enters a constant added to `like` among the biases;
        `ledger.held(x)` is x as a constant, `ledger.ratio(a, b)` is the constant a / b.

    The values must be the layer's own: scores that differ from the model's are refused, and so is relevance
    that does not add up to them. Raises InputError for a rule that cannot be called.

    Example:
        >>> def squared(ledger, layer, call, x):
        ...     return x * ledger.held(x)  # one factor is a constant weight
        >>> with cc.sequence.register_rule("Squared", squared) as registered:
        ...     registered.name
        'Squared'
    """
    if not callable(rule):
        raise InputError(f"a rule is {rule!r}; expected a function rule(ledger, layer, call, *inputs)")
    return RegisteredRule(name, rule)


def own_rule(layer: object) -> Rule | None:
    """Return the rule that was added for a layer: by its class or name, or by one that it inherits from."""
    for cls in type(layer).__mro__ if _RULES else ():
        rule = _RULES.get(cls, _RULES.get(cls.__name__))
        if rule is not None:
            return rule
    return None
