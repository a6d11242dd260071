"""The pages about metrics, made from the code's table of them."""

from __future__ import annotations

import tables
from render import Block, Code, Section, Table, Text, man, markdown

from rota import __version__, exporter, metrics
from rota.lifetime import HISTOGRAMS
from rota.listen import EXAMPLE

_MADE = "<!-- Made by docs/generate.py from the code; do not edit. -->\n\n"
_ROTA_TOML = f"""
# /etc/rota/rota.toml
[metrics]
listen = ["{EXAMPLE}"]
"""
_PROMETHEUS = f"""
# prometheus.yml
scrape_configs:
  - job_name: rota
    static_configs:
      - targets: ["{EXAMPLE}"]
rule_files: [/usr/share/doc/rota/prometheus/rota-alerts.yml]
"""
_CURL = f"curl http://{EXAMPLE}/metrics\ncurl --unix-socket /run/rota/metrics.sock http://localhost/metrics"


def families() -> Table:
    """Return every metric there is."""
    rows = [
        (f"`{one.name}`", one.about, one.kind, ", ".join(f"`{label}`" for label in one.labels))
        for one in metrics.FAMILIES
    ]
    return Table(("Metric", "What it says", "type", "labels"), rows)


def _use() -> list[Block]:
    return [
        Text("Off by default. Name where to listen, on this machine only, and apply:"),
        Code(_ROTA_TOML, "toml"),
        Text("Prometheus asks there:"),
        Code(_PROMETHEUS, "yaml"),
        Text("Prometheus itself takes no UNIX sockets; other collectors and curl do:"),
        Code(_CURL, "sh"),
        Text(
            "Everybody on the machine may ask, as everybody may ask rotad on D-Bus. For others let a proxy"
            " that asks who comes stand in front of it. `share/prometheus` has alerts, `share/grafana` a"
            " dashboard."
        ),
    ]


def _metrics() -> list[Block]:
    durations, lateness = (
        ", ".join(f"{bound / 1e6:g}" for bound in HISTOGRAMS[name].bounds)
        for name in ("durations", "lateness")
    )
    return [
        families(),
        Text(f"`result` is one of {', '.join(f'`{result}`' for result in metrics.RESULTS)}."),
        Text(f"Bounds of the histograms, in seconds: of durations {durations}; of lateness {lateness}."),
        Text(
            "Counters count since rotad's store began, whatever was forgotten of it since. Each run counts"
            " once, as it was filed first; a result that the journal corrects later is corrected in `rota"
            " runs` and `rota stats` only, because a counter must not fall. If the store was lost, they"
            " count what the journal still holds."
        ),
        Text(
            "An agent has its series as long as it is declared. In OpenMetrics the bucket of the run filed"
            " last has its id as exemplar, `run`, to be looked up with `rota show`."
        ),
        Text(
            "If rotad does not answer within four seconds, `rota_up` is 0 and the others are absent. A"
            " scrape does not start rotad."
        ),
    ]


def page() -> str:
    """Return docs/metrics.md."""
    blocks = [
        Section(
            "Metrics",
            [
                Text(f"Of rota {__version__}, for Prometheus and whoever reads its formats."),
                Section("How to have them", _use()),
                Section("What there is", _metrics()),
            ],
        )
    ]
    return _MADE + markdown(blocks)


def rotad_metrics_8() -> str:
    """Return the man page rotad-metrics(8)."""
    parser = exporter.parser()
    dests = [
        item.option_strings[0] for item in tables.options(parser) if item.dest not in ("help", "version")
    ]
    sections = [
        Section("Name", [Text("rotad-metrics - serves metrics of rota's agents")]),
        Section(
            "Synopsis",
            [
                Text(" ".join(("`rotad-metrics`", *(f"[{name}]" for name in dests)))),
                Text("`rotad-metrics.socket`, `rotad-metrics.service`"),
            ],
        ),
        Section(
            "Description",
            [
                Text(
                    "rotad-metrics answers `GET /metrics` with what `rotad(8)` says at that moment. systemd"
                    " listens for it (`rotad-metrics.socket`, made by `rota apply`) and starts it at the"
                    " first question; it ends after five minutes without one."
                ),
                *_use(),
            ],
        ),
        Section("Options", [Table(("Option", "Meaning"), list(tables.option_rows(parser)))]),
        Section("Metrics", _metrics()),
        Section(
            "Exit status",
            [
                Table(
                    ("Code", "Meaning"),
                    (("`0`", "Nobody asked any more."), ("`2`", "systemd handed over no socket.")),
                )
            ],
        ),
        Section("See also", [Text("`rota(1)`, `rotad(8)`, `systemd.socket(5)`")]),
    ]
    return man("rotad-metrics", 8, f"rota {__version__}", sections)
