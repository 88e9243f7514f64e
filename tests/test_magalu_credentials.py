from pathlib import Path

import pytest

from adapters.magalu import Credentials, Given, find_credentials
from migrate.errors import UsageError
from migrate.run import Note, Run
from migrate.secret import Secret
from tests.cloud import API_KEY, KEY_ID, KEY_SECRET, PLANTED, TOKEN, Told


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def workspace(home: Path, name: str = "default", *, mode: int = 0o600, **files: str) -> None:
    folder = home / ".config/mgc" / name
    folder.mkdir(parents=True)
    for stem, text in files.items():
        path = folder / f"{stem}.yaml"
        path.write_text(text)
        path.chmod(mode)


def found(home: Path, given: Given | None = None, /, **environ: str) -> tuple[Credentials, Told]:
    told = Told()
    return find_credentials(given or Given(), {"HOME": str(home), **environ}, Run(home, told)), told


PAIR = {"MGC_OBJ_KEY_ID": KEY_ID, "MGC_OBJ_KEY_SECRET": KEY_SECRET}
AUTH = f"access_token: {TOKEN}\nrefresh_token: r\naccess_key_id: {KEY_ID}\nsecret_access_key: {KEY_SECRET}\ncurrent_environment: prod\n"


def test_the_environment_is_enough_and_the_region_has_a_default(home: Path) -> None:
    credentials, _ = found(home, MGC_API_KEY=API_KEY, **PAIR)
    assert credentials == Credentials(Secret(KEY_ID), Secret(KEY_SECRET), Secret(API_KEY), None, "br-se1")


def test_the_command_line_wins_over_the_environment_and_that_over_the_mgc_files(home: Path) -> None:
    workspace(home, auth=AUTH.replace(KEY_ID, "of-the-file"), cli="region: br-ne1\n")
    assert found(home)[0] == Credentials(Secret("of-the-file"), Secret(KEY_SECRET), None, Secret(TOKEN), "br-ne1")
    assert found(home, MGC_REGION="br-se1", MGC_API_KEY=API_KEY, **PAIR)[0] == Credentials(
        Secret(KEY_ID), Secret(KEY_SECRET), Secret(API_KEY), None, "br-se1"
    )
    flags = Given(Secret("flag-key"), Secret("flag-id"), Secret("flag-secret"), "br-ne1")
    assert found(home, flags, MGC_REGION="br-se1", MGC_API_KEY=API_KEY, **PAIR)[0] == Credentials(
        Secret("flag-id"), Secret("flag-secret"), Secret("flag-key"), None, "br-ne1"
    )


def test_an_api_key_goes_into_its_own_header_and_a_token_is_a_bearer(home: Path) -> None:
    assert found(home, MGC_API_KEY=API_KEY, MGC_ACCESS_TOKEN=TOKEN, **PAIR)[0].headers == {"X-API-Key": API_KEY}
    assert found(home, MGC_ACCESS_TOKEN=TOKEN, **PAIR)[0].headers == {"Authorization": f"Bearer {TOKEN}"}


def test_half_a_pair_is_not_joined_with_another_half(home: Path) -> None:
    workspace(home, auth=AUTH)
    credentials, _ = found(home, Given(key_id=Secret("alone")), MGC_API_KEY=API_KEY, MGC_OBJ_KEY_SECRET="alone-too")
    assert (credentials.key_id, credentials.key_secret) == (Secret(KEY_ID), Secret(KEY_SECRET))


def test_the_workspace_in_use_is_read(home: Path) -> None:
    workspace(home, auth=AUTH)
    workspace(home, "work", auth=AUTH.replace(TOKEN, "of-work"))
    workspace(home, "other", auth=AUTH.replace(TOKEN, "of-other"))
    (home / ".config/mgc/current").write_text("work\n")
    assert found(home)[0].access_token == Secret("of-work")
    assert found(home, MGC_WORKSPACE="other")[0].access_token == Secret("of-other")
    assert found(home / "elsewhere", MGC_CONFIG_DIR=str(home / ".config/mgc"))[0].access_token == Secret("of-work")


def test_a_workspace_cannot_lead_out_of_the_folder(home: Path) -> None:
    workspace(home)
    (home / ".config/mgc/current").write_text("../../elsewhere")
    with pytest.raises(UsageError, match="not a folder's name"):
        found(home)


def test_everything_that_is_missing_is_said_at_once(home: Path) -> None:
    with pytest.raises(UsageError) as caught:
        found(home, MGC_OBJ_KEY_ID=KEY_ID)
    message = str(caught.value)
    assert all(word in message for word in ("MGC_API_KEY", "MGC_OBJ_KEY_ID", "MGC_OBJ_KEY_SECRET", "mgc auth login"))
    assert str(home / ".config/mgc/default") in message
    assert KEY_ID not in message


def test_a_key_file_that_others_can_read_is_warned_of(home: Path) -> None:
    workspace(home, auth=AUTH, mode=0o644)
    path = home / ".config/mgc/default/auth.yaml"
    assert found(home)[1].events == [Note(f"{path} holds keys and others may read it: chmod 600 {path}", "warning")]
    path.chmod(0o600)
    assert found(home)[1].events == []


@pytest.mark.parametrize(
    "text", [f"access_token: [{TOKEN}\n", f"- {TOKEN}\n", f"access_token: {{a: {TOKEN}}}\n", f"\0{TOKEN}"]
)
def test_a_broken_key_file_is_named_and_not_quoted(home: Path, text: str) -> None:
    workspace(home, auth=text)
    with pytest.raises(UsageError) as caught:
        found(home)
    assert "auth.yaml" in str(caught.value)
    assert TOKEN not in str(caught.getrepr(chain=True))


def test_credentials_show_nothing(home: Path) -> None:
    credentials, _ = found(home, MGC_API_KEY=API_KEY, **PAIR)
    assert not any(secret in f"{credentials!r} {credentials}" for secret in PLANTED)
