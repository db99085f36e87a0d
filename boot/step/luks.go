package step

import (
	"fmt"
	"time"

	"initd/boot/appliance"
	"initd/boot/plan"
)

// luksSpec is the Spec of a unit of kind luks.
type luksSpec struct {
	Name      string        `json:"name"`
	Device    plan.Resource `json:"device"`
	Header    plan.Resource `json:"header,omitempty"`
	Ephemeral bool          `json:"ephemeral,omitempty"`
	Prompt    string        `json:"prompt,omitempty"` // people are asked for the key
	Discards  bool          `json:"discards,omitempty"`
	ReadOnly  bool          `json:"readOnly,omitempty"`
}

// promptDeadline: nobody is timed out while typing; the boot settles without.
const promptDeadline = 7 * 24 * time.Hour

func luksStep() Step {
	return Step{
		Kind:     plan.Kind{Name: "luks", Expand: expandLUKS},
		New:      newLUKSAction,
		Children: luksChildren(),
	}
}

// expandLUKS: a volume becomes luks/NAME, which needs its device and its key
// and claims the device until it is open.
func expandLUKS(x *plan.Expansion) {
	if x.Appliance.Media == nil {
		return
	}
	for i, l := range x.Appliance.Media.LUKS {
		at := fmt.Sprintf("media.luks[%d]", i)
		s := luksSpec{Name: l.Name, Ephemeral: l.Key.Ephemeral, Discards: l.Discards, ReadOnly: l.ReadOnly}
		if l.Key.Prompt != "" {
			s.Prompt = l.Key.Prompt
			if s.Prompt == appliance.DefaultPrompt {
				s.Prompt = "Passphrase for " + l.Name
			}
		}
		s.Device = x.Device(at+".device", l.Device)
		u := plan.Unit{
			ID:       plan.ClassLUKS + "/" + l.Name,
			Stage:    plan.Unlock,
			Needs:    []plan.Need{{AnyOf: []plan.Resource{s.Device}}},
			Provides: []plan.Resource{plan.Resource(plan.ClassLUKS + "/" + l.Name)},
			Claims:   []plan.Resource{s.Device},
			OnLoss:   plan.LossRecheck,
			Batch:    "luks",
			Wants:    plan.Wants{Modules: []string{"dm-mod", "dm-crypt", "xts", "cbc", "ecb", "aes", "aesni_intel", "sha256", "sha512", "crypto-xts(aes)"}},
			Policy: x.Policy(l.Policy, plan.Policy{
				Deadline: plan.Duration(2 * time.Minute),
				Retry:    plan.Retry{Initial: plan.Duration(2 * time.Second), Max: plan.Duration(time.Minute), Factor: 2, Jitter: 0.1},
			}),
		}
		if l.Header != "" {
			s.Header = x.Device(at+".header", l.Header)
			u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{s.Header}})
			u.Claims = append(u.Claims, s.Header)
		}
		if !s.Ephemeral && s.Prompt == "" && l.Key.Given() {
			u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{keyResource(l.Name)}})
		}
		if s.Prompt != "" {
			u.Batch = "" // nobody else waits for an answer
			u.Policy.Deadline = plan.Duration(promptDeadline)
		}
		x.Add(at, u, s)
	}
}
