//go:build guest

package dm

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/anatol/devmapper.go"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const sectors = 2048

// make makes a live device and takes it away after the test.
func makeDevice(t *testing.T, name, uuid string, table devmapper.Table) Info {
	t.Helper()
	t.Cleanup(func() {
		if err := Remove(t.Context(), name); err != nil && !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
	if err := errors.Join(Create(name, uuid), Load(name, false, table), Resume(t.Context(), name)); err != nil {
		t.Fatal(err)
	}
	info, err := Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// A stack of two devices is built: an error target below, a linear one on its second half.
func TestAStackIsMadeReadAndTakenDown(t *testing.T) {
	if items, err := List(); err != nil || len(items) != 0 {
		t.Fatalf("the guest starts with %v, %v", items, err)
	}
	below := makeDevice(t, "below", "TEST-below", devmapper.ErrorTable{Length: sectors * SectorSize})
	want := Info{Name: "below", UUID: "TEST-below", Dev: below.Dev, Active: true}
	if diff := cmp.Diff(want, below); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	above := makeDevice(t, "above", "", devmapper.LinearTable{
		Length: 1024 * SectorSize, BackendDevice: below.Dev.String(), BackendOffset: 1024 * SectorSize,
	})

	table, err := Table("above")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Target{{0, 1024, "linear", below.Dev.String() + " 1024"}}, table); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if linear, err := ParseLinear(table[0].Params); err != nil || linear != (Linear{below.Dev.String(), 1024}) {
		t.Errorf("got %+v, %v", linear, err)
	}
	if status, err := Status("above"); err != nil || len(status) != 1 || status[0].Type != "linear" {
		t.Errorf("got %v, %v", status, err)
	}
	if deps, err := Deps("above"); err != nil || !cmp.Equal(deps, []Dev{below.Dev}) {
		t.Errorf("got %v, %v", deps, err)
	}
	if items, err := List(); err != nil || !cmp.Equal(items, []Item{{"above", above.Dev}, {"below", below.Dev}}) {
		t.Errorf("got %v, %v", items, err)
	}
	if byDev, err := StatDev(above.Dev); err != nil || byDev.Name != "above" {
		t.Errorf("got %+v, %v", byDev, err)
	}

	if err := Create("below", ""); !errors.Is(err, ErrExists) {
		t.Errorf("a second device of this name gives %v", err)
	}
	if err := Create("other", "TEST-below"); !errors.Is(err, ErrExists) {
		t.Errorf("a second device of this UUID gives %v", err)
	}
	if err := Remove(t.Context(), "below"); !errors.Is(err, ErrBusy) {
		t.Errorf("taking away what is in use gives %v", err)
	}
	if gone, err := RemoveDeferred(t.Context(), "below"); gone || err != nil {
		t.Errorf("deferred: gone %v, %v", gone, err)
	}
	if info, err := Stat("below"); err != nil || !info.DeferredRemove || info.Open != 1 {
		t.Errorf("got %+v, %v", info, err)
	}
	if err := Remove(t.Context(), "above"); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(Node("above")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its node is still there: %v", err)
	}
	if gone, err := RemoveDeferred(t.Context(), "below"); !errors.Is(err, ErrNotFound) || gone {
		t.Errorf("it went with its last user, but: %v, %v", gone, err)
	}
}

func TestADeviceBetweenItsStepsShowsIt(t *testing.T) {
	const name = "half"
	if err := Create(name, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := Remove(t.Context(), name); err != nil {
			t.Error(err)
		}
	}()
	if table, err := Table(name); err != nil || len(table) != 0 {
		t.Errorf("got %v, %v", table, err)
	}
	if err := Load(name, true, devmapper.ErrorTable{Length: sectors * SectorSize}); err != nil {
		t.Fatal(err)
	}
	if info, err := Stat(name); err != nil || info.Active || !info.Inactive {
		t.Errorf("loaded: %+v, %v", info, err)
	}
	if table, err := InactiveTable(name); err != nil || len(table) != 1 || table[0].Type != "error" {
		t.Errorf("got %v, %v", table, err)
	}
	if err := Resume(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	for _, noFlush := range []bool{false, true} {
		if err := Suspend(name, noFlush); err != nil {
			t.Fatal(err)
		}
		if info, err := Stat(name); err != nil || !info.Suspended || !info.ReadOnly {
			t.Errorf("suspended: %+v, %v", info, err)
		}
		if err := Resume(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := Load(name, false, devmapper.ErrorTable{Length: 2 * sectors * SectorSize}); err != nil {
		t.Fatal(err)
	}
	if err := Replace(t.Context(), name); err != nil {
		t.Error(err)
	}
	if table, err := Table(name); err != nil || len(table) != 1 || table[0].Length != 2*sectors {
		t.Errorf("replaced: %v, %v", table, err)
	}
	if info, err := Stat(name); err != nil || info.Suspended || info.Inactive || info.ReadOnly {
		t.Errorf("replaced: %+v, %v", info, err)
	}
	if err := Suspend(name, true); err != nil { // as a program has left it that was killed
		t.Fatal(err)
	}
	if err := errors.Join(Load(name, false, devmapper.ErrorTable{Length: sectors * SectorSize}), Replace(t.Context(), name)); err != nil {
		t.Error(err)
	}
	if info, err := Stat(name); err != nil || info.Suspended {
		t.Errorf("replaced while suspended: %+v, %v", info, err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(Node(name), &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		t.Errorf("its node: mode %o, %v", stat.Mode, err)
	}
}

func TestATableOfManyTargetsOutgrowsTheFirstAnswer(t *testing.T) {
	var tables []devmapper.Table
	for i := range uint64(300) {
		tables = append(tables, devmapper.ErrorTable{Start: i * 8 * SectorSize, Length: 8 * SectorSize})
	}
	const name = "many"
	if err := errors.Join(Create(name, ""), Load(name, false, tables...), Resume(t.Context(), name)); err != nil {
		t.Fatal(err)
	}
	table, err := Table(name)
	if err != nil || len(table) != 300 || table[299].Start != 299*8 {
		t.Errorf("%d targets, %v", len(table), err)
	}
	if err := Remove(t.Context(), name); err != nil {
		t.Error(err)
	}
}

func TestOperationsOnNothing(t *testing.T) {
	for name, err := range map[string]error{
		"stat":   func() error { _, err := Stat("nothing"); return err }(),
		"table":  func() error { _, err := Table("nothing"); return err }(),
		"deps":   func() error { _, err := Deps("nothing"); return err }(),
		"resume": Resume(t.Context(), "nothing"),
		"remove": Remove(t.Context(), "nothing"),
	} {
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "nothing") {
			t.Errorf("%s gives %v", name, err)
		}
	}
}
