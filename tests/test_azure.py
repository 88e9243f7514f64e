"""What needs no server of Azure's adapter: addresses, footers, refusals, and what is shown of foreign errors."""

import pytest
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ServiceRequestError
from azure.mgmt.compute import models

from adapters.azure import Place, place, refusals
from adapters.azure.failures import asked, cleaned, translated
from adapters.azure.place import resource_id
from adapters.azure.refusals import Code
from adapters.azure.token import read_token
from adapters.azure.vhd import size_of
from fixtures.emulators.azure import SUBSCRIPTION, vhd_footer
from migrate.address import parse
from migrate.errors import SourceBusy, SourceError, Stopped, UsageError
from tests.cloud import known_from

SIGNED = "https://md-x.z1.blob.storage.azure.net/a/abcd?sv=2018-03-28&sr=b&si=1&sig=c2VjcmV0%2Bkey%3D"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("", ("*", "*", False)),
        ("/*", ("*", "*", False)),
        ("/rg-1", ("rg-1", "*", False)),
        ("/rg-1/web-*", ("rg-1", "web-*", False)),
        ("/rg-1/web01", ("rg-1", "web01", False)),
        ("/rg-1/disks", ("rg-1", "disks", False)),
        ("/rg-1/disks/web01_OsDisk", ("rg-1", "web01_OsDisk", True)),
    ],
)
def test_an_address_names_vms_or_one_disk(path: str, wanted: tuple[str, str, bool]) -> None:
    assert place(parse(f"azure://{SUBSCRIPTION}{path}")) == Place(SUBSCRIPTION, *wanted)


