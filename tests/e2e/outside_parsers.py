"""Reads what `show` printed with parsers that others made for routers; runs in the Python that scripts/setup made for them.

Standard input is a JSON object of texts by command. Standard output is one of what each parser read: the rows of
ntc-templates by command, and what genie made of it, or why it is not there.
"""

import importlib
import json
import os
import sys
from unittest.mock import Mock


def ntc(texts):
    """Rows by command."""
    from ntc_templates.parse import parse_output
    rows = {}
    for command, text in texts.items():
        try:
            rows[command] = parse_output(platform="cisco_ios", command=command.removesuffix(" verbose"), data=text)
        except Exception as e:  # the parser's word on our text
            rows[command] = f"{type(e).__name__}: {e}"
    return rows


#: The module and class of genie for each command.
GENIE = {
    "show ip nat translations": ("show_ip", "ShowIpNatTranslations"),
    "show ip nat translations verbose": ("show_ip", "ShowIpNatTranslations"),
    "show ip nat statistics": ("show_ip", "ShowIpNatStatistics"),
    "show ip access-lists": ("show_acl", "ShowIpAccessLists"),
    "show route-map": ("show_route_map", "ShowRouteMapAll"),
}


def genie(texts):
    """What it reads by command; a sentence where it is not installed."""
    sys.path.append(os.path.join(sys.prefix, "genie"))
    try:
        modules = {name: importlib.import_module(f"genie.libs.parser.iosxe.{name}") for name, _ in GENIE.values()}
    except ImportError as e:
        return f"(genie is not installed: {e})"
    read = {}
    for command in texts.keys() & GENIE.keys():
        module, name = GENIE[command]
        try:
            read[command] = getattr(modules[module], name)(device=Mock()).parse(output=texts[command])
        except Exception as e:  # as above
            read[command] = f"{type(e).__name__}: {e}"
    return read


def main():
    texts = json.load(sys.stdin)
    templates = {c: t for c, t in texts.items() if c not in ("show ip nat statistics", "show ip nat translations verbose")}
    json.dump({"ntc": ntc(templates), "genie": genie(texts)}, sys.stdout, default=str)


if __name__ == "__main__":
    main()
