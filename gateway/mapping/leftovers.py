"""What of a payload no row mapped, put back where it was."""

from typing import Any


def restore(payload: dict[str, Any], extra: Any) -> dict[str, Any]:
    """Put leftovers back where they were; what the payload says itself stays.

    Lists are merged member by member: a request that is written carries one event.
    """
    for key, value in extra.items():
        mine = payload.get(key)
        if mine is None:
            payload[key] = value
        elif type(mine) is dict and type(value) is dict:
            restore(mine, value)
        elif type(mine) is list and type(value) is list:
            for index, member in enumerate(value[: len(mine)]):
                if type(mine[index]) is dict and type(member) is dict:
                    restore(mine[index], member)
    return payload
