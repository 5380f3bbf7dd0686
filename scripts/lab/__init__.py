"""Private and public networks in namespaces, with a NAT device between them. See README.md."""

from .topology import Host, Lab  # noqa: F401
from .devices import KernelNat, Spillway  # noqa: F401
