"""Which privileges the login has, asked before anything is made.

Source: vSphere Web Services API reference, "Required Privileges" of each method; AuthorizationManager.HasPrivilegeOnEntities.
"""

from pyVmomi import vim

from adapters.vmware.machine import Machine
from adapters.vmware.session import Session
from migrate.errors import SourceBusy, SourceError

SNAPSHOT = ("VirtualMachine.State.CreateSnapshot", "VirtualMachine.State.RemoveSnapshot")
DATASTORE = ("Datastore.Browse", "Datastore.FileManagement")
EXPORT = ("VApp.Export",)
DIRECT = ("VirtualMachine.Provisioning.DiskRandomRead",)


def missing(session: Session, one: Machine, transport: str) -> tuple[str, ...]:
    """Return what is missing for a snapshot and for this transport; for "auto", one of two ways is enough. Empty where it cannot be asked."""
    vm = _granted(session, [vim.VirtualMachine(one.ref, session.stub)], (*SNAPSHOT, *EXPORT, *DIRECT))
    stores = _granted(session, [vim.Datastore(ref, session.stub) for ref in one.datastores], DATASTORE)
    if vm is None or stores is None:
        return ()
    lacks = [name for name in SNAPSHOT if name not in vm]
    file = [name for name in DATASTORE if name not in stores]
    export = [name for name in EXPORT if name not in vm]
    match transport:
        case "datastore":
            lacks += file
        case "nfc":
            lacks += export
        case "vddk":
            lacks += [name for name in DIRECT if name not in vm]
        case _ if file and export:
            lacks += [*export, *file]
    return tuple(lacks)


def _granted(session: Session, entities: list[object], wanted: tuple[str, ...]) -> frozenset[str] | None:
    """The wanted privileges that are granted on all entities; None where the server does not say."""
    manager, sessions = session.content.authorizationManager, session.content.sessionManager
    if manager is None or not entities:
        return frozenset(wanted)
    try:
        key = session.call("read the own session", lambda: sessions.currentSession.key)
        told = session.call("ask for privileges", lambda: manager.HasPrivilegeOnEntities(entities, key, list(wanted)))
    except SourceBusy:
        raise
    except SourceError:  # an ESXi alone need not offer it: what is missing is then told when it is used
        return None
    lacking = {one.privId for entity in told or () for one in entity.privAvailability or () if not one.isGranted}
    return frozenset(wanted) - lacking
