"""Has what schemathesis makes up lead to what is there: of ids that it chose, every other one becomes one of the fleet's,
so that requests get past "not found". Which, follows from the number alone: the same seed makes the same requests."""

import json
import os

import schemathesis

# Ids that exist, by the names that paths and bodies have for them.
KNOWN = json.loads(os.environ["OBFLEET_KNOWN_IDS"])


def known(name, value):
    """What to send in the place of this."""
    if name == "innerIpAddress" and isinstance(value, str) and value:
        # Hosts that are made up would be looked for.
        return "127.0.0.1"
    ids = KNOWN.get(name)
    if not ids or isinstance(value, bool):
        return value
    if isinstance(value, int) and value > 0 and value % 2:
        return ids[value // 2 % len(ids)]
    if isinstance(value, str) and value and all(part.strip().isdigit() for part in value.split(",")):
        return ",".join(str(known(name, int(part))) for part in value.split(","))
    if isinstance(value, list):
        return [known(name, one) for one in value]
    return value


def within(value):
    if isinstance(value, dict):
        return {name: known(name, within(member)) for name, member in value.items()}
    if isinstance(value, list):
        return [within(one) for one in value]
    return value


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if not path_parameters:
        return path_parameters
    # One name, several things: `id` is told apart by what stands before it.
    before = context.operation.path.split("/{id}")[0]
    return {
        name: known(before if name == "id" else name, value) for name, value in path_parameters.items()
    }


@schemathesis.hook
def filter_query(context, query):
    # Neither is wrong once it is sent: of a list the first entry counts, and no members at all are an empty value, which
    # counts as absent.
    return not any(value == "" or isinstance(value, (dict, list)) for value in (query or {}).values())


@schemathesis.hook
def map_body(context, body):
    return within(body)
