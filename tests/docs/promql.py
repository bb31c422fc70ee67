"""Check PromQL against a real scrape: each name in a query must occur there.

The parser checks the grammar and the types (a rate needs a range, a sum does not). This module
checks what the parser cannot know: the metrics, their kinds, their labels and the labels' values.
So it finds a query that can never have a result.
"""

import re
from collections.abc import Iterable

import promql_parser as promql
from prometheus_client.core import Metric

COUNTED = frozenset({"rate", "irate", "increase"})
GAUGED = frozenset({"delta", "idelta", "deriv", "predict_linear"})
TARGET = {"job": "gateway", "instance": "127.0.0.1:8080"}
"""Labels that Prometheus adds to each series:
https://prometheus.io/docs/concepts/jobs_instances/."""
MEMBERS = frozenset({"and", "or", "unless"})
NEGATIVE = (promql.MatchOp.NotEqual, promql.MatchOp.NotRe)
REGULAR = (promql.MatchOp.Re, promql.MatchOp.NotRe)

Labels = frozenset[str] | None
"""The labels of a result; None for a number."""


class Scrape:
    """The series that were scraped.

    Attributes:
        series: the labels of each series, by the name of its samples.
        counters: the names that only grow.
    """

    def __init__(self, families: Iterable[Metric]) -> None:
        self.series: dict[str, list[dict[str, str]]] = {"up": [TARGET]}  # added by Prometheus
        self.counters: set[str] = set()
        for family in families:
            for sample in family.samples:
                self.series.setdefault(sample.name, []).append({**sample.labels, **TARGET})
                if family.type in {"counter", "histogram"}:
                    self.counters.add(sample.name)

    def labels(self, text: str) -> Labels:
        """Return the labels of a query's result.

        Raises:
            ValueError: it is not PromQL.
            AssertionError: it names unknown series, or can never have a result.
        """
        return self._of(promql.parse(text))

    def _of(self, node: promql.Expr) -> Labels:
        match node:
            case promql.NumberLiteral() | promql.StringLiteral():
                return None
            case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
                return self._of(node.expr)
            case promql.MatrixSelector():
                return self._selected(node.vector_selector)
            case promql.VectorSelector():
                return self._selected(node)
            case promql.AggregateExpr():
                return self._aggregated(node)
            case promql.Call():
                return self._called(node)
            case promql.BinaryExpr():
                return self._combined(node)
        raise AssertionError(f"{node.prettify()}: nothing here checks this")

    def _selected(self, node: promql.VectorSelector) -> Labels:
        """Check that each matcher's value occurs in a series, and that one series matches all."""
        assert node.name in self.series, f"{node.name}: no such metric"
        rest = series = self.series[node.name]
        labels = frozenset().union(*series)
        for matcher in node.matchers.matchers:
            assert matcher.name in labels, f"{node.name} has no label {matcher.name}"
            values = {one.get(matcher.name, "") for one in series}
            regular = matcher.op in REGULAR
            for value in matcher.value.split("|") if regular else [matcher.value]:
                pattern = value if regular else re.escape(value)
                known = any(re.fullmatch(pattern, other) for other in values)
                assert known, f"{node.name}: {matcher.name} is never {value}"
            rest = [one for one in rest if _holds(matcher, one.get(matcher.name, ""))]
        assert rest, f"{node}: no series is like this"
        return labels

    def _aggregated(self, node: promql.AggregateExpr) -> Labels:
        labels = self._of(node.expr)
        assert labels is not None
        if node.modifier is None:
            return labels if str(node.op) in {"topk", "bottomk"} else frozenset()
        named = frozenset(node.modifier.labels)
        assert named <= labels, f"{node.prettify()}: there is no {sorted(named - labels)}"
        without = node.modifier.type == promql.AggModifierType.Without
        return labels - named if without else named

    def _called(self, node: promql.Call) -> Labels:
        name, found = node.func.name, [self._of(argument) for argument in node.args]
        for argument in node.args:
            if isinstance(argument, promql.MatrixSelector) and name in COUNTED | GAUGED:
                metric = argument.vector_selector.name
                counted = metric in self.counters
                assert counted == (name in COUNTED), f"{name} is not for {metric}"
        vectors = [labels for labels in found if labels is not None]
        if not vectors:
            return None
        if name == "histogram_quantile":
            assert "le" in vectors[0], f"{node.prettify()}: le is gone"
            return vectors[0] - {"le"}
        if name == "absent":
            matchers = node.args[0].matchers.matchers
            return frozenset(m.name for m in matchers if m.op == promql.MatchOp.Equal)
        return vectors[0]

    def _combined(self, node: promql.BinaryExpr) -> Labels:
        left, right = self._of(node.lhs), self._of(node.rhs)
        if left is None or right is None:
            return right if left is None else left
        operator = str(node.op).split()[0]
        if operator == "or":
            return left & right
        if node.modifier is None or node.modifier.matching is None:
            assert left == right, f"{node.prettify()}: labels differ, so that none ever match"
            return left
        matched = self._matched(node, node.modifier.matching, left, right)
        return left if operator in MEMBERS else matched

    def _matched(
        self,
        node: promql.BinaryExpr,
        by: promql.LabelModifier,
        left: frozenset[str],
        right: frozenset[str],
    ) -> Labels:
        """Check that the labels of ``on`` and ``ignoring`` exist, and that series can match."""
        assert node.modifier is not None
        named, card = frozenset(by.labels), node.modifier.card
        on = by.type == promql.LabelModifierType.Include
        assert named <= left | right, f"{node.prettify()}: there is no {sorted(named)}"
        if on:
            assert named <= left & right, f"{node.prettify()}: one side lacks a label"
        else:
            assert left - named == right - named, f"{node.prettify()}: none ever match"
        if card == promql.VectorMatchCardinality.OneToOne:
            return named if on else left - named
        many = left if card == promql.VectorMatchCardinality.ManyToOne else right
        return many | frozenset(node.modifier.group_labels or ())


def _holds(matcher: promql.Matcher, value: str) -> bool:
    regular = matcher.op in REGULAR
    same = bool(re.fullmatch(matcher.value, value)) if regular else matcher.value == value
    return same != (matcher.op in NEGATIVE)


def metrics(text: str) -> set[str]:
    """Return the metrics that a query reads."""
    found: set[str] = set()

    def look(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector) and node.name:
            found.add(node.name)
        if isinstance(node, promql.MatrixSelector):
            found.add(str(node.vector_selector.name))

    promql.walk(promql.parse(text), look)
    return found
