"""The claims of the proof, each checked on what was seen of the boot."""

from migrate.proof import symptoms
from migrate.proof.excuses import excuse
from migrate.proof.facts import Device, Facts
from migrate.proof.observed import Observed, Wanted
from migrate.proof.proof import Claim
from migrate.text import shown, size

CLOCK_SLACK_S = 5.0
"""date(1) and file times count whole seconds, and the login takes a few to answer."""
GROWN = 0.9
"""The share of its own device that statvfs(3) shows of a file system: ext4's inode tables and journal take 2 to 8 percent."""
UNUSED_MOST = 64 << 20
"""What growpart may leave unused at the end of a disk: alignment, GPT's second table and an old tool's last cylinder."""

NOBODY_INSIDE = "not seen: nobody could log in"


def claims(seen: Observed, wanted: Wanted) -> tuple[Claim, ...]:
    """Return every claim, in the order in which a boot fulfils them."""
    return (
        _kernel(seen),
        _dhcp(seen, wanted),
        _metadata(seen),
        _sshd(seen),
        _host_keys(seen),
        _login(seen, wanted),
        _cloud_init(seen, wanted),
        _root_grew(seen, wanted),
        _units(seen),
        _devices(seen),
        _serial(seen),
    )


def _kernel(seen: Observed) -> Claim:
    first = seen.kernel_at
    evidence = f"Linux {seen.kernel}" if seen.kernel else "lines of a Linux system on the serial console"
    if first is None and symptoms.ON_SCREEN.search(seen.screen):
        return Claim(
            "kernel", "the kernel started", True, None, "its words are on the screen, none on the serial console"
        )
    if first is None:
        first = seen.dhcp_asked_at or seen.address_used_at or seen.banner_at
        evidence = "no word on the serial console, but it uses its network card"
    if first is None:
        evidence = "no sign of a kernel, neither on the serial console nor on the network"
    return Claim("kernel", "the kernel started", first is not None, first, evidence)


def _serial(seen: Observed) -> Claim:
    """The only window that Magalu Cloud gives into a running instance: GET /v1/instances/{id}/init-logs."""
    held = seen.kernel_at is not None
    evidence = "its lines are there" if held else "silent; where a kernel runs, its command line lacks console=ttyS0"
    return Claim("console", "the guest speaks on the serial console", held, seen.kernel_at, evidence, needed=False)


def _dhcp(seen: Observed, wanted: Wanted) -> Claim:
    inside = next((a for a in seen.facts.addresses if a.address == seen.address), None) if seen.facts else None
    held = seen.dhcp_given_at is not None and seen.address_used_at is not None
    if held and inside is not None:
        lease = "a lease" if inside.dynamic else "no lease time"
        evidence = f"{seen.address} on {shown(inside.card)}, {wanted.mac}, with {lease}"
    elif held:
        evidence = f"{seen.address} on {wanted.mac}"
    elif seen.dhcp_given_at is not None:
        evidence = f"{seen.address} was given, and never used"
    elif seen.dhcp_asked_at is not None:
        evidence = "it asked, and took no offer"
    else:
        evidence = "it never asked for an address" + (f"; it uses {', '.join(seen.spoke_as)}" if seen.spoke_as else "")
    if held and seen.facts is not None and inside is None:
        held, evidence = False, f"{seen.address} was given, and is on none of its cards now"
    return Claim("dhcp", "the guest took a DHCP address on a MAC that it never saw", held, seen.dhcp_given_at, evidence)


def _metadata(seen: Observed) -> Claim:
    good = [request for request in seen.requests if request.status == 200]
    keys = [request for request in good if request.path.endswith(("/meta_data.json", "/openssh-key"))]
    if keys:
        evidence = f"{shown(keys[0].path)}, {len(seen.requests)} requests in all"
    elif seen.requests:
        evidence = f"it asked for {shown(seen.requests[0].path)}, never for its keys"
    else:
        evidence = "it asked for nothing at 169.254.169.254"
    return Claim("metadata", "it read its metadata", bool(keys), keys[0].at if keys else None, evidence)


def _sshd(seen: Observed) -> Claim:
    held = seen.banner_at is not None
    evidence = shown(seen.banner) if held else "nothing answered on port 22"
    return Claim("sshd", "sshd answers", held, seen.banner_at, evidence)


def _host_keys(seen: Observed) -> Claim:
    text = "its SSH host keys were made at this boot"
    began = seen.power_on_clock
    if seen.facts is None or began is None:
        return Claim("host-keys", text, False, None, NOBODY_INSIDE)
    ages = {shown(name): made - began for name, made in seen.facts.host_keys.items()}
    old = sorted(name for name, made in ages.items() if made < -CLOCK_SLACK_S)
    if not ages:
        return Claim("host-keys", text, False, None, "no host key was found in /etc/ssh")
    if old:
        return Claim(
            "host-keys", text, False, None, f"older than this boot, so every instance would have them: {', '.join(old)}"
        )
    return Claim("host-keys", text, True, max(0.0, max(ages.values())), ", ".join(sorted(ages)))


