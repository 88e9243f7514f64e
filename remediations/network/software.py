"""Whose files these are: software that is set up with addresses, cards' names or MACs, by where it keeps its configuration."""

import fnmatch
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Software:
    """`patterns` as in fnmatch(3), "*" over folders too. `remedy` says what its administrator does in the instance."""

    name: str
    patterns: tuple[str, ...]
    remedy: str


_LISTENS = "It listens on, or answers from, an address that the instance does not have: give it the new one, or all (0.0.0.0, ::)."
_CLUSTER = (
    "Every member must be told the new addresses before it is started; the cluster does not come up with the old ones."
)
_ALLOWS = "It lets the old network in: give it the VPC's."

KNOWN = (
    Software("the hosts file", ("/etc/hosts",), "Put the instance's address there, or 127.0.1.1 for its own name."),
    Software(
        "keepalived",
        ("/etc/keepalived/*",),
        "A VPC carries no addresses that move by gratuitous ARP: use a load balancer of Magalu Cloud, or leave it off.",
    ),
    Software(
        "Corosync and Pacemaker", ("/etc/corosync/*", "/etc/pacemaker/*", "/etc/ha.d/*", "/etc/cluster/*"), _CLUSTER
    ),
    Software(
        "etcd",
        ("/etc/etcd/*", "/etc/etcd.*", "/etc/default/etcd", "/etc/sysconfig/etcd", "/etc/systemd/system/etcd*"),
        _CLUSTER,
    ),
    Software(
        "Kubernetes",
        (
            "/etc/kubernetes/*",
            "/etc/rancher/*",
            "/etc/default/kubelet",
            "/etc/sysconfig/kubelet",
            "/etc/systemd/system/kube*",
            "/etc/systemd/system/k3s*",
            "/etc/cni/*",
            "/etc/calico/*",
        ),
        "Its certificates hold the address too: renew them (kubeadm init phase certs), or join the node anew.",
    ),
    Software(
        "Docker",
        (
            "/etc/docker/*",
            "/etc/systemd/system/docker*",
            "/etc/default/docker",
            "/etc/containers/*",
            "/etc/containerd/*",
        ),
        _LISTENS,
    ),
    Software(
        "firewalld (switched off)",
        ("/etc/firewalld/*",),
        "Bind the zone to the new card before it is switched on again: firewall-cmd --zone=ZONE --change-interface=CARD --permanent.",
    ),
    Software(
        "ufw (switched off)",
        ("/etc/ufw/*", "/etc/default/ufw"),
        "Write the rule anew for the new card before it is switched on again.",
    ),
    Software(
        "nftables",
        ("/etc/nftables*", "/etc/sysconfig/nftables*"),
        "Write the rule for the new card or address before it is switched on again.",
    ),
    Software(
        "iptables",
        (
            "/etc/iptables*",
            "/etc/sysconfig/ip*tables*",
            "/etc/shorewall*",
            "/etc/ferm/*",
            "/etc/csf/*",
            "/etc/sysconfig/SuSEfirewall2*",
        ),
        "Write the rule for the new card or address before it is switched on again.",
    ),
    Software("fail2ban", ("/etc/fail2ban/*",), _ALLOWS),
    Software(
        "Oracle Database",
        ("*/listener.ora", "*/tnsnames.ora", "*/sqlnet.ora", "/etc/oratab", "/etc/oracle/*"),
        "Put a name in its place, and reload the listener (lsnrctl reload).",
    ),
    Software(
        "PostgreSQL",
        ("/etc/postgresql*", "/etc/pgbouncer/*", "*/pg_hba.conf", "*/postgresql.conf"),
        "listen_addresses and pg_hba.conf: the server does not start where it cannot bind its address.",
    ),
    Software(
        "MySQL and MariaDB",
        ("/etc/mysql/*", "/etc/my.cnf*", "/etc/percona*"),
        "bind-address: the server does not start where it cannot bind its address.",
    ),
    Software(
        "MongoDB, Redis and others",
        (
            "/etc/mongo*",
            "/etc/redis*",
            "/etc/valkey*",
            "/etc/memcached*",
            "/etc/elasticsearch/*",
            "/etc/opensearch/*",
            "/etc/cassandra/*",
            "/etc/rabbitmq/*",
            "/etc/kafka/*",
            "/etc/zookeeper/*",
            "/etc/consul*",
            "/etc/nomad*",
            "/etc/vault*",
        ),
        _LISTENS,
    ),
    Software(
        "HAProxy", ("/etc/haproxy/*",), "It does not start where it cannot bind its address: give it the new one, or *."
    ),
    Software(
        "nginx",
        ("/etc/nginx/*",),
        "It does not start where it cannot bind its address: give `listen` the new one, or only the port.",
    ),
    Software(
        "Apache",
        ("/etc/apache2/*", "/etc/httpd/*"),
        "It does not start where it cannot bind its address: give `Listen` only the port.",
    ),
    Software("Squid", ("/etc/squid*",), _LISTENS),
    Software(
        "the SSH server", ("/etc/ssh/*",), "ListenAddress: the server does not start where it cannot bind its address."
    ),
    Software(
        "BIND and other name servers",
        (
            "/etc/bind/*",
            "/etc/named*",
            "/etc/unbound/*",
            "/etc/dnsmasq*",
            "/etc/powerdns/*",
            "/etc/pdns/*",
            "/etc/nsd/*",
        ),
        "listen-on, and the zones that name this machine.",
    ),
    Software(
        "DHCP servers",
        ("/etc/dhcp/dhcpd*", "/etc/kea/*", "/etc/default/isc-dhcp-server", "/etc/sysconfig/dhcpd*"),
        "A VPC has its own DHCP server: leave it off.",
    ),
    Software(
        "dhclient",
        ("/etc/dhcp/dhclient*", "/etc/dhclient*"),
        "Settings for a card by its name do not count for the new one.",
    ),
    Software(
        "time servers",
        ("/etc/chrony*", "/etc/ntp*", "/etc/systemd/timesyncd*", "/etc/openntpd/*"),
        "allow and server lines: name sources that the VPC reaches, and its network.",
    ),
    Software("NFS", ("/etc/exports*", "/etc/nfs*"), _ALLOWS),
    Software("Samba", ("/etc/samba/*",), "interfaces and hosts allow: give it the new card or network."),
    Software(
        "mail servers",
        ("/etc/postfix/*", "/etc/exim*", "/etc/dovecot/*", "/etc/mail/*", "/etc/opendkim*"),
        "inet_interfaces, mynetworks: give it the new address and network.",
    ),
    Software(
        "VPNs",
        (
            "/etc/openvpn/*",
            "/etc/wireguard/*",
            "/etc/ipsec*",
            "/etc/swanctl/*",
            "/etc/strongswan*",
            "/etc/libreswan/*",
            "/etc/tinc/*",
        ),
        "The other end knows the old address: tell it the new public one.",
    ),
    Software(
        "routing daemons",
        ("/etc/frr/*", "/etc/quagga/*", "/etc/bird*"),
        "A VPC speaks no routing protocol with its machines: leave it off.",
    ),
    Software(
        "monitoring",
        (
            "/etc/zabbix/*",
            "/etc/snmp/*",
            "/etc/nagios*",
            "/etc/nrpe*",
            "/etc/icinga*",
            "/etc/prometheus/*",
            "/etc/telegraf/*",
            "/etc/collectd*",
            "/etc/munin/*",
            "/etc/salt/*",
            "/etc/puppet*",
            "/etc/check_mk/*",
        ),
        "Its server knows the machine by the old address.",
    ),
    Software(
        "virtual machines",
        ("/etc/libvirt/*", "/etc/pve/*", "/etc/lxc/*", "/etc/xen/*"),
        "They were bridged to a card; they need address translation instead.",
    ),
    Software(
        "logging",
        (
            "/etc/rsyslog*",
            "/etc/syslog-ng/*",
            "/etc/systemd/journal*",
            "/etc/filebeat/*",
            "/etc/fluent*",
            "/etc/td-agent*",
        ),
        _LISTENS,
    ),
    Software("scheduled jobs", ("/etc/cron*", "/etc/anacrontab"), "See whether the job still makes sense."),
    Software(
        "units of systemd",
        ("/etc/systemd/*",),
        "See whether it still starts: a unit may wait for a card by its old name.",
    ),
    Software("kernel settings", ("/etc/sysctl*",), "A setting for a card by its name does not count for the new one."),
    Software(
        "scripts at boot",
        (
            "/etc/rc.*",
            "/etc/rc.d/*",
            "/etc/init.d/*",
            "/etc/network/if-*",
            "/etc/networkd-dispatcher/*",
            "/etc/NetworkManager/dispatcher.d/*",
        ),
        "See whether it does harm on the new machine.",
    ),
)

OTHERS = Software("", (), "See whether the line is still needed, and change it in the instance.")


def software_of(path: str) -> Software:
    """Return whose file it is; one without a name where that is not known."""
    return next(
        (each for each in KNOWN if any(fnmatch.fnmatchcase(path, pattern) for pattern in each.patterns)), OTHERS
    )
