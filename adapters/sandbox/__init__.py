"""Magalu Cloud on this machine."""

from adapters.sandbox.api import Exchange
from adapters.sandbox.faults import Faults
from adapters.sandbox.sandbox import Keys, Sandbox, sandbox

__all__ = ["Exchange", "Faults", "Keys", "Sandbox", "sandbox"]
