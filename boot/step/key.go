package step

import (
	"fmt"
	"path"
	"strings"
	"time"

	"initd/boot/appliance"
	"initd/boot/plan"
)

// keySpec is the Spec of a unit of kind key; exactly one source is set.
type keySpec struct {
	Name string       `json:"name"`
	KMIP *kmipKeySpec `json:"kmip,omitempty"`
	File string       `json:"file,omitempty"`
}

// kmipKeySpec says which object, and which servers may have it.
type kmipKeySpec struct {
	Name        string            `json:"name,omitempty"`
	ID          string            `json:"id,omitempty"`
	ObjectGroup string            `json:"objectGroup,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	Group       string            `json:"group"`
	Servers     []kmipServerSpec  `json:"servers"`
}

// kmipServerSpec is one server; paths are as in the file.
type kmipServerSpec struct {
	Name       string        `json:"name"`
	Address    string        `json:"address"`
	ServerName string        `json:"serverName,omitempty"`
	CA         string        `json:"ca,omitempty"`
	Cert       string        `json:"cert,omitempty"`
	Key        string        `json:"key,omitempty"`
	Pin        string        `json:"pin,omitempty"`
	Timeout    plan.Duration `json:"timeout,omitempty"`
}

func keyStep() Step {
	return Step{
		Kind:     plan.Kind{Name: "key", Expand: expandKeys},
		New:      newKeyAction,
		Children: map[string]ChildFunc{"kmip": Takes(fetchKeys), "keyfile": Takes(readKeyFiles)},
	}
}

// expandKeys: every medium's key becomes a unit of its own, key/NAME, but for
// those that people give: the volume itself asks, once its device is there,
// and hears at once whether the answer opens it.
func expandKeys(x *plan.Expansion) {
	if m := x.Appliance.Media; m != nil {
		for i, l := range m.LUKS {
			addKey(x, fmt.Sprintf("media.luks[%d].key", i), l.Name, l.Name, l.Key, l.Policy)
		}
	}
	if f := x.Appliance.Fabrics; f != nil {
		addNVMeKeys(x, f)
		addISCSIKeys(x, f)
	}
}

// addKey adds the unit that provides key/NAME from the source k; who is
// ${unit.name} in the name of the object.
func addKey(x *plan.Expansion, at, name, who string, k appliance.KeySource, p appliance.Policy) {
	u := plan.Unit{
		ID:       plan.ClassKey + "/" + name,
		Stage:    plan.Keys,
		Provides: []plan.Resource{keyResource(name)},
	}
	s := keySpec{Name: name, File: k.File}
	def := plan.Policy{
		Deadline: plan.Duration(time.Minute),
		// An attempt dials for a minute by itself; the pause is for what somebody has to mend.
		Retry: plan.Retry{Initial: plan.Duration(500 * time.Millisecond), Max: plan.Duration(30 * time.Second), Factor: 2, Jitter: 0.1},
	}
	switch {
	case k.Ephemeral || k.Prompt != "" || !k.Given():
		return
	case k.KMIP != nil:
		s.KMIP = kmipKey(x, at, who, k.KMIP)
		var way []plan.Resource
		for _, srv := range s.KMIP.Servers {
			way = append(way, plan.EndpointResource(srv.Address))
		}
		u.Batch = "kmip/" + s.KMIP.Group
		u.Needs = append([]plan.Need{{AnyOf: way}}, append(afterTime(x.Appliance), afterDNS(x.Appliance)...)...)
	case k.File != "":
		r, mounted := x.MountOf(k.File)
		if mounted && !(r == plan.MountResource("/") && besideRoot(k.File)) {
			u.Needs = []plan.Need{{AnyOf: []plan.Resource{r}}}
		} else {
			u.Batch = "keyfile" // files in memory, or on the state disk
		}
	}
	p.Deadline = 0 // the file's deadline is for opening the medium
	u.Policy = x.Policy(p, def)
	x.Add(at, u, s)
}

// besideRoot: a file that lies in the initramfs, or below what goes along to
// the root, is there before a root is mounted. The key of a root could not be
// on it.
func besideRoot(file string) bool {
	return !path.IsAbs(file) || strings.HasPrefix(file, "/etc/initd/") || goesAlong(file)
}

func keyResource(name string) plan.Resource {
	return plan.Resource(plan.ClassKey + "/" + name)
}

func kmipKey(x *plan.Expansion, at, name string, k *appliance.KMIPKey) *kmipKeySpec {
	s := &kmipKeySpec{ID: k.ID, Name: k.Name, ObjectGroup: k.ObjectGroup, Group: k.Servers}
	if s.Group == "" {
		s.Group = appliance.DefaultGroup
	}
	all := x.Appliance.Keys
	if s.ID == "" && s.Name == "" && s.ObjectGroup == "" && len(k.Attributes) == 0 {
		s.Name = "${machine.name}/${unit.name}"
		if all != nil && all.DefaultName != "" {
			s.Name = all.DefaultName
		}
	}
	s.Name = x.Expand(at, s.Name, name)
	s.ObjectGroup = x.Expand(at, s.ObjectGroup, name)
	for a, v := range k.Attributes {
		if s.Attributes == nil {
			s.Attributes = map[string]string{}
		}
		s.Attributes[a] = x.Expand(at, v, name)
	}
	if all == nil {
		return s
	}
	for _, srv := range all.Servers {
		if srv.GroupName() == s.Group {
			s.Servers = append(s.Servers, kmipServer(all.TLS, srv))
		}
	}
	return s
}

// kmipServer lays what a server says over what is said for all.
func kmipServer(all appliance.TLS, s appliance.KeyServer) kmipServerSpec {
	t := all
	if own := s.TLS; own != nil {
		for _, f := range []struct{ from, to *string }{{&own.CA, &t.CA}, {&own.Cert, &t.Cert}, {&own.Key, &t.Key}, {&own.Pin, &t.Pin}} {
			if *f.from != "" {
				*f.to = *f.from
			}
		}
	}
	return kmipServerSpec{
		Name: s.Name, Address: s.Address, ServerName: s.ServerName,
		CA: t.CA, Cert: t.Cert, Key: t.Key, Pin: t.Pin, Timeout: plan.Duration(s.Timeout),
	}
}
