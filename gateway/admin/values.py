"""What the parameters of the admin API may be."""

from typing import Annotated

from msgspec import Meta

Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]*$", description="A name in the file.")]
Number = Annotated[int, Meta(ge=1, le=2**53)]
"""An id that the gateway counted."""
Offset = Annotated[int, Meta(ge=0, le=2**53)]
Limit = Annotated[int, Meta(ge=1, le=500, description="How many, at most.")]
Seconds = Annotated[float, Meta(ge=0, le=1e11, description="Unix seconds.")]
Text = Annotated[str, Meta(min_length=1, max_length=500)]
