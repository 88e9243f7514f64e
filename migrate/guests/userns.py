"""Start a program in a user namespace of its own: `python userns.py FIRST_USER FIRST_GROUP COUNT PROGRAM …`. Used by migrate.guests.cell only.

Inside, the program is root; for the host it is user FIRST_USER, who owns nothing. The namespace's users 0 to COUNT - 1 are the host's users from
FIRST_USER. It can make no further user namespaces. Root maps them itself, an ordinary user by newuidmap(1) from its range in /etc/subuid.
This file stands alone: it runs without our package. Source: user_namespaces(7).
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000


def main() -> None:
    first_user, first_group, count, *argv = sys.argv[1:]
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