def _login(seen: Observed, wanted: Wanted) -> Claim:
    text = f"the key logs in as {shown(wanted.user)}" if wanted.user else "the key logs in"
    if seen.login_at is not None and seen.user is not None:
        return Claim("login", text, wanted.user in (None, seen.user), seen.login_at, f"as {shown(seen.user)}")
    if seen.no_shell:
        return Claim("login", text, False, None, f"the key was taken for {', '.join(seen.no_shell)}, but no shell ran")
    if seen.refused:
        users = ", ".join(dict.fromkeys(seen.refused))
        return Claim("login", text, False, None, f"Permission denied (publickey) for {users}")
    return Claim("login", text, False, None, "it did not come to that")


def _cloud_init(seen: Observed, wanted: Wanted) -> Claim:
    text = f"cloud-init finished with the datasource {wanted.datasource}"
    if seen.facts is None:
        return Claim("cloud-init", text, False, None, NOBODY_INSIDE)
    state = seen.facts.cloud_init
    if not state.installed and seen.facts.set_up_as == wanted.instance != "":
        evidence = "it is not installed; a unit of ours has set up this instance in its place"
        return Claim("cloud-init", "cloud-init, or a unit of ours, set up the instance", True, seen.facts_at, evidence)
    if not state.installed:
        return Claim("cloud-init", text, False, None, "it is not installed")
    if not state.done:
        return Claim("cloud-init", text, False, None, "it had not finished when the proof ended, or never ran")
    began = seen.power_on_clock
    at = None if began is None or state.finished is None else max(0.0, state.finished - began)
    held = wanted.datasource.lower() in state.datasource.lower()
    details = [f"datasource {shown(state.datasource) or 'not named'}"]
    details += [f"it reports: {shown(error)[:300]}" for error in state.errors[:5]]
    if state.errors:
        details += [f"its log: {shown(warning)[:300]}" for warning in state.warnings[:3]]
    return Claim("cloud-init", text, held, at, "; ".join(details))


def _root_grew(seen: Observed, wanted: Wanted) -> Claim:
    text = "the root file system grew to the disk"
    if seen.facts is None:
        return Claim("root-grew", text, False, None, NOBODY_INSIDE, needed=wanted.root_grows)
    held, evidence = _growth(seen.facts, wanted)
    return Claim("root-grew", text, held, seen.facts_at, evidence, needed=wanted.root_grows)


def _growth(facts: Facts, wanted: Wanted) -> tuple[bool, str]:
    if facts.root_size is None or facts.root_device is None:
        return False, "the guest did not say how large its root is"
    device = facts.root_device
    chain = next((chain for disk in facts.disks if (chain := _chain(disk, device.name))), ())
    if not chain or chain[0].type != "disk":
        return False, f"the disk below {shown(device.name)} was not found"
    sizes = f"root is {size(facts.root_size)} of a disk of {size(chain[0].size)} (image: {size(wanted.image_size)})"
    for below in chain[:-1]:
        unused = below.size - sum(part.size for part in below.children)
        if unused > UNUSED_MOST:
            return False, f"{sizes}; {size(unused)} of {shown(below.name)} belong to nothing"
    if facts.root_size < GROWN * device.size:
        return False, f"{sizes}; the file system is smaller than {shown(device.name)}, {size(device.size)}"
    return True, f"root grew to {size(facts.root_size)} of {size(chain[0].size)}"


def _chain(device: Device, name: str) -> tuple[Device, ...]:
    """Return the devices from this one up to the one of the name, () where it does not lie on this one."""
    if device.name == name:
        return (device,)
    above = next((chain for child in device.children if (chain := _chain(child, name))), ())
    return (device, *above) if above else ()


def _units(seen: Observed) -> Claim:
    text = "every unit came up, or fails by design"
    if seen.facts is None:
        return Claim("units", text, False, None, NOBODY_INSIDE)
    if not seen.facts.system_state:
        return Claim("units", text, True, seen.facts_at, "no systemd: not asked")
    excuses = {unit: excuse(unit, seen.facts.cloud_init) for unit in seen.facts.failed_units}
    failed = [unit for unit, why in excuses.items() if why is None]
    notes = [f"{shown(unit)} failed, as it may: {why}" for unit, why in excuses.items() if why is not None]
    if failed:
        return Claim("units", text, False, seen.facts_at, "; ".join([f"failed: {shown(', '.join(failed))}", *notes]))
    return Claim("units", text, True, seen.facts_at, "; ".join([f"system is {shown(seen.facts.system_state)}", *notes]))


def _devices(seen: Observed) -> Claim:
    text = "it waits for no device that is not there"
    if seen.facts is None:
        return Claim("devices", text, False, None, NOBODY_INSIDE)
    waited = {line: line.rstrip(".").rpartition(" ")[2] for line in seen.facts.waited_for}
    missed = [line for line, subject in waited.items() if subject not in seen.facts.optional]
    lost = [*missed, *(f"still waiting: {job}" for job in seen.facts.jobs)]
    if lost:
        return Claim("devices", text, False, seen.facts_at, "; ".join(shown(line)[:200] for line in lost[:6]))
    spared = sorted(set(waited.values()))
    notes = [f"not there, as fstab allows (nofail): {shown(', '.join(spared))[:400]}"] if spared else []
    return Claim("devices", text, True, seen.facts_at, "; ".join(["no job is left", *notes]))
