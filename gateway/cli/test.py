"""``gateway test``: run the tests in a configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import orjson

from gateway.cli.options import config_option, json_option
from gateway.cli.output import RedactingConsole, console
from gateway.cli.text import print_explanation, say, shown
from gateway.config.loader.load import load
from gateway.event_diff import MISSING, Difference
from gateway.explain import Explainer
from gateway.explain.assertions import Mismatch, RouteTestResult, run_route_test
from gateway.json_text import dumps
from gateway.plugin.registry import load_plugins
from gateway.spool.dead_letters import Hide
from gateway.suggestions import check_name

NO_TESTS = """{path} has no tests; add one, such as

    [[tests]]
    name = "orders reach the CRM"
    body = {{ ... }}            # a request in the format of the source's vendor
    expect = ["crm"]"""


@click.command("test")
@config_option
@click.option(
    "--name",
    "only",
    metavar="TEXT",
    default="",
    help="Run only tests with this text in their name, in any case.",
)
@click.option("--explain", is_flag=True, help="Explain the request of each failed test.")
@json_option("the results")
def test(path: Path, *, only: str, explain: bool, as_json: bool) -> None:
    """Run the tests in a configuration, without sending anything.

    A test is a [[tests]] table in the file or in one that it includes. Exits with 1 if a test
    fails. Environment variables and secret files that do not exist here are replaced by
    placeholders.
    """
    registry = load_plugins()
    config = load(path, registry, stand_ins=True)
    chosen = [case for case in config.tests if only.lower() in case.config.name.lower()]
    if not chosen:
        if only and config.tests:
            check_name("test", only, [case.config.name for case in config.tests])
        raise click.ClickException(NO_TESTS.format(path=path))
    explainer = Explainer(config, registry)
    out = console(hide=explainer.redactor.text)
    names = list(config.destinations)
    results = []
    for case in chosen:
        result = run_route_test(case, explainer, names)
        results.append(result)
        if not as_json:
            _report(result, out, explain=explain)
    failed = sum(not result.passed for result in results)
    if as_json:
        click.echo(_json(results, out.hide))
    else:
        count = "1 test" if len(chosen) == 1 else f"{len(chosen)} tests"
        summary = f"{failed} of {count} failed" if failed else f"{count} passed"
        say(out, 0, f"\n{summary}", style="bold red" if failed else "bold green")
    raise click.exceptions.Exit(1 if failed else 0)


def _json(results: Sequence[RouteTestResult], hide: Hide) -> str:
    found = [
        {
            "name": result.case.config.name,
            "place": result.case.place,
            "passed": result.passed,
            "findings": [
                {
                    "destination": finding.about,
                    "what": finding.what,
                    "changes": [_side_by_side(change) for change in finding.changes],
                }
                for finding in result.findings
            ],
        }
        for result in results
    ]
    return hide(dumps(found, default=str, option=orjson.OPT_INDENT_2).decode())


def _side_by_side(change: Difference) -> dict[str, Any]:
    sides = {"expected": change.before, "actual": change.after}
    return {"path": change.path, **{k: v for k, v in sides.items() if v is not MISSING}}


def _report(result: RouteTestResult, out: RedactingConsole, *, explain: bool) -> None:
    name = result.case.config.name
    if result.passed:
        say(out, 0, name, label="✓", width=2, label_style="green")
        return
    say(out, 0, name, label="✗", width=2, label_style="red", style="bold")
    say(out, 2, result.case.place, style="dim")
    for finding in result.findings:
        _finding(finding, out)
    if explain and result.explanation is not None:
        out.print()
        print_explanation(result.explanation, out)
        out.print()


def _finding(finding: Mismatch, out: RedactingConsole) -> None:
    about = f"{finding.about}: " if finding.about else ""
    say(out, 4, f"{about}{finding.what}")
    if not finding.changes:
        return
    width = min(max(len(change.path) for change in finding.changes) + 4, 40)
    for change in finding.changes:
        _change(change, width, out)


def _change(change: Difference, width: int, out: RedactingConsole) -> None:
    if change.before is not MISSING:
        text = shown(change.before)
        say(out, 6, text, label=f"- {change.path}", width=width, style="red", label_style="red")
    if change.after is not MISSING:
        text = shown(change.after)
        say(out, 6, text, label=f"+ {change.path}", width=width, style="green", label_style="green")
