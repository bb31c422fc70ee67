"""Routes, steps and included files in the configuration, and their mistakes."""

from pathlib import Path

import pytest

from gateway.config.loader.load import load_spool
from gateway.config.steps import Consent, Drop, Hash, Map, SampleStep
from tests.gateway.config_loading import FINE, problems, read

HEAD = FINE.partition("[[routes]]")[0]


def routed(*routes: str) -> str:
    """Return a configuration with these routes."""
    return HEAD + "".join(f"[[routes]]\n{text}\n" for text in routes)


def problem(folder: Path, text: str) -> str:
    """Return the only problem in a configuration."""
    (found,) = problems(folder, text)
    return found


def warnings(folder: Path, text: str) -> list[str]:
    """Return the warnings about a configuration, each without the folder."""
    return [w.removeprefix(f"{folder}/") for w in read(folder, text).warnings]


def test_every_key_of_a_route_is_read(tmp_path: Path) -> None:
    """Every key of a route and every step is read."""
    text = routed(
        """
name = "ads"
from = ["shop"]
when = '''
  event.type == "track" &&
  event.properties.total > 100
'''
on_error = "send"
steps = ["private", { sample = "10%" }, { consent = "ads" }]
to = ["crm"]
additional = true
""",
        'to = ["crm"]\nstop = true',
        'to = ["crm"]\nfallback = true\nwhen = "event.user_id != \'\'"',
    )
    text += """[steps]
private = [{ hash = ["traits.email"], key = "${HASH_KEY}" }, { drop = ["context.ip"] }]
[consent]
retention = "30d"
"""
    config = read(tmp_path, text, {"HASH_KEY": "hash-key"})
    ads, _, rest = config.routes
    assert [type(step) for step in ads.steps] == [Hash, Drop, SampleStep, Consent]
    assert isinstance(ads.steps[0], Hash)
    assert ads.steps[0].key is not None
    assert ads.steps[0].key.get_secret_value() == "hash-key"
    assert "hash-key" not in repr(ads)
    assert ads.additional
    assert ads.on_error == "send"
    assert rest.fallback
    assert config.consent.retention == 30 * 86400


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (
            "when = 'event.nme == \"x\"'",
            "when: column 7: there is no field event.nme; did you mean event.name?",
        ),
        ("when = 1", "when: must be text; put it in quotes"),
        ("whne = ''", "whne: unknown key; did you mean when?"),
        ("on_error = 'retry'\nwhen = 'event.consent.a'", "on_error: must be 'skip' or 'send'"),
        ("steps = 'x'", "steps: must be a list; write [{ drop = [...] }]"),
        ("steps = ['x']", "steps: item 1: there is no step list 'x'; none is defined"),
        ("steps = [1]", "steps: item 1, must be a table"),
        ("steps = [{ drp = ['context.ip'] }]", "item 1, 'drp' is not a step; did you mean drop?"),
        (
            "steps = [{ drop = ['context.ip'], mask = ['user_id'] }]",
            "has several steps: drop, mask; write one table for each",
        ),
        (
            "steps = [{ drop = ['context.ipp'] }]",
            "item 1, drop: there is no field context.ipp; did you mean context.ip?",
        ),
        ("steps = [{ drop = [] }]", "item 1, drop: must be a list of fields"),
        (
            "steps = [{ drop = ['event.user_id'] }]",
            "event.user_id must not begin with event; write user_id",
        ),
        ("steps = [{ drop = ['type'] }]", "type cannot be changed by a step"),
        ("steps = [{ drop = ['a..b'] }]", "has an empty part"),
        (
            "steps = [{ set = { 'properties.total' = 'x' } }]",
            "properties.total must be a number, not 'x'",
        ),
        (
            "steps = [{ set = { 'timestamp' = 'x' } }]",
            "timestamp is a time; use the step timestamp to change it",
        ),
        ("steps = [{ set = { 'traits' = 'x' } }]", "traits is a part of the event, not a field"),
        ("steps = [{ set = {} }]", "set: must be a table of fields"),
        (
            "steps = [{ copy = { 'consent.a' = 'properties.total' } }]",
            "consent.a cannot be copied to properties.total: their types differ",
        ),
        (
            "steps = [{ copy = { 'properties.products.*.price' = 'properties.total' } }]",
            "matches several fields; name one",
        ),
        ("steps = [{ hash = ['properties.total'] }]", "hash: properties.total never holds text"),
        ("steps = [{ hash = ['user_id'], key = '' }]", "the credential is empty"),
        (
            "steps = [{ hash = ['user_id'], key = '${UNSET}' }]",
            "the environment variable UNSET is not set",
        ),
        ("steps = [{ hash = ['user_id'], salt = 'x' }]", "item 1, salt: unknown key"),
        ("steps = [{ rename = { 'A*' = '**' } }]", "has more * than 'A*'"),
        ("steps = [{ rename = { 'A' = '' } }]", "'A' must have a new name, in quotes"),
        (
            "steps = [{ map = 'properties.category' }]",
            "needs either table or file; write one of them",
        ),
        ("steps = [{ map = 'user_id', table = { a = 1 } }]", "user_id must be text, not 1"),
        (
            "steps = [{ map = 'user_id', file = 'none.csv' }]",
            "none.csv is invalid: No such file",
        ),
        ("steps = [{ sample = 0 }]", 'is not a share above 0 and at most 1; write 0.1 or "10%"'),
        ("steps = [{ sample = 'x%' }]", 'is not a share above 0 and at most 1; write 0.1 or "10%"'),
        ("steps = [{ consent = [] }]", "must be a category of consent"),
        ("steps = [{ timestamp = 'now' }]", "item 1, timestamp: must be 'clamp'"),
        ("steps = [{ truncate_ip = ['properties.total'] }]", "properties.total never holds text"),
    ],
)
def test_mistakes_in_routes_say_where_and_what_to_do(
    tmp_path: Path, route: str, expected: str
) -> None:
    """A mistake in a route names file, line, table, key, step, and column of a condition."""
    found = problem(tmp_path, routed(f'name = "r"\nto = ["crm"]\n{route}'))
    assert found.startswith("gateway.toml:")
    assert "[[routes]] #1" in found
    assert expected in found


