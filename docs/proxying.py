"""The page about rota-docker-proxy, made from the table of what it lets through."""

from __future__ import annotations

import re

import tables
from render import Section, Table, Text, man
from rota_agents.home_keeper import proxy, proxy_rules

from rota import __version__

_WHAT = {
    "ping": "whether the engine is there, and its version",
    "version": "its version",
    "info": "its version and how many containers there are",
    "events": "what happens to containers, as it does; no commands that are run in them",
    "list": "containers: names, states, labels that the keeper reads",
    "inspect": "a container's state, health checks and restart policy; no environment, arguments, mounts",
    "act": "only containers that the policy lets the keeper act on",
}


def _path(route: proxy_rules.Route) -> str:
    return re.sub(r"\(\?P<id>.*?\{0,254\}\)", "ID", route.path.pattern)


def _table() -> Table:
    rows = [
        (
            f"`{' '.join(route.methods)} {_path(route)}`",
            _WHAT[route.kind],
            ", ".join(f"`{key}`" for key in _keys(route)),
        )
        for route in proxy_rules.TABLE
    ]
    return Table(("Request", "What for", "query"), rows)


def _keys(route: proxy_rules.Route) -> list[str]:
    return [*route.query, *(["filters"] if route.filters else [])]


def rota_docker_proxy_8() -> str:
    """Return the man page rota-docker-proxy(8)."""
    parser = proxy.parser()
    sections = [
        Section("Name", [Text("rota-docker-proxy - between Home Keeper and Docker")]),
        Section(
            "Synopsis",
            [
                Text("`rota-docker-proxy` [--config]"),
                Text("`rota-docker-proxy.socket`, `rota-docker-proxy.service`"),
            ],
        ),
        Section(
            "Description",
            [
                Text(
                    "Whoever may write to Docker's socket may do anything to the machine. So Home Keeper is"
                    " given `/run/rota-keeper/docker.sock` instead, where systemd starts this program at the"
                    " first connection. It lets through what is in the table below and answers anything else"
                    " with status 403 and why. There is no exec, attach, create, build, logs or archive, and"
                    " nothing is removed: cleaning, which is root's, asks the engine itself."
                ),
                Text(
                    "A connection carries one request, without a body; its path must be written plainly. What"
                    " goes to the engine is written anew. Of answers, what the keeper does not read is left"
                    " out."
                ),
                Text(
                    "Which containers may be started and restarted follows from the keeper's policy: those"
                    " whose mode is act or ask, and with the label `rota.keeper=restart` those that it does"
                    " not name. It comes as the credential `proxy`; without it, none may be."
                ),
            ],
        ),
        Section("What is let through", [_table()]),
        Section("Options", [Table(("Option", "Meaning"), list(tables.option_rows(parser)))]),
        Section(
            "Exit status",
            [
                Table(
                    ("Code", "Meaning"),
                    (
                        ("`0`", "Nobody asked any more."),
                        ("`2`", "systemd handed over no socket, or what it goes by cannot be read."),
                    ),
                )
            ],
        ),
        Section("See also", [Text("`rota(1)`, `rotad(8)`, `systemd.socket(5)`, `docker(1)`")]),
    ]
    return man("rota-docker-proxy", 8, f"rota {__version__}", sections)
