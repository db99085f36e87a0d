package kmip

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// soon is how long before its end a certificate is worth a warning.
const soon = 30 * 24 * time.Hour

// Text writes the report for people: servers, keys, one line of sum.
func (r CheckReport) Text(w io.Writer) error {
	var b strings.Builder
	for _, s := range r.Servers {
		r.server(&b, s)
	}
	found := 0
	for _, k := range r.Keys {
		keyLines(&b, k)
		if k.Found {
			found++
		}
	}
	reached := 0
	for _, s := range r.Servers {
		if s.Err == nil {
			reached++
		}
	}
	fmt.Fprintf(&b, "%d of %d keys found; %d of %d servers usable\n", found, len(r.Keys), reached, len(r.Servers))
	_, err := io.WriteString(w, b.String())
	return err
}

func (r CheckReport) server(b *strings.Builder, s ServerReport) {
	fmt.Fprintf(b, "server %s (%s)", s.Name, s.Address)
	if s.Group != "" {
		fmt.Fprintf(b, " of group %s", s.Group)
	}
	b.WriteString("\n")
	switch {
	case s.Err != nil && !s.Reachable:
		fmt.Fprintf(b, "  not reachable: %s [%s]\n", s.Err.Reason(), s.Err.Code)
	case s.Err != nil:
		fmt.Fprintf(b, "  reachable, not usable: %s [%s]\n", s.Err.Reason(), s.Err.Code)
	default:
		fmt.Fprintf(b, "  reachable, %s, KMIP %s%s%s\n", s.TLSVersion, s.KMIPVersion, others(s), vendor(s))
	}
	r.certificate(b, "server certificate", s.ServerCert)
	r.certificate(b, "client certificate", s.ClientCert)
}

func others(s ServerReport) string {
	if len(s.KMIPVersions) < 2 {
		return ""
	}
	return " (of " + strings.Join(s.KMIPVersions, ", ") + ")"
}

func vendor(s ServerReport) string {
	if s.Vendor == "" {
		return ""
	}
	return fmt.Sprintf(", vendor %q", s.Vendor)
}

func (r CheckReport) certificate(b *strings.Builder, what string, c *Certificate) {
	if c == nil {
		return
	}
	left := c.NotAfter.Sub(r.At)
	note := fmt.Sprintf("%d days left", int(left/(24*time.Hour)))
	switch {
	case r.At.Before(c.NotBefore):
		note = "NOT VALID before " + day(c.NotBefore, r.At)
	case left < 0:
		note = "EXPIRED"
	case left < soon:
		note = "renew it: " + note
	}
	fmt.Fprintf(b, "  %s until %s (%s), %s\n", what, day(c.NotAfter, r.At), note, c.Subject)
}

func keyLines(b *strings.Builder, k KeyReport) {
	fmt.Fprintf(b, "key %s", k.Name)
	if k.Group != "" {
		fmt.Fprintf(b, " of group %s", k.Group)
	}
	if !k.Found {
		b.WriteString(": MISSING")
	}
	b.WriteString("\n")
	for _, p := range k.Places {
		for _, key := range p.Keys {
			fmt.Fprintf(b, "  found on %s: %s, id %s\n", p.Server, strings.Join(kindAndState(key), ", "), key.UniqueID)
		}
	}
	for _, e := range k.Errors {
		from := ""
		if e.Server != "" {
			from = "not on " + e.Server + ": "
		}
		fmt.Fprintf(b, "  %s%s [%s]\n", from, e.Reason(), e.Code)
	}
}

func kindAndState(k Key) []string {
	out := []string{"object type not told"}
	if k.ObjectType != "" {
		out[0] = k.ObjectType
	}
	if k.State != "" {
		out = append(out, k.State)
	}
	return out
}