def test_a_route_with_steps_needs_a_name_of_its_own(tmp_path: Path) -> None:
    """A route with steps needs a unique name, since the spool stores it with deliveries."""
    steps = 'to = ["crm"]\nsteps = [{ drop = ["user_id"] }]'
    assert "a route with steps needs a name" in problem(tmp_path, routed(steps))
    twice = routed(f'name = "a"\n{steps}', f'name = "a"\n{steps}\nadditional = true')
    assert "[[routes]] #2 name: 'a' is the name, or the default name, of another" in problem(
        tmp_path, twice
    )
    assert "is empty" in problem(tmp_path, routed('name = ""\nto = ["crm"]'))


def test_a_default_route_name_is_unique(tmp_path: Path) -> None:
    """No route may have the default name of an unnamed route, such as "route 2"."""
    named, nameless = 'name = "route {}"\nto = ["crm"]', 'to = ["crm"]\nadditional = true'
    for routes in ((named.format(2), nameless), (nameless, named.format(1))):
        assert "is the name, or the default name, of another route" in problem(
            tmp_path, routed(*routes)
        )


def test_a_mistake_in_a_step_list_is_reported_once(tmp_path: Path) -> None:
    """A mistake in a named step list is one problem; an unused list draws a warning."""
    text = routed(
        'name = "a"\nto = ["crm"]\nsteps = ["p"]',
        'name = "b"\nadditional = true\nto = ["crm"]\nsteps = ["p"]',
    )
    assert problem(tmp_path, text + '[steps]\np = [{ drop = ["nothing"] }]').startswith(
        "gateway.toml:18: [steps] p: item 1, drop: there is no field nothing"
    )
    assert "must be a list of steps" in problem(tmp_path, f"{text}[steps]\np = 1")
    assert (
        "[steps] q: no route uses this list of steps"
        in warnings(tmp_path, FINE + "[steps]\nq = []")[0]
    )


