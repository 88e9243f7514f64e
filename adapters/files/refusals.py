"""The codes of all refusals of a source that is a file. A code never changes its meaning; texts and remedies may.

| code    | the file or the VM is refused because                                                                    |
| ------- | -------------------------------------------------------------------------------------------------------- |
| SRC-001 | it is not a regular file: a FIFO, a device, a socket, a symbolic link beside the file that was named     |
| SRC-002 | it is empty                                                                                              |
| SRC-004 | its content is of no known disk format, and a raw disk without a boot signature must be said to be one   |
| SRC-005 | its content is of more than one format                                                                   |
| SRC-006 | it is of another format than was said                                                                    |
| SRC-007 | its format is known, and not supported: an archive, an ISO image, VDI, QED, a physical disk's descriptor |
| SRC-008 | it is only a difference: it has a backing file, or a parent                                              |
| SRC-009 | it names data elsewhere: an external data file, an extent outside of its folder                          |
| SRC-010 | it is encrypted                                                                                          |
| SRC-011 | it is truncated or damaged                                                                               |
| SRC-012 | the disk's size is zero, negative or beyond 64 TiB                                                       |
| SRC-013 | it is open elsewhere, or was not closed cleanly                                                          |
| SRC-014 | qemu cannot open it within the limits, or sees another disk than its header says                         |
| SRC-020 | the OVA is not a sound tar archive                                                                       |
| SRC-021 | a file's name in an OVA or OVF is not a plain name                                                       |
| SRC-022 | a member of the OVA is not a plain file: a link, a device, a folder, a sparse member                     |
| SRC-023 | a name is twice in the OVA                                                                               |
| SRC-024 | a disk of the OVA or OVF is compressed or split into chunks                                              |
| SRC-025 | a file that is named is not there                                                                        |
| SRC-030 | the OVF descriptor cannot be read: not XML, too large, with a DTD                                        |
| SRC-031 | there is not exactly one OVF descriptor, or not exactly one VM in it                                     |
| SRC-032 | the VM has no disk with content                                                                          |
| SRC-040 | a checksum of the manifest does not match                                                                |
| SRC-041 | the manifest cannot be read, or contradicts itself                                                       |

SRC-003 is not used here: it is vSphere's "independent disk".
"""

from enum import StrEnum


class Code(StrEnum):
    NOT_A_FILE = "SRC-001"
    EMPTY = "SRC-002"
    UNKNOWN_FORMAT = "SRC-004"
    SEVERAL_FORMATS = "SRC-005"
    OTHER_FORMAT = "SRC-006"
    UNSUPPORTED_FORMAT = "SRC-007"
    HAS_PARENT = "SRC-008"
    DATA_ELSEWHERE = "SRC-009"
    ENCRYPTED = "SRC-010"
    DAMAGED = "SRC-011"
    SIZE = "SRC-012"
    IN_USE = "SRC-013"
    QEMU = "SRC-014"
    BAD_ARCHIVE = "SRC-020"
    NAME = "SRC-021"
    MEMBER_KIND = "SRC-022"
    DUPLICATE = "SRC-023"
    COMPRESSED = "SRC-024"
    MISSING = "SRC-025"
    BAD_OVF = "SRC-030"
    NOT_ONE_VM = "SRC-031"
    NO_DISK = "SRC-032"
    CHECKSUM = "SRC-040"
    BAD_MANIFEST = "SRC-041"
