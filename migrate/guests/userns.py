"""Start a program in a user namespace of its own: `python userns.py FIRST_USER FIRST_GROUP COUNT [--show FOLDER] -- PROGRAM …`.

Inside, the program is root; for the host it is user FIRST_USER, who owns nothing. The namespace's users 0 to COUNT - 1 are the host's users from
FIRST_USER. It can make no further user namespaces. Root maps them itself, an ordinary user by newuidmap(1) from its range in /etc/subuid.
Root may show it a folder, at /mnt in a mount namespace of its own: where the folder lies, the new user may not even look.
This file stands alone: it runs without our package. Sources: user_namespaces(7), mount_namespaces(7).
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
SHOWN = "/mnt"


def main() -> None:
    split = sys.argv.index("--")
    first_user, first_group, count, *shown = sys.argv[1:split]
    argv = sys.argv[split + 1 :]
    libc = ctypes.CDLL(None, use_errno=True)
    if shown:
        _must(libc.unshare(CLONE_NEWNS), "unshare")
        _must(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount /")
        _must(libc.mount(os.fsencode(shown[1]), SHOWN.encode(), None, MS_BIND, None), f"mount {shown[1]}")
    unshared_read, unshared = os.pipe()
    ours = os.getpid()
    # Only a process that stayed outside may map more than one user.
    mapper = os.fork()
    if mapper == 0:
        os.read(unshared_read, 1)
        for users, first in (("uid", first_user), ("gid", first_group)):
            if os.geteuid() == 0:
                Path(f"/proc/{ours}/{users}_map").write_text(f"0 {first} {count}\n")
            else:
                subprocess.run([f"new{users}map", str(ours), "0", first, count], check=True)
        os._exit(0)
    _must(libc.unshare(CLONE_NEWUSER), "unshare")
    os.write(unshared, b"x")
    if os.waitpid(mapper, 0)[1] != 0:
        sys.exit("the users of the new namespace could not be mapped")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    os.execvp(argv[0], argv)  # noqa: S606


def _must(result: int, what: str) -> None:
    if result != 0:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
