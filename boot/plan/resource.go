package plan

import (
	"fmt"
	"strings"
)

// Resource is the typed name of something that a unit needs or provides: a
// class, a slash, and a name within the class ("luks/tank0",
// "mount/srv/tank0", "endpoint/192.0.2.22:5696"). The resource "time" is a
// class of its own without a name.
type Resource string

// Classes of resources. A world resource comes and goes by itself and is
// watched; a plan resource is provided by a unit, and a plan in which nobody
// provides one that is needed does not compile.
const (
	ClassBlock    = "block"    // world: block/uuid/…, block/partlabel/…, block/dev/…
	ClassLink     = "link"     // world: a network interface that is there: link/NAME, link/mac/…, link/path/…
	ClassEndpoint = "endpoint" // world: a way to HOST:PORT (a route, a source address, a link that is up)

	ClassTime      = "time"
	ClassKey       = "key"
	ClassLUKS      = "luks"
	ClassNVMe      = "nvme" // nvme/NAME: connected; nvme/NAME/NSID: that disk
	ClassMount     = "mount"
	ClassService   = "service"
	ClassNet       = "net" // a link, route or resolver as this plan configures it
	ClassMilestone = "milestone"

	ClassISCSI     = "iscsi"      // iscsi/TARGET, iscsi/TARGET/LUN: a disk
	ClassISCSIPath = "iscsi-path" // iscsi-path/TARGET/HOST:PORT: a session
)

// blockForms are the first words that may stand for block/… in a file:
// uuid/X is short for block/uuid/X.
var blockForms = [...]string{"uuid", "label", "partuuid", "partlabel", "path", "id", "dev"}

// Class returns the part before the first slash.
func (r Resource) Class() string {
	c, _, _ := strings.Cut(string(r), "/")
	return c
}

// Name returns the part after the first slash.
func (r Resource) Name() string {
	_, n, _ := strings.Cut(string(r), "/")
	return n
}

// World tells whether the resource is watched rather than provided by a unit.
func (r Resource) World() bool {
	switch r.Class() {
	case ClassBlock, ClassLink, ClassEndpoint:
		return true
	}
	return false
}

// ParseResource reads a name as users write it: uuid/…, partlabel/… and the
// other block names gain their class, an absolute path is the mount that
// holds it only where the caller says so and is therefore refused here.
func ParseResource(s string) (Resource, error) {
	class, name, ok := strings.Cut(s, "/")
	if s == ClassTime {
		return ClassTime, nil
	}
	if by, is := strings.CutPrefix(s, "/dev/disk/by-"); is {
		return "", fmt.Errorf("%q: a device is named by what it is; write %s", s, by)
	}
	if dev, is := strings.CutPrefix(s, "/dev/"); is && dev != "" {
		return "", fmt.Errorf("%q: a device is named by what it is; write uuid/…, label/… or partlabel/… (blkid shows them), or dev/%s if that name never changes", s, dev)
	}
	if !ok || class == "" || name == "" {
		return "", fmt.Errorf("%q names nothing; write what it is and its name, such as luks/tank0, uuid/6d6b1c5e-… or dev/vda", s)
	}
	for _, f := range blockForms {
		if class == f {
			return Resource(ClassBlock + "/" + s), nil
		}
	}
	return Resource(s), nil
}

// MountResource is the resource of the file system mounted at an absolute path.
func MountResource(where string) Resource { return Resource(ClassMount + where) }

// EndpointOver is the resource of a way to a HOST:PORT over one link, of the
// plan, or else the interface that the kernel calls so; and from one address of
// this machine. Either may be empty: endpoint/eth1/…, endpoint/@192.0.2.17/….
func EndpointOver(link, from, hostPort string) Resource {
	over := link
	if from != "" {
		over += "@" + from
	}
	if over == "" {
		return EndpointResource(hostPort)
	}
	return Resource(ClassEndpoint + "/" + over + "/" + hostPort)
}

// EndpointResource is the resource of a way to a HOST:PORT.
func EndpointResource(hostPort string) Resource { return Resource(ClassEndpoint + "/" + hostPort) }
