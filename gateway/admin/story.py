"""The story of a request: what was received, the event it became, what each destination got."""

import msgspec

from gateway.admin.desk import Desk
from gateway.admin.endpoint import Endpoint, endpoint
from gateway.admin.problem import Problem
from gateway.admin.telling import Telling
from gateway.admin.told import Story
from gateway.admin.traced import traced
from gateway.admin.traces import OFF, Asked, check_traced
from gateway.trace.untraced import nothing


class Stories(msgspec.Struct, frozen=True):
    """Requests, the newest first."""

    stories: list[Story]


@endpoint("GET", "/story", refuses=OFF | {404: "Nothing is kept under this id."})
async def tell_story(desk: Desk, query: Asked) -> Stories:
    """Show what became of a request or an event, its fields linked from end to end."""
    check_traced(desk)
    found = await traced(desk, query.id)
    if not found:
        raise Problem(404, nothing(query.id))
    return Stories([await Telling(desk, trace, query.id).story() for trace in found])


ENDPOINTS: tuple[Endpoint, ...] = (tell_story,)
