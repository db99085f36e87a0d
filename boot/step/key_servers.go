package step

import (
	"initd/boot/appliance"
	"initd/boot/plan"
	"initd/hw/kmip"
)

// KeyServers gives what a check of the key servers asks: every server of the
// file, whether a key needs it or not, and every key of the plan that comes
// from one of them. It reads no file.
func KeyServers(a *appliance.Appliance, p *plan.Plan, paths Paths) (kmip.Config, []kmip.Request, error) {
	var cfg kmip.Config
	if a.Keys != nil {
		for _, srv := range a.Keys.Servers {
			s := paths.located(kmipServers([]kmipServerSpec{kmipServer(a.Keys.TLS, srv)}))[0]
			s.Group = clientGroup(srv.GroupName())
			cfg.Servers = append(cfg.Servers, s)
		}
	}
	var requests []kmip.Request
	for i := range p.Units {
		if p.Units[i].Kind != keyStep().Kind.Name {
			continue
		}
		s, err := spec[keySpec](&p.Units[i])
		if err != nil {
			return cfg, nil, err
		}
		if s.KMIP == nil {
			continue
		}
		r := s.KMIP.request(s.Name)
		r.Group = clientGroup(s.KMIP.Group)
		requests = append(requests, r)
	}
	return cfg, requests, nil
}

// clientGroup: the client's default group has no name.
func clientGroup(name string) string {
	if name == appliance.DefaultGroup {
		return ""
	}
	return name
}