def test_lookup_tables_are_read_from_files(tmp_path: Path) -> None:
    """A map table is read from JSON or CSV beside the file that names it, and is watched."""
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/a.csv").write_text('DE,Germany\n\n"A,T",Austria\n')
    (tmp_path / "b.json").write_text('{"1": 2.5}')
    config = read(tmp_path, routed(
        'name = "r"\nto = ["crm"]\nsteps = [{ map = "traits.country", file = "tables/a.csv" },'
        '{ map = "properties.n", to = "properties.total", file = "b.json" }]'
    ))  # fmt: skip
    first, second = config.routes[0].steps
    assert isinstance(first, Map)
    assert isinstance(second, Map)
    assert first.table == {"DE": "Germany", "A,T": "Austria"}
    assert second.table == {"1": 2.5}
    assert [file.name for file in config.files.read] == ["gateway.toml", "a.csv", "b.json"]
    (tmp_path / "tables/a.csv").write_bytes(b'\xef\xbb\xbfDE,"Ger\nmany"\r\nA\x0bT,\xc3\x96\r\n')
    first = read(tmp_path, routed(
        'name = "r"\nto = ["crm"]\nsteps = [{ map = "traits.country", file = "tables/a.csv" }]'
    )).routes[0].steps[0]  # fmt: skip
    assert isinstance(first, Map)
    assert first.table == {"DE": "Ger\nmany", "A\x0bT": "\xd6"}
    for data, expected in (
        (b"a,b,c\n", "line 1 has 3 columns"),
        (b"x,y\n\na\n", "line 3 has 1 columns, not 2; write VALUE,RESULT"),
        (b"a,b\na,c\n", "line 2 has another result for 'a' than an earlier line; keep one"),
        (b"a,\xff\n", "it is not UTF-8 text; save it as UTF-8"),
        (b'a,"' + b"x" * 200_000 + b'"', "field larger than field limit"),
    ):
        (tmp_path / "tables/a.csv").write_bytes(data)
        found = problem(tmp_path, routed(
            'name = "r"\nto = ["crm"]\nsteps = [{ map = "traits.country", file = "tables/a.csv" }]'
        ))  # fmt: skip
        assert expected in found
    for text, expected in (
        ("[1]", "it is not an object"),
        ("[" * 100_000, "is invalid: maximum recursion depth"),
        ("{", "b.json is invalid"),
        ('{"a": "x"}', "must be a number"),
    ):
        (tmp_path / "b.json").write_text(text)
        assert expected in problem(tmp_path, routed(
            'name = "r"\nto = ["crm"]\nsteps = [{ map = "properties.total", file = "b.json" }]'
        ))  # fmt: skip


# Routes that never match


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        (('to = ["crm"]\nstop = true', 'to = ["crm"]'), "#1 takes all of its events, and has stop"),
        (
            ('to = ["crm"]', 'to = ["crm"]\ntypes = ["page"]'),
            "#1 already sends all of its events to the same",
        ),
        (('to = ["crm"]', 'to = ["crm"]\nfallback = true'), "#1 already takes all of its events"),
        (
            ('to = ["crm"]\nnames = ["A", "B"]', 'to = ["crm"]\nnames = ["B"]'),
            "#1 already sends all",
        ),
        (
            ('to = ["crm"]\nfallback = true\nstop = true', 'to = ["crm"]\nfallback = true'),
            "#1 takes all",
        ),
    ],
)
def test_a_route_that_is_never_taken_is_a_warning(
    tmp_path: Path, routes: tuple[str, ...], expected: str
) -> None:
    """A route that earlier routes leave no event for draws a warning that names them."""
    found = [w for w in warnings(tmp_path, routed(*routes)) if "never matches" in w]
    (line,) = found
    assert "[[routes]] #2: never matches" in line
    assert expected in line


@pytest.mark.parametrize(
    "routes",
    [
        ('to = ["crm"]\nwhen = "event.consent.a"', 'to = ["crm"]'),
        ('to = ["crm"]', 'to = ["crm"]\nadditional = true'),
        ('to = ["crm"]\ntypes = ["page"]\nstop = true', 'to = ["crm"]'),
        ('to = ["crm"]\ntypes = ["page"]', 'to = ["crm"]\nfallback = true'),
        ('to = ["crm"]\nfrom = ["shop"]', 'to = ["crm"]'),
    ],
)
def test_a_reachable_route_is_no_warning(tmp_path: Path, routes: tuple[str, ...]) -> None:
    """A route that some event can reach draws no warning."""
    assert warnings(tmp_path, routed(*routes)) == []


def test_a_route_that_never_matches_uses_nothing(tmp_path: Path) -> None:
    """A route that never matches does not count as a use of its source and destinations."""
    text = routed('to = ["crm"]\nstop = true', 'to = ["crm", "other"]\nfrom = ["shop"]')
    text += '[destinations.other]\nvendor = "acme"\ntoken = "t-token"\n'
    found = warnings(tmp_path, text)
    assert any("[[routes]] #2: never matches" in w for w in found)
    assert any("[destinations.other]: no route leads to it" in w for w in found)


def test_doubts_about_conditions_and_fields_are_warnings(tmp_path: Path) -> None:
    """Near misses of field names and useless keys draw a warning, and are accepted."""
    found = warnings(tmp_path, routed(
        'name = "r"\nto = ["crm"]\nwhen = "event.properties.totl > 1"\n'
        'steps = [{ drop = ["traits.emial"] }]',
        'to = ["crm"]\non_error = "send"',
    ) + '[consent]\nretention = "1d"\n')  # fmt: skip
    said = "\n".join(found)
    assert "when: column 1: did you mean event.properties.total?" in said
    assert "item 1, drop: traits.emial is not a neutral field; did you mean traits.email?" in said
    assert "on_error: has no effect without a condition" in said
    assert "[consent] retention: has no effect: no route has a consent step" in said


