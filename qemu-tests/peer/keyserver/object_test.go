package keyserver_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"initd/hw/kmip"
	"initd/qemu-tests/peer/keyserver"
)

func TestEveryShapeOfKeyIsTakenAndEverythingElseIsNamed(t *testing.T) {
	value := hex.EncodeToString(keyValue(1))
	cases := []struct {
		name   string
		object keyserver.Object
		want   kmip.Code
		kind   string // the object type that is told
		state  string
	}{
		{"a symmetric key, raw", keyserver.Object{Type: "SymmetricKey"}, "", "SymmetricKey", "Active"},
		{"a symmetric key, opaque", keyserver.Object{Type: "SymmetricKey", Format: "Opaque"}, "", "SymmetricKey", "Active"},
		{"a symmetric key, transparent", keyserver.Object{Type: "SymmetricKey", Format: "TransparentSymmetricKey"}, "", "SymmetricKey", "Active"},
		{"a password, raw", keyserver.Object{Type: "SecretData"}, "", "SecretData", "Active"},
		{"a password, opaque", keyserver.Object{Type: "SecretData", Format: "Opaque"}, "", "SecretData", "Active"},
		{"an opaque object", keyserver.Object{Type: "OpaqueObject"}, "", "OpaqueObject", ""},
		{"a key that was never activated", keyserver.Object{State: "Pre-Active"}, "", "SecretData", "Pre-Active"},
		{"a key that was deactivated", keyserver.Object{State: "Deactivated"}, kmip.CodeState, "", ""},
		{"a key that is compromised", keyserver.Object{State: "Compromised"}, kmip.CodeState, "", ""},
		{"a key that is destroyed", keyserver.Object{State: "Destroyed"}, kmip.CodeState, "", ""},
		{"a wrapped key", keyserver.Object{Type: "SymmetricKey", Wrapped: true}, kmip.CodeWrapped, "", ""},
		{"a wrapped password", keyserver.Object{Wrapped: true}, kmip.CodeWrapped, "", ""},
		{"a private key", keyserver.Object{Type: "PrivateKey", Format: "PKCS8"}, kmip.CodeWrongType, "", ""},
		{"a password in a format for asymmetric keys", keyserver.Object{Format: "PKCS8"}, kmip.CodeFormat, "", ""},
		{"a key that we may not have", keyserver.Object{Denied: true}, kmip.CodeDenied, "", ""},
		{"another object than was asked for", keyserver.Object{GiveAs: "another"}, kmip.CodeProtocol, "", ""},
		{"an empty password", keyserver.Object{Value: "-"}, kmip.CodeFormat, "", ""},
		{"an empty opaque object", keyserver.Object{Type: "OpaqueObject", Value: "-"}, kmip.CodeFormat, "", ""},
		{"a password longer than any volume takes", keyserver.Object{Value: strings.Repeat("5a", 512<<10+1)}, kmip.CodeFormat, "", ""},
		{"an opaque object that is no key but a file", keyserver.Object{Type: "OpaqueObject", Value: strings.Repeat("5a", 600<<10)}, kmip.CodeFormat, "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, kind string) {
				w := newWorld(t)
				o := c.object
				o.ID, o.Name = "id-1", "k"
				switch o.Value {
				case "":
					o.Value = value
				case "-":
					o.Value = ""
				}
				s := w.serve(kind, "kms-a", keyserver.Behaviour{}, o)
				results := kmip.Fetch(guard(t), kmip.Config{Servers: []kmip.Server{w.at("kms-a", s.Addr())}}, named("k"), nil)
				tellsNoSecret(t, results, keyValue(1))
				if c.want != "" {
					if got := outcomes(t, results)[0].Code; got != c.want {
						t.Fatalf("error %v, want code %s", results[0].Err, c.want)
					}
					return
				}
				want := []kmip.Key{{UniqueID: "id-1", ObjectType: c.kind, State: c.state}}
				if diff := cmp.Diff(want, results[0].Keys, cmpopts.IgnoreFields(kmip.Key{}, "Secret", "Initial")); diff != "" {
					t.Errorf("key (-want +got):\n%s\n%v", diff, results[0].Err)
				}
				if diff := cmp.Diff([]got{{Keys: []string{string(keyValue(1))}, Server: "kms-a"}}, outcomes(t, results)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestWhatIsSelectedIsExactlyWhatMatches(t *testing.T) {
	value := func(s string) string { return hex.EncodeToString([]byte(s)) }
	objects := []keyserver.Object{
		{ID: "1", Name: "a", Value: value("key a"), Initial: 100},
		{ID: "2", Name: "b", Group: "sed", Attributes: map[string]string{"x-Serial": "S2"}, Value: value("key b"), Initial: 100},
		{ID: "3", Name: "c", Group: "sed", Attributes: map[string]string{"x-Serial": "S3"}, Type: "SymmetricKey", Value: value("key c old"), Initial: 100},
		{ID: "4", Name: "d", Group: "sed", Attributes: map[string]string{"x-Serial": "S3"}, Type: "SymmetricKey", Value: value("key c new"), Initial: 200},
		{ID: "5", Name: "twin", Value: value("one"), Initial: 100},
		{ID: "6", Name: "twin", Value: value("two"), Initial: 100},
		{ID: "7", Name: "retired", Value: value("retired, old"), State: "Deactivated", Initial: 100},
		{ID: "8", Name: "retired", Value: value("retired, new"), Initial: 200},
	}
	sel := func(s kmip.Selector) kmip.Request { return kmip.Request{ID: "k", Selector: s} }
	serial := func(s string) map[string]string { return map[string]string{"x-Serial": s} }
	cases := []struct {
		name    string
		request kmip.Request
		b       keyserver.Behaviour
		want    got
	}{
		{"by unique id", sel(kmip.Selector{UniqueID: "1"}), keyserver.Behaviour{}, got{Keys: []string{"key a"}, Server: "kms-a"}},
		{"by unique id, where no attributes are told", sel(kmip.Selector{UniqueID: "1"}), keyserver.Behaviour{NoAttributes: true}, got{Keys: []string{"key a"}, Server: "kms-a"}},
		{"by a unique id that is not there", sel(kmip.Selector{UniqueID: "99"}), keyserver.Behaviour{}, got{Code: kmip.CodeNotFound}},
		{"by name", sel(kmip.Selector{Name: "a"}), keyserver.Behaviour{}, got{Keys: []string{"key a"}, Server: "kms-a"}},
		{"by name, where no attributes are told to prove it", sel(kmip.Selector{Name: "a"}), keyserver.Behaviour{NoAttributes: true}, got{Code: kmip.CodeUnsupported}},
		{"by a name that two objects have", sel(kmip.Selector{Name: "twin"}), keyserver.Behaviour{}, got{Code: kmip.CodeAmbiguous}},
		{"the newer of two with one name and one age", kmip.Request{ID: "k", Selector: kmip.Selector{Name: "twin"}, Versions: 2}, keyserver.Behaviour{}, got{Code: kmip.CodeAmbiguous}},
		{"by name, the other one being deactivated", sel(kmip.Selector{Name: "retired"}), keyserver.Behaviour{}, got{Keys: []string{"retired, new"}, Server: "kms-a"}},
		{"both versions of a rotated key, newest first", kmip.Request{ID: "k", Selector: kmip.Selector{Name: "retired"}, Versions: 2}, keyserver.Behaviour{}, got{Keys: []string{"retired, new", "retired, old"}, Server: "kms-a"}},
		{"by custom attribute", sel(kmip.Selector{Attributes: serial("S2")}), keyserver.Behaviour{}, got{Keys: []string{"key b"}, Server: "kms-a"}},
		{"by group and serial", sel(kmip.Selector{ObjectGroup: "sed", Attributes: serial("S2")}), keyserver.Behaviour{}, got{Keys: []string{"key b"}, Server: "kms-a"}},
		{"by group and serial, where Locate is blind to serials", sel(kmip.Selector{ObjectGroup: "sed", Attributes: serial("S2")}), keyserver.Behaviour{IgnoreCustom: true}, got{Keys: []string{"key b"}, Server: "kms-a"}},
		{"by serial alone, where Locate is blind to it and offers everything", sel(kmip.Selector{Attributes: serial("S2")}), keyserver.Behaviour{IgnoreCustom: true}, got{Keys: []string{"key b"}, Server: "kms-a"}},
		{"by a serial that is not there, where Locate is blind to it", sel(kmip.Selector{ObjectGroup: "sed", Attributes: serial("S9")}), keyserver.Behaviour{IgnoreCustom: true}, got{Code: kmip.CodeNotFound}},
		{"by group and serial, where there are no custom attributes", sel(kmip.Selector{ObjectGroup: "sed", Attributes: serial("S2")}), keyserver.Behaviour{NoCustom: true}, got{Code: kmip.CodeNotFound}},
		{"by serial, where there are no custom attributes", sel(kmip.Selector{Attributes: serial("S2")}), keyserver.Behaviour{NoCustom: true}, got{Code: kmip.CodeRefused}},
		{"by a group of several", sel(kmip.Selector{ObjectGroup: "sed"}), keyserver.Behaviour{}, got{Code: kmip.CodeAmbiguous}},
		{"by group and type", sel(kmip.Selector{ObjectGroup: "sed", ObjectType: "SecretData"}), keyserver.Behaviour{}, got{Keys: []string{"key b"}, Server: "kms-a"}},
		{"by name, of another type", sel(kmip.Selector{UniqueID: "3", ObjectType: "SecretData"}), keyserver.Behaviour{}, got{Code: kmip.CodeWrongType}},
		{"one of two versions", sel(kmip.Selector{ObjectGroup: "sed", Attributes: serial("S3")}), keyserver.Behaviour{}, got{Code: kmip.CodeAmbiguous}},
		{"the SED profile: the newest and the one before it", kmip.Request{ID: "k", Selector: kmip.Selector{ObjectGroup: "sed", Attributes: serial("S3")}, Versions: 2}, keyserver.Behaviour{IgnoreCustom: true}, got{Keys: []string{"key c new", "key c old"}, Server: "kms-a"}},
		{"two versions where there is one", kmip.Request{ID: "k", Selector: kmip.Selector{Name: "a"}, Versions: 2}, keyserver.Behaviour{}, got{Keys: []string{"key a"}, Server: "kms-a"}},
		{"by nothing", sel(kmip.Selector{}), keyserver.Behaviour{}, got{Code: kmip.CodeConfig}},
		{"of a group without servers", kmip.Request{ID: "k", Group: "blue", Selector: kmip.Selector{Name: "a"}}, keyserver.Behaviour{}, got{Code: kmip.CodeConfig}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, kind string) {
				w := newWorld(t)
				s := w.serve(kind, "kms-a", c.b, objects...)
				results := kmip.Fetch(guard(t), kmip.Config{Servers: []kmip.Server{w.at("kms-a", s.Addr())}}, []kmip.Request{c.request}, nil)
				if diff := cmp.Diff([]got{c.want}, outcomes(t, results)); diff != "" {
					t.Errorf("result (-want +got):\n%s\n%v", diff, results[0].Err)
				}
			})
		})
	}
}

func TestALookUpTellsWhatIsThereAndGetsNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		w := newWorld(t)
		s := w.serve(kind, "kms-a", keyserver.Behaviour{}, object(0))
		c := must(kmip.New(kmip.Config{Servers: []kmip.Server{w.at("kms-a", s.Addr())}}))(t)
		defer c.Close()
		results := c.Lookup(guard(t), named(keyName(0), "nothing"), nil)
		if len(results[0].Keys) != 1 || results[0].Keys[0].Secret != nil || results[0].Keys[0].State != "Active" {
			t.Errorf("found: %+v", results[0])
		}
		if kmip.CodeOf(results[1].Err) != kmip.CodeNotFound {
			t.Errorf("not found: %+v", results[1])
		}
		if n := w.count("get"); n != 0 {
			t.Errorf("%d keys were got", n)
		}
	})
}
