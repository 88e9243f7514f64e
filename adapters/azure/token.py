"""What names a frozen VM after a restart: its snapshots, boot disk first. No secret is in it."""

from pydantic import BaseModel, ConfigDict, ValidationError

from migrate.errors import SourceError


class Kept(BaseModel):
    """A snapshot of ours. `job` is what its tag says; `unique_id` is Azure's, and no later snapshot of the same name has it; `size` in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    name: str
    job: str
    unique_id: str
    disk: str
    size: int


class Token(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    subscription: str
    snapshots: tuple[Kept, ...]


def read_token(text: str, subscription: str) -> Token:
    """Raise SourceError where it is no token of this subscription."""
    try:
        token = Token.model_validate_json(text)
    except ValidationError as error:
        raise SourceError(
            "the job's record of its snapshots cannot be read", hint="Start the migration anew."
        ) from error
    if token.subscription != subscription:
        raise SourceError(f"the job's snapshots are in the subscription {token.subscription}, not in {subscription}")
    return token
