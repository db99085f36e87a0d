package step

import (
	"initd/boot/plan"
	"initd/hw/link"
)

// KeptLink is an interface that a plan configures.
type KeptLink struct{ Name, Kernel string }

// KeptLinks returns the interfaces of p that are there: those that nobody else
// may configure or rename.
func KeptLinks(p *plan.Plan) ([]KeptLink, error) {
	st, err := link.Read()
	if err != nil {
		return nil, err
	}
	var list []KeptLink
	for i := range p.Units {
		if p.Units[i].Kind != "link" {
			continue
		}
		s, err := spec[linkSpec](&p.Units[i])
		if err != nil {
			return nil, err
		}
		if found, err := st.Find(s.config().Match); err == nil {
			list = append(list, KeptLink{s.Name, found.Name})
		}
	}
	return list, nil
}
