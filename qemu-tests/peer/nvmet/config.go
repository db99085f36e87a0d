// Package nvmet makes a peer machine an NVMe/TCP target by the kernel's nvmet, and breaks it on purpose.
//
// It owns the configuration of nvmet in configfs, the faults that can be made there, and listeners that behave as no nvmet does
// (silent, late). It needs the modules nvmet, nvmet-tcp and virtio_blk or brd. The disks' content is the test's.
package nvmet

// Config is a target.
type Config struct {
	Subsystems []Subsystem `json:"subsystems,omitempty"`
	Ports      []Port      `json:"ports,omitempty"`
	Fakes      []Fake      `json:"fakes,omitempty"`
}

// Subsystem is one, with its namespaces.
type Subsystem struct {
	NQN    string `json:"nqn"`
	Serial string `json:"serial,omitempty"` // at most 20 bytes
	// Hosts that may connect; none: any.
	Hosts      []Host      `json:"hosts,omitempty"`
	MaxCntlid  int         `json:"maxCntlid,omitempty"` // how many controllers it has; 0: as many as nvmet wants
	Namespaces []Namespace `json:"namespaces,omitempty"`
}

// Host may connect, with these keys of DH-HMAC-CHAP (DHHC-1:…), if any.
type Host struct {
	NQN     string `json:"nqn"`
	Key     string `json:"key,omitempty"`
	CtrlKey string `json:"ctrlKey,omitempty"`
	Hash    string `json:"hash,omitempty"`    // hmac(sha256)
	DHGroup string `json:"dhGroup,omitempty"` // null, ffdhe2048
}

// Namespace is a disk.
type Namespace struct {
	ID int `json:"id"`
	// Device is the node of a block device, or the serial number of a virtio disk with "serial:" before it, and
	// /N behind it for its partition N.
	Device string `json:"device,omitempty"`
	// FileMiB makes a file of that size in memory, in the place of a device.
	FileMiB  int    `json:"fileMiB,omitempty"`
	UUID     string `json:"uuid,omitempty"`
	ANAGroup int    `json:"anaGroup,omitempty"`
}

// Port is one address, with the subsystems that can be reached there.
type Port struct {
	ID         int      `json:"id"`
	Address    string   `json:"address"` // numeric
	Service    string   `json:"service"` // the port number
	Subsystems []string `json:"subsystems,omitempty"`
	// ANA is the state of groups there; group 1 is optimized unless it says so.
	ANA map[int]string `json:"ana,omitempty"`
}

// Fake is a listener of our own.
type Fake struct {
	Listen string `json:"listen"` // ADDRESS:PORT
	// Mode is silent (accepts, and says nothing), late (is deaf for Seconds after each accept, then passes all to To), closing
	// (accepts and closes), or garbage (answers what is no NVMe). All but late do so until they are told to speak: then all is
	// passed to To.
	Mode    string `json:"mode"`
	Seconds int    `json:"seconds,omitempty"`
	To      string `json:"to,omitempty"`
}

// Change is a fault, or its end.
type Change struct {
	// Do is link or unlink (Subsystem on Port), port-off or port-on (all of Port's), ana (Group of Port becomes State),
	// namespace-off or namespace-on (Namespace of Subsystem), allow or forbid (Host at Subsystem), key, ctrl-key (Host's becomes Key),
	// any-host (may connect to Subsystem), max-cntlid (of Subsystem becomes Number), silence or speak (the fake at Listen), off or on (the whole target).
	Do        string `json:"do"`
	Subsystem string `json:"subsystem,omitempty"`
	Port      int    `json:"port,omitempty"`
	Group     int    `json:"group,omitempty"`
	State     string `json:"state,omitempty"`
	Namespace int    `json:"namespace,omitempty"`
	Host      string `json:"host,omitempty"`
	Key       string `json:"key,omitempty"`
	Listen    string `json:"listen,omitempty"`
	Number    int    `json:"number,omitempty"`
}
