"""VMs in files: VMDK, VHD, VHDX, raw and qcow2 disks, OVA, and OVF folders. A file is only read; see refusals.py for what is refused."""

from adapters.files.source import FileSource

__all__ = ["FileSource"]
