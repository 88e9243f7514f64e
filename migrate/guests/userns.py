"""Start a program in a user namespace of its own: `python userns.py FIRST COUNT PROGRAM …`. Used by migrate.guests.cell only.

Inside, the program is root; for the host it is user FIRST, who owns nothing. The namespace's users 0 to COUNT - 1 are the host's users from FIRST.
It can make no further user namespaces. This file stands alone: it runs without our package. Source: user_namespaces(7).
"""

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000


def main() -> None:
    first, count, *argv = sys.argv[1:]
    unshared_read, unshared = os.pipe()
    ours = os.getpid()
    # Only a process that stayed outside may map more than one user.
    mapper = os.fork()
    if mapper == 0:
        os.read(unshared_read, 1)
        for users in ("uid_map", "gid_map"):
            Path(f"/proc/{ours}/{users}").write_text(f"0 {first} {count}\n")
        os._exit(0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    os.write(unshared, b"x")
    if os.waitpid(mapper, 0)[1] != 0:
        sys.exit("the users of the new namespace could not be mapped")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    os.execvp(argv[0], argv)  # noqa: S606


if __name__ == "__main__":
    main()
