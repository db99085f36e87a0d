// Package keyserver runs KMIP servers for tests, with the manners of servers
// in the field: late, silent, tired of idle connections, afraid of batches,
// blind to attributes, old.
//
// It owns two kinds of server over one store: one on kmip-go's server, one
// that answers from hand-written TTLV bytes, because the library on both ends
// would hide its own bugs. It tells what it is asked as events and never what
// it gives. It is for tests: keys come from its configuration in the clear.
package keyserver

import (
	"encoding/hex"
	"fmt"
	"time"
)

// Kinds of server.
const (
	KindKMIPGo = "kmip-go"
	KindBytes  = "bytes"
)

// Config is one server.
type Config struct {
	Name string `json:"name"`
	// Kind is KindKMIPGo (also if empty) or KindBytes.
	Kind string `json:"kind,omitempty"`
	// Listen is the address and port.
	Listen string `json:"listen"`
	// CA, Cert and Key are PEM: what clients must be signed by, and the server's own.
	CA   string `json:"ca"`
	Cert string `json:"cert"`
	Key  string `json:"key"`

	Behaviour
	Faults
	Objects []Object `json:"objects"`
}

// Behaviour is what makes a server difficult. The zero value is a good one.
type Behaviour struct {
	// Late is how many seconds after Start it begins to listen.
	Late float64 `json:"late,omitempty"`
	// Silent servers accept connections and never say a word.
	Silent bool `json:"silent,omitempty"`
	// IdleClose is after how many idle seconds a connection is closed.
	IdleClose float64 `json:"idleClose,omitempty"`
	// HangUpAfter closes each connection when that many messages were answered.
	HangUpAfter int `json:"hangUpAfter,omitempty"`
	// BatchLimit is how many requests it takes in a message; BatchAnswer says
	// what happens above: refuse (the message), hang-up, too-large (each item beyond).
	BatchLimit  int    `json:"batchLimit,omitempty"`
	BatchAnswer string `json:"batchAnswer,omitempty"`
	// IgnoreCustom: Locate acts as if custom attributes had not been asked for.
	IgnoreCustom bool `json:"ignoreCustom,omitempty"`
	// NoCustom: Locate with a custom attribute fails, and none is ever told.
	NoCustom bool `json:"noCustom,omitempty"`
	// NoAttributes: GetAttributes is not supported.
	NoAttributes bool `json:"noAttributes,omitempty"`
	// AllAttributes: GetAttributes that names attributes fails; without names it tells all.
	AllAttributes bool `json:"allAttributes,omitempty"`
	// Versions are the KMIP versions it speaks, such as "1.2"; empty means 1.0 to 1.4.
	Versions []string `json:"versions,omitempty"`
	// NoDiscover: DiscoverVersions is not supported.
	NoDiscover bool `json:"noDiscover,omitempty"`
	// MaxTLS is "1.0", "1.1", "1.2" or empty.
	MaxTLS string `json:"maxTLS,omitempty"`
	// RequireEKU refuses client certificates that do not name clientAuth.
	RequireEKU bool   `json:"requireEKU,omitempty"`
	Vendor     string `json:"vendor,omitempty"`

	// Only KindBytes knows the following.

	// NoBatchIDs: the ids of batch items are not repeated.
	NoBatchIDs bool `json:"noBatchIDs,omitempty"`
	// StopOnError: after the first failed item of a message nothing more is answered.
	StopOnError bool `json:"stopOnError,omitempty"`
	// HangUpOnOldHeader closes the connection at a message of a version that it does not speak.
	HangUpOnOldHeader bool `json:"hangUpOnOldHeader,omitempty"`
}

// Object is a managed object.
type Object struct {
	ID    string `json:"id"`
	Name  string `json:"name,omitempty"`
	Group string `json:"group,omitempty"`
	// Type is SecretData (also if empty), SymmetricKey, OpaqueObject or PrivateKey.
	Type string `json:"type,omitempty"`
	// Format is Raw (also if empty), Opaque, TransparentSymmetricKey or PKCS8.
	Format string `json:"format,omitempty"`
	// State is Active (also if empty) or another name of the specification.
	State      string            `json:"state,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	// Initial is the Initial Date in seconds since 1970; 0 means none is told.
	Initial int64 `json:"initial,omitempty"`
	// Value is the key in hex.
	Value string `json:"value"`
	// Wrapped objects come with key wrapping data.
	Wrapped bool `json:"wrapped,omitempty"`
	// Denied objects may be described and not be got.
	Denied bool `json:"denied,omitempty"`
	// GiveAs makes Get answer with another unique id than was asked for, DescribeAs makes GetAttributes do so.
	GiveAs     string `json:"giveAs,omitempty"`
	DescribeAs string `json:"describeAs,omitempty"`
	// LocateAs is a name under which Locate finds it too, although it does not have it.
	LocateAs string `json:"locateAs,omitempty"`
	// HangUp closes the connection instead of answering a Get.
	HangUp bool `json:"hangUp,omitempty"`
}

// Event is a thing that happened, as a JSON line.
type Event struct {
	// Event is always "kmip".
	Event string `json:"event"`
	// Op is listen, accept, refused (TLS), idle (closed for it), message, discover, query, locate, attributes, get or error.
	Op     string `json:"op"`
	Server string `json:"server"`
	// Object is the name of the object (its id if it has none).
	Object string `json:"object,omitempty"`
	// Items is how many requests a message had.
	Items int `json:"items,omitempty"`
	// Reason is why, for refused and error.
	Reason string `json:"reason,omitempty"`
}

func (o Object) label() string {
	if o.Name != "" {
		return o.Name
	}
	return o.ID
}

func (c Config) check() error {
	if c.Name == "" || c.Listen == "" {
		return fmt.Errorf("key server %q: name and listen are needed", c.Name)
	}
	if c.Kind != "" && c.Kind != KindKMIPGo && c.Kind != KindBytes {
		return fmt.Errorf("key server %q: kind %q: want %s or %s", c.Name, c.Kind, KindKMIPGo, KindBytes)
	}
	if err := c.Faults.check(); err != nil {
		return fmt.Errorf("key server %q: %w", c.Name, err)
	}
	for _, o := range c.Objects {
		if _, err := hex.DecodeString(o.Value); err != nil {
			return fmt.Errorf("key server %q: value of object %q is not hex", c.Name, o.label())
		}
		if o.ID == "" {
			return fmt.Errorf("key server %q: object %q has no id", c.Name, o.label())
		}
	}
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
