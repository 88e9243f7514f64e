"""The codes of all refusals of a source in AWS. A code never changes its meaning; texts and remedies may. What each means: migrate/codes.yaml."""

from enum import StrEnum


class Code(StrEnum):
    NOT_LINUX = "EC2-001"
    INSTANCE_STORE = "EC2-002"
    KEY = "EC2-003"
    MARKETPLACE = "EC2-004"
    ARCHITECTURE = "EC2-005"
    NOT_COMPLETED = "EC2-006"
    SHARED = "EC2-007"
    PERMISSION = "EC2-008"
    NO_DISK = "EC2-009"
    BUCKET = "EC2-010"
    ROLE = "EC2-011"
    NOT_EXPORTED = "EC2-012"
