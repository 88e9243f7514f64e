"""A new identity: what goes, and what must not."""

from migrate.effects import Edit
from migrate.guest import File
from migrate.guests.memory import from_yaml
from migrate.remediation import Settings
from migrate.run import Run
from remediations.identity import forget_leases, reset_machine_id
from tests.remediation_guests import applied, codes, done, guest, outcome

OLD = "0123456789abcdef0123456789abcdef"
PAST = "debian12-identity"


def test_the_machine_id_is_emptied_and_neither_removed_nor_marked_as_a_first_boot(run: Run) -> None:
    changes = done(guest(PAST), reset_machine_id)
    assert outcome(changes) == {
        "/etc/machine-id": "",
        "/var/lib/dbus/machine-id": None,
        "/var/lib/systemd/random-seed": None,
    }
    first = changes.effects[0]
    assert isinstance(first, Edit)
    assert first.after == File(b"", 0o444)
    assert [fact.text for fact in changes.facts] == [OLD]
    assert codes(changes) == ["ID-001"]
    applied(run, guest(PAST), reset_machine_id)


def test_the_identity_stays_on_request() -> None:
    assert done(guest(PAST), reset_machine_id, settings=Settings(reset_machine_id=False)).effects == ()


def test_a_machine_id_of_dbus_that_is_a_link_stays_one() -> None:
    linked = from_yaml(
        f"""
        files:
          /etc/machine-id: {OLD}
          /var/lib/dbus/machine-id: {{link: /etc/machine-id}}
        """
    )
    assert outcome(done(linked, reset_machine_id)) == {"/etc/machine-id": ""}


def test_an_old_system_whose_machine_id_is_a_link_to_that_of_dbus_is_left_with_an_empty_one(run: Run) -> None:
    linked = from_yaml(
        f"""
        files:
          /etc/machine-id: {{link: /var/lib/dbus/machine-id}}
          /var/lib/dbus/machine-id: {OLD}
        """
    )
    after = applied(run, linked, reset_machine_id)
    assert [
        path for path, entry in after.tree.items() if isinstance(entry, File) and OLD.encode() in entry.content
    ] == []
    assert after.load("/etc/machine-id") == File(b"", 0o444)


def test_a_template_without_a_machine_id_gets_an_empty_one_because_presets_would_undo_our_work() -> None:
    init = '/usr/lib/systemd/systemd: ""'
    for files in (f"{{{init}}}", f'{{{init}, /etc/machine-id: "uninitialized\\n"}}'):
        assert outcome(done(from_yaml(f"files: {files}"), reset_machine_id)) == {"/etc/machine-id": ""}


def test_leases_of_clients_go_and_those_of_servers_stay(run: Run) -> None:
    assert outcome(done(guest(PAST), forget_leases)) == {
        "/var/lib/dhcp/dhclient.leases": None,
        "/var/lib/dhcp/dhclient6.ens192.leases": None,
        "/var/lib/NetworkManager/internal-7ad1a6a7-ens192.lease": None,
        "/var/lib/NetworkManager/secret_key": None,
        "/var/lib/wicked/duid.xml": None,
        "/var/lib/dhcpcd/duid": None,
    }
    applied(run, guest(PAST), forget_leases)
