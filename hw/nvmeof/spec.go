package nvmeof

import "time"

// DiscoveryNQN is the name that every discovery subsystem answers to (NVMe Base 2.0, section 3.1.3.2).
const DiscoveryNQN = "nqn.2014-08.org.nvmexpress.discovery"

// Ports of NVMe/TCP (NVMe TCP Transport 1.0, section 3.1.2). The kernel's own default is the second one, for everything.
const (
	Port          = 4420
	DiscoveryPort = 8009
)

// Sizes that the kernel takes (drivers/nvme/host/fabrics.h, fabrics.c).
const (
	// MaxNQN is one less than NVMF_NQN_SIZE, in which a NUL has its place.
	MaxNQN = 222
	// maxOptions is a page: the write is refused beyond.
	maxOptions = 4096

	MinQueueSize = 16
	MaxQueueSize = 1024
)

// What a controller does when nothing is said (nvmf_parse_options).
const (
	defaultKeepAlive = 5 * time.Second
)

// Status codes of a refused Connect command (NVMe over Fabrics 1.1, section 3.3; the kernel's enum in include/linux/nvme.h). Bit 0x4000
// beside them is DNR: do not retry.
const (
	statusIncompatibleFormat = 0x180
	statusBusy               = 0x181
	statusInvalidParameter   = 0x182
	statusInvalidHost        = 0x184
	statusAuthRequired       = 0x191
	statusDNR                = 0x4000
)

// Log pages and admin commands (NVMe Base 2.0, figures 138 and 202).
const (
	opGetLogPage    = 0x02
	logDiscovery    = 0x70
	AENDiscoveryLog = "0x70f002" // NVME_AEN of a discovery log that has changed
)

// Properties of the kernel's events of a controller (nvme_aen_uevent, nvme_change_uevent, nvme_class_uevent in
// drivers/nvme/host/core.c).
const (
	EventProperty     = "NVME_EVENT"
	AENProperty       = "NVME_AEN"
	EventConnected    = "connected"  // with I/O queues; again after each reconnect
	EventRediscover   = "rediscover" // a discovery controller is back: what it lists may have changed
	SubsystemProperty = "SUBSYSTEM"
)