@pytest.mark.parametrize(
    "text",
    [
        "azure://production/rg/vm",
        f"azure://{SUBSCRIPTION}/rg/..",
        f"azure://{SUBSCRIPTION}/rg/a%2Fb",
        f"azure://{SUBSCRIPTION}/rg/a%3Fb",
        f"azure://{SUBSCRIPTION}/rg/a%0Ab",
        f"azure://{SUBSCRIPTION}/rg/disks/*",
        f"azure://{SUBSCRIPTION}/rg/vms/web01",
        f"azure://{SUBSCRIPTION}/rg/disks/a/b",
    ],
)
def test_what_names_nothing_of_azure_is_a_usage_error_that_says_how_to_write_it(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        place(parse(text))
    assert "azure://SUBSCRIPTION/RESOURCE_GROUP/VM" in str(refused.value.hint)


def test_names_are_matched_in_upper_and_lower_case_as_azure_does() -> None:
    assert Place(SUBSCRIPTION, "RG-1", "Web-*").holds("rg-1", "wEB-02")
    assert not Place(SUBSCRIPTION, "RG-1", "Web-*").holds("rg-1", "db-02")


def test_an_id_is_read_whatever_its_case() -> None:
    read = resource_id(f"/SUBSCRIPTIONS/{SUBSCRIPTION.upper()}/resourcegroups/RG1/providers/Microsoft.Compute/disks/os")
    assert (read.subscription, read.group, read.name) == (SUBSCRIPTION, "RG1", "os")
    with pytest.raises(ValueError, match="is not the id"):
        resource_id("../../etc/passwd")


def test_the_disk_ends_where_the_footer_says() -> None:
    assert size_of("web", (1 << 30) + 512, vhd_footer(1 << 30)) == 1 << 30


@pytest.mark.parametrize(
    ("footer", "length", "said"),
    [
        (bytes(512), (1 << 20) + 512, "no VHD footer"),
        (b"", 512, "no VHD footer"),
        (vhd_footer(1 << 20, cookie=b"conectiX"), (1 << 20) + 512, "no VHD footer"),
        (vhd_footer(1 << 20, kind=3), (1 << 20) + 512, "kind 3"),
        (vhd_footer(1 << 20)[:-1] + b"\1", (1 << 20) + 512, "checksum"),
        (vhd_footer(2 << 20), (1 << 20) + 512, "tells of 2097152 bytes, and the download has 1048576"),
        (vhd_footer(1 << 20), (1 << 21) + 512, "tells of 1048576 bytes, and the download has 2097152"),
        (vhd_footer(1000), 1512, "tells of 1000 bytes"),
    ],
)
def test_a_footer_that_is_not_sound_is_refused(footer: bytes, length: int, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        size_of("web", length, footer)


def test_every_reason_of_a_vm_is_told_at_once() -> None:
    vm = models.VirtualMachine(
        location="x",
        properties=models.VirtualMachineProperties(
            security_profile=models.SecurityProfile(security_type="ConfidentialVM"),
            storage_profile=models.StorageProfile(
                os_disk=models.OSDisk(
                    create_option="FromImage",
                    os_type="Windows",
                    diff_disk_settings=models.DiffDiskSettings(option="Local"),
                    encryption_settings=models.DiskEncryptionSettings(enabled=True),
                ),
                data_disks=[
                    models.DataDisk(lun=0, name="old", create_option="Attach", vhd=models.VirtualHardDisk(uri="u"))
                ],
            ),
        ),
    )
    assert [reason.code for reason in refusals.of_vm(vm)] == [
        Code.WINDOWS,
        Code.EPHEMERAL,
        Code.DISK_ENCRYPTION,
        Code.CONFIDENTIAL,
        Code.UNMANAGED,
    ]


def test_every_reason_of_a_disk_is_told_at_once_and_a_sound_one_has_none() -> None:
    bad = models.DiskProperties(
        creation_data=models.CreationData(create_option="Empty", logical_sector_size=4096),
        os_type="Windows",
        encryption_settings_collection=models.EncryptionSettingsCollection(enabled=True),
        security_profile=models.DiskSecurityProfile(security_type="TrustedLaunch"),
        network_access_policy="AllowPrivate",
        data_access_auth_mode="AzureActiveDirectory",
    )
    disk = models.Disk(location="x", properties=bad, sku=models.DiskSku(name="UltraSSD_LRS"))
    assert [reason.code for reason in refusals.of_disk(disk, is_of_vm=False)] == [
        Code.WINDOWS,
        Code.DISK_ENCRYPTION,
        Code.TRUSTED_LAUNCH,
        Code.PRIVATE,
        Code.SECTORS,
        Code.SIGN_IN,
    ]
    good = models.DiskProperties(
        creation_data=models.CreationData(create_option="FromImage", logical_sector_size=512),
        os_type="Linux",
        network_access_policy="AllowAll",
        public_network_access="Enabled",
    )
    assert list(refusals.of_disk(models.Disk(location="x", properties=good), is_of_vm=False)) == []


@pytest.mark.parametrize(
    ("policy", "public"), [("DenyAll", "Enabled"), ("AllowPrivate", "Enabled"), ("AllowAll", "Disabled")]
)
def test_a_disk_that_may_not_be_downloaded_is_refused_with_the_command_that_allows_it(policy: str, public: str) -> None:
    told = models.DiskProperties(
        creation_data=models.CreationData(create_option="Empty"),
        network_access_policy=policy,
        public_network_access=public,
    )
    (reason,) = refusals.of_disk(models.Disk(location="x", properties=told), is_of_vm=True)
    assert reason.code == Code.PRIVATE and policy in reason.text
    assert reason.remedy is not None and "--network-access-policy AllowAll" in reason.remedy


@pytest.mark.parametrize(
    "text",
    [
        f"Max retries exceeded with url: {SIGNED} (Caused by x)",
        "sig=c2VjcmV0%2Bkey%3D&x=1",
        'body {"client_secret": "c2VjcmV0"}',
        "client_secret=c2VjcmV0&grant_type=x",
        "Authorization: Bearer c2VjcmV0.c2VjcmV0",
    ],
)
def test_foreign_words_are_shown_without_signatures_keys_and_tokens(text: str) -> None:
    assert "c2VjcmV0" not in cleaned(text)


def test_an_error_of_azure_is_not_chained_to_ours() -> None:
    def refused() -> None:
        url = SIGNED
        raise ServiceRequestError(f"cannot reach {url}")

    with pytest.raises(SourceBusy) as raised:
        asked("read", refused)
    assert "c2VjcmV0" not in known_from(raised.value)


def test_a_stop_that_comes_up_through_azures_libraries_carries_nothing_of_theirs() -> None:
    def stopped() -> None:
        url = SIGNED  # noqa: F841
        raise Stopped

    with pytest.raises(Stopped) as raised:
        asked("read", stopped)
    assert "c2VjcmV0" not in known_from(raised.value)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ServiceRequestError("[Errno 111] Connection refused"), SourceBusy, "cannot be reached"),
        (ServiceRequestError("SSL: CERTIFICATE_VERIFY_FAILED"), SourceError, "--ca FILE"),
        (ClientAuthenticationError("AADSTS7000215: Invalid client secret"), SourceError, "az login"),
        (HttpResponseError("it broke"), SourceBusy, "it broke"),
    ],
)
def test_errors_say_what_was_asked_and_what_to_do(error: AzureError, kind: type[SourceError], said: str) -> None:
    translation = translated("list the disks", error)
    assert type(translation) is kind
    assert str(translation).startswith("list the disks: ") and said in str(translation)


def test_a_token_of_another_subscription_or_of_no_shape_is_refused() -> None:
    with pytest.raises(SourceError, match="in the subscription other"):
        read_token('{"subscription":"other","snapshots":[]}', SUBSCRIPTION)
    with pytest.raises(SourceError, match="cannot be read"):
        read_token("{}", SUBSCRIPTION)
