package step

import (
	"context"
	"fmt"
	"slices"

	"initd/boot/plan"
	"initd/hw/dm"
	"initd/hw/iscsi"
	"initd/hw/multipath"
	"initd/hw/sysfs"
)

// mapParams is what the child iscsi-map is given.
type mapParams struct {
	Run    string    `json:"run"`
	Name   string    `json:"name"`
	Target string    `json:"target"`
	LUNs   []lunSpec `json:"luns"`
}

// mapName is what a LUN's map is called.
func mapName(target, lun string) string { return target + "-" + lun }

// mapDisks is the child iscsi-map: it puts a map above the disks of each LUN,
// or gives the one that is there all disks that there are by now.
func mapDisks(ctx context.Context, _ *ChildInput, p mapParams) (any, error) {
	sys, err := sysfs.Open("/")
	if err != nil {
		return nil, err
	}
	defer sys.Close()
	for _, l := range p.LUNs {
		legs, err := legsOf(sys, iscsi.RecordsAt(p.Run), p.Target, l)
		if err != nil {
			return nil, err
		}
		if err := multipath.Ensure(ctx, sys, mapName(p.Name, l.Name), legs); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// legsOf finds the disks of a LUN in all sessions of ours, and in those that
// were given to iscsid: what stands on them goes on.
func legsOf(sys *sysfs.FS, records iscsi.Records, target string, l lunSpec) ([]multipath.Leg, error) {
	list, err := iscsi.SessionsOf(sys, target)
	if err != nil {
		return nil, err
	}
	var legs []multipath.Leg
	for _, s := range list {
		if _, given := records.GivenTo(s); !given && !s.Ours() {
			continue
		}
		if d, ok := s.Disk(l.LUN); ok {
			leg, err := multipath.ReadLeg(sys, d.Name)
			if err != nil {
				return nil, err
			}
			legs = append(legs, leg)
		}
	}
	if len(legs) == 0 {
		return nil, fmt.Errorf("%s: no session has LUN %d", target, l.LUN)
	}
	return legs, nil
}

// diskNode is the device of a LUN: its map, or its only disk.
func diskNode(sys *sysfs.FS, records iscsi.Records, target string, l lunSpec, mapped bool) (string, error) {
	legs, err := legsOf(sys, records, target, l)
	if err != nil {
		return "", err
	}
	if !mapped {
		return "/dev/" + legs[0].Name, nil
	}
	if m, ok := multipath.Find(sys, legs[0].WWID); ok {
		return dm.Node(m), nil
	}
	return "", fmt.Errorf("%s: LUN %d has no map yet", target, l.LUN)
}

// iscsiFinder answers which node a disk of the plan (iscsi/TARGET/LUN) means
// right now.
func iscsiFinder(p *plan.Plan, sys *sysfs.FS, run string) Finder {
	return func(r plan.Resource) (string, error) {
		for i := range p.Units {
			u := &p.Units[i]
			if u.Kind != "iscsi" || !slices.Contains(u.Provides, r) {
				continue
			}
			s, err := spec[iscsiSpec](u)
			if err != nil {
				return "", err
			}
			for _, l := range s.LUNs {
				if iscsiDisk(s.Name, l.Name) == r {
					return diskNode(sys, iscsi.RecordsAt(run), s.Target, l, s.Multipath)
				}
			}
		}
		return "", fmt.Errorf("%s is no disk of this plan; one is named iscsi/NAME/LUN", r)
	}
}
