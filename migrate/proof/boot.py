"""One boot, watched from outside until it can be asked from inside."""

import socket
import time
from dataclasses import dataclass, field, replace

from migrate.errors import ProofFailed
from migrate.proof import symptoms
from migrate.proof.console import FLOOD
from migrate.proof.facts import END, new_script, parsed
from migrate.proof.login import Key, Session, Verdict, logging_in
from migrate.proof.machine import SSH_PORT, Machine
from migrate.proof.metadata import MetadataService
from migrate.proof.namespace import Namespace
from migrate.proof.observed import Observed
from migrate.run import Progress, Run
from migrate.text import shown

STAGE = "prove"
LOOK_S = 0.2
TELL_S = 1.0
QUIET_S = 6.0
"""How long the console must have been silent after a dead end, before the boot is given up."""
RESETS_MOST = 3
"""A guest may restart itself: SELinux relabels a carried-in guest at its first boot and restarts. More often is a loop."""
SCREEN_AFTER_S, SCREEN_EVERY_S = 15.0, 5.0
"""After how much silence on the serial console we look at the screen, and how often then: the kernel may speak there, or only systemd,
which uses the last console= alone (kernel-parameters.txt)."""
IDLE_S = 120.0
"""How long after the login prompt sshd must have answered: a boot that has come that far has little left to do."""
PACKETS_FLOOD = 64 << 20
BANNER_EVERY_S, BANNER_WAIT_S = 2.0, 20.0
"""How often port 22 is tried, and how long a connection may stay silent: sshd needs some seconds under emulation."""
EVERYBODY_AFTER_S = 60.0
"""How long after sshd's first word the list of customary users is tried too: each try is a key exchange, and OpenSSH 9.8 and later
shut out an address that fails often (sshd_config(5), PerSourcePenalties)."""
FACTS_S = 30.0
"""What the script needs under emulation once the boot has ended; kept back from the time that it may wait."""

# cloud-init's default users by distribution. Source: cloud-init, config/cloud.cfg.tmpl; the distributions' images.
CUSTOMARY = (
    *("debian", "ubuntu", "cloud-user", "rocky", "almalinux", "centos", "fedora", "opensuse", "sles", "ec2-user"),
    *("opc", "cloud", "admin"),
)


