"""Where the time of one request goes: what the critical path of a profile consists of, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sottovoce.bench.profiling.schema import Profile, StepKind
from sottovoce.bench.report import markdown, text

WORDS: Final[Mapping[StepKind, str]] = MappingProxyType(
    {
        "transfer": "messages on their way: network, TLS, waking up",
        "send": "sending: TLS, system calls",
        "recv": "receiving what has arrived",
        "kernel": "kernels",
        "python": "Python",
    }
)
MOST: Final = 8
"""Items of the path that are listed one by one."""


def profile_section(profile: Profile) -> str:
    """A heading, the path by kind, its largest items, and what tracing itself cost."""
    links = "TLS" if profile.encrypted else "plain TCP, INSECURE"
    title = f"{profile.model}, {profile.protocol}, {text.count(profile.batch, 'clip')} a request, {links}"
    kinds = dict.fromkeys(WORDS, 0.0)
    for step in profile.critical_path:
        kinds[step.kind] += step.ms
    total = sum(kinds.values()) or 1.0
    by_kind = [(WORDS[kind], text.ms(ms), f"{100 * ms / total:.0f} %") for kind, ms in kinds.items()]
    largest = sorted(profile.critical_path, key=lambda step: -step.ms)[:MOST]
    items = [
        (step.layer, step.operation, f"{step.kind} {step.name}".strip(), text.ms(step.ms), f"{100 * step.share:.0f} %")
        for step in largest
    ]
    parts = [
        f"### {markdown.plain(title)}",
        f"A request took {text.spread(profile.request_ms)} in the parties; these are means over "
        f"{text.count(profile.requests, 'request')} of {profile.requests_measured}, the middle half.",
        markdown.table(("the answer waited for", "time", "share"), by_kind),
        markdown.table(("layer", "operation", "item", "time", "share"), items, words=3),
    ]
    if profile.overhead is not None:
        ratio = profile.overhead.ratio
        parts.append(
            f"With tracing requests took {ratio.median:.3f} times as long as without (quartiles {ratio.lower:.3f} to "
            f"{ratio.upper:.3f})."
        )
    return "\n\n".join(parts)
