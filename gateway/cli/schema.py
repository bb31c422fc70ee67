"""``gateway schema``."""

import click
import orjson

from gateway import plugins
from gateway.config.editor import editor_schema


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of configuration files, for editors.

    It has the settings of every vendor that is installed. Write it beside your file, and name it in
    the file's first line, so that Even Better TOML and Taplo complete keys and explain them:

    \b
        gateway schema > gateway.schema.json
        #:schema ./gateway.schema.json
    """  # noqa: D301 - click takes the escape for "leave these lines as they are"
    schema = editor_schema(plugins.load())
    click.echo(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())
