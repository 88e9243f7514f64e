"""The implementations of migrate.guest.Guest, and the rooms that the guest's own programs run in.

rooms            which room is taken, and the opening of it: what the pipeline uses
memory, tree     guests for tests: values in memory (from YAML), a folder of the host

appliance        libguestfs's VM: launched once, stopped at any time, its errors translated
appliance_guest  the guest in it

room             the overlay room: the guest read through FUSE, its changes in an upper folder, its programs in a sandbox
cell, userns     the namespaces without rights over the host that all of this happens in
agent, files     how its files are reached from outside, without ever following a link
lvm              where a logical volume lies, without device-mapper
upper, carry     what was changed in the room, and the way of it to the disk

disks            partitions, file systems, fstab, firmware
system           os-release, and the package databases: dpkg, rpmdb (and rpm_ndb), apk, pacman
packages         what can be installed and removed: resolved and fetched on the host with the guest's sources and keys
apt              Debian's and Ubuntu's, by the host's apt
rpm              the RPM families', by the host's dnf; rpm_sources reads .repo files, rpm_resolver is what runs in dnf's sandbox
programs         the guest's own package manager, as both rooms run it
sandbox          how the host's own programs are shut away when they read what a guest wrote
"""
