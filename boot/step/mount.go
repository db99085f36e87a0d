package step

import (
	"fmt"
	"path"
	"time"

	"initd/boot/plan"
)

// mountSpec is the Spec of a unit of kind mount.
type mountSpec struct {
	What    plan.Resource `json:"what,omitempty"` // device; empty for tmpfs and bind
	From    string        `json:"from,omitempty"` // bind: the folder
	Where   string        `json:"where"`
	Type    string        `json:"type"`
	Options []string      `json:"options,omitempty"`
	FSCK    bool          `json:"fsck,omitempty"`
}

func mountStep() Step {
	return Step{
		Kind:     plan.Kind{Name: "mount", Expand: expandMounts},
		New:      newMountAction,
		Children: map[string]ChildFunc{"mount": Takes(mountChild), "remount": Takes(remountChild), "fsck": Takes(fsckChild)},
	}
}

// expandMounts: a mount needs its device and the mount that holds its place.
func expandMounts(x *plan.Expansion) {
	for i, m := range x.Appliance.Mounts {
		at := fmt.Sprintf("mounts[%d]", i)
		s := mountSpec{Where: m.Where, Type: m.Type, Options: m.Options}
		u := plan.Unit{
			ID:       string(plan.MountResource(m.Where)),
			Stage:    plan.Storage,
			Provides: []plan.Resource{plan.MountResource(m.Where)},
			OnLoss:   plan.LossRecheck,
			Policy: x.Policy(m.Policy, plan.Policy{
				Deadline: plan.Duration(time.Minute),
				Retry:    plan.Retry{Initial: plan.Duration(2 * time.Second), Max: plan.Duration(30 * time.Second), Factor: 2, Jitter: 0.1},
			}),
		}
		if r, ok := x.MountOf(path.Dir(m.Where)); ok && m.Where != "/" {
			u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{r}})
		}
		switch m.Type {
		case "tmpfs":
		case "bind":
			s.From = m.What
			if r, ok := x.MountOf(m.What); ok {
				u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{r}})
			}
		default:
			s.What = x.Device(at+".what", m.What)
			u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{s.What}})
			u.Wants.Modules = []string{"fs-" + m.Type}
			if s.FSCK = m.FSCK != "never" && m.Type == "ext4"; s.FSCK {
				u.Uninterruptible = true
				u.Wants.Programs = []string{"fsck.ext4"}
			}
		}
		x.Add(at, u, s)
	}
}
