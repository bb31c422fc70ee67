"""Read the tests of a configuration."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from gateway.config.docstrings import documented_keys
from gateway.config.loader.files import FileMerger
from gateway.config.loader.references import ReferenceResolver
from gateway.config.loader.report import ConfigReport
from gateway.config.route_tests import ExpectedRequestConfig, RouteTest, RouteTestConfig
from gateway.suggestions import did_you_mean

NOTHING = "expects nothing; add expect, withheld or rejected"


class RouteTestReader:
    """Reads the tests.

    Args:
        known: the names of the sources (``from``) and of the destinations (``to``).
    """

    def __init__(
        self,
        gathered: FileMerger,
        references: ReferenceResolver,
        report: ConfigReport,
        known: Mapping[str, Collection[str]],
    ) -> None:
        self._gathered = gathered
        self._references = references
        self._report = report
        self._known = known

    def cases(self, *, remembers: bool) -> Iterator[RouteTest]:
        """Yield the valid tests; *remembers* tells whether consent is stored."""
        for number, raw in enumerate(self._gathered.raw.get("tests", []), start=1):
            table = f"tests.{number}"
            expanded = self._references.table(raw, table)
            self._check_from(expanded, table)
            if "expect" in expanded:
                expanded["expect"] = self._expect(expanded["expect"], table)
            try:
                case = RouteTestConfig.model_validate(expanded)
            except ValidationError as error:
                self._report.findings(table, documented_keys(RouteTestConfig), error)
                continue
            self._check(case, table, remembers=remembers)
            folder = self._gathered.owner(table).parent
            yield RouteTest(case, self._report.place(table), folder)

    def _check_from(self, raw: Mapping[str, Any], table: str) -> None:
        name = raw.get("from", "")
        if isinstance(name, str) and name and name not in self._known["from"]:
            what = f"there is no source {name!r}; {did_you_mean(name, self._known['from'])}"
            self._report.problem(table, "from", what)

    def _check(self, case: RouteTestConfig, table: str, *, remembers: bool) -> None:
        problem = self._report.problem
        if case.expect is None and not case.withheld and case.rejected is None:
            problem(table, "", NOTHING)
        if case.rejected is not None and (case.expect or case.withheld):
            problem(table, "rejected", "excludes expect and withheld; remove one")
        if case.body is not None and case.file is not None:
            problem(table, "file", "excludes body; remove one of the two")
        if case.consented and not remembers:
            problem(table, "consented", "needs retention in [consent]; set it")
        for name in case.withheld:
            self._check_name(name, table, "withheld")
            if name in (case.expect or {}):
                problem(table, "withheld", f"names {name}, and so does expect; remove one")

    def _check_name(self, name: object, table: str, key: str) -> None:
        if name not in self._known["to"]:
            what = f"there is no destination {name!r}; {did_you_mean(str(name), self._known['to'])}"
            self._report.problem(table, key, what)

    def _expect(self, raw: Any, table: str) -> Any:
        """Return the destinations with their expected requests; none means any request."""
        if isinstance(raw, list):
            raw = {name if isinstance(name, str) else repr(name): () for name in raw}
        if not isinstance(raw, dict):
            what = 'must be a list of destinations, or a table of them; write expect = ["crm"]'
            self._report.problem(table, "expect", what, only=True)
            return None
        found: dict[str, Any] = {}
        for name, written in raw.items():
            self._check_name(name, table, "expect")
            wanted = written if isinstance(written, list | tuple) else [written]
            found[name] = tuple(self._expected(one, name, table) for one in wanted)
        return found

    def _expected(self, raw: Any, name: str, table: str) -> ExpectedRequestConfig:
        try:
            return ExpectedRequestConfig.model_validate(raw)
        except ValidationError as error:
            for sentence in self._report.sentences(documented_keys(ExpectedRequestConfig), error):
                self._report.problem(table, "expect", f"{name}: {sentence}")
            return ExpectedRequestConfig()