# Several files


def test_included_files_join_the_configuration(tmp_path: Path) -> None:
    """Included tables join the configuration; routes follow in the order of the files."""
    (tmp_path / "env").mkdir()
    (tmp_path / "routes").mkdir()
    (tmp_path / "env/prod.toml").write_text('[server]\nmax_body = "2MiB"\n[spool]\npath = "p"\n')
    (tmp_path / "routes/2.toml").write_text(
        '[[routes]]\nname = "two"\nto = ["crm"]\nadditional = true\n'
    )
    (tmp_path / "routes/1.toml").write_text(
        'include = ["../more.toml"]\n[[routes]]\nname = "one"\nto = ["crm"]\nadditional = true\n'
    )
    (tmp_path / "more.toml").write_text(
        '[[routes]]\nname = "more"\nto = ["crm"]\nadditional = true\n'
    )
    text = 'include = ["env/${ENVIRONMENT}.toml", "routes/*.toml", "none/*.toml"]\n' + FINE
    text += '[server]\nlisten = "127.0.0.1:1"\n'
    config = read(tmp_path, text, {"ENVIRONMENT": "prod"})
    assert [route.name for route in config.routes] == ["route 1", "one", "more", "two"]
    assert (config.server.listen, config.server.max_body) == ("127.0.0.1:1", 2 * 1024**2)
    assert [file.name for file in config.files.read] == [
        "gateway.toml", "prod.toml", "1.toml", "more.toml", "2.toml",
    ]  # fmt: skip
    spool = load_spool(tmp_path / "gateway.toml", {"ENVIRONMENT": "prod"})
    assert spool.path == Path("p")


def test_problems_name_the_included_file(tmp_path: Path) -> None:
    """Each problem names its own file and line, and numbers routes within that file."""
    (tmp_path / "a.toml").write_text('\n[[routes]]\nto = ["crn"]\nadditional = true\n')
    (tmp_path / "b.toml").write_text("[destinations.crm]\nvendor = 'acme'\n[server]\nlisten = 1\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/c.toml").write_text('[server]\nmax_body = "x"\n')
    text = 'include = ["a.toml", "b.toml", "sub/c.toml", "no.toml", "a.toml"]\n'
    found = problems(tmp_path, text + FINE + "[server]\nlisten = 2\n")
    said = "\n".join(found)
    assert "a.toml:3: [[routes]] #1 to: there is no destination 'crn'" in said
    assert "sub/c.toml:2: [server] max_body: is not a size" in said
    assert "gateway.toml:1: include: there is no file" in said
    assert "include: " in said
    assert "is included twice; include each file once" in said
    assert "[destinations.crm]: is defined in" in said
    assert "[server] listen: is defined in" in said
    assert "include: must be a list" in "\n".join(problems(tmp_path, "include = 1\n" + FINE))


def test_brackets_in_the_folder_are_no_pattern(tmp_path: Path) -> None:
    """Brackets in the folder's name are no pattern; a pattern without matches draws a warning."""
    folder = tmp_path / "shop [eu]"
    folder.mkdir()
    (folder / "more.toml").write_text('[[routes]]\nname = "one"\nto = ["crm"]\nadditional = true\n')
    for included in ("more.toml", "mor*.toml"):
        config = read(folder, f'include = ["{included}"]\n' + FINE)
        assert [file.name for file in config.files.read] == ["gateway.toml", "more.toml"]
        assert not config.warnings
    (warning,) = warnings(folder, 'include = ["route/*.toml"]\n' + FINE)
    assert warning == (
        "gateway.toml:1: include: no file matches 'route/*.toml', relative to "
        "gateway.toml; nothing is read"
    )


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    """A byte order mark at the start of a file is ignored, in secret files too."""
    (tmp_path / "hash-key").write_text("\ufeffhash-key\n")
    text = routed(
        f'name = "r"\nto = ["crm"]\n'
        f'steps = [{{ hash = ["user_id"], key = "file:{tmp_path}/hash-key" }}]'
    )
    step = read(tmp_path, "\ufeff" + text).routes[0].steps[0]
    assert isinstance(step, Hash)
    assert step.key is not None
    assert step.key.get_secret_value() == "hash-key"


def test_a_broken_included_file_is_named(tmp_path: Path) -> None:
    """Invalid TOML in an included file is reported with that file's name and line."""
    (tmp_path / "a.toml").write_text("\nx = = 1\n")
    (found,) = problems(tmp_path, 'include = ["a.toml"]\n' + FINE)
    assert found.startswith("a.toml:2: is not TOML")
