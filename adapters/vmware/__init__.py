"""VMware vSphere as a source: a vCenter or an ESXi, asked through its API (pyvmomi)."""

from adapters.vmware.source import Options, VmwareSource, vmware_source

__all__ = ["Options", "VmwareSource", "vmware_source"]