@dataclass(slots=True)
class Boot:
    """One boot being watched. All times are seconds since power-on."""

    run: Run
    machine: Machine
    namespace: Namespace
    service: MetadataService
    key: Key
    expected_user: str | None
    timeout: float
    seen: Observed = field(default_factory=Observed)
    _named_user: str | None = None
    """Whom the guest itself named as the user to log in as."""
    _screen_at: float = 0.0
    _screen_changed_at: float = 0.0
    _told_at: float = -TELL_S
    _told: str = ""

    def now(self) -> float:
        return time.monotonic() - self.machine.started

    def watch(self) -> None:
        """Follow the boot until every fact is known, or until it is clear or late that they will not be."""
        try:
            self._await_sshd()
            self._ask()
        except ProofFailed as failed:
            self.seen.ended = failed.message
        self._note(self.now())
        if self.seen.login_at is None:
            self._note_screen(self.now())
        self.seen.console = self.machine.console.text()
        if linux := symptoms.LINUX.search(self.seen.console):
            self.seen.kernel = shown(linux.group(1))

    def _look(self) -> None:
        """Take in what happened, tell it, and rest for a moment. Raise ProofFailed where the boot is to be given up."""
        self.run.check()
        now = self.now()
        self._note(now)
        self._tell(now)
        self._give_up_if_over(now)
        time.sleep(LOOK_S)

    def _note(self, now: float) -> None:
        machine, seen = self.machine, self.seen
        machine.monitor.read()
        machine.wire.read(now)
        if machine.monitor.resets > seen.resets:
            seen.prompt_at = None
        seen.resets, seen.packets = machine.monitor.resets, machine.wire.packets
        seen.dhcp_asked_at, seen.dhcp_given_at = machine.wire.asked_at, machine.wire.given_at
        seen.address, seen.address_used_at = machine.wire.given, machine.wire.used_at
        seen.spoke_as = tuple(machine.wire.spoke_as)
        seen.requests = tuple(replace(r, at=r.at - machine.started) for r in tuple(self.service.requests))
        if machine.console.read(now):
            self._note_console(machine.console.last(), now)
        if (
            now - max(self._screen_at, machine.console.changed_at + SCREEN_AFTER_S) > SCREEN_EVERY_S
            and seen.login_at is None
        ):
            self._note_screen(now)

    def _note_console(self, text: str, now: float) -> None:
        seen = self.seen
        seen.firmware_at = now if seen.firmware_at is None else seen.firmware_at
        if seen.kernel_at is None and symptoms.KERNEL_LINE.search(text):
            seen.kernel_at = now
        if seen.prompt_at is None and symptoms.LOGIN_PROMPT.search(text[-1000:]):
            seen.prompt_at = now
        if keys := symptoms.KEYS_FOR.search(text):
            self._named_user = keys.group(1)
        if symptoms.CLOUD_INIT_DONE.search(text):
            seen.cloud_init_said_done = True

    def _note_screen(self, now: float) -> None:
        """Take in the screen of a guest whose serial console is silent."""
        self._screen_at = now
        if (
            self.machine.child.poll() is None
            and (text := self.machine.screen()) is not None
            and text != self.seen.screen
        ):
            self.seen.screen, self._screen_changed_at = text, now
            if self.seen.prompt_at is None and symptoms.LOGIN_PROMPT.search(text):
                self.seen.prompt_at = now

    def _tell(self, now: float) -> None:
        what = self._milestone()
        if what != self._told or now - self._told_at >= TELL_S:
            self._told, self._told_at = what, now
            self.run.tell(Progress(STAGE, now, None, "s", what))

    def _milestone(self) -> str:
        seen = self.seen
        reached = (
            (seen.login_at, f"logged in as {seen.user}, the boot goes on"),
            (seen.banner_at, "sshd answers"),
            (seen.requests or None, "metadata read"),
            (seen.dhcp_given_at, f"has the address {seen.address}"),
            (seen.kernel_at, "the kernel started"),
            (seen.firmware_at, "the firmware started"),
        )
        return next((what for moment, what in reached if moment is not None), "switched on")

    def _give_up_if_over(self, now: float) -> None:
        machine, seen = self.machine, self.seen
        status = machine.child.poll()
        if status is not None:
            seen.dead = True
            said = shown(machine.log.read_text("utf-8", "replace").strip()[-500:])
            raise ProofFailed(
                f"the guest switched itself off after {now:.0f} s."
                if machine.monitor.off
                else f"QEMU ended with {status} after {now:.0f} s. {said}".strip()
            )
        if seen.resets > RESETS_MOST:
            seen.dead = True
            raise ProofFailed(f"the guest restarted itself {seen.resets} times in {now:.0f} s: it never comes up.")
        if machine.console.size > FLOOD or machine.wire.size > PACKETS_FLOOD:
            seen.dead = True
            raise ProofFailed("the guest floods its console or its network; it was switched off.")
        last_change = max(machine.console.changed_at, self._screen_changed_at)
        if seen.login_at is None and now - last_change > QUIET_S and self._is_dead():
            seen.dead = True
            raise ProofFailed(f"the boot came to a dead end after {last_change:.0f} s.")
        if seen.prompt_at is not None and seen.banner_at is None and now - seen.prompt_at > IDLE_S:
            raise ProofFailed(
                f"the login prompt came after {seen.prompt_at:.0f} s, and {IDLE_S:.0f} s later no sshd answered."
            )
        if now > self.timeout:
            raise ProofFailed(
                f"it was not done after {self.timeout:.0f} s; the last that was seen: {self._milestone()}."
            )

    def _is_dead(self) -> bool:
        return symptoms.is_dead(self.machine.console.last(4096)) or symptoms.is_dead(self.seen.screen)

    def _await_sshd(self) -> None:
        """Return when sshd has said its first line.

        Nothing is tried before the guest has an address: each try is work for it. Then it must be tried: a guest that has nothing to
        ask for says nothing, and only answers.
        """
        while self.seen.banner_at is None:
            self._look()
            if self.seen.dhcp_given_at is not None and (connection := self.namespace.dial(SSH_PORT)) is not None:
                with connection:
                    self._await_banner(connection)

    def _await_banner(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        began = self.now()
        received = b""
        ended = False
        while not ended and self.now() - began < BANNER_WAIT_S:
            self._look()
            try:
                more = connection.recv(256)
            except BlockingIOError:
                continue
            except OSError:  # refused by the guest: QEMU took the connection on its behalf
                more = b""
            received += more
            ended = not more or b"\n" in received or len(received) > 255
        if received.startswith(b"SSH-"):
            self.seen.banner_at = self.now()
            self.seen.banner = received.partition(b"\n")[0].decode("ascii", "replace").strip()
            return
        while self.now() - began < BANNER_EVERY_S:
            self._look()

    def _ask(self) -> None:
        """Log in as whom the guest admits, and let the script gather the facts."""
        pause = 2.0
        while not self._try_everybody():
            until = self.now() + pause
            while self.now() < until:
                self._look()
            pause = min(pause * 2, 20.0)

    def _try_everybody(self) -> bool:
        """Try the users, best first; return whether the facts are known. Raise ProofFailed where a further round is in vain."""
        done = self.seen.cloud_init_said_done
        customary = CUSTOMARY if done or self.now() - (self.seen.banner_at or 0) > EVERYBODY_AFTER_S else ()
        tried: set[str] = set()
        while (user := self._next_user(tried, customary)) is not None:
            tried.add(user)
            if self._try(user) in (Verdict.ADMITTED, Verdict.CUT):
                return self.seen.facts is not None
        if done:
            raise ProofFailed("cloud-init has finished, and the key admits nobody.")
        return False

    def _next_user(self, tried: set[str], customary: tuple[str, ...]) -> str | None:
        """Return who is to be tried next. Whom the guest itself named may have become known by the last try."""
        order = (self.expected_user, self._named_user, "root", *customary)
        return next((user for user in order if user is not None and user not in tried), None)

    def _try(self, user: str) -> Verdict:
        """Try to log in once; where that succeeds, stay until the script has ended."""
        script = new_script(max(1, int(self.timeout - self.now() - FACTS_S)))
        with logging_in(self.run, self.namespace, self.key, user, script) as session:
            while (verdict := session.read(time.monotonic())) is None:
                self._look()
            if verdict is Verdict.ADMITTED:
                self.seen.user, self.seen.login_at = user, self.now()
                self._read_facts(session)
            elif verdict is Verdict.OTHER_USER:
                self._named_user = session.user
            elif verdict is Verdict.REFUSED:
                self.seen.refused.append(user)
            elif verdict is Verdict.NO_SHELL:
                self.seen.no_shell.append(user)
        return verdict

    def _read_facts(self, session: Session) -> None:
        try:
            while not session.over:
                self._look()
        finally:
            texts = session.sections()
            if END in texts:
                self.seen.facts, self.seen.facts_at = parsed(texts), self.now()
