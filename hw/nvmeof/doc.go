// Package nvmeof connects to NVMe subsystems over TCP and tells how their connections stand.
//
// It owns the text that /dev/nvme-fabrics is told, the meaning of what the kernel answers, the look at a portal before the kernel
// is sent there, the discovery log, the host's identity, the secrets' form, and the reading of /sys/class/nvme and
// /sys/class/nvme-subsystem. It needs the modules nvme-tcp and nvme-fabrics, Linux 6.1 or later (DH-HMAC-CHAP and TLS: 6.7), and for
// everything but probing and parsing the rights of root. It never decides how often to try, never formats or reads a
// namespace, and leaves multipathing to the kernel.
//
// Connect, Disconnect and what reads a log block in the kernel: up to a minute where a target stalls, and for everybody, because the
// kernel lets one connection be made at a time (nvmf_dev_mutex, drivers/nvme/host/fabrics.c). Call them in a process
// that can be given up; and Probe first, which waits for no one but its own portal.
package nvmeof
