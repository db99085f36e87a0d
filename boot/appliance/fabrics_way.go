package appliance

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Way is one way to storage: where it is, and from where on this machine. In a file the address alone, or a mapping with the keys of
// wayShape.
type Way struct {
	Pos           Pos
	Address       string // as it is written
	HostAddress   string
	HostInterface string
}

// wayShape is the long form.
type wayShape struct {
	Address       string `yaml:"address" want:"required" doc:"where it is, as the short form has it"`
	HostAddress   string `yaml:"host-address" doc:"address of this machine that the connection comes from"`
	HostInterface string `yaml:"host-interface" doc:"interface of this machine that the connection goes through"`
}

func (w *Way) decodeNode(d *decoder, n *yaml.Node, path string) {
	w.Pos = d.at(n)
	if n.Kind == yaml.ScalarNode {
		w.Address = n.Value
		return
	}
	var shape wayShape
	d.decode(n, reflect.ValueOf(&shape).Elem(), path)
	w.Address, w.HostAddress, w.HostInterface = shape.Address, shape.HostAddress, shape.HostInterface
}

// shown is the address for a message.
func (w Way) shown() string { return withoutUser(w.Address) }

// port reads the port of an address.
func (w Way) port(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q: %q is no port", w.shown(), withoutUser(text))
	}
	return uint16(n), nil
}

// checkHost reports what on this machine cannot lead to the other end; to is invalid for a name.
func (w Way) checkHost(c *checks, at string, to netip.Addr, text string) {
	if w.HostAddress != "" {
		h, err := netip.ParseAddr(w.HostAddress)
		if err != nil || to.IsValid() && h.Unmap().Is4() != to.Unmap().Is4() {
			c.fail(at+".host-address", "an address of this machine, of the same family as the portal's", "%q is none from which %s could be reached", w.HostAddress, text)
		}
	}
	if to.Is6() && to.IsLinkLocalUnicast() && to.Zone() == "" && w.HostInterface == "" {
		c.fail(at, "add host-interface: LINK, or write "+to.String()+"%INTERFACE", "%s is on every link: nothing says on which this one is", text)
	}
	if strings.ContainsAny(w.HostInterface, "/, :\n") || len(w.HostInterface) > 15 {
		c.fail(at+".host-interface", "the name of a network interface", "%q cannot name a link", w.HostInterface)
	}
}

// firmwareWay is a way that the firmware took.
func firmwareWay(address string, from netip.Addr) Way {
	w := Way{Address: address}
	if from.IsValid() {
		w.HostAddress = from.String()
	}
	return w
}
