package appliance

import (
	"fmt"
	"strings"
)

// Fabrics is the section of storage that is reached over a network.
type Fabrics struct {
	Pos   Pos     `yaml:"-"`
	NVMe  []NVMe  `yaml:"nvme" doc:"NVMe over TCP: subsystems, by their paths or by discovery"`
	ISCSI []ISCSI `yaml:"iscsi" doc:"software iSCSI: targets, by their portals"`
}

// Values of a fabric's key active.
const (
	ActiveHere    = "here"    // the default: this machine has the medium to itself
	ActiveCluster = "cluster" // another node may have it: logged in to, never mounted by itself
)

func (f *Fabrics) check(c *checks, at string) {
	shared := map[string]string{}
	for i, n := range f.NVMe {
		if n.Active == ActiveCluster {
			shared["nvme/"+n.Name] = fmt.Sprintf("%s.nvme[%d].active", at, i)
		}
	}
	for i, n := range f.ISCSI {
		if n.Active == ActiveCluster {
			shared["iscsi/"+n.Name] = fmt.Sprintf("%s.iscsi[%d].active", at, i)
		}
	}
	for i, m := range c.a.Mounts {
		base := c.a.base(m.What)
		if where, ok := shared[base]; ok {
			c.fail(fmt.Sprintf("mounts[%d].what", i), "remove the mount, or write active: here there",
				"%s is on %s, which is shared (%s): another node may have it by now, so nothing mounts it by itself", m.Where, base, c.a.At(where))
		}
	}
}

// base follows a device of this file through the volumes on it to the fabric
// that it comes from ("nvme/flash"); "" if it comes from none.
func (a *Appliance) base(device string) string {
	for range 8 { // volumes on volumes; a cycle is boot/plan's to report
		class, rest, _ := strings.Cut(device, "/")
		switch class {
		case "nvme", "iscsi":
			name, _, _ := strings.Cut(rest, "/")
			return class + "/" + name
		case "luks":
			device = ""
			if a.Media != nil {
				for _, l := range a.Media.LUKS {
					if l.Name == rest {
						device = l.Device
					}
				}
			}
		default:
			return ""
		}
	}
	return ""
}
