"""VMs in an Azure subscription: listed, described, frozen as snapshots, and read as page blobs while access to them is granted.

What is refused, and with which code: refusals.py. Which rights are needed: role.json.
"""

from adapters.azure.place import Place, place
from adapters.azure.source import AzureSource, azure_source
from adapters.azure.transport import Pace

__all__ = ["AzureSource", "Pace", "Place", "azure_source", "place"]
