package step

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/boot/plan"
)

// A leg of a map is claimed by each name that udev may give it, however the target counts its LUNs.
func TestLegsOfAMapAreClaimed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "appliance.yaml")
	if err := os.WriteFile(file, []byte(`apiVersion: initd/v1
name: x
fabrics:
  iscsi:
    - {name: a, target: "iqn.x:a", portals: [192.0.2.50, "[2001:db8::50]:3261"], luns: [{lun: 1}, {lun: 300, name: large}]}
    - {name: b, target: "iqn.x:b", portals: [192.0.2.50]}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	p := compile(t, file)
	var want []plan.Resource
	for _, at := range []string{"192.0.2.50:3260", "2001:db8::50:3261"} {
		for _, lun := range []string{"1", "0x012c000000000000", "0x412c000000000000"} {
			want = append(want, plan.Resource("block/path/ip-"+at+"-iscsi-iqn.x:a-lun-"+lun))
		}
	}
	if diff := cmp.Diff(want, p.Unit("iscsi/a").Claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	if got := p.Unit("iscsi/b").Claims; len(got) != 0 {
		t.Errorf("one path, and nothing stands above it: %q", got)
	}
}
